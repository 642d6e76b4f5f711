//! What was found in records, in flat memory over any input.
//!
//! Equal findings are one group with a count and its first places; groups beyond a fixed number are
//! only counted. Invariant: the records of the classes add up to the invalid ones.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::engine::Plan;
use crate::model::{Diagnostic, Outcome, RecordPlace, State};
use crate::report::text;

/// The rule of what is found in records.
pub const RULE: &str = "record-invalid";
/// Groups that are kept of one pipeline.
const MOST_GROUPS: usize = 200;
/// Groups that are shown of one class.
const MOST_ROWS: usize = 20;
/// Places that are kept of one group.
const MOST_PLACES: usize = 3;

/// What becomes of a record that would not be sent.
pub struct Settled {
    /// Invalid or skipped.
    pub state: State,
    /// The rule.
    pub class: String,
    /// What it says.
    pub message: String,
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Self {
        Self { state: outcome.state, class: outcome.class, message: outcome.message }
    }
}

/// Findings by class, then by what they say.
#[derive(Default)]
pub struct Groups {
    classes: Vec<OfClass>,
    kept: usize,
}

struct OfClass {
    class: String,
    records: u64,
    /// Findings of records whose group was one too many.
    further: u64,
    groups: Vec<Group>,
    by_text: HashMap<String, usize>,
}

struct Group {
    text: String,
    records: u64,
    places: Vec<RecordPlace>,
}

impl Groups {
    pub fn add(&mut self, settled: &Settled, place: &RecordPlace) {
        let known = self.classes.iter().position(|known| known.class == settled.class);
        let at = known.unwrap_or_else(|| {
            self.classes.push(OfClass::new(&settled.class));
            self.classes.len() - 1
        });
        let Some(class) = self.classes.get_mut(at) else { return };
        class.records += 1;
        for text in kinds(settled) {
            let known = class.by_text.get(&text).copied();
            let Some(group) = known.and_then(|at| class.groups.get_mut(at)) else {
                if self.kept >= MOST_GROUPS {
                    class.further += 1;
                    continue;
                }
                self.kept += 1;
                class.by_text.insert(text.clone(), class.groups.len());
                class.groups.push(Group { text, records: 1, places: vec![place.clone()] });
                continue;
            };
            group.records += 1;
            if group.places.len() < MOST_PLACES {
                group.places.push(place.clone());
            }
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let of_class = |class: &OfClass| {
            class
                .groups
                .iter()
                .map(|group| {
                    let places = |place: &RecordPlace| json!({ "file": &*place.file, "line": place.line });
                    json!({
                        "class": class.class,
                        "message": group.text,
                        "count": group.records,
                        "first": group.places.iter().map(places).collect::<Vec<_>>(),
                    })
                })
                .collect::<Vec<_>>()
        };
        self.classes.iter().flat_map(of_class).collect()
    }

    /// One finding for each class.
    pub fn findings(self, plan: &Plan, total: u64) -> Vec<Diagnostic> {
        let mut found: Vec<Diagnostic> =
            self.classes.into_iter().map(|class| class.finding(plan, total)).collect();
        if let Some(last) = found.pop() {
            found.push(
                last.note("these records would not be sent; the others would")
                    .help("correct the input or the mapping, then `runner validate --data` again"),
            );
        }
        found
    }
}

impl OfClass {
    fn new(class: &str) -> Self {
        let (groups, by_text) = (Vec::new(), HashMap::new());
        Self { class: class.to_owned(), records: 0, further: 0, groups, by_text }
    }

    /// Its records, and what they have in common.
    fn finding(mut self, plan: &Plan, total: u64) -> Diagnostic {
        let pipeline = &plan.pipeline;
        let how_many =
            format!("{} of {}", text::number(self.records), text::counted(total, "record", "records"));
        let file = &pipeline.source.file;
        let (does, named) = match self.class.as_str() {
            "schema" if self.records == 1 => ("breaks", pipeline.schema.as_ref()),
            "schema" => ("break", pipeline.schema.as_ref()),
            "body-schema" => ("with a body that breaks", pipeline.endpoint().body_schema.as_ref()),
            _ => ("", None),
        };
        let mut found = match named {
            Some(schema) => Diagnostic::error(RULE, format!("{how_many} of {file} {does} {}", schema.value))
                .place(&schema.place),
            None => {
                Diagnostic::error(RULE, format!("{how_many} of {file}{}", words(&self.class, self.records)))
                    .at(format!("{} in {}", pipeline.name, pipeline.path))
            }
        };
        found.count = Some(self.records);
        // The most frequent first; equal ones by their first place.
        self.groups.sort_by_key(|group| std::cmp::Reverse(group.records));
        let shown = self.groups.len().min(MOST_ROWS);
        let rest: u64 = self.groups.iter().skip(shown).map(|group| group.records).sum::<u64>() + self.further;
        self.groups.truncate(shown);
        let width = |cell: &dyn Fn(&Group) -> usize| self.groups.iter().map(cell).max().unwrap_or(0);
        let count = |group: &Group| text::counted(group.records, "record", "records");
        let pointers = width(&|group| parts(&group.text).0.chars().count());
        let messages = width(&|group| parts(&group.text).1.chars().count().min(60));
        let counts = width(&|group| count(group).len());
        for group in &self.groups {
            let (pointer, message) = parts(&group.text);
            let gap = if pointers > 0 { "  " } else { "" };
            let (count, lines) = (count(group), lines(group, file));
            found.rows.push(format!("{pointer:pointers$}{gap}{message:messages$}  {count:counts$}  {lines}"));
        }
        if rest > 0 {
            found.rows.push(format!("and {} more of other kinds", text::number(rest)));
        }
        found
    }
}

/// What a record's outcome says, without what differs from record to record.
fn kinds(settled: &Settled) -> Vec<String> {
    match settled.class.as_str() {
        "schema" | "body-schema" => settled
            .message
            .split("; /")
            .enumerate()
            .map(|(at, part)| {
                let part = if at == 0 { part.trim_start_matches('/') } else { part };
                let (pointer, message) = part.split_once(' ').unwrap_or(("", part));
                // Elements of lists are of one kind.
                let is_number =
                    |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                let pointer: Vec<&str> =
                    pointer.split('/').map(|part| if is_number(part) { "*" } else { part }).collect();
                format!("/{}  {message}", pointer.join("/"))
            })
            .collect(),
        "duplicate-key" => vec!["another record has the same key and goes first".into()],
        _ => vec![settled.message.clone()],
    }
}

/// What is wrong with records of a class, behind their number and file.
fn words(class: &str, records: u64) -> String {
    match class {
        "duplicate-key" if records == 1 => " repeats the key of another record".to_owned(),
        "duplicate-key" => " repeat the key of another record".to_owned(),
        "key-empty" if records == 1 => " has no key".to_owned(),
        "key-empty" => " have no key".to_owned(),
        class => format!(": {class}"),
    }
}

/// The pointer and the message of a group's text.
fn parts(text: &str) -> (&str, &str) {
    text.split_once("  ").filter(|(pointer, _)| pointer.starts_with('/')).unwrap_or(("", text))
}

/// `lines 4, 88, …`; the file is named where it is not the only one.
fn lines(group: &Group, file: &str) -> String {
    let more = if group.records > group.places.len() as u64 { ", …" } else { "" };
    let all_here = group.places.iter().all(|place| &*place.file == file);
    let places: Vec<String> = group
        .places
        .iter()
        .map(|place| if all_here { place.line.to_string() } else { format!("{}:{}", place.file, place.line) })
        .collect();
    let word = match (all_here, group.records) {
        (false, _) => "",
        (true, 1) => "line ",
        (true, _) => "lines ",
    };
    format!("{word}{}{more}", places.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(findings: &[(&str, &str)]) -> Groups {
        let mut groups = Groups::default();
        for (line, (class, message)) in findings.iter().enumerate() {
            let place = RecordPlace { file: "a.csv".into(), line: line as u64 + 2, byte: 0 };
            let settled =
                Settled { state: State::Invalid, class: (*class).into(), message: (*message).into() };
            groups.add(&settled, &place);
        }
        groups
    }

    #[test]
    fn equal_violations_are_one_group_whatever_stands_beside_them() {
        let groups = groups(&[
            ("schema", "/email is not an e-mail address; /tags/0 is too long"),
            ("schema", "/email is not an e-mail address"),
            ("schema", "/tags/17 is too long"),
            ("key-empty", "the `key` of the pipeline is empty here"),
        ]);
        let shown: Vec<String> = groups
            .classes
            .iter()
            .flat_map(|class| {
                class.groups.iter().map(move |group| {
                    format!("{} {} {} {}", class.class, class.records, group.text, lines(group, "a.csv"))
                })
            })
            .collect();
        assert_eq!(
            shown,
            [
                "schema 3 /email  is not an e-mail address lines 2, 3",
                "schema 3 /tags/*  is too long lines 2, 4",
                "key-empty 1 the `key` of the pipeline is empty here line 5",
            ]
        );
    }

    #[test]
    fn groups_are_bounded_and_the_rest_is_counted() {
        let messages: Vec<String> = (0..MOST_GROUPS + 50).map(|n| format!("/f{n} is wrong")).collect();
        let findings: Vec<(&str, &str)> = messages.iter().map(|text| ("schema", text.as_str())).collect();
        let groups = groups(&findings);
        let class = &groups.classes[0];
        assert_eq!((class.groups.len(), class.further, class.records), (MOST_GROUPS, 50, 250));
    }
}
