//! A project to measure: the pipelines, templates and schemas of this repository without their
//! limits of pace, and seeded data.

mod rows;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub use rows::{Form, Input};

/// Requests at once, where nothing else is said.
pub const LANES: usize = 64;
/// Records of a call with many.
pub const IN_ONE_CALL: usize = 100;
/// What everybody authorizes with; nobody checks it.
pub const TOKEN: &str = "bench-token";

/// Which pipeline is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// POST with a body of eleven expressions; every attempt has an intent on disk first.
    Single,
    /// PUT of the row; repeating is harmless, so leases and outcomes are enough.
    Update,
    /// The records of `Single` again, 100 in one call, each with its own result.
    Batch,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Update => "update",
            Self::Batch => "batch",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Single, Self::Update, Self::Batch].into_iter().find(|kind| kind.name() == name)
    }

    pub const fn pipeline(self) -> &'static str {
        match self {
            Self::Single => "pipelines/sync-users.yaml",
            Self::Update => "pipelines/update-agents.yaml",
            Self::Batch => "pipelines/examples/index-users.yaml",
        }
    }

    const fn account(self) -> &'static str {
        match self {
            Self::Single | Self::Update => {
                "freshchat:\n    subdomain: bench\n    api_token: { env: BENCH_TOKEN }\n    connector: freshchat"
            }
            Self::Batch => {
                "elasticsearch:\n    user: { env: BENCH_TOKEN }\n    password: { env: BENCH_TOKEN }\n    connector: elasticsearch"
            }
        }
    }

    const fn shipped_input(self) -> &'static str {
        match self {
            Self::Single | Self::Batch => "pipelines/data/users.csv",
            Self::Update => "pipelines/data/agents.csv",
        }
    }
}

/// How its pipeline differs from the one that ships.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub kind: Kind,
    pub lanes: usize,
    pub form: Form,
    /// One more line of `delivery:`.
    pub delivery: &'static str,
    /// One more line of the pipeline.
    pub line: &'static str,
}

impl Setting {
    pub const fn of(kind: Kind) -> Self {
        Self { kind, lanes: LANES, form: Form::Csv, delivery: "", line: "" }
    }
}

pub struct Project {
    folder: TempDir,
    setting: Setting,
}

impl Project {
    /// Copies what ships.
    pub fn new(setting: Setting) -> io::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Beside the build, which lies on a disk; a folder in memory would make syncs free.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let project = Self { folder, setting };
        for shipped in ["templates/freshchat", "templates/elasticsearch", "schemas/freshchat"] {
            for file in fs::read_dir(repository.join(shipped))? {
                let file = file?;
                let text = fs::read_to_string(file.path())?;
                let name = format!("{shipped}/{}", file.file_name().to_string_lossy());
                project.write(&name, &setting.applied_to(&text))?;
            }
        }
        let kind = setting.kind;
        let pipeline = fs::read_to_string(repository.join(kind.pipeline()))?;
        let pipeline = setting.applied_to(&pipeline).replace(kind.shipped_input(), setting.form.file());
        project.write(kind.pipeline(), &format!("{pipeline}{}\n", setting.line))?;
        let account = kind.account();
        let account =
            format!("connections:\n  {account}\n    base_url: {{ env: BENCH_URL, secret: false }}\n");
        project.write("runner.yaml", &account)?;
        Ok(project)
    }

    /// Writes seeded records, of which some are not what they were; what they are.
    pub fn rows(&self, records: u64, is_changed: impl Fn(u64) -> bool) -> io::Result<Input> {
        rows::write(self.input(), &self.setting, records, is_changed)
    }

    /// The folder of state.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join(".runner")
    }

    /// Forgets all runs.
    pub fn forget(&self) -> io::Result<()> {
        if self.state().exists() { fs::remove_dir_all(self.state()) } else { Ok(()) }
    }

    /// The binary, in this project; `url` is where it sends.
    pub fn runner(&self, url: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.current_dir(self.folder.path()).env_clear().env("BENCH_URL", url).env("BENCH_TOKEN", TOKEN);
        command
    }

    /// `runner apply` of its pipeline.
    pub fn apply(&self, url: &str) -> Command {
        let mut command = self.runner(url);
        command.args(["apply", self.setting.kind.pipeline()]);
        command
    }

    fn input(&self) -> PathBuf {
        self.folder.path().join(self.setting.form.file())
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(self.folder.path()))?;
        fs::write(&path, text)
    }
}

impl Setting {
    /// The text of a file that ships, without limits of pace.
    fn applied_to(&self, text: &str) -> String {
        let Self { lanes, delivery, .. } = self;
        let mut out = String::with_capacity(text.len());
        for line in text.lines() {
            let words = line.trim_start();
            if words.starts_with("rate:") || words.starts_with("limits:") || words.starts_with("stop_when:") {
                continue;
            }
            if words.starts_with("delivery: {") {
                let _ = writeln!(out, "delivery: {{ concurrency: {lanes}, {delivery} }}");
                continue;
            }
            if words.starts_with("concurrency:") {
                let _ = writeln!(out, "  concurrency: {lanes}\n  {delivery}");
                continue;
            }
            let _ = writeln!(out, "{line}");
        }
        out
    }
}
