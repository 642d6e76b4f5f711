//! A body of parts as a person reads it, as data, and for a shell.
//!
//! Invariant: the content of files is never shown, only what it is called and how large it is.

use std::fmt::Write as _;

use super::{is_safe, json_safe, printf, single};
use crate::model::{Form, Map, Number, PartContent, Stretch, Upload, Value, hex, number, quotable};
use crate::report::text::{block, line};

/// The body as it goes out, with a mark in the place of each file.
pub(super) fn text(form: &Form) -> String {
    let mut out = String::new();
    for stretch in form.stretches() {
        match stretch {
            Stretch::Bytes(bytes) => {
                out.push_str(&block(&String::from_utf8_lossy(&bytes).replace("\r\n", "\n")));
            }
            Stretch::File(file) => {
                let _ = write!(out, "<file {}, {} bytes>", line(&file.path), number(file.length()));
            }
        }
    }
    out.trim_end().to_owned()
}

/// The parts as a list.
pub(super) fn json(form: &Form) -> Value {
    let one = |part: &crate::model::Part| {
        let mut map = Map::new();
        map.push("name", Value::String(part.name.clone()));
        match &part.content {
            PartContent::Text(text) => map.push("text", Value::String(text.clone())),
            PartContent::Json(value) => map.push("json", value.clone()),
            PartContent::File(file) => {
                map.push("file", Value::text(file.path.as_str()));
                map.push("filename", Value::text(file.file_name.as_str()));
                map.push("type", Value::text(file.media_type.as_str()));
                map.push("bytes", Value::Number(Number::from(file.length())));
                let digest = file.seen.as_ref().map(|seen| Value::text(hex(&seen.sha256)));
                map.push("sha256", digest.unwrap_or(Value::Null));
            }
        }
        Value::Object(map)
    };
    Value::Array(form.parts.iter().map(one).collect())
}

/// How a command sends the body.
pub(super) enum Sent {
    /// By options: curl makes parts and boundary itself.
    Options(Vec<String>),
    /// By a command that writes the very bytes.
    Piped(String),
}

/// The parts as options of curl, or the bytes themselves where an option cannot say a part.
pub(super) fn curl(form: &Form) -> Sent {
    options(form).map_or_else(|| Sent::Piped(piped(form)), Sent::Options)
}

fn options(form: &Form) -> Option<Vec<String>> {
    let mut all = Vec::with_capacity(form.parts.len());
    for part in &form.parts {
        // All that is before the first `=` is the name.
        let name = quotable(&part.name);
        if name.contains('=') || !name.chars().all(is_safe) {
            return None;
        }
        all.push(match &part.content {
            // Other than with -F, no value is read as anything else.
            PartContent::Text(text) if text.chars().all(is_safe) => {
                format!("--form-string {}", single(&format!("{name}={text}")))
            }
            PartContent::Text(_) => return None,
            PartContent::Json(value) => {
                let json = json_safe(&value.to_json());
                format!("-F {}", single(&format!("{name}={};type=application/json", in_quotes(&json))))
            }
            PartContent::File(file) => format!("-F {}", single(&format!("{name}={}", of_file(file)?))),
        });
    }
    Some(all)
}

fn of_file(file: &Upload) -> Option<String> {
    let file_name = quotable(&file.file_name);
    let is_plain = file.path.chars().all(is_safe) && file_name.chars().all(is_safe);
    // With parameters of its own a type cannot be told from what follows.
    if !is_plain || file.media_type.contains(';') || file.path.contains('\n') {
        return None;
    }
    let (path, name) = (in_quotes(&file.path), in_quotes(&file_name));
    Some(format!("@{path};type={};filename={name}", file.media_type))
}

/// A word in quotes as curl reads it in a part.
fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn piped(form: &Form) -> String {
    let of = |stretch: Stretch| match stretch {
        Stretch::Bytes(bytes) => printf(&bytes),
        Stretch::File(file) if file.path.chars().all(is_safe) => {
            format!("cat {}", single(&format!("./{}", file.path)))
        }
        // A name that ends in a line end is none that a shell gives back.
        Stretch::File(file) => {
            format!("cat \"$({})\"", printf(format!("./{}", file.path).as_bytes()))
        }
    };
    let all: Vec<String> = form.stretches().into_iter().map(of).collect();
    format!("{{ {}; }}", all.join("; "))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::model::{FileSeen, Part, Place, SourceText};

    fn form(texts: &[(&str, &str)], path: &str) -> Form {
        let upload = Upload {
            path: path.into(),
            file_name: "a \"b\".txt".into(),
            media_type: "text/plain".into(),
            place: Place::start_of(Arc::new(SourceText { path: "t.yaml".into(), text: String::new() })),
            seen: Some(FileSeen {
                full: std::path::PathBuf::new(),
                length: 12_345,
                sha256: [0; 32],
                stamp: [0; 4],
            }),
        };
        let text = |(name, text): &(&str, &str)| Part {
            name: (*name).into(),
            content: PartContent::Text((*text).into()),
        };
        let mut parts: Vec<Part> = texts.iter().map(text).collect();
        parts.push(Part { name: "doc".into(), content: PartContent::File(Box::new(upload)) });
        let mut form = Form::new(parts);
        let _ = form.seal();
        form
    }

    #[test]
    fn options_say_each_part() {
        let form = form(&[("a", "@it's"), ("b\"", "<x")], "data/a,\"b\".txt");
        let Sent::Options(options) = curl(&form) else { panic!("options") };
        insta::assert_snapshot!(options.join("\n"), @r#"
        --form-string 'a=@it'\''s'
        --form-string 'b%22=<x'
        -F 'doc=@"data/a,\"b\".txt";type=text/plain;filename="a %22b%22.txt"'
        "#);
    }

    #[test]
    fn what_no_option_says_is_piped_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x\u{1b}y"), "content").unwrap();
        for texts in [[("a=b", "x")], [("a", "\u{1b}[0m")]] {
            let form = form(&texts, "x\u{1b}y");
            let Sent::Piped(command) = curl(&form) else { panic!("piped") };
            assert!(command.chars().all(|c| c == '\n' || !c.is_control()), "{command:?}");
            let out = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output().unwrap();
            let of = |stretch: Stretch| match stretch {
                Stretch::Bytes(bytes) => bytes.to_vec(),
                Stretch::File(_) => b"content".to_vec(),
            };
            let expected: Vec<u8> = form.stretches().into_iter().flat_map(of).collect();
            assert_eq!(String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&expected));
        }
    }

    #[test]
    fn a_person_sees_files_by_their_size() {
        let shown = text(&form(&[("a", "x\u{1b}")], "data/x.txt"));
        assert!(shown.contains("<file data/x.txt, 12,345 bytes>") && !shown.contains('\u{1b}'), "{shown}");
    }
}
