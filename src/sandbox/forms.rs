//! Bodies that are forms, as objects: `application/x-www-form-urlencoded` and `multipart/form-data` (RFC 7578).
//!
//! Invariant: a field that comes several times is a list, a file is told by its name, type and size alone.

use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

/// The fields of a body that its content type calls a form.
pub(super) fn fields(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (name, rest) = kind.split_once(';').unwrap_or((kind, ""));
    let mut map = Map::new();
    match name.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => {
            for (name, value) in url::form_urlencoded::parse(body) {
                add(&mut map, &name, Value::String(value.into_owned()));
            }
        }
        "multipart/form-data" => {
            let boundary = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
            for part in parts(body, boundary.trim_matches('"'))? {
                let (name, value) = field(part)?;
                add(&mut map, &name, value);
            }
        }
        _ => return None,
    }
    Some(Value::Object(map))
}

fn add(map: &mut Map<String, Value>, name: &str, value: Value) {
    match map.get_mut(name) {
        None => drop(map.insert(name.to_owned(), value)),
        Some(Value::Array(items)) => items.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

/// What lies between the boundaries; `None` when the body does not end as it has to.
fn parts<'b>(body: &'b [u8], boundary: &str) -> Option<Vec<&'b [u8]>> {
    let mark = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(mark.as_bytes().strip_prefix(b"\r\n")?)?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = memchr::memmem::find(rest, mark.as_bytes())?;
        parts.push(rest.get(..end)?);
        rest = rest.get(end + mark.len()..)?;
    }
}

fn field(part: &[u8]) -> Option<(String, Value)> {
    let end = memchr::memmem::find(part, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(part.get(..end)?).into_owned();
    let content = part.get(end + 4..)?;
    let line = |wanted: &str| {
        head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let about = line("content-disposition")?;
    let quoted = |name: &str| {
        let text = about.split(&format!("; {name}=\"")).nth(1)?;
        text.split('"').next().map(str::to_owned)
    };
    let kind = line("content-type");
    let value = match (quoted("filename"), kind) {
        (Some(name), kind) => json!({ "name": name, "type": kind, "bytes": content.len() }),
        (None, Some("application/json")) => serde_json::from_slice(content).unwrap_or_default(),
        (None, _) => Value::String(String::from_utf8_lossy(content).into_owned()),
    };
    Some((quoted("name")?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, body: &str) -> Option<Value> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        fields(&headers, body.as_bytes())
    }

    #[test]
    fn forms_are_objects() {
        let form = read("application/x-www-form-urlencoded; charset=utf-8", "a=x+y&b=1&a=%26");
        assert_eq!(form, Some(json!({ "a": ["x y", "&"], "b": "1" })));
        let body = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--C\r\n\
            --B\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n{\"k\":1}\r\n\
            --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.pdf\"\r\nContent-Type: application/pdf\r\n\r\n\r\n--B--\r\n";
        let expected = json!({
            "a": "x\r\n--C",
            "j": { "k": 1 },
            "f": { "name": "x.pdf", "type": "application/pdf", "bytes": 0 },
        });
        assert_eq!(read("multipart/form-data; boundary=B", body), Some(expected));
    }

    #[test]
    fn what_is_no_whole_form_is_none() {
        let kind = "multipart/form-data; boundary=B";
        let part = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx";
        assert!(read(kind, &format!("{part}\r\n--B--\r\n")).is_some());
        for bad in ["", "--B", part, &format!("{part}\r\n--B"), "--B\r\n\r\n\r\nx\r\n--B--"] {
            assert_eq!(read(kind, bad), None, "{bad:?}");
        }
        assert_eq!(read("multipart/form-data", part), None);
        assert_eq!(read("application/json", "{}"), None);
    }
}
