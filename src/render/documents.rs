//! A body of data as an XML document (XML 1.0, fifth edition), and as rows of CSV (RFC 4180).
//!
//! Data stays data: an element's name is the template's, a value can neither end its element nor begin
//! another one, and what XML has no way to say is an error.

use super::engine::{write_text, xml};
use crate::model::{Map, Value};

/// Why data is no document: in words.
pub(super) type Wrong = String;

/// Writes `{ order: { "@id": 7, item: [ … ], "#text": … } }`: one root; a key with `@` is an attribute, a list
/// repeats its element, an object nests, null is an empty element.
pub(super) fn document(value: &Value, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let root = match value {
        Value::Object(map) if map.len() == 1 => map.iter().next(),
        _ => None,
    };
    let Some((name, content)) = root.filter(|(_, content)| !matches!(content, Value::Array(_))) else {
        return Err("an XML body is an object with one key, its root element".into());
    };
    out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element(name, content, out)
}

fn element(name: &str, content: &Value, out: &mut Vec<u8>) -> Result<(), Wrong> {
    if let Value::Array(items) = content {
        return items.iter().try_for_each(|item| match item {
            Value::Array(_) => Err(format!("the element `{name}` is a list in a list")),
            item => element(name, item, out),
        });
    }
    if matches!(content, Value::Absent) {
        return Ok(());
    }
    check_name(name)?;
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    let children = match content {
        Value::Object(map) => {
            attributes(map, out)?;
            map.iter().filter(|(key, _)| !key.starts_with('@')).collect()
        }
        _ => Vec::new(),
    };
    let text = match content {
        Value::Object(_) | Value::Null => String::new(),
        plain => escaped(name, plain)?,
    };
    if children.is_empty() && text.is_empty() {
        out.extend_from_slice(b"/>");
        return Ok(());
    }
    out.push(b'>');
    out.extend_from_slice(text.as_bytes());
    for (key, child) in children {
        match &**key {
            "#text" => out.extend_from_slice(escaped(name, child)?.as_bytes()),
            key => element(key, child, out)?,
        }
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    Ok(())
}

fn attributes(map: &Map, out: &mut Vec<u8>) -> Result<(), Wrong> {
    for (key, value) in map.iter().filter(|(_, value)| !matches!(value, Value::Absent | Value::Null)) {
        let Some(name) = key.strip_prefix('@') else { continue };
        check_name(name)?;
        // A reader makes blanks of line ends and tabs in attributes, unless they are written so.
        let text = escaped(key, value)?.replace('\n', "&#10;").replace('\t', "&#9;");
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
    Ok(())
}

fn escaped(name: &str, value: &Value) -> Result<String, Wrong> {
    let mut text = String::new();
    if !matches!(value, Value::Null | Value::Absent) {
        write_text(value, &mut text).map_err(|said| format!("`{name}`: {}", said.message))?;
    }
    xml(&text).map_err(|said| format!("`{name}`: {}", said.message))
}

/// Names as they are safe everywhere: a letter or `_`, then letters, digits, `-`, `.`, `_`, with at most one
/// prefix.
fn check_name(name: &str) -> Result<(), Wrong> {
    let is_part = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
    };
    let (first, second) = name.split_once(':').unwrap_or((name, "x"));
    if is_part(first) && is_part(second) {
        return Ok(());
    }
    Err(format!("`{}` is no name of an XML element or attribute", name.escape_debug()))
}

/// Writes a list of objects as CSV: the header has all their keys, in the order in which they come.
pub(super) fn rows(value: &Value, out: &mut Vec<u8>) -> Result<(), Wrong> {
    const WHAT: &str = "a CSV body is a list of objects, one a row";
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut names: Vec<&str> = Vec::new();
    let mut objects = Vec::with_capacity(items.len());
    for item in items.iter().filter(|item| !matches!(item, Value::Absent)) {
        let Value::Object(map) = item else { return Err(WHAT.into()) };
        for (at, name) in map.names().enumerate() {
            // Rows of one source mostly have the same columns in the same places.
            if names.get(at) != Some(&name) && !names.contains(&name) {
                names.push(name);
            }
        }
        objects.push(map);
    }
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    let failed = |_: csv::Error| WHAT.to_owned();
    if !names.is_empty() {
        writer.write_record(&names).map_err(failed)?;
    }
    for map in objects {
        for name in &names {
            let mut text = String::new();
            match map.get(name) {
                None | Some(Value::Null | Value::Absent) => {}
                Some(value) => {
                    write_text(value, &mut text).map_err(|said| format!("`{name}`: {}", said.message))?;
                }
            }
            writer.write_field(&text).map_err(failed)?;
        }
        writer.write_record(None::<&[u8]>).map_err(failed)?;
    }
    writer.flush().map_err(|_| WHAT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::value;
    use super::*;

    fn written(write: fn(&Value, &mut Vec<u8>) -> Result<(), Wrong>, json: &str) -> Result<String, String> {
        let mut out = Vec::new();
        write(&value(json), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_object_is_a_document() {
        for (json, xml) in [
            (r#"{"a":"x"}"#, "<a>x</a>"),
            (r#"{"a":null}"#, "<a/>"),
            (r##"{"a":{"b":[1,{"@i":2,"#text":"t"}],"c":{}}}"##, r#"<a><b>1</b><b i="2">t</b><c/></a>"#),
            (r#"{"s:a":{"@xmlns:s":"urn:x","s:b":1.10}}"#, r#"<s:a xmlns:s="urn:x"><s:b>1.10</s:b></s:a>"#),
            // A value stays in its place.
            (r#"{"a":"</a><b>&"}"#, "<a>&lt;/a&gt;&lt;b&gt;&amp;</a>"),
            (r#"{"a":{"@x":"\" y=\"1\n"}}"#, r#"<a x="&quot; y=&quot;1&#10;"/>"#),
        ] {
            let expected = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{xml}");
            assert_eq!(written(document, json), Ok(expected), "{json}");
        }
        for bad in [
            "[1]",
            "{}",
            r#"{"a":1,"b":2}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a b":1}"#,
            r#"{"a":{"@<":1}}"#,
            r#"{"1a":1}"#,
            r#"{"a:b:c":1}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":{"@x":{}}}"#,
            r#"{"a":{"b":[[1]]}}"#,
        ] {
            assert!(written(document, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_objects_is_rows() {
        for (json, csv) in [
            (r#"[{"a":1,"b":"x"},{"a":2.50}]"#, "a,b\r\n1,x\r\n2.50,\r\n"),
            (r#"[{"a":"q\"r,s\nt"},{"b":true,"a":null}]"#, "a,b\r\n\"q\"\"r,s\nt\",\r\n,true\r\n"),
            (r#"{"a":"one"}"#, "a\r\none\r\n"),
            ("[]", ""),
        ] {
            assert_eq!(written(rows, json).as_deref(), Ok(csv), "{json}");
        }
        for bad in [r#"["a"]"#, r#"[{"a":[1]}]"#, "3"] {
            assert!(written(rows, bad).is_err(), "{bad}");
        }
    }
}
