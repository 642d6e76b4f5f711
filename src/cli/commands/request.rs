//! A request as a person reads it: text, one JSON object, or a command for a shell.
//!
//! Pure. Invariants: no secret is in it, only the names of the variables that hold them; the
//! command does in a POSIX shell what `apply` would do, whatever bytes the record holds.

mod form;

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::config::{Carrier, Connection, Credential, CredentialPart, RecordLimits};
use crate::model::{Map, Request, Value};
use crate::report::text::{block, line};
use crate::source::parse_json;

/// What is needed to show requests of a connection.
pub struct Drawing<'a> {
    base_url: &'a str,
    /// The base as it stands in rendered URLs.
    rendered: String,
    unset: Vec<&'a str>,
    credentials: &'a [Credential],
}

/// A piece of a text for a shell.
enum Piece {
    Text(String),
    Variable(String),
    File(String),
}

impl<'a> Drawing<'a> {
    /// For the requests of a connection.
    pub fn new(connection: &'a Connection) -> Self {
        let unset = connection.unset.iter().map(|unset| unset.from.as_str()).collect();
        let rendered = url::Url::parse(&connection.base_url).map_or_else(
            // The stand-in for a base URL that is not known, as `render` makes it.
            |_| "https://base-url-unset.invalid".to_owned(),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        );
        Self { base_url: &connection.base_url, rendered, unset, credentials: &connection.credentials }
    }

    /// The URL with the base as it was written, without credentials.
    fn url(&self, request: &Request) -> String {
        let url = request.url.as_str();
        match url.strip_prefix(&self.rendered) {
            Some(rest) => format!("{}{rest}", self.base_url),
            None => url.to_owned(),
        }
    }

    /// Names and values of all headers; `None` is a credential.
    fn headers(&self, request: &Request) -> Vec<(String, Option<String>)> {
        let mut headers: Vec<(String, Option<String>)> = Vec::new();
        for credential in self.credentials {
            match &credential.carrier {
                Carrier::Header(name) => headers.push((titled(name), None)),
                Carrier::Basic => headers.push(("Authorization".into(), None)),
                Carrier::AwsSigV4 { .. } => {
                    headers.extend([("Authorization".into(), None), ("X-Amz-Date".into(), None)]);
                }
                Carrier::Query(_) => {}
            }
        }
        for (name, value) in &request.headers {
            let name = titled(name.as_str());
            if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                headers.push((name, Some(value)));
            }
        }
        headers
    }

    /// The URL with `***` for a key in the query.
    fn shown_url(&self, request: &Request) -> String {
        let mut url = self.url(request);
        for credential in self.credentials {
            if let Carrier::Query(name) = &credential.carrier {
                let mark = if url.contains('?') { '&' } else { '?' };
                let _ = write!(url, "{mark}{name}=***");
            }
        }
        url
    }

    /// Request line, headers, an empty line and the body.
    pub fn text(&self, request: &Request) -> String {
        let mut out = format!("{} {}\n", request.method, line(&self.shown_url(request)));
        for (name, value) in self.headers(request) {
            let _ = writeln!(out, "{}: {}", name, line(value.as_deref().unwrap_or("***")));
        }
        if let Some(form) = &request.form {
            let _ = write!(out, "\n{}\n", form::text(form));
        } else if !request.body.is_empty() {
            let _ = write!(out, "\n{}\n", body(&request.body));
        }
        out
    }

    /// The request as data; the body as data where it is JSON.
    pub fn json(&self, request: &Request) -> Map {
        let mut object = Map::new();
        object.push("method", Value::text(request.method.as_str()));
        object.push("url", Value::text(self.shown_url(request)));
        let headers = self.headers(request).into_iter();
        let headers = headers.map(|(name, value)| (name.into(), Value::text(value.unwrap_or("***".into()))));
        object.push("headers", Value::Object(headers.collect()));
        if let Some(form) = &request.form {
            object.push("parts", form::json(form));
        } else if !request.body.is_empty() {
            let text = || Value::text(String::from_utf8_lossy(&request.body));
            object.push("body", as_json(&request.body).unwrap_or_else(text));
        }
        object
    }

    /// A command that sends the request, with the names of variables for secrets.
    pub fn curl(&self, request: &Request) -> String {
        let mut words = vec!["curl".to_owned(), "-sS".into()];
        let mut url = self.with_variables(&self.url(request));
        let mut headers = Vec::new();
        let mut notes = String::new();
        for credential in self.credentials {
            let value = credential.parts.iter().map(piece);
            for part in &credential.parts {
                note(part, &mut notes);
            }
            match &credential.carrier {
                Carrier::Basic => headers.push(format!("-u {}", quoted(&value.collect::<Vec<_>>()))),
                Carrier::Header(name) => {
                    let pieces: Vec<Piece> =
                        std::iter::once(Piece::Text(format!("{name}: "))).chain(value).collect();
                    headers.push(format!("-H {}", quoted(&pieces)));
                }
                Carrier::AwsSigV4 { region, service } => {
                    let text = |text: &str| std::iter::once(Piece::Text(text.to_owned()));
                    let scope = text("aws:amz:").chain(region.iter().map(piece));
                    let scope = scope.chain(text(":")).chain(service.iter().map(piece));
                    headers.push(format!("--aws-sigv4 {}", quoted(&scope.collect::<Vec<_>>())));
                    headers.push(format!("-u {}", quoted(&value.collect::<Vec<_>>())));
                }
                Carrier::Query(name) => {
                    let mark = if request.url.query().is_some() { '&' } else { '?' };
                    url.push(Piece::Text(format!("{mark}{name}=")));
                    url.extend(value);
                }
            }
        }
        let sent = request.form.as_ref().map(|form| form::curl(form));
        let makes_type = matches!(sent, Some(form::Sent::Options(_)));
        if request.form.as_ref().is_some_and(|form| form.has_files()) {
            notes.push_str("# in the root of the project, where the files are\n");
        }
        for (name, value) in self.headers(request) {
            if makes_type && name == "Content-Type" {
                continue;
            }
            if let Some(value) = value {
                // Without a value curl would leave the header out; `;` sends it empty.
                let text = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
                headers.push(format!("-H {}", quoted(&self.with_variables(&text))));
            }
        }
        words.push(format!("-X {}", request.method));
        let rest = [request.url.path(), request.url.query().unwrap_or_default()];
        if rest.iter().any(|part| part.contains(['[', ']', '{', '}'])) {
            words.push("-g".into());
        }
        words.push(quoted(&url));
        let mut lines = vec![words.join(" ")];
        lines.extend(headers);
        let data = match sent {
            Some(form::Sent::Options(options)) => {
                lines.extend(options);
                Data::None
            }
            Some(form::Sent::Piped(command)) => Data::Piped(command),
            None => data(&request.body),
        };
        let before = match data {
            Data::None => String::new(),
            Data::Word(word) => {
                lines.push(format!("--data-binary {word}"));
                String::new()
            }
            Data::Piped(command) => {
                lines.push("--data-binary @-".into());
                format!("{command} |\n")
            }
        };
        format!("{notes}{before}{}\n", lines.join(" \\\n  "))
    }

    /// Text with `${NAME}` of settings that are not set as variables.
    fn with_variables(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            literal.push_str(before);
            match behind.split_once('}') {
                Some((name, after)) if self.unset.contains(&name) => {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Variable(name.to_owned()));
                    rest = after;
                }
                _ => {
                    literal.push_str("${");
                    rest = behind;
                }
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        pieces
    }
}

fn piece(part: &CredentialPart) -> Piece {
    match part {
        CredentialPart::Text(text) => Piece::Text(text.clone()),
        CredentialPart::Variable(name) => Piece::Variable(name.clone()),
        CredentialPart::File(path) => Piece::File(path.clone()),
        CredentialPart::Made { name, .. } => Piece::Variable((*name).to_owned()),
    }
}

/// A line for a shell's reader: what a variable has to hold that nobody has set.
fn note(part: &CredentialPart, notes: &mut String) {
    let CredentialPart::Made { name, what, of } = part else { return };
    let names = of.iter().map(|part| match part {
        CredentialPart::Text(text) | CredentialPart::File(text) => text.clone(),
        CredentialPart::Variable(name) => format!("${name}"),
        CredentialPart::Made { name, .. } => (*name).to_owned(),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let of = if names.is_empty() { String::new() } else { format!(", with {names}") };
    let _ = writeln!(notes, "# {name}: {}", line(&format!("{what}{of}")));
}

enum Data {
    None,
    /// One word of the command.
    Word(String),
    /// A command that writes the body: it holds bytes that no terminal should see.
    Piped(String),
}

fn data(body: &[u8]) -> Data {
    if body.is_empty() {
        return Data::None;
    }
    // In JSON any character can be written as an escape.
    let text = String::from_utf8_lossy(body);
    if std::str::from_utf8(body).is_ok() {
        if text.chars().all(is_safe) {
            return Data::Word(single(&text));
        }
        if as_json(body).is_some() {
            return Data::Word(single(&json_safe(&text)));
        }
    }
    Data::Piped(printf(body))
}

/// A command that writes these bytes.
fn printf(body: &[u8]) -> String {
    let mut format = String::new();
    for byte in body {
        match byte {
            b'\\' => format.push_str("\\\\"),
            b' '..=b'~' | b'\n' => format.push(char::from(*byte)),
            byte => {
                let _ = write!(format, "\\0{byte:03o}");
            }
        }
    }
    format!("printf '%b' {}", single(&format))
}

fn is_safe(c: char) -> bool {
    c == '\n' || c == '\t' || matches!(line(c.encode_utf8(&mut [0; 4])), Cow::Borrowed(_))
}

/// JSON without characters that a terminal takes for commands: in JSON all can be escapes.
pub fn json_safe(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_safe(c) {
            escaped.push(c);
        } else {
            // All that is unsafe lies in the first plane.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        }
    }
    escaped
}

/// One word for a shell.
fn quoted(pieces: &[Piece]) -> String {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || " :/._~%?&=+,@-".contains(c));
    let is_text = |piece: &Piece| matches!(piece, Piece::Text(_));
    if pieces.iter().all(is_text) {
        let text: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Variable(_) | Piece::File(_) => "",
            })
            .collect();
        return single(&text);
    }
    let all_plain = pieces.iter().all(|piece| !matches!(piece, Piece::Text(text) if !plain(text)));
    let mut out = String::new();
    let mut pieces =
        pieces.iter().filter(|piece| !matches!(piece, Piece::Text(text) if text.is_empty())).peekable();
    while let Some(piece) = pieces.next() {
        // `$NAME` would run on into a letter behind it.
        let runs_on = matches!(pieces.peek(), Some(Piece::Text(text))
            if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        match piece {
            Piece::Text(text) if all_plain => out.push_str(text),
            Piece::Text(text) => out.push_str(&single(text)),
            Piece::Variable(name) => {
                let word = if runs_on && all_plain { format!("${{{name}}}") } else { format!("${name}") };
                if all_plain {
                    out.push_str(&word);
                } else {
                    let _ = write!(out, "\"{word}\"");
                }
            }
            Piece::File(path) => {
                let word = format!("$(cat {})", single(path));
                if all_plain {
                    out.push_str(&word);
                } else {
                    let _ = write!(out, "\"{word}\"");
                }
            }
        }
    }
    if all_plain { format!("\"{out}\"") } else { out }
}

/// Text in single quotes.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A header's name as it is usually written.
fn titled(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut chars = part.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    });
    parts.collect::<Vec<String>>().join("-")
}

fn as_json(body: &[u8]) -> Option<Value> {
    parse_json(body, &RecordLimits::default()).ok()
}

/// A body for a terminal: JSON indented, anything else as it is, without control characters.
pub fn body(raw: &[u8]) -> String {
    match as_json(raw) {
        Some(value) => block(&pretty(&value)).into_owned(),
        None => block(&String::from_utf8_lossy(raw)).into_owned(),
    }
}

/// Indented JSON that keeps the digits of numbers.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_pretty(value, 0, &mut out);
    out
}

fn write_pretty(value: &Value, depth: usize, out: &mut String) {
    let inner = "  ".repeat(depth + 1);
    let outer = "  ".repeat(depth);
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "\n" } else { ",\n" });
                out.push_str(&inner);
                write_pretty(item, depth + 1, out);
            }
            let _ = write!(out, "\n{outer}]");
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (name, item)) in map.iter().enumerate() {
                out.push_str(if at == 0 { "\n" } else { ",\n" });
                let _ = write!(out, "{inner}{}: ", Value::String(name.clone()).to_json());
                write_pretty(item, depth + 1, out);
            }
            let _ = write!(out, "\n{outer}}}");
        }
        other => out.push_str(&other.to_json()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn in_shell(word: &str) -> String {
        let out = Command::new("sh")
            .args(["-c", &format!("printf '%s' {word}")])
            .env_clear()
            .env("TOKEN", "a b\"c'$x")
            .output()
            .expect("a shell");
        String::from_utf8(out.stdout).expect("text")
    }

    #[test]
    fn a_shell_reads_back_every_word() {
        for text in ["", "plain", "it's", "a\nb", "$HOME `id` $(id) \\ \" !", "''", "–é👍", "-n", "a'"] {
            assert_eq!(in_shell(&quoted(&[Piece::Text(text.into())])), text);
            let pieces =
                [Piece::Text(text.into()), Piece::Variable("TOKEN".into()), Piece::Text(format!("_{text}"))];
            assert_eq!(in_shell(&quoted(&pieces)), format!("{text}a b\"c'$x_{text}"));
        }
    }

    #[test]
    fn a_body_of_any_bytes_comes_out_of_the_shell_as_it_is() {
        let all: Vec<u8> = (1..=255).collect();
        for body in [&b"{\"a\":\"it's \xc2\x9b\"}"[..], b"plain\n\n", b"\\0101 \\n", &all] {
            let command = match data(body) {
                Data::Word(word) => format!("printf '%s' {word}"),
                Data::Piped(command) => command,
                Data::None => panic!("there is a body"),
            };
            assert!(command.chars().all(|c| c == '\n' || !c.is_control()), "{command:?}");
            let out = Command::new("sh").args(["-c", &command]).output().expect("a shell").stdout;
            match as_json(body) {
                Some(value) => assert_eq!(as_json(&out), Some(value)),
                None => assert_eq!(out, body),
            }
        }
    }

    #[test]
    fn json_is_indented_and_keeps_its_digits() {
        let value = as_json(br#"{"a":[1.10,{}],"b":[],"c":{"d":"\"\n"}}"#).expect("JSON");
        insta::assert_snapshot!(pretty(&value), @r#"
        {
          "a": [
            1.10,
            {}
          ],
          "b": [],
          "c": {
            "d": "\"\n"
          }
        }
        "#);
    }
}
