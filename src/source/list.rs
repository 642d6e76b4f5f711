//! A JSON document that holds a list, element by element.
//!
//! Descends to the list by its pointer (RFC 6901), gives each element, and checks behind the list
//! that the document ends as it should. Invariant: an element at fault costs itself; a document
//! whose brackets or commas are wrong is refused from there on, as nothing behind can be told.

use super::json::{Begin, apart, bad_record, parse_json, parse_record, too_large};
use super::skim::{Keep, Skimmed, skim};
use super::window::{Start, Window};
use super::{Found, shown};
use crate::config::RecordLimits;
use crate::model::{Class, Diagnostic, Failure, Value};

/// Keys that a message names.
const NAMED: usize = 20;
/// Bytes of a key that can be the one looked for.
const LONGEST_KEY: usize = 64 << 10;

pub(super) struct ListFile {
    pub window: Window,
    limits: RecordLimits,
    levels: Vec<Level>,
    state: State,
    /// Where the list begins, behind its bracket.
    begin: Start,
    /// Where reading goes on behind the last element that was given.
    at: Start,
    /// Number of the next element, from 0, when it is known.
    index: Option<u64>,
}

/// A level above the list.
enum Level {
    /// An object, and the key that leads on.
    Object(String),
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Later,
    Ended,
}

/// What a walk through an object met.
#[derive(Default)]
struct Walk {
    found: bool,
    keys: Vec<String>,
    lists: Vec<String>,
}

impl ListFile {
    /// Descends to the list.
    pub(super) fn open(window: Window, pointer: &str, limits: RecordLimits) -> Result<Self, Failure> {
        let start = window.position();
        let mut file = Self {
            window,
            limits,
            levels: Vec::new(),
            state: State::First,
            begin: start,
            at: start,
            index: Some(0),
        };
        file.descend(pointer)?;
        file.begin = file.window.position();
        file.at = file.begin;
        Ok(file)
    }

    /// Goes on in a window that starts at a mark; `index` is the next element's number.
    pub(super) fn resume(&mut self, window: Window, index: Option<u64>) {
        self.at = window.position();
        self.state = if self.at == self.begin { State::First } else { State::Later };
        self.window = window;
        self.index = index;
    }

    /// Where reading goes on.
    pub(super) const fn position(&self) -> Start {
        self.at
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, Failure> {
        let mut next = match self.state {
            State::Ended => return Ok(None),
            State::First | State::Later => self.window.skip_whitespace()?,
        };
        if next == Some(b']') {
            self.window.advance(1);
            self.finish()?;
            self.state = State::Ended;
            return Ok(None);
        }
        if self.state == State::Later && next.is_some() {
            if next != Some(b',') {
                return Err(self.broken("expected `,` or `]` behind an element of the list"));
            }
            self.window.advance(1);
            next = self.window.skip_whitespace()?;
        }
        if next.is_none() {
            return Err(self.ends_early());
        }
        let found = self.element()?;
        self.state = State::Later;
        self.at = self.window.position();
        self.index = self.index.map(|index| index + 1);
        Ok(Some(found))
    }

    fn element(&mut self) -> Result<Found, Failure> {
        let begin =
            Begin { line: self.window.line(), column: self.window.column(), byte: self.window.offset() };
        let (digest, parsed) = match skim(&mut self.window, Keep::UpTo(self.limits.record))? {
            Skimmed::Whole(len) => {
                let text = self.window.bytes().get(..len).unwrap_or_default();
                let which = || self.index.map(|index| format!("element {index}"));
                let fields = parse_record(text, &self.limits)
                    .map_err(|fault| bad_record(&fault, text, &begin, which()));
                let digest = xxhash_rust::xxh3::xxh3_64(text);
                self.window.advance(len);
                (digest, fields)
            }
            Skimmed::Oversize(oversize) => (oversize.digest(), Err(too_large(oversize, self.limits.record))),
            other => return Err(self.no_value(&other)),
        };
        let (fields, copy_of) = apart(parsed);
        Ok(Found { line: begin.line, byte: begin.byte, digest, copy_of, fields })
    }

    fn descend(&mut self, pointer: &str) -> Result<(), Failure> {
        let segments = segments(pointer)?;
        let mut way = String::new();
        for segment in &segments {
            let here = if way.is_empty() { "the top".to_owned() } else { format!("`{way}`") };
            let walk = match self.window.skip_whitespace()? {
                Some(b'{') => {
                    self.levels.push(Level::Object(segment.clone()));
                    self.walk_object(Some(segment))?
                }
                Some(b'[') => {
                    self.levels.push(Level::List);
                    Walk { found: self.walk_list(segment)?, ..Walk::default() }
                }
                Some(byte) => {
                    let note = format!("{here} is {}", kind(byte));
                    return Err(self.not_found(pointer, &note));
                }
                None => return Err(self.ends_early()),
            };
            if !walk.found {
                let note = if matches!(self.levels.last(), Some(Level::List)) {
                    format!("{here} is a list without such an element")
                } else if walk.keys.is_empty() {
                    format!("{here} is an object without keys")
                } else {
                    format!("{here} has {}", walk.keys.join(", "))
                };
                return Err(self.not_found(pointer, &note));
            }
            way.push('/');
            way.push_str(&segment.replace('~', "~0").replace('/', "~1"));
        }
        match self.window.skip_whitespace()? {
            Some(b'[') => {
                self.window.advance(1);
                Ok(())
            }
            Some(b'{') if segments.is_empty() => Err(self.object_at_top()?),
            Some(byte) => Err(self.not_a_list(pointer, kind(byte), &[])),
            None => Err(self.ends_early()),
        }
    }

    /// Walks through an object up to the value of the wanted key, or to its end.
    fn walk_object(&mut self, wanted: Option<&str>) -> Result<Walk, Failure> {
        let mut walk = Walk::default();
        self.window.advance(1);
        let mut next = self.window.skip_whitespace()?;
        while next != Some(b'}') {
            let key = self.key(next)?;
            if key.is_some() && key.as_deref() == wanted {
                walk.found = true;
                return Ok(walk);
            }
            let value = self.window.skip_whitespace()?;
            if let Some(key) = key {
                if walk.keys.len() < NAMED {
                    walk.keys.push(format!("`{}`", shown(&key)));
                }
                if value == Some(b'[') && walk.lists.len() < NAMED {
                    walk.lists.push(key);
                }
            }
            self.skip_value()?;
            next = self.comma_or(b'}')?;
        }
        self.window.advance(1);
        Ok(walk)
    }

    /// Walks through a list up to the element with this number; false when there is none.
    fn walk_list(&mut self, segment: &str) -> Result<bool, Failure> {
        let canonical = segment == "0" || !segment.starts_with('0');
        let all_digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        let Some(wanted) = segment.parse::<u64>().ok().filter(|_| canonical && all_digits) else {
            return Ok(false);
        };
        self.window.advance(1);
        let mut next = self.window.skip_whitespace()?;
        for _ in 0..wanted {
            if next == Some(b']') {
                return Ok(false);
            }
            self.skip_value()?;
            next = self.comma_or(b']')?;
        }
        Ok(next != Some(b']'))
    }

    /// Reads a key and its colon; `None` is a key too long to be looked for.
    fn key(&mut self, next: Option<u8>) -> Result<Option<String>, Failure> {
        match next {
            Some(b'"') => {}
            Some(_) => return Err(self.broken("expected a key in double quotes")),
            None => return Err(self.ends_early()),
        }
        let key = match skim(&mut self.window, Keep::UpTo(LONGEST_KEY))? {
            Skimmed::Whole(len) => {
                let text = self.window.bytes().get(..len).unwrap_or_default();
                let limits = RecordLimits { field: LONGEST_KEY, ..self.limits };
                let Ok(Value::String(key)) = parse_json(text, &limits) else {
                    return Err(self.broken("a key that is no JSON string"));
                };
                self.window.advance(len);
                Some(key.to_string())
            }
            Skimmed::Oversize(_) => None,
            other => return Err(self.no_value(&other)),
        };
        match self.window.skip_whitespace()? {
            Some(b':') => self.window.advance(1),
            Some(_) => return Err(self.broken("expected `:` behind a key")),
            None => return Err(self.ends_early()),
        }
        Ok(key)
    }

    fn skip_value(&mut self) -> Result<(), Failure> {
        self.window.skip_whitespace()?;
        match skim(&mut self.window, Keep::Nothing)? {
            Skimmed::Whole(_) | Skimmed::Oversize(_) => Ok(()),
            other => Err(self.no_value(&other)),
        }
    }

    /// Behind a value: the closing bracket, or the byte behind a comma.
    fn comma_or(&mut self, close: u8) -> Result<Option<u8>, Failure> {
        match self.window.skip_whitespace()? {
            Some(b',') => {
                self.window.advance(1);
                match self.window.skip_whitespace()? {
                    Some(byte) if byte == close => Err(self.broken("a comma before the closing bracket")),
                    None => Err(self.ends_early()),
                    next => Ok(next),
                }
            }
            Some(byte) if byte == close => Ok(Some(byte)),
            Some(_) => Err(self.broken("expected a comma or the closing bracket")),
            None => Err(self.ends_early()),
        }
    }

    /// Checks what stands behind the list.
    fn finish(&mut self) -> Result<(), Failure> {
        for level in std::mem::take(&mut self.levels).iter().rev() {
            let close = if matches!(level, Level::List) { b']' } else { b'}' };
            let mut next = self.comma_or(close)?;
            while next != Some(close) {
                if let Level::Object(wanted) = level
                    && self.key(next)?.as_deref() == Some(wanted)
                {
                    let message = format!("the key `{}` on the way to the list stands twice", shown(wanted));
                    return Err(self.fail("duplicate-key", message, None));
                }
                self.skip_value()?;
                next = self.comma_or(close)?;
            }
            self.window.advance(1);
        }
        match self.window.skip_whitespace()? {
            None => Ok(()),
            Some(_) => Err(self.trailing()),
        }
    }

    fn object_at_top(&mut self) -> Result<Failure, Failure> {
        let walk = self.walk_object(None)?;
        Ok(match self.window.skip_whitespace()? {
            Some(_) => self.trailing(),
            None => self.not_a_list("", "an object", &walk.lists),
        })
    }

    fn trailing(&self) -> Failure {
        let message =
            format!("more text behind the end of the JSON document, from byte {}", self.window.offset());
        self.fail(
            "trailing-data",
            message,
            Some("one object a line is NDJSON: name the file `.ndjson`, or say `source: { format: ndjson }`"),
        )
    }

    fn not_a_list(&self, pointer: &str, found: &str, lists: &[String]) -> Failure {
        let place = if pointer.is_empty() { "the top level".to_owned() } else { format!("`{pointer}`") };
        let help = lists.first().map_or_else(
            || {
                "a JSON source holds a list of objects; `source: { pointer: /path/to/list }` names it"
                    .to_owned()
            },
            |list| {
                let list = shown(list).replace('~', "~0").replace('/', "~1");
                format!("name the list in it: `source: {{ pointer: /{list} }}`")
            },
        );
        self.fail("not-a-list", format!("{place} is {found}, expected a list of objects"), Some(&help))
    }

    fn not_found(&self, pointer: &str, note: &str) -> Failure {
        let mut failure =
            self.fail("pointer-not-found", format!("there is no list at `{}`", shown(pointer)), None);
        for diagnostic in &mut failure.diagnostics {
            diagnostic.notes.push(note.to_owned());
            diagnostic.help = Some("`source.pointer` is a JSON pointer such as `/data/items`".into());
        }
        failure
    }

    fn no_value(&self, found: &Skimmed) -> Failure {
        match found {
            Skimmed::Ends => self.ends_early(),
            Skimmed::Mismatch(at) => {
                let byte = self.window.offset() + at;
                self.broken(&format!("the bracket at byte {byte} does not fit the one that it closes"))
            }
            Skimmed::NoValue | Skimmed::Whole(_) | Skimmed::Oversize(_) => self.broken("expected a value"),
        }
    }

    fn ends_early(&self) -> Failure {
        let name = self.window.name();
        let message = match self.index {
            Some(index) if index > 0 => format!("{name} ends early, behind element {}", index - 1),
            _ => format!("{name} ends early"),
        };
        self.fail("truncated", message, Some("copy it once more from where it comes from"))
    }

    fn broken(&self, what: &str) -> Failure {
        self.fail(
            "not-json",
            what.to_owned(),
            Some("mend the JSON there; what stands behind it cannot be told"),
        )
    }

    fn fail(&self, rule: &'static str, message: String, help: Option<&str>) -> Failure {
        let column = self.window.column().map_or_else(String::new, |column| format!(", column {column}"));
        let (name, line, byte) = (self.window.name(), self.window.line(), self.window.offset());
        let mut diagnostic =
            Diagnostic::error(rule, message).at(format!("{name} line {line}{column}, byte {byte}"));
        diagnostic.help = help.map(Into::into);
        Failure::new(Class::Input, diagnostic)
    }
}

/// The reference tokens of a JSON pointer.
fn segments(pointer: &str) -> Result<Vec<String>, Failure> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(path) = pointer.strip_prefix('/') else {
        let message = format!("`{}` is no JSON pointer: it does not begin with `/`", shown(pointer));
        return Err(Failure::new(
            Class::Config,
            Diagnostic::error("bad-pointer", message).help("write it like `/data/items`"),
        ));
    };
    Ok(path.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect())
}

const fn kind(first: u8) -> &'static str {
    match first {
        b'"' => "text",
        b'{' => "an object",
        b'[' => "a list",
        b't' | b'f' => "true or false",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => "no JSON",
    }
}
