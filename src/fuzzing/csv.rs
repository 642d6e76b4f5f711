//! CSV and TSV: any bytes are records, bad records or one failure; what is read is what the csv
//! crate reads, and every mark leads to the same rest.

use std::path::Path;

use super::common::{Input, scratch, source, write};
use crate::config::Encoding;
use crate::config::RecordLimits;
use crate::config::SourceSpec;
use crate::model::Failure;
use crate::model::Record;
use crate::model::Value;
use crate::source::Mark;
use crate::source::open;

/// The target.
pub fn csv(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, at) = (input.byte(), input.below(16));
    let file = input.rest();
    let folder = scratch();
    let plain = options & 0x3E == 0;
    let mut spec = source(if options & 1 == 0 { "a.csv" } else { "a.tsv" });
    write(&folder, &spec.file, file);
    if options & 2 != 0 {
        spec.csv.delimiter = Some(b';');
    }
    if options & 4 != 0 {
        spec.csv.encoding = Some(if options & 0x40 == 0 { Encoding::Latin1 } else { Encoding::Utf16 });
    }
    if options & 8 != 0 {
        spec.csv.comment = Some(b'#');
    }
    if options & 0x10 != 0 {
        spec.limits = RecordLimits { field: 8, record: 24, columns: 3, ..spec.limits };
    }
    if options & 0x20 != 0 {
        spec.csv.header = Some(vec!["a".into(), "b".into()]);
    }
    let Some(read) = read(&spec, &folder) else { return };
    check_order(&read, file, spec.csv.encoding.is_none() && !file.contains(&b'\r'));
    check_mark(&spec, &folder, &read, at);
    // Lone carriage returns end a line for that crate everywhere, for us in files without other ends.
    let lone = file.iter().enumerate().any(|(at, byte)| *byte == b'\r' && file.get(at + 1) != Some(&b'\n'));
    if plain && !lone {
        check_against_the_crate(&read, file, options & 1 != 0);
    }
}

pub(super) struct Read {
    pub columns: Vec<String>,
    pub records: Vec<Record>,
    /// Before each record, and behind the last.
    pub marks: Vec<Mark>,
    pub failure: Option<Failure>,
}

/// All of a source; `None` when it cannot be opened.
pub(super) fn read(spec: &SourceSpec, folder: &Path) -> Option<Read> {
    let mut source = open(spec, folder, None).ok()?;
    let columns = source.columns().unwrap_or_default().to_vec();
    let mut read = Read { columns, records: Vec::new(), marks: vec![source.mark()], failure: None };
    while let Some(item) = source.next() {
        match item {
            Ok(record) => {
                read.records.push(record);
                read.marks.push(source.mark());
            }
            Err(failure) => {
                read.failure = Some(failure);
                break;
            }
        }
    }
    assert!(source.next().is_none(), "something follows the end");
    Some(read)
}

/// Ordinals count from 0, places go forward, and the line is the one of the byte.
pub(super) fn check_order(read: &Read, file: &[u8], lines: bool) {
    let mut before = None;
    for (ordinal, record) in read.records.iter().enumerate() {
        assert_eq!(record.ordinal, ordinal as u64);
        assert!(before < Some(record.place.byte), "{:?}", record.place);
        before = Some(record.place.byte);
        if lines {
            let from = usize::try_from(record.place.byte).expect("a byte of the file");
            let newlines = memchr::memchr_iter(b'\n', &file[..from]).count();
            assert_eq!(record.place.line, newlines as u64 + 1, "{:?}", record.place);
        }
        if let Err(bad) = &record.fields {
            assert!(!bad.rule.is_empty() && !bad.message.is_empty());
            assert!(!bad.message.contains(char::is_control), "{:?}", bad.message);
        }
    }
}

/// From a mark on, the rest is the same.
pub(super) fn check_mark(spec: &SourceSpec, folder: &Path, read: &Read, at: usize) {
    let at = at % read.marks.len();
    let mut source = open(spec, folder, None).expect("it could be opened before");
    source.seek(read.marks[at]).expect("a mark of this file");
    for expected in &read.records[at..] {
        let found = source.next().expect("a record").expect("no failure");
        assert_eq!(
            (found.ordinal, found.place, found.digest, &found.fields),
            (expected.ordinal, expected.place.clone(), expected.digest, &expected.fields)
        );
    }
    match (source.next(), &read.failure) {
        (None, None) => {}
        (Some(Err(found)), Some(expected)) => {
            assert_eq!(found.diagnostics[0].message, expected.diagnostics[0].message);
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

fn check_against_the_crate(read: &Read, file: &[u8], tabs: bool) {
    let delimiter = if tabs { b'\t' } else { b',' };
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(file);
    let header = reader.byte_headers().expect("bytes in memory").clone();
    if header.len() != read.columns.len() {
        // Columns without a name, or our own, are left out.
        return;
    }
    assert_eq!(
        read.columns.iter().map(String::as_bytes).collect::<Vec<_>>(),
        header.iter().collect::<Vec<_>>()
    );
    let theirs: Vec<_> = reader.byte_records().map(|record| record.expect("bytes in memory")).collect();
    if read.failure.is_none() {
        assert_eq!(theirs.len(), read.records.len(), "the number of records");
    }
    for (ours, theirs) in read.records.iter().zip(&theirs) {
        match &ours.fields {
            Ok(map) => {
                let cells: Vec<_> =
                    map.iter().map(|(_, value)| value.as_str().unwrap_or_default().as_bytes()).collect();
                assert_eq!(cells, theirs.iter().collect::<Vec<_>>());
            }
            Err(bad) if bad.rule == "ragged-row" => assert_ne!(theirs.len(), header.len()),
            Err(bad) if bad.rule == "not-utf8" => {
                assert!(theirs.iter().any(|cell| std::str::from_utf8(cell).is_err()));
            }
            Err(_) => {}
        }
    }
    if read.failure.is_none() && read.records.iter().all(|record| record.fields.is_ok()) {
        check_quoting(read, &header, &theirs, delimiter);
    }
}

/// The same cells in other quotes are the same records with the same digests.
fn check_quoting(read: &Read, header: &::csv::ByteRecord, rows: &[::csv::ByteRecord], delimiter: u8) {
    let mut writer = ::csv::WriterBuilder::new()
        .quote_style(::csv::QuoteStyle::Always)
        .delimiter(delimiter)
        .from_writer(Vec::new());
    for row in std::iter::once(header).chain(rows) {
        writer.write_byte_record(row).expect("bytes in memory");
    }
    let folder = scratch();
    let name = if delimiter == b'\t' { "quoted.tsv" } else { "quoted.csv" };
    write(&folder, name, &writer.into_inner().expect("bytes in memory"));
    let again = self::read(&source(name), &folder).expect("it could be opened in other quotes");
    assert!(again.failure.is_none());
    let shape = |records: &[Record]| -> Vec<(u64, String)> {
        let json = |record: &Record| record.fields.clone().map(|map| Value::Object(map).to_json());
        records.iter().map(|record| (record.digest, json(record).unwrap_or_else(|bad| bad.message))).collect()
    };
    assert_eq!(shape(&read.records), shape(&again.records));
}
