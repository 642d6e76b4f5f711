//! Compares what the far side saw with what the run says of itself (guarantees.md 12, a to h).
//!
//! After any number of starts, killed or not. The far side's journal is the one witness, checkpoint
//! and outcome files are the other; one violation fails the test and names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use runner::sandbox::Seen;

use crate::world::World;

/// A record as the checkpoint has it.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub state: u8,
    pub attempts: u64,
    pub unknown: bool,
    pub class: String,
    pub message: String,
}

pub const PENDING: u8 = 0;
pub const IN_FLIGHT: u8 = 1;
pub const DELIVERED: u8 = 2;
pub const FAILED: u8 = 3;
pub const INVALID: u8 = 4;
pub const SKIPPED: u8 = 5;
pub const IN_DOUBT: u8 = 6;

/// What the checkpoint says of its newest run.
pub struct Said {
    pub run: String,
    pub records: u64,
    pub lease: u64,
    pub settled: u64,
    pub rows: BTreeMap<u64, Row>,
    /// Notes and noted attempts of each record: what can explain a second sending.
    pub noted: BTreeMap<u64, u64>,
    /// Records of calls that are not settled.
    pub in_calls: BTreeSet<u64>,
    /// Starts that ended in order before all was settled.
    pub stops: u64,
    pub starts: u64,
}

/// What a case promises.
pub struct Case<'a> {
    pub world: &'a World,
    pub pipeline: &'a str,
    /// Keys of the records in input order.
    pub keys: &'a [String],
    /// Whether a second sending is allowed when it is noted.
    pub resends: bool,
    /// Printed with every failure.
    pub seed: u64,
}

impl Said {
    pub fn of(world: &World, pipeline: &str) -> Self {
        Self::found(world, pipeline).expect("a run")
    }

    /// The same; none when no run was begun. It looks at a copy: whoever closes a checkpoint moves
    /// its log, and the next start would not meet what the last one left.
    pub fn found(world: &World, pipeline: &str) -> Option<Self> {
        let (_copy, db) = world.copy_of_checkpoint(pipeline)?;
        let whole = |row: &rusqlite::Row<'_>, at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let newest = db.query_row(
            "SELECT number, id, records, lease, settled FROM run ORDER BY number DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, whole(row, 2)?, whole(row, 3)?, whole(row, 4)?)),
        );
        let (number, run, records, lease, settled): (i64, String, u64, u64, u64) = match newest {
            Err(rusqlite::Error::QueryReturnedNoRows) => return None,
            newest => newest.expect("the newest run"),
        };
        sums_fit(&db);
        let mut rows = BTreeMap::new();
        let mut statement = db
            .prepare("SELECT id & 1099511627775, state, attempts, flags & 1, coalesce(class, ''), coalesce(message, '') FROM record WHERE id >> 40 = ?1")
            .expect("records");
        let found = statement
            .query_map([number], |row| {
                let unknown: i64 = row.get(3)?;
                let row_of = Row {
                    state: row.get(1)?,
                    attempts: whole(row, 2)?,
                    unknown: unknown != 0,
                    class: row.get(4)?,
                    message: row.get(5)?,
                };
                Ok((whole(row, 0)?, row_of))
            })
            .expect("records");
        rows.extend(found.map(|row| row.expect("a record")));
        let mut noted = BTreeMap::new();
        let mut statement = db
            .prepare(
                "SELECT record FROM note WHERE run = ?1 AND record IS NOT NULL UNION ALL SELECT record & 1099511627775 FROM attempt WHERE record >> 40 = ?1 AND wait_ms IS NOT NULL",
            )
            .expect("notes");
        let found = statement.query_map([number], |row| whole(row, 0)).expect("notes");
        for ordinal in found {
            *noted.entry(ordinal.expect("a note")).or_default() += 1;
        }
        let mut in_calls = BTreeSet::new();
        let mut statement =
            db.prepare("SELECT members FROM batch WHERE id >> 40 = ?1 AND state < 2").expect("calls");
        let found = statement.query_map([number], |row| row.get::<_, String>(0)).expect("calls");
        for members in found {
            for part in members.expect("a call").split(',') {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let number = |text: &str| text.parse::<u64>().expect("a position");
                in_calls.extend(number(first)..=number(last));
            }
        }
        let (starts, stops) = db
            .query_row(
                "SELECT count(*), count(*) FILTER (WHERE class <> '') FROM start WHERE run = ?1",
                [number],
                |row| Ok((whole(row, 0)?, whole(row, 1)?)),
            )
            .expect("starts");
        Some(Self { run, records, lease, settled, rows, noted, in_calls, stops, starts })
    }

    /// Ordinals in a state.
    pub fn in_state(&self, state: u8) -> Vec<u64> {
        self.rows.iter().filter(|(_, row)| row.state == state).map(|(ordinal, _)| *ordinal).collect()
    }
}

/// The sums that a start relies on are those of the rows, whatever ended the starts before it.
fn sums_fit(db: &rusqlite::Connection) {
    let sums = |of: &str| -> Vec<Vec<i64>> {
        let mut statement = db.prepare(of).expect("sums");
        let found = statement.query_map([], |row| (0..12).map(|at| row.get(at)).collect()).expect("sums");
        found.map(|row| row.expect("sums of a block")).collect()
    };
    let of = |what: &str| format!("coalesce(sum({what}), 0)");
    let states: Vec<String> = (0..7).map(|state| of(&format!("state = {state}"))).collect();
    let rows = format!(
        "SELECT block.id, {}, {}, {}, (SELECT {} FROM batch WHERE batch.id >> 16 = block.id >> 16), \
         (SELECT {} FROM batch WHERE batch.id >> 16 = block.id >> 16) \
         FROM block LEFT JOIN record ON record.id >> 16 = block.id >> 16 GROUP BY block.id ORDER BY block.id",
        of("record.crc"),
        states.join(", "),
        of("record.attempts"),
        of("batch.crc"),
        of("batch.state < 2"),
    );
    let noted = "SELECT id, rows_crc, pending, in_flight, delivered, failed, invalid, skipped, in_doubt, attempts, \
                 calls_crc, calls_open FROM block ORDER BY id";
    assert_eq!(sums(noted), sums(&rows), "blocks and rows");
    let all = "SELECT (SELECT count(*) FROM record) = (SELECT coalesce(sum(pending + in_flight + delivered + failed + \
               invalid + skipped + in_doubt), 0) FROM block) \
               AND (SELECT coalesce(sum(rows_crc), 0) FROM run) = (SELECT coalesce(sum(crc), 0) FROM block)";
    assert!(db.query_row(all, [], |row| row.get::<_, bool>(0)).expect("an answer"), "all blocks");
}

/// Where a request may name its record: the last segment of the path, and a field of the body.
pub fn keys_in(seen: &Seen) -> [String; 2] {
    let last = seen.path.rsplit('/').next().unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let named = ["id", "reference_id"].iter().find_map(|name| body.get(name)?.as_str());
    [last.to_owned(), named.unwrap_or_default().to_owned()]
}

impl Case<'_> {
    /// Requests by record. The key of a record is the last segment of the path, or a field of the
    /// body that is one of the keys.
    fn by_record<'s>(&self, seen: &'s [Seen]) -> BTreeMap<u64, Vec<&'s Seen>> {
        let places: BTreeMap<&str, u64> = self.keys.iter().map(String::as_str).zip(0..).collect();
        let mut by_record: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        for one in seen {
            let [last, named] = keys_in(one);
            let ordinal = places.get(last.as_str()).or_else(|| places.get(named.as_str()));
            let ordinal = ordinal.unwrap_or_else(|| {
                panic!("seed {}: nobody asked for {} {}", self.seed, one.method, one.path)
            });
            by_record.entry(*ordinal).or_default().push(one);
        }
        by_record
    }

    /// What holds at every moment, also just after a kill.
    #[track_caller]
    pub fn holds(&self, journal: &[Seen]) -> Said {
        let said = Said::of(self.world, self.pipeline);
        let seed = self.seed;
        assert_eq!(said.records, self.keys.len() as u64, "seed {seed}: records of the run");
        for (ordinal, requests) in self.by_record(journal) {
            let accepted = requests.iter().filter(|seen| seen.accepted).count() as u64;
            let row = said.rows.get(&ordinal).cloned().unwrap_or_default();
            let about =
                format!("seed {seed}, record {ordinal}: {accepted} accepted of {}, {row:?}", requests.len());
            if accepted > 0 {
                // (c) known to us: settled, in doubt, or open and listed as one that may have arrived.
                let leased_only = self.resends && !said.rows.contains_key(&ordinal) && ordinal < said.lease;
                let known = matches!(row.state, IN_FLIGHT | DELIVERED | FAILED | IN_DOUBT)
                    || row.state == SKIPPED && row.class == "in_doubt"
                    || row.state == PENDING && row.attempts > 0
                    || said.in_calls.contains(&ordinal)
                    || leased_only;
                assert!(known, "(c) {about}");
            }
            if !self.resends {
                assert!(accepted <= 1, "(d) {about}");
            }
            // (e) the same bytes at every attempt.
            let bytes: BTreeSet<&[u8]> = requests.iter().map(|seen| &seen.body[..]).collect();
            assert_eq!(bytes.len(), 1, "(e) {about}");
        }
        // (a) what is delivered was accepted.
        let by_record = self.by_record(journal);
        for ordinal in said.in_state(DELIVERED) {
            let arrived = by_record.get(&ordinal).is_some_and(|seen| {
                seen.iter().any(|seen| seen.accepted || seen.status.is_some_and(|status| status < 300))
            });
            assert!(arrived, "(a) seed {seed}, record {ordinal} is delivered and was never taken");
        }
        said
    }

    /// What holds once a start has ended in order with every record settled.
    #[track_caller]
    pub fn holds_at_the_end(&self, journal: &[Seen]) -> Said {
        let said = self.holds(journal);
        let seed = self.seed;
        // (g) exactly one state for each record.
        assert_eq!(said.rows.len() as u64, said.records, "(g) seed {seed}: a row for each record");
        for (ordinal, row) in &said.rows {
            assert!(row.state > IN_FLIGHT, "(g) seed {seed}, record {ordinal} is open: {row:?}");
        }
        // (b) no more acceptances than sendings that the checkpoint counts, and each second sending
        // has its note.
        for (ordinal, requests) in self.by_record(journal) {
            let row = &said.rows[&ordinal];
            let accepted = requests.iter().filter(|seen| seen.accepted).count() as u64;
            let noted = said.noted.get(&ordinal).copied().unwrap_or_default();
            let about =
                format!("(b) seed {seed}, record {ordinal}: {accepted} accepted, {noted} noted, {row:?}");
            assert!(accepted <= row.attempts, "{about}");
            assert!(accepted <= 1 + noted + said.stops.saturating_sub(1), "{about}");
        }
        self.files_add_up(&said);
        said
    }

    /// (f) The outcome files hold every record of the input exactly once, in the file of its state.
    #[track_caller]
    fn files_add_up(&self, said: &Said) {
        let folder = self.folder(said);
        let mut found: BTreeMap<String, u8> = BTreeMap::new();
        let names = [
            ("delivered", DELIVERED),
            ("failed", FAILED),
            ("invalid", INVALID),
            ("skipped", SKIPPED),
            ("in_doubt", IN_DOUBT),
            ("unsent", PENDING),
        ];
        let mut counts = serde_json::Map::new();
        for (name, state) in names {
            let path = folder.join(format!("{name}.csv"));
            let mut count = 0_u64;
            if path.exists() {
                let mut reader = csv::Reader::from_path(&path).expect("an outcome file");
                for line in reader.records() {
                    let line = line.expect("a line");
                    count += 1;
                    let again = found.insert(line[0].to_owned(), state);
                    assert_eq!(again, None, "(f) seed {}: {} stands in two places", self.seed, &line[0]);
                }
            }
            counts.insert(name.to_owned(), count.into());
        }
        let expected: BTreeMap<String, u8> = self
            .keys
            .iter()
            .zip(0..)
            .map(|(key, ordinal)| (key.clone(), said.rows.get(&ordinal).map_or(PENDING, |row| row.state)))
            .collect();
        let odd = |key: &&String| found.get(*key) != expected.get(*key);
        let odd: Vec<&String> = found.keys().chain(expected.keys()).filter(odd).take(5).collect();
        assert!(odd.is_empty(), "(f) seed {}: {odd:?} stand in no file or in a wrong one", self.seed);
        let summary = std::fs::read_to_string(folder.join("summary.json")).expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
        for (name, count) in &counts {
            assert_eq!(&summary["counts"][name], count, "(g) seed {}: {name}", self.seed);
        }
    }

    /// The folder of the newest run.
    pub fn folder(&self, said: &Said) -> PathBuf {
        self.world.path(&format!(".runner/default/runs/{}/{}", self.pipeline, said.run))
    }
}
