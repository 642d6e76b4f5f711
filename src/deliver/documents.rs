//! Replies that are no JSON as data: XML and forms.
//!
//! The same shape as bodies that are written (`render::documents`): an attribute is a key with `@`, repeated
//! elements are a list, an element with text alone is that text. Invariants: no DTD is read and no entity is
//! expanded but the five of XML and characters by number, so that no reply grows by itself; nesting is bounded.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::config::RecordLimits;
use crate::model::{Map, Value};

/// The document as `{ root: … }`; `None` when it is none, or is nested too deep.
pub(super) fn xml(bytes: &[u8], limits: &RecordLimits) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<(String, Value)> = None;
    loop {
        let event = reader.read_event().ok()?;
        match event {
            Event::Start(start) if open.len() < limits.depth => open.push(Element::of(&start)?),
            Event::Start(_) | Event::DocType(_) => return None,
            Event::Empty(start) => add(&mut open, &mut root, Element::of(&start)?)?,
            Event::End(_) => {
                let element = open.pop()?;
                add(&mut open, &mut root, element)?;
            }
            Event::Text(text) => push(&mut open, &text.xml_content(XmlVersion::Explicit1_0))?,
            Event::CData(text) => push(&mut open, &text.xml_content(XmlVersion::Explicit1_0))?,
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().ok()? {
                    Some(char) => char,
                    None => match &*reference.into_inner() {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return None,
                    },
                };
                push(&mut open, resolved.encode_utf8(&mut [0; 4]))?;
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let (name, value) = root.filter(|_| open.is_empty())?;
    let mut document = Map::with_capacity(1);
    document.push(name, value);
    Some(Value::Object(document))
}

struct Element {
    name: String,
    fields: Map,
    text: String,
}

impl Element {
    fn of(start: &BytesStart<'_>) -> Option<Self> {
        let name = start.name().as_ref().to_owned();
        let mut fields = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            let key = attribute.key.as_ref().to_owned();
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).ok()?;
            fields.push(format!("@{key}"), Value::text(&*value));
        }
        Some(Self { name, fields, text: String::new() })
    }

    fn value(mut self) -> Value {
        let text = self.text.trim();
        if self.fields.is_empty() {
            return if text.is_empty() { Value::Null } else { Value::text(text) };
        }
        if !text.is_empty() {
            self.fields.push("#text", Value::text(text));
        }
        Value::Object(self.fields)
    }
}

/// An element ends: it belongs to the one around it, or is the root.
fn add(open: &mut [Element], root: &mut Option<(String, Value)>, element: Element) -> Option<()> {
    let name = element.name.clone();
    let value = element.value();
    let Some(parent) = open.last_mut() else {
        return root.replace((name, value)).is_none().then_some(());
    };
    match parent.fields.get_mut(&name) {
        Some(Value::Array(items)) => items.push(value),
        Some(first) => {
            let one = std::mem::replace(first, Value::Null);
            *first = Value::Array(vec![one, value]);
        }
        None => parent.fields.push(name, value),
    }
    Some(())
}

/// Text outside of the root is none but blanks.
fn push(open: &mut [Element], text: &str) -> Option<()> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return None,
    }
    Some(())
}

/// A form as an object; a name that stands twice is a list.
pub(super) fn form(bytes: &[u8]) -> Value {
    let mut fields = Map::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let value = Value::text(&*value);
        match fields.get_mut(&name) {
            Some(Value::Array(items)) => items.push(value),
            Some(first) => {
                let one = std::mem::replace(first, Value::Null);
                *first = Value::Array(vec![one, value]);
            }
            None => fields.push(&*name, value),
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        xml(text.as_bytes(), &RecordLimits::default()).map(|value| value.to_json())
    }

    #[test]
    fn a_document_is_data() {
        for (text, json) in [
            ("<a>x</a>", r#"{"a":"x"}"#),
            ("<?xml version='1.0'?>\n<a><b>1</b><b>2</b><c/></a>\n", r#"{"a":{"b":["1","2"],"c":null}}"#),
            ("<a i='1'>t<b/></a>", r##"{"a":{"@i":"1","b":null,"#text":"t"}}"##),
            ("<a>&lt;&#65;&amp;<![CDATA[<x>]]></a>", r#"{"a":"<A&<x>"}"#),
            ("<s:a xmlns:s='urn:x'><s:b>1</s:b></s:a>", r#"{"s:a":{"@xmlns:s":"urn:x","s:b":"1"}}"#),
        ] {
            assert_eq!(read(text).as_deref(), Some(json), "{text}");
        }
    }

    #[test]
    fn what_is_no_document_or_could_grow_is_none() {
        let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&unknown;</a>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            "<a b='1' b='2'/>",
            &deep,
        ] {
            assert_eq!(read(text), None, "{}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn a_form_is_an_object() {
        assert_eq!(
            form(b"a=1&b=x+y&a=%C3%BC").to_json(),
            r#"{"a":["1","\u{fc}"],"b":"x y"}"#.replace("\\u{fc}", "\u{fc}")
        );
    }
}
