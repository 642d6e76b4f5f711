//! A small world for one test: a project in a temporary folder, a far side on loopback, and the
//! environment of the caller kept out.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::watch;

use runner::sandbox::{
    BatchRoute, Handle, Options, PathPattern, Route, Rules, Sandbox, Script, ScriptedReply, Seen,
};
use tempfile::TempDir;

/// A project and a far side.
pub struct World {
    folder: TempDir,
    far_side: Handle,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// Whether it ended by a signal.
    pub by_signal: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A pipeline over `data/things.csv` that PUTs each row: repeating is harmless.
pub const PUT_THINGS: &str = "\
connection: local
endpoint:
  method: PUT
  path: /things/{{ params.id }}
  params: { id: { required: true } }
  idempotency: natural
source: { file: data/things.csv }
key: '{{ record.id }}'
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

/// A pipeline over `data/things.csv` that POSTs each row: a repeat could act twice.
pub const POST_THINGS: &str = "\
connection: local
endpoint: { method: POST, path: /things }
source: { file: data/things.csv }
key: '{{ record.id }}'
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

/// `data/things.csv` with rows `id,name` from 1 to `n`.
pub fn things(n: usize) -> String {
    let mut csv = String::from("id,name\n");
    for id in 1..=n {
        csv.extend(["t", &id.to_string(), ",thing ", &id.to_string(), "\n"]);
    }
    csv
}

impl World {
    /// A project with the connection `local` and a far side that takes things.
    pub fn new() -> Self {
        let far_side = far_side(None);
        let world = Self { folder: tempfile::tempdir().expect("a temporary folder"), far_side };
        let connection = format!("connections:\n  local: {{ base_url: \"{}\" }}\n", world.url());
        world.file("runner.yaml", connection)
    }

    /// Writes a file of the project.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("a file");
    }

    /// The pipeline `p` and its input.
    pub fn pipeline(self, pipeline: &str, things: impl AsRef<[u8]>) -> Self {
        self.file("pipelines/p.yaml", pipeline).file("data/things.csv", things)
    }

    /// What the far side answers instead, in the sandbox's script form.
    pub fn script(self, rules: &str) -> Self {
        self.answers(rules);
        self
    }

    /// Changes what the far side answers.
    pub fn answers(&self, rules: &str) {
        self.far_side.set_script(Script::parse("script", rules).expect("a script"));
    }

    /// The far side's address.
    pub fn url(&self) -> String {
        self.far_side.url()
    }

    /// The far side.
    pub fn far_side(&self) -> &Handle {
        &self.far_side
    }

    /// All requests that the far side read completely.
    pub fn seen(&self) -> Vec<Seen> {
        self.far_side.journal()
    }

    /// `PUT /things/1` for each request seen.
    pub fn asked(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// A path in the project.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A file of the project, as text.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The outcome file `name` of the newest run of `p`; empty when there is none.
    pub fn outcomes(&self, name: &str) -> String {
        let runs = self.path(".runner/default/runs/p");
        let mut folders: Vec<PathBuf> = std::fs::read_dir(runs)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        folders.sort_by_key(|folder| folder.metadata().and_then(|found| found.modified()).ok());
        folders.last().and_then(|folder| std::fs::read_to_string(folder.join(name)).ok()).unwrap_or_default()
    }

    /// A command that is ready to start: `arguments` are split at blanks.
    pub fn command(&self, arguments: &str) -> Command {
        // Another build of it can be tested: `RUNNER_TEST_BINARY=target/release/runner`.
        let binary = std::env::var_os("RUNNER_TEST_BINARY").map_or_else(
            || env!("CARGO_BIN_EXE_runner").into(),
            |other| Path::new(env!("CARGO_MANIFEST_DIR")).join(other),
        );
        let mut command = Command::new(binary);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts a command and goes on beside it.
    pub fn start(&self, arguments: &str) -> Running {
        Running::of(&mut self.command(arguments))
    }

    /// Waits until the far side has read so many requests in all; false when the command ended before.
    pub fn until(&self, running: &Running, requests: u64) -> bool {
        let mut seen = self.far_side.requests();
        let counted = seen.clone();
        let mut ended = running.text.clone();
        block_on(async {
            tokio::select! {
                _ = ended.wait_for(|text| text.open == 0) => *counted.borrow() >= requests,
                reached = seen.wait_for(|count| *count >= requests) => reached.is_ok(),
            }
        })
    }

    /// The checkpoint of a pipeline, to be asked or changed.
    pub fn checkpoint(&self, pipeline: &str) -> Changed {
        let path = self.path(&format!(".runner/default/state/{pipeline}.db"));
        Changed(rusqlite::Connection::open(path).expect("the checkpoint"))
    }

    /// A copy of the checkpoint of a pipeline with its log, as it lies there now; none when there is
    /// none.
    pub fn copy_of_checkpoint(&self, pipeline: &str) -> Option<(TempDir, rusqlite::Connection)> {
        let from = self.path(&format!(".runner/default/state/{pipeline}.db"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let to = folder.path().join("copy.db");
        // An empty one says nothing yet.
        if !from.metadata().is_ok_and(|found| found.len() > 0) {
            return None;
        }
        std::fs::copy(&from, &to).expect("a copy");
        let log = PathBuf::from(format!("{}-wal", from.display()));
        if log.exists() {
            std::fs::copy(log, folder.path().join("copy.db-wal")).expect("a copy");
        }
        let journal = PathBuf::from(format!("{}-journal", from.display()));
        if journal.exists() {
            std::fs::copy(journal, folder.path().join("copy.db-journal")).expect("a copy");
        }
        let connection = rusqlite::Connection::open(to).expect("the copy");
        Some((folder, connection))
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &str) -> Run {
        Run::of(self.command(arguments).output().expect("the binary runs"), self)
    }

    /// Text without what differs from run to run: paths, ports, ids, durations.
    pub fn plain(&self, text: &str) -> String {
        let text = text
            .replace(&self.folder.path().to_string_lossy().into_owned(), "[ROOT]")
            .replace(&self.far_side.addr().to_string(), "[HOST]");
        without_run_ids(&text)
    }
}

/// A checkpoint that gets the checksums of what a test changes in it when it is let go.
pub struct Changed(rusqlite::Connection);

impl std::ops::Deref for Changed {
    type Target = rusqlite::Connection;

    fn deref(&self) -> &rusqlite::Connection {
        &self.0
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // A test may have broken its tables on purpose.
        let _ = runner::outcome::seal(&self.0, None);
    }
}

/// What a command has written so far, and how many of its outputs are still open.
#[derive(Debug, Default)]
pub struct Text {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
}

/// A command that is under way; killed when dropped.
pub struct Running {
    child: Child,
    text: watch::Receiver<Text>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a command and collects what it writes.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, text) = watch::channel(Text { open: 2, ..Text::default() });
        let sender = Arc::new(Mutex::new(sender));
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("stdout"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("stderr"));
        let readers = [(out, false), (err, true)].map(|(mut from, is_stderr)| {
            let sender = Arc::clone(&sender);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                loop {
                    let read = from.read(&mut buffer).unwrap_or(0);
                    sender.lock().expect("no panic").send_modify(|text| {
                        let to = if is_stderr { &mut text.stderr } else { &mut text.stdout };
                        to.extend_from_slice(&buffer[..read]);
                        text.open -= usize::from(read == 0);
                    });
                    if read == 0 {
                        return;
                    }
                }
            })
        });
        Self { child, text, readers: readers.into() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        // The process is not waited for yet, so the id is its own.
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("a signal");
    }

    /// Sends a signal to the process and all that it started; it has to lead a group of its own.
    pub fn signal_group(&self, signal: rustix::process::Signal) {
        let group = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(group, signal).expect("a signal");
    }

    /// Waits until stderr has a text; fails when the command ends without.
    #[track_caller]
    pub fn until_says(&mut self, wanted: &str) {
        let mut text = self.text.clone();
        let says = |text: &Text| String::from_utf8_lossy(&text.stderr).contains(wanted);
        let met = block_on(async move {
            text.wait_for(|text| says(text) || text.open == 0).await.map(|text| says(&text))
        });
        assert_eq!(met.ok(), Some(true), "it never said `{wanted}`");
    }

    /// Waits until a folder has an entry whose name begins so.
    pub fn until_exists(&self, folder: &Path, begin: &str) {
        let has = || {
            let entries = std::fs::read_dir(folder).expect("a folder").flatten();
            entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(begin))
        };
        assert!(self.until(has), "it ended before");
    }

    /// Waits until something is so, which nobody tells; false when the command ends before.
    pub fn until(&self, is_so: impl Fn() -> bool) -> bool {
        while !is_so() {
            if self.text.borrow().open == 0 {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Waits until stdout has so many lines; false when the command ends before.
    pub fn until_lines(&self, lines: usize) -> bool {
        let mut text = self.text.clone();
        let has = |text: &Text| String::from_utf8_lossy(&text.stdout).matches('\n').count() >= lines;
        block_on(async move {
            text.wait_for(|text| has(text) || text.open == 0).await.is_ok_and(|text| has(&text))
        })
    }

    /// The first line of stdout.
    pub fn first_line(&self) -> String {
        assert!(self.until_lines(1), "it ended before it wrote a line");
        let text = self.text.borrow();
        String::from_utf8_lossy(&text.stdout).lines().next().unwrap_or_default().to_owned()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(mut self, world: &World) -> Run {
        let _ = self.child.kill();
        self.ended(world)
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self, world: &World) -> Run {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        let status = self.child.wait().expect("it ends");
        let text = self.text.borrow();
        Run::of(&Output { status, stdout: text.stdout.clone(), stderr: text.stderr.clone() }, world)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a future that waits for other threads only.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

impl Run {
    pub fn of(output: impl std::borrow::Borrow<Output>, world: &World) -> Self {
        let output = output.borrow();
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            code,
            by_signal: output.status.signal().is_some(),
            stdout: world.plain(&String::from_utf8_lossy(&output.stdout)),
            stderr: world.plain(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Asserts the exit code; shows everything when it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr has a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "no `{text}` in\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Stdout as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.stdout, self.stderr))
    }
}

/// All files at a path or below it.
pub fn below(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("a folder").flatten();
    let mut found: Vec<PathBuf> = entries.flat_map(|entry| below(&entry.path())).collect();
    found.sort();
    found
}

/// A project with copies of these files and folders.
pub fn copied(root: &Path, parts: &[&str]) -> World {
    let mut world = World::new();
    for path in parts.iter().flat_map(|part| below(&root.join(part))) {
        let content = std::fs::read(&path).expect("a file");
        let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        world = world.file(&path, content);
    }
    world
}

/// A far side that takes `/things`, with what it had in `store`.
pub fn far_side(store: Option<&Path>) -> Handle {
    let route = |method: &str, path: &str| {
        Route::new(
            format!("{method} {path}"),
            method.parse().expect("a method"),
            PathPattern::parse(path).expect("a path"),
        )
    };
    let routes = vec![
        route("PUT", "/things/{id}"),
        route("PATCH", "/things/{id}"),
        route("DELETE", "/things/{id}"),
        route("POST", "/posted"),
        route("POST", "/v2/users"),
        route("POST", "/things"),
        Route { content_json: false, ..route("POST", "/files") },
        batch(route("POST", "/bulk"), true),
        batch(route("POST", "/load"), false),
        list(route("GET", "/lists/{kind}")),
    ];
    let options = Options {
        store: store.map(Path::to_owned),
        remember: usize::MAX,
        unknown: runner::sandbox::Unknown::Create,
        ..Options::default()
    };
    Sandbox::start(Rules::new(routes), options).expect("the far side starts")
}

/// A list of `count` items that is read in the way of its name, at most `size` at once.
fn list(mut route: Route) -> Route {
    route.reply = Some(Box::new(|request, _| {
        let text = |wanted: &str| {
            request.query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let number = |name: &str| text(name).and_then(|text| text.parse::<usize>().ok());
        let kind = request.params.first().map_or("", |(_, kind)| kind.as_str());
        let (count, mut size) = (number("count").unwrap_or(0), number("size").unwrap_or(3));
        if kind.starts_with("capped") {
            size = size.min(2);
        }
        let from = match kind {
            "page" | "capped-page" => (number("page").unwrap_or(1) - 1) * size,
            "zero" => number("page").unwrap_or(0) * size,
            "cursor" => text("cursor").map_or(0, |cursor| cursor[1..].parse().expect("a cursor")),
            "whole" | "deaf" | "loop" | "elsewhere" | "elsewhere-link" | "user" => 0,
            _ => number("offset").unwrap_or(0),
        };
        let to = if kind == "whole" { count } else { (from + size).min(count) };
        let items: Vec<String> = (from..to).map(|n| format!("{{\"id\":\"i{}\"}}", n + 1)).collect();
        let url = format!("{}?count={count}&offset={to}", request.path);
        let next = match kind {
            "loop" => "\"c1\"".to_owned(),
            "circle" => format!("\"{}?count={count}\"", request.path),
            "elsewhere" => "\"http://127.0.0.1:1/x\"".to_owned(),
            "user" => "\"//me:you@127.0.0.1:1/x\"".to_owned(),
            _ if to >= count => "null".to_owned(),
            "cursor" => format!("\"c{to}\""),
            _ => format!("\"{url}\""),
        };
        let items = match kind {
            "text" => "\"none\"".to_owned(),
            "odd" => concat!(
                r#"[{"id":"o1","big":9007199254740993001,"price":1.10,"__proto__":{"x":1},"#,
                r#""text":"a\nb,\"c\"","none":null},{"id":"o2","extra":[1,[2]]},"o3"]"#
            )
            .to_owned(),
            _ => format!("[{}]", items.join(",")),
        };
        let name = if kind == "nothing" { "things" } else { "items" };
        let pages = count.div_ceil(size);
        let mut reply = ScriptedReply::json_bytes(
            200,
            format!("{{\"{name}\":{items},\"pages\":{pages},\"next\":{next}}}"),
        );
        match kind {
            "html" => reply.body = "<html>".into(),
            "link" if to < count => {
                reply.headers.push(("link".into(), format!("<{url}>; rel=\"next\"")));
            }
            "elsewhere-link" => {
                reply.headers.push(("link".into(), "<http://127.0.0.1:1/x>; rel=\"next\"".into()));
            }
            _ => {}
        }
        reply
    }));
    route
}

/// A route that takes several things at once, and refuses those that are called `bad`.
fn batch(mut route: Route, tells_each: bool) -> Route {
    route.batch = Some(BatchRoute {
        tells_each,
        lines: None,
        check: Some(Box::new(|thing| match thing["name"].as_str() {
            Some("bad") => Err("`bad` is no name".into()),
            _ if thing["refused"] == true => Err("it is refused".into()),
            _ => Ok(()),
        })),
        reply: Box::new(move |_, results| {
            let results = results.iter().map(|result| {
                serde_json::json!({
                    "status": result.status, "id": result.item["id"], "why": result.message,
                    "number": result.object.id,
                })
            });
            let results: Vec<serde_json::Value> = results.collect();
            ScriptedReply::json(
                if tells_each { 207 } else { 200 },
                &serde_json::json!({ "results": results }),
            )
        }),
    });
    route
}

/// Replaces run ids and durations.
pub fn without_run_ids(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|char: char| char.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(tail) = run_id(rest) {
            out.push_str("[RUN]");
            rest = tail;
        } else {
            let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// What follows a run id such as `20261122T0214-3f9c`.
fn run_id(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let shape = b"dddddddd-dddd-xxxx";
    (bytes.len() >= shape.len()).then_some(())?;
    let fits = shape.iter().zip(bytes).enumerate().all(|(at, (kind, byte))| match (at, kind) {
        (8, _) => *byte == b'T',
        (13, _) => *byte == b'-',
        (_, b'd') => byte.is_ascii_digit(),
        _ => byte.is_ascii_hexdigit(),
    });
    fits.then(|| &text[shape.len()..])
}
