//! The log of `runner` itself: off unless `RUNNER_LOG` or `RUNNER_LOG_FILE` asks for it.
//!
//! Separate from reports because it is for whoever looks for a fault in this program, and may
//! change in any release. Invariants: events hold no record value and no secret, and should another
//! crate's event hold one all the same, it is masked on its way out; lines on stderr go through the
//! bar.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::model::{Class, Diagnostic, Failure, Mask};
use crate::report::{LogSink, text};

/// What is hidden. The log is one for the process, so this is too.
static MASK: LazyLock<RwLock<Mask>> = LazyLock::new(RwLock::default);

/// From now on these secrets are masked.
pub fn hide(mask: Mask) {
    *MASK.write().unwrap_or_else(PoisonError::into_inner) = mask;
}

/// Starts the log that the environment asks for.
pub fn start(stderr: &LogSink) -> Result<(), Failure> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (filter, file) = (set("RUNNER_LOG"), set("RUNNER_LOG_FILE"));
    if filter.is_none() && file.is_none() {
        return Ok(());
    }
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::builder().parse(&filter).map_err(|error| {
        Failure::new(
            Class::Usage,
            Diagnostic::error("log-filter", format!("RUNNER_LOG is not a filter: {error}"))
                .help("write a level, such as `debug`, or parts with levels: `runner=debug,hyper=info`"),
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A second subscriber cannot be: this is called once, before any thread is made.
    let _ = match file {
        None => builder.with_writer(Lines::Stderr(stderr.clone())).try_init(),
        Some(path) => {
            let json = Path::new(&path).extension().is_some_and(|ending| ending == "jsonl");
            let file = Arc::new(Mutex::new(open(Path::new(&path))?));
            if json {
                builder.json().flatten_event(true).with_writer(Lines::Json(file)).try_init()
            } else {
                builder.with_writer(Lines::Text(file)).try_init()
            }
        }
    };
    Ok(())
}

/// The file, of which the owner alone may read what is added.
fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::io("open the log", path, &error))
}

/// Where lines go.
#[derive(Clone)]
enum Lines {
    Stderr(LogSink),
    /// For people, who may look at it with what obeys control characters.
    Text(Arc<Mutex<File>>),
    /// For programs.
    Json(Arc<Mutex<File>>),
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// One call is one whole event.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mask = MASK.read().unwrap_or_else(PoisonError::into_inner);
        let masked = mask.apply(&text);
        match self {
            Self::Stderr(sink) => sink.write_all(masked.as_bytes())?,
            Self::Text(file) => {
                let shown = format!("{}\n", text::line(masked.trim_end_matches('\n')));
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(shown.as_bytes())?;
            }
            Self::Json(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(masked.as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
