//! YAML text to a tree of nodes, each with its place.
//!
//! The only file that names the YAML crate, so that its options stand in one place: no word is
//! ever a boolean but `true` and `false`, no digits are lost, tags, aliases beyond a budget and
//! second documents are refused. Invariant: any bytes give a tree or a diagnostic, never a panic.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_yaml::{Error, Location, Spanned, UserMessageFormatter};

use crate::model::{Diagnostic, Number, Place, Placed, Problems, SourceText};

/// The most that one file of ours may hold.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Stack of the thread that parses; memory that is not touched is not used.
const PARSER_STACK: usize = 32 << 20;

/// One node of a file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// What it holds.
    pub(super) kind: Kind,
    /// Where it was written.
    pub(super) place: Place,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that JSON knows, in its written digits.
    Number(Number),
    /// Any other scalar.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in written order, no key twice.
    Map(Vec<(Placed<String>, Node)>),
}

impl Node {
    /// What it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The value under a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(name, _)| name.value == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// An empty mapping at a place.
    pub(super) const fn empty(place: Place) -> Self {
        Self { kind: Kind::Map(Vec::new()), place }
    }

    /// This node with `over` laid on it: mappings are merged key by key, all else is replaced.
    pub(super) fn merged(self, over: &Self) -> Self {
        match (self.kind, &over.kind) {
            (Kind::Map(mut entries), Kind::Map(others)) => {
                for (key, node) in others {
                    match entries.iter_mut().find(|(name, _)| name.value == key.value) {
                        Some((name, old)) => {
                            *name = key.clone();
                            let was = std::mem::replace(old, Self::empty(node.place.clone()));
                            *old = was.merged(node);
                        }
                        None => entries.push((key.clone(), node.clone())),
                    }
                }
                Self { kind: Kind::Map(entries), place: over.place.clone() }
            }
            _ => over.clone(),
        }
    }
}

/// Reads a file of the project. `shown` is its path as a person types it.
pub(super) fn read_text(path: &Path, shown: &str) -> Result<Arc<SourceText>, Box<Diagnostic>> {
    let unreadable = |cause: &std::io::Error| {
        let why = match cause.kind() {
            std::io::ErrorKind::NotFound => "is not there",
            std::io::ErrorKind::PermissionDenied => "may not be read by this user",
            _ => "cannot be read",
        };
        Box::new(Diagnostic::error("file-unreadable", format!("{shown} {why}")))
    };
    let about = std::fs::metadata(path).map_err(|cause| unreadable(&cause))?;
    if !about.is_file() {
        let what = if about.is_dir() { "is a folder" } else { "is not a regular file" };
        return Err(Box::new(Diagnostic::error("file-unreadable", format!("{shown} {what}"))));
    }
    if about.len() > MAX_FILE {
        let size = about.len();
        return Err(Box::new(
            Diagnostic::error(
                "file-too-large",
                format!("{shown} has {size} bytes; a file of the project may have {MAX_FILE} (1 MiB)"),
            )
            .help("records belong into a source file, named under `source:`"),
        ));
    }
    let bytes = std::fs::read(path).map_err(|cause| unreadable(&cause))?;
    match String::from_utf8(bytes) {
        Ok(text) => {
            // Spans of the parser count from behind a byte order mark.
            let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
            Ok(Arc::new(SourceText { path: shown.to_owned(), text }))
        }
        Err(wrong) => {
            let line = wrong.as_bytes().iter().take(wrong.utf8_error().valid_up_to());
            let line = line.filter(|byte| **byte == b'\n').count() + 1;
            Err(Box::new(
                Diagnostic::error("not-utf8", format!("{shown} is not UTF-8 text, first at line {line}"))
                    .help("save the file as UTF-8"),
            ))
        }
    }
}

/// Parses a file into its tree. `None` when it has no usable tree; why is among the problems.
pub(super) fn parse(source: &Arc<SourceText>, problems: &mut Problems) -> Option<Node> {
    // A level of nesting takes the parser tens of kilobytes of stack without optimization; 100
    // levels are allowed, so it gets a stack of its own.
    let parsed = std::thread::scope(|scope| {
        let run = || serde_yaml::from_str_with_options::<Spanned<Shape>>(&source.text, options());
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, run);
        thread.ok().and_then(|thread| thread.join().ok())
    });
    match parsed {
        Some(Ok(tree)) => Some(place_tree(tree, source, problems)),
        Some(Err(error)) => {
            problems.push(explain(&error, source));
            None
        }
        None => {
            let message = "the parser could not be run on this file";
            problems.at("yaml-syntax", &Place::start_of(Arc::clone(source)), message);
            None
        }
    }
}

/// The options of every reading of YAML; the defaults of the parser would lose digits and words.
fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_indentation: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        with_snippet: false,
        // Our own tree finds repeated keys, with both places and all at once.
        duplicate_keys: serde_yaml::options::DuplicateKeyPolicy::PassThrough,
        budget: serde_yaml::budget! {
            max_nodes: 10_000, max_events: 50_000, max_depth: 100, max_aliases: 1_000, max_documents: 1,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000, max_replay_stack_depth: 16,
        },
    }
}

/// A node as the parser gives it. Scalars that the parser took for something else than text are
/// read again from the source, which keeps their digits.
#[derive(Debug)]
enum Shape {
    Null,
    Plain,
    Text(String),
    List(Vec<Spanned<Shape>>),
    Map(Vec<(Spanned<String>, Spanned<Shape>)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyShape;

        impl<'de> Visitor<'de> for AnyShape {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("YAML")
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Null)
            }
            fn visit_none<E>(self) -> Result<Shape, E> {
                Ok(Shape::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Plain)
            }
            fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
                Ok(Shape::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Shape, E> {
                Ok(Shape::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Shape::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Shape::Map(entries))
            }
        }

        deserializer.deserialize_any(AnyShape)
    }
}

fn place_tree(tree: Spanned<Shape>, source: &Arc<SourceText>, problems: &mut Problems) -> Node {
    let place = place_of(tree.referenced, source);
    if let Some(tag) = tag_before(place_of(tree.defined, source).span.start, source) {
        problems.push(not_allowed(tag, &place));
    }
    let kind = match tree.value {
        Shape::Null => Kind::Null,
        Shape::Text(text) => Kind::Text(text),
        Shape::Plain => plain(written(tree.defined, source)),
        Shape::List(items) => {
            Kind::List(items.into_iter().map(|item| place_tree(item, source, problems)).collect())
        }
        Shape::Map(entries) => {
            let mut known: Vec<(Placed<String>, Node)> = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let key = Placed::new(key.value, place_of(key.referenced, source));
                let value = place_tree(value, source, problems);
                if let Some((first, _)) = known.iter().find(|(name, _)| name.value == key.value) {
                    let (one, two) = (first.place.line_column().0, key.place.line_column().0);
                    let message = format!("`{}` stands twice, on lines {one} and {two}", key.value);
                    problems.push(
                        Diagnostic::error("duplicate-key", message)
                            .place(&key.place)
                            .help("keep one of the two"),
                    );
                    continue;
                }
                known.push((key, value));
            }
            Kind::Map(known)
        }
    };
    Node { kind, place }
}

/// The tag in front of a value. The parser refuses those it does not know and obeys the others:
/// `!!binary` makes text that nobody reads in the file.
fn tag_before(start: usize, source: &SourceText) -> Option<&str> {
    let mut words = source.text.get(..start)?.split_whitespace().rev();
    let mut word = words.next()?;
    if word.starts_with('&') {
        word = words.next()?;
    }
    // Plain text never begins with `!`; what ends like this is the end of other text or of a comment.
    let line = source.text.get(..start)?.rfind(word).and_then(|at| source.text.get(..at)?.lines().last());
    let is_tag = word.starts_with('!') && !word.ends_with([',', '\'', '"', ']', '}', ':']);
    (is_tag && !line.is_some_and(|line| line.contains('#'))).then_some(word)
}

fn not_allowed(tag: &str, place: &Place) -> Diagnostic {
    Diagnostic::error("yaml-tag", format!("the YAML tag `{tag}` is not allowed"))
        .place(place)
        .help("write the value without a tag; quotes make it text")
}

/// A scalar without quotes, by what is written.
fn plain(written: &str) -> Kind {
    match written {
        "true" => Kind::Bool(true),
        "false" => Kind::Bool(false),
        "null" | "~" | "" => Kind::Null,
        _ => Number::parse(written).map_or_else(|| Kind::Text(written.to_owned()), Kind::Number),
    }
}

/// The bytes of a location. The parser's own line and column are only used where it knows none.
fn place_of(location: Location, source: &Arc<SourceText>) -> Place {
    let span = location.span();
    match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let len = usize::try_from(len).unwrap_or(0);
            let place = Place::new(Arc::clone(source), start..start.saturating_add(len));
            // A collection ends where its last line ends: only its first line is worth marking.
            let text = source.text.get(place.span.clone()).unwrap_or_default();
            let end = text.trim_end().len();
            Place::new(Arc::clone(source), place.span.start..place.span.start + end)
        }
        _ => line_place(source, usize::try_from(location.line()).unwrap_or(0)),
    }
}

fn written(location: Location, source: &Arc<SourceText>) -> &str {
    let span = place_of(location, source).span;
    source.text.get(span).unwrap_or_default().trim()
}

/// The text of a line, from 1, without its indentation.
fn line_place(source: &Arc<SourceText>, line: usize) -> Place {
    let start: usize = source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.text.get(start..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    Place::new(Arc::clone(source), start + indent..start + line.trim_end().len().max(indent))
}

/// A parser's error in our words.
fn explain(error: &Error, source: &Arc<SourceText>) -> Diagnostic {
    let mut error = error.without_snippet();
    let place = error.location().map_or_else(
        || Place::start_of(Arc::clone(source)),
        |location| {
            let place = place_of(location, source);
            if place.span.is_empty() {
                line_place(source, usize::try_from(location.line()).unwrap_or(0))
            } else {
                place
            }
        },
    );
    // What went wrong while an alias was unfolded is said at the alias.
    while let Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    match error {
        Error::MultipleDocuments { .. } => return second_document(source, place),
        Error::Budget { breach, .. } => return budget(breach, source, place),
        Error::AliasReplayLimitExceeded { max_total_replayed_events: max, .. } => {
            return limit(&format!("aliases (`*name`) unfold to more than {max} nodes"), &place);
        }
        Error::AliasReplayStackDepthExceeded { max_depth, .. } => {
            return limit(&format!("aliases (`*name`) are nested more than {max_depth} deep"), &place);
        }
        Error::UnsupportedTag { tag, .. } => {
            return not_allowed(tag, &place);
        }
        _ => {}
    }
    let upto = place.line_column().0;
    if let Some(tab) = tab_line(&source.text, upto + 1) {
        return Diagnostic::error("tab-indentation", format!("line {tab} is indented with a tab"))
            .place(&indent_place(source, tab))
            .help("YAML is indented with spaces only");
    }
    let words = error.render_with_formatter(&UserMessageFormatter);
    let words = words.lines().next().unwrap_or_default();
    Diagnostic::error("yaml-syntax", format!("this is not valid YAML: {}", without_location(words)))
        .place(&place)
}

fn limit(what: &str, place: &Place) -> Diagnostic {
    Diagnostic::error("yaml-limit", format!("{what}, which is the limit of a file")).place(place)
}

fn budget(breach: &serde_yaml::budget::BudgetBreach, source: &Arc<SourceText>, place: Place) -> Diagnostic {
    use serde_yaml::budget::BudgetBreach as Breach;
    let what = match breach {
        Breach::Documents { .. } => return second_document(source, place),
        Breach::Nodes { .. } => "the file has more than 10000 nodes".to_owned(),
        Breach::Events { .. } => "the file has more than 50000 parts".to_owned(),
        Breach::Depth { .. } => "the file is nested more than 100 deep".to_owned(),
        Breach::Aliases { .. } => "the file has more than 1000 aliases (`*name`)".to_owned(),
        _ => "the file is larger than the parser's budget".to_owned(),
    };
    limit(&what, &place)
}

fn second_document(source: &Arc<SourceText>, place: Place) -> Diagnostic {
    let mut content = false;
    let mut second = None;
    for (at, line) in source.text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            if content {
                second = Some(at + 1);
                break;
            }
            content = line.len() > 4;
        } else if !line.trim().is_empty() && !line.starts_with(['#', '%']) {
            content = true;
        }
    }
    let place = second.map_or(place, |line| line_place(source, line));
    let line = place.line_column().0;
    Diagnostic::error("second-document", format!("a second document begins on line {line}"))
        .place(&place)
        .help("one file holds one document; put the second into a file of its own")
}

/// The first line up to `last` that is indented with a tab.
fn tab_line(text: &str, last: usize) -> Option<usize> {
    text.lines().take(last).enumerate().find_map(|(at, line)| {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let body = line.get(indent..).unwrap_or_default();
        let tabbed = line.get(..indent).unwrap_or_default().contains('\t');
        (tabbed && !body.is_empty() && !body.starts_with('#')).then_some(at + 1)
    })
}

fn indent_place(source: &Arc<SourceText>, line: usize) -> Place {
    let start: usize = source.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = source.text.get(start..).unwrap_or_default();
    let tab = rest.find('\t').unwrap_or(0);
    Place::new(Arc::clone(source), start + tab..start + tab + 1)
}

/// The parser says the place in words too; ours is drawn.
fn without_location(words: &str) -> &str {
    let words = words.strip_prefix("error: ").unwrap_or(words);
    let words = match words.split_once(": ") {
        Some((head, tail)) if head.contains("line ") && head.contains("column ") => tail,
        _ => words,
    };
    words.split(" at line ").next().unwrap_or(words).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn source(text: &str) -> Arc<SourceText> {
        Arc::new(SourceText { path: "a.yaml".into(), text: text.into() })
    }

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "null".into(),
            Kind::Bool(value) => format!("{value}"),
            Kind::Number(number) => format!("#{}", number.as_str()),
            Kind::Text(text) => format!("{text:?}"),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| format!("{}={}", key.value, show(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn scalars_keep_their_digits_and_words() {
        let mut problems = Problems::new();
        for (text, want) in [
            ("1.10", "#1.10"),
            ("18446744073709551616", "#18446744073709551616"),
            ("0012", "\"0012\""),
            ("1_000", "\"1_000\""),
            ("NO", "\"NO\""),
            ("y", "\"y\""),
            ("on", "\"on\""),
            ("true", "true"),
            ("'true'", "\"true\""),
            ("\"5\"", "\"5\""),
            ("~", "null"),
            ("", "null"),
            ("2026-11-22", "\"2026-11-22\""),
            ("0x1F", "\"0x1F\""),
            ("-0", "#-0"),
        ] {
            let node = parse(&source(&format!("a: {text}\n")), &mut problems);
            assert_eq!(show(&node.unwrap()), format!("{{a={want}}}"), "{text}");
        }
        let node = parse(&source("\u{e9}: &x 1.10\r\nb: *x\r\nc: [*x, {d: 2}]\r\n"), &mut problems).unwrap();
        assert_eq!(show(&node), "{é=#1.10 b=#1.10 c=[#1.10 {d=#2}]}");
        assert!(!problems.has_errors(), "{:?}", problems.all());
    }

    #[test]
    fn places_are_exact_behind_other_characters() {
        let node = parse(&source("a: é\nb:\n  - \"ü: x\"\n  - {c: 1}\n"), &mut Problems::new()).unwrap();
        let Kind::Map(entries) = &node.kind else { panic!() };
        let text = |place: &Place| place.source.text[place.span.clone()].to_owned();
        assert_eq!(
            (text(&entries[1].0.place), entries[1].0.place.to_string()),
            ("b".into(), "a.yaml:2:1".into())
        );
        let Kind::List(items) = &entries[1].1.kind else { panic!() };
        assert_eq!(
            (text(&items[0].place), items[0].place.to_string()),
            ("\"ü: x\"".into(), "a.yaml:3:5".into())
        );
    }

    /// rule, line, column, message
    fn errors(text: &str) -> Vec<(&'static str, usize, usize, String)> {
        let mut problems = Problems::new();
        parse(&source(text), &mut problems);
        let say = |found: &Diagnostic| {
            let (line, column) = found.place.as_ref().unwrap().line_column();
            (found.rule, line, column, found.message.clone())
        };
        problems.all().iter().map(say).collect()
    }

    #[test]
    fn what_is_no_usable_yaml_says_where_and_why() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        let deep = format!("a: {}{}", "[".repeat(120), "]".repeat(120));
        let mut out = String::new();
        for text in [
            "a: 1\nb: 2\na: 3\n",
            "a:\n\tb: 1\n",
            "a: 1\n---\nb: 2\n",
            "a: !secret x\n",
            "a: [1, 2\nb: 3\n",
            "a: 'x\n",
            bomb,
            &deep,
        ] {
            for (rule, line, column, message) in errors(text) {
                let _ = writeln!(out, "{rule} {line}:{column} {message}");
            }
        }
        insta::assert_snapshot!(out, @r"
        duplicate-key 3:1 `a` stands twice, on lines 1 and 3
        tab-indentation 2:1 line 2 is indented with a tab
        second-document 2:1 a second document begins on line 2
        yaml-tag 1:12 the YAML tag `!secret` is not allowed
        yaml-syntax 2:1 this is not valid YAML: invalid indentation
        yaml-syntax 2:1 this is not valid YAML: invalid indentation in multiline quoted scalar
        yaml-limit 5:8 the file has more than 10000 nodes, which is the limit of a file
        yaml-limit 1:103 the file is nested more than 100 deep, which is the limit of a file
        ");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-c]: |- |\\[|\\]|\\{|\\}|\"|'|&x |\\*x|\n|  |\t|!t |é|---|#|\\||>|<<: |[0-9.]|\\PC){0,40}") {
            let mut problems = Problems::new();
            let node = parse(&source(&text), &mut problems);
            proptest::prop_assert!(node.is_some() || problems.has_errors());
        }
    }
}
