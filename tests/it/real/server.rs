//! A server of others as a child on loopback, and a client that looks at what it holds.
//!
//! Invariant: it is ended by its own id, and a test waits for it by asking, never for a time.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// So long a server may take to answer at all: only one that never does is cut short by it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A server that runs; ended when dropped.
pub struct Server {
    child: Child,
    port: u16,
    /// Of `name:password`, for what the test itself asks.
    login: Option<&'static str>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says something past the capture of the test harness, so that it is seen when all is well.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Where a package of npm was installed, with its version said; none where it was not.
pub fn node_package(name: &str) -> Option<PathBuf> {
    let home = root().join(".real/node");
    let package = home.join("node_modules").join(name);
    if !home.join("installed").exists() || !package.exists() {
        say(&format!("skipped: {name} is not installed (tests/real/install)"));
        return None;
    }
    let about = std::fs::read_to_string(package.join("package.json")).expect("package.json");
    let about: Value = serde_json::from_str(&about).expect("JSON");
    say(&format!("runs against {name} {}", about["version"].as_str().expect("a version")));
    Some(package)
}

/// Python and a script of the environment in which it was installed, with its version said; none where it
/// was not. The script's own first line names a path that is wrong once the checkout was moved.
pub fn python_script(name: &str) -> Option<(PathBuf, PathBuf)> {
    let home = root().join(".real/py");
    let Ok(installed) = std::fs::read_to_string(home.join("installed")) else {
        say(&format!("skipped: {name} is not installed (tests/real/install)"));
        return None;
    };
    say(&format!("runs {name} of {}", installed.trim().replace("==", " ")));
    Some((home.join("bin/python"), home.join("bin").join(name)))
}

impl Server {
    /// Starts a program with these arguments, in which `PORT` stands for a free port, and waits until it
    /// answers HTTP. One that ends because somebody else took the port is started with another.
    pub fn start(program: &Path, arguments: &[&str], folder: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..3 {
            let port = free_port();
            let arguments = arguments.iter().map(|argument| argument.replace("PORT", &port.to_string()));
            let log = File::create(folder.join("server.log")).expect("a file");
            let child = Command::new(program)
                .args(arguments)
                .current_dir(folder)
                .env("NODE_ENV", "development")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let mut server = Self { child, port, login: None };
            while server.child.try_wait().expect("a child").is_none() {
                if server.asked("GET", "/", None).is_some() {
                    return server;
                }
                assert!(Instant::now() < deadline, "{} does not answer", program.display());
                std::thread::yield_now();
            }
        }
        let said = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
        panic!("{} ended before it answered\n{said}", program.display());
    }

    /// With a name and a password.
    pub fn with_login(mut self, login: &'static str) -> Self {
        self.login = Some(login);
        self
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Status and body of a request; the server has to answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.asked(method, path, body).expect("an answer")
    }

    /// HTTP/1.0, so that the body ends with the connection.
    fn asked(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        use base64::Engine as _;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let login = self.login.map_or_else(String::new, |login| {
            let login = base64::engine::general_purpose::STANDARD.encode(login);
            format!("Authorization: Basic {login}\r\n")
        });
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{login}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        let reply = String::from_utf8_lossy(&reply);
        let (head, body) = reply.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    listener.local_addr().expect("an address").port()
}
