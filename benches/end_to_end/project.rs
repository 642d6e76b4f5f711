//! A project to measure: the pipelines, templates and schemas of this repository without their
//! limits of pace, and seeded data.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Far;

/// Requests at once.
pub const LANES: usize = 64;

/// Which pipeline is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// POST with a body of eleven expressions; every attempt has an intent on disk first.
    Users,
    /// PUT of the row; repeating is harmless, so leases and outcomes are enough.
    Agents,
    /// The users again, 100 in one call, each with its own result.
    Calls,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Agents => "agents",
            Self::Calls => "calls",
        }
    }

    pub const fn pipeline(self) -> &'static str {
        match self {
            Self::Users => "pipelines/sync-users.yaml",
            Self::Agents => "pipelines/update-agents.yaml",
            Self::Calls => "pipelines/examples/index-users.yaml",
        }
    }
}

pub struct Project {
    folder: TempDir,
    kind: Kind,
}

impl Project {
    /// Copies what ships; `delivery` is one more line of that block.
    pub fn new(kind: Kind, delivery: &str) -> io::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Beside the build, which lies on a disk; a folder in memory would make syncs free.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let project = Self { folder, kind };
        for shipped in ["templates/freshchat", "templates/elasticsearch", "schemas/freshchat"] {
            for file in fs::read_dir(repository.join(shipped))? {
                let file = file?;
                let text = fs::read_to_string(file.path())?;
                let name = format!("{shipped}/{}", file.file_name().to_string_lossy());
                project.write(&name, &without_limits(&text, ""))?;
            }
        }
        let pipeline = fs::read_to_string(repository.join(kind.pipeline()))?;
        project.write(kind.pipeline(), &without_limits(&pipeline, delivery))?;
        let account = match kind {
            Kind::Users | Kind::Agents => {
                "freshchat:\n    subdomain: bench\n    api_token: { env: BENCH_TOKEN }\n    connector: freshchat"
            }
            Kind::Calls => {
                "elasticsearch:\n    user: { env: BENCH_TOKEN }\n    password: { env: BENCH_TOKEN }\n    connector: elasticsearch"
            }
        };
        let account =
            format!("connections:\n  {account}\n    base_url: {{ env: BENCH_URL, secret: false }}\n");
        project.write("runner.yaml", &account)?;
        Ok(project)
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// A file of the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of records.
    pub fn input(&self) -> PathBuf {
        let name = if self.kind == Kind::Agents { "agents" } else { "users" };
        self.folder.path().join(format!("pipelines/data/{name}.csv"))
    }

    /// Writes seeded records.
    pub fn rows(&self, records: u64) -> io::Result<()> {
        self.rows_of(records, |_| false)
    }

    /// The same, of which some are not what they were.
    pub fn rows_of(&self, records: u64, is_changed: impl Fn(u64) -> bool) -> io::Result<()> {
        fs::create_dir_all(self.folder.path().join("pipelines/data"))?;
        let mut out = BufWriter::new(File::create(self.input())?);
        let mut random = fastrand::Rng::with_seed(7);
        let mut row = String::new();
        out.write_all(match self.kind {
            Kind::Users | Kind::Calls => &b"reference_id,first_name,last_name,email,phone,avatar_url,company,plan,balance,address,status,internal_note\n"[..],
            Kind::Agents => b"agent_id,employee_number,first_name,last_name,role_id,groups,active,remark\n",
        })?;
        for number in 1..=records {
            row.clear();
            match self.kind {
                Kind::Users | Kind::Calls => user(number, &mut random, &mut row),
                Kind::Agents => agent(number, &mut random, &mut row),
            }
            if is_changed(number) {
                row = row.replacen("@example.com", "@example.org", 1);
            }
            out.write_all(row.as_bytes())?;
        }
        out.flush()
    }

    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(self.folder.path()))?;
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The binary, in this project; `far` is where it sends.
    pub fn runner(&self, far: Option<&Far>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("BENCH_URL", far.map_or("https://bench.example/v2", Far::url))
            .env("BENCH_TOKEN", crate::floor::TOKEN);
        command
    }
}

fn without_limits(text: &str, delivery: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let words = line.trim_start();
        if words.starts_with("rate:") || words.starts_with("limits:") || words.starts_with("stop_when:") {
            continue;
        }
        if words.starts_with("delivery: {") {
            let _ = writeln!(out, "delivery: {{ concurrency: {LANES}, {delivery} }}");
            continue;
        }
        if words.starts_with("concurrency:") {
            let _ = writeln!(out, "  concurrency: {LANES}\n  {delivery}");
            continue;
        }
        let _ = writeln!(out, "{line}");
    }
    out
}

const FIRST: [&str; 8] = ["Amina", "Tomás", "Nils", "Ruth", "Viktor", "Zoë", "Ivan", "Mei"];
const LAST: [&str; 8] = ["O'Brien", "Patel", "Suzuki", "Fischer", "Haddad", "Müller", "الحسن", "Ng"];

fn pick<'t>(random: &mut fastrand::Rng, words: &[&'t str]) -> &'t str {
    words[random.usize(..words.len())]
}

fn user(number: u64, random: &mut fastrand::Rng, row: &mut String) {
    let (first, last) = (pick(random, &FIRST), pick(random, &LAST));
    let _ = write!(
        row,
        "{number:07},{first},{last},user{number}@example.com,+1-202-555-{:04},",
        random.u32(..10_000)
    );
    if random.u8(..4) == 0 {
        let _ = write!(row, "https://example.com/avatars/{number:07}.png");
    }
    let company = pick(random, &["\"The \"\"Blue Door\"\" Bakery\"", "Tea/Time \\ Ltd", "Acme", ""]);
    let plan = pick(random, &["free", "growth", "pro", "enterprise"]);
    let _ = write!(row, ",{company},{plan},{}.{:02},", random.u32(..10_000), random.u32(..100));
    if random.u8(..3) == 0 {
        let _ = write!(row, "\"{} Hauptstraße,\n10115 Berlin\"", random.u32(1..200));
    }
    row.push_str(",active,\n");
}

fn agent(number: u64, random: &mut fastrand::Rng, row: &mut String) {
    let (first, last) = (pick(random, &FIRST), pick(random, &LAST));
    let _ = write!(row, "{:08x}-9144-47a0-948b-{number:012x},{number:07},{first},{last},", random.u32(..));
    let _ = write!(row, "{},", random.u64(1_000_000_000_000_000_000..9_000_000_000_000_000_000));
    match random.u8(..3) {
        0 => row.push_str("[]"),
        1 => _ = write!(row, "\"[\"\"{:08x}-4b5c-82d4\"\"]\"", random.u32(..)),
        _ => {
            _ = write!(
                row,
                "\"[\"\"{:08x}-4b5c-82d4\"\", \"\"{:08x}-4a72-901f\"\"]\"",
                random.u32(..),
                random.u32(..)
            );
        }
    }
    row.push_str(",true,\n");
}
