//! A collection of one request and a file of data, made for newman.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::Command;

use serde_json::{Value, json};

use super::others;
use crate::project::{Input, Kind, TOKEN};

/// It takes milliseconds for a record, so it gets so many.
pub const MOST: u64 = 1_000;

pub fn version() -> Option<String> {
    others::node_package("newman")
}

/// Makes both files beside the input.
pub fn command(kind: Kind, input: &Input, url: &str) -> io::Result<Command> {
    let data = input.path.with_extension("data.json");
    let mut rows = csv::Reader::from_path(&input.path)?;
    // As texts: a key with leading zeros is no number.
    let rows: Vec<HashMap<String, String>> =
        rows.deserialize().collect::<Result<_, csv::Error>>().map_err(io::Error::other)?;
    fs::write(&data, serde_json::to_vec(&rows)?)?;
    let collection = input.path.with_extension("collection.json");
    fs::write(&collection, serde_json::to_vec(&collection_of(kind, url))?)?;
    let mut command = Command::new("node");
    command
        .arg(others::modules().join("newman/bin/newman.js"))
        .arg("run")
        .arg(&collection)
        .arg("--iteration-data")
        .arg(&data)
        .args(["--silent", "--bail"]);
    Ok(command)
}

fn collection_of(kind: Kind, url: &str) -> Value {
    let (method, path, body) =
        if kind == Kind::Update { ("PUT", "/agents/{{agent_id}}", AGENT) } else { ("POST", "/users", USER) };
    let header = |key: &str, value: &str| json!({ "key": key, "value": value });
    json!({
        "info": {
            "name": "bench",
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
        },
        "item": [{
            "name": "send",
            "request": {
                "method": method,
                "url": format!("{url}{path}"),
                "header": [
                    header("Authorization", &format!("Bearer {TOKEN}")),
                    header("Accept", "application/json"),
                    header("Content-Type", "application/json"),
                ],
                "body": { "mode": "raw", "raw": "{{body}}" }
            },
            "event": [
                { "listen": "prerequest", "script": { "exec": body } },
                { "listen": "test", "script": { "exec": TEST } }
            ]
        }]
    })
}

const USER: &[&str] = &[
    "const row = pm.iterationData.toObject();",
    "const body = {};",
    "for (const name of ['reference_id', 'first_name', 'last_name', 'email', 'phone']) {",
    "  if (row[name]) body[name] = row[name];",
    "}",
    "if (row.avatar_url) body.avatar = { url: row.avatar_url };",
    "body.properties = ['company', 'plan', 'balance', 'address']",
    "  .filter((name) => row[name]).map((name) => ({ name, value: row[name] }));",
    "pm.variables.set('body', JSON.stringify(body));",
];

const AGENT: &[&str] = &[
    "const { first_name, last_name, role_id, groups } = pm.iterationData.toObject();",
    "const body = { first_name, last_name, role_id, groups: JSON.parse(groups) };",
    "pm.variables.set('body', JSON.stringify(body));",
];

const TEST: &[&str] = &["pm.test('accepted', () => pm.response.to.have.status(200));"];
