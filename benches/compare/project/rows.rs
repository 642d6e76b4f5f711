//! Seeded records, in every form that the program reads.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use fastrand::Rng;
use serde_json::{Map, Value};

use crate::project::{Kind, Setting};
use crate::target::hash;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Csv,
    Ndjson,
    /// One JSON array.
    Array,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Ndjson => "NDJSON",
            Self::Array => "JSON array",
        }
    }

    /// Where they lie in a project.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Csv => "pipelines/data/input.csv",
            Self::Ndjson => "pipelines/data/input.ndjson",
            Self::Array => "pipelines/data/input.json",
        }
    }
}

/// What was written.
pub struct Input {
    pub path: PathBuf,
    pub records: u64,
    /// Wrapping sum of the hashes of all keys; the far side makes the same of what comes.
    pub sum: u64,
}

const USER: [&str; 12] = [
    "reference_id",
    "first_name",
    "last_name",
    "email",
    "phone",
    "avatar_url",
    "company",
    "plan",
    "balance",
    "address",
    "status",
    "internal_note",
];
const AGENT: [&str; 8] =
    ["agent_id", "employee_number", "first_name", "last_name", "role_id", "groups", "active", "remark"];

/// Writes records; the same number gives the same records in every form.
pub fn write(
    path: PathBuf,
    setting: &Setting,
    records: u64,
    is_changed: impl Fn(u64) -> bool,
) -> io::Result<Input> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut random = Rng::with_seed(7);
    let mut sum = 0_u64;
    let mut writer = Rows::begin(File::create(&path)?, setting)?;
    for number in 1..=records {
        let mut cells = match setting.kind {
            Kind::Single | Kind::Batch => user(number, &mut random),
            Kind::Update => agent(number, &mut random),
        };
        if is_changed(number) {
            cells[3] = cells[3].replace("@example.com", "@example.org");
        }
        sum = sum.wrapping_add(hash(cells[0].as_bytes()));
        writer.row(cells)?;
    }
    writer.end()?;
    Ok(Input { path, records, sum })
}

enum Rows {
    Csv(Box<csv::Writer<File>>),
    Json { out: BufWriter<File>, names: &'static [&'static str], is_array: bool, is_first: bool },
}

impl Rows {
    fn begin(file: File, setting: &Setting) -> io::Result<Self> {
        let names = if setting.kind == Kind::Update { &AGENT[..] } else { &USER };
        if setting.form == Form::Csv {
            let mut out = csv::Writer::from_writer(file);
            out.write_record(names)?;
            return Ok(Self::Csv(Box::new(out)));
        }
        let mut out = BufWriter::new(file);
        let is_array = setting.form == Form::Array;
        if is_array {
            out.write_all(b"[\n")?;
        }
        Ok(Self::Json { out, names, is_array, is_first: true })
    }

    fn row(&mut self, cells: Vec<String>) -> io::Result<()> {
        match self {
            Self::Csv(out) => Ok(out.write_record(&cells)?),
            Self::Json { out, names, is_array, is_first } => {
                // As a cell that is empty is absent in CSV.
                let filled = names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
                let row: Map<String, Value> =
                    filled.map(|(name, cell)| ((*name).to_owned(), cell.into())).collect();
                if *is_array && !std::mem::take(is_first) {
                    out.write_all(b",\n")?;
                }
                serde_json::to_writer(&mut *out, &row)?;
                if *is_array { Ok(()) } else { out.write_all(b"\n") }
            }
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Csv(mut out) => out.flush(),
            Self::Json { mut out, is_array, .. } => {
                if is_array {
                    out.write_all(b"\n]\n")?;
                }
                out.flush()
            }
        }
    }
}

const FIRST: [&str; 8] = ["Amina", "Tomás", "Nils", "Ruth", "Viktor", "Zoë", "Ivan", "Mei"];
const LAST: [&str; 8] = ["O'Brien", "Patel", "Suzuki", "Fischer", "Haddad", "Müller", "الحسن", "Ng"];
const COMPANY: [&str; 4] = ["The \"Blue Door\" Bakery", "Tea/Time \\ Ltd", "Acme", ""];
const PLAN: [&str; 4] = ["free", "growth", "pro", "enterprise"];

fn pick(random: &mut Rng, words: &[&str]) -> String {
    words[random.usize(..words.len())].to_owned()
}

fn user(number: u64, random: &mut Rng) -> Vec<String> {
    let (first, last) = (pick(random, &FIRST), pick(random, &LAST));
    let phone = format!("+1-202-555-{:04}", random.u32(..10_000));
    let has_avatar = random.u8(..4) == 0;
    let avatar =
        if has_avatar { format!("https://example.com/avatars/{number:07}.png") } else { String::new() };
    let (company, plan) = (pick(random, &COMPANY), pick(random, &PLAN));
    let balance = format!("{}.{:02}", random.u32(..10_000), random.u32(..100));
    let has_address = random.u8(..3) == 0;
    let address = if has_address {
        format!("{} Hauptstraße,\n10115 Berlin", random.u32(1..200))
    } else {
        String::new()
    };
    vec![
        format!("{number:07}"),
        first,
        last,
        format!("user{number}@example.com"),
        phone,
        avatar,
        company,
        plan,
        balance,
        address,
        "active".to_owned(),
        String::new(),
    ]
}

fn agent(number: u64, random: &mut Rng) -> Vec<String> {
    let (first, last) = (pick(random, &FIRST), pick(random, &LAST));
    let id = format!("{:08x}-9144-47a0-948b-{number:012x}", random.u32(..));
    let role = random.u64(1_000_000_000_000_000_000..9_000_000_000_000_000_000).to_string();
    let groups = match random.u8(..3) {
        0 => "[]".to_owned(),
        1 => format!("[\"{:08x}-4b5c-82d4\"]", random.u32(..)),
        _ => format!("[\"{:08x}-4b5c-82d4\", \"{:08x}-4a72-901f\"]", random.u32(..), random.u32(..)),
    };
    vec![id, format!("{number:07}"), first, last, role, groups, "true".to_owned(), String::new()]
}
