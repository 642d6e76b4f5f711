//! Rows to calls, as somebody would write it who needs this one job done.

use std::fs::File;
use std::io;

use csv::StringRecord;
use http::Method;
use serde_json::{Map, Value, json};

use crate::project::{IN_ONE_CALL, Kind};

/// What is sent.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub content: &'static str,
    pub body: Vec<u8>,
}

/// The calls of a file, made while it is read.
pub struct Calls {
    kind: Kind,
    names: StringRecord,
    rows: csv::StringRecordsIntoIter<File>,
}

impl Calls {
    pub fn open(kind: Kind, input: &str) -> io::Result<Self> {
        let mut rows = csv::Reader::from_path(input)?;
        let names = rows.headers()?.clone();
        Ok(Self { kind, names, rows: rows.into_records() })
    }

    fn row(&mut self) -> io::Result<Option<StringRecord>> {
        self.rows.next().transpose().map_err(io::Error::other)
    }

    fn call(&mut self) -> io::Result<Option<Call>> {
        let Some(row) = self.row()? else { return Ok(None) };
        let row = Row { names: &self.names, cells: &row };
        let made = match self.kind {
            Kind::Single => Call {
                method: Method::POST,
                path: "/users".to_owned(),
                content: "application/json",
                body: serde_json::to_vec(&user(&row))?,
            },
            Kind::Update => Call {
                method: Method::PUT,
                path: format!("/agents/{}", row.cell("agent_id")),
                content: "application/json",
                body: serde_json::to_vec(&agent(&row))?,
            },
            Kind::Batch => {
                let mut body = Vec::new();
                document(&row, &mut body)?;
                for _ in 1..IN_ONE_CALL {
                    let Some(cells) = self.row()? else { break };
                    document(&Row { names: &self.names, cells: &cells }, &mut body)?;
                }
                let path = "/people/_bulk".to_owned();
                Call { method: Method::POST, path, content: "application/x-ndjson", body }
            }
        };
        Ok(Some(made))
    }
}

impl Iterator for Calls {
    type Item = io::Result<Call>;

    fn next(&mut self) -> Option<Self::Item> {
        self.call().transpose()
    }
}

struct Row<'r> {
    names: &'r StringRecord,
    cells: &'r StringRecord,
}

impl<'r> Row<'r> {
    fn cell(&self, name: &str) -> &'r str {
        let at = self.names.iter().position(|known| known == name);
        at.and_then(|at| self.cells.get(at)).unwrap_or_default()
    }

    fn filled(&self, name: &str) -> Option<&'r str> {
        Some(self.cell(name)).filter(|text| !text.is_empty())
    }
}

fn user(row: &Row<'_>) -> Value {
    let mut body = Map::new();
    for name in ["reference_id", "first_name", "last_name", "email", "phone"] {
        if let Some(text) = row.filled(name) {
            body.insert(name.into(), text.into());
        }
    }
    if let Some(url) = row.filled("avatar_url") {
        body.insert("avatar".into(), json!({ "url": url }));
    }
    let properties = ["company", "plan", "balance", "address"];
    let properties =
        properties.iter().filter_map(|name| Some(json!({ "name": name, "value": row.filled(name)? })));
    body.insert("properties".into(), properties.collect());
    body.into()
}

fn agent(row: &Row<'_>) -> Value {
    let mut body = Map::new();
    for name in ["first_name", "last_name", "role_id"] {
        body.insert(name.into(), row.cell(name).into());
    }
    body.insert("groups".into(), serde_json::from_str(row.cell("groups")).unwrap_or_default());
    body.into()
}

/// Two lines: what to do, and the row.
fn document(row: &Row<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &json!({ "index": { "_id": row.cell("reference_id") } }))?;
    out.push(b'\n');
    let sent = row.names.iter().filter(|name| !["status", "internal_note"].contains(name));
    let body: Map<String, Value> =
        sent.filter_map(|name| Some((name.to_owned(), row.filled(name)?.into()))).collect();
    serde_json::to_writer(&mut *out, &body)?;
    out.push(b'\n');
    Ok(())
}
