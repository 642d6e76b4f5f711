//! The floor: the same file, the same JSON, the same client and lanes, and nothing noted.

use std::io;

use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};

use crate::project::LANES;

/// The word that makes this binary the floor: it is measured as a process of its own.
pub const WORD: &str = "--floor";
pub const TOKEN: &str = "sandbox-token";

pub fn main(arguments: &[String]) -> io::Result<()> {
    let [kind, input, url] = arguments else { return Err(io::Error::other("KIND FILE URL")) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(kind, input, url))
}

async fn send(kind: &str, input: &str, base: &str) -> io::Result<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(io::Error::other)?;
    let mut rows = csv::Reader::from_path(input)?;
    let names = rows.headers()?.clone();
    let requests = rows.records().map(|row| {
        let row = row.map_err(io::Error::other)?;
        let field = |name: &str| names.iter().position(|known| known == name).and_then(|at| row.get(at));
        let (request, body) = if kind == "users" {
            (client.post(format!("{base}/users")), user(&field))
        } else {
            let id = field("agent_id").unwrap_or_default();
            (client.put(format!("{base}/agents/{id}")), agent(&field))
        };
        Ok::<_, io::Error>(
            request
                .bearer_auth(TOKEN)
                .header("accept", "application/json")
                .header("content-type", "application/json")
                .body(serde_json::to_vec(&body)?),
        )
    });
    let mut replies = futures_util::stream::iter(requests)
        .map(|request| async {
            let response = request?.send().await.map_err(io::Error::other)?;
            let status = response.status();
            let body = response.bytes().await.map_err(io::Error::other)?;
            if status.is_success() && !body.is_empty() {
                Ok(())
            } else {
                Err(io::Error::other(status.to_string()))
            }
        })
        .buffer_unordered(LANES);
    while let Some(reply) = replies.next().await {
        reply?;
    }
    Ok(())
}

fn user<'r>(field: &impl Fn(&str) -> Option<&'r str>) -> Value {
    let filled = |name: &str| field(name).filter(|text| !text.is_empty());
    let mut body = Map::new();
    for name in ["reference_id", "first_name", "last_name", "email", "phone"] {
        if let Some(text) = filled(name) {
            body.insert(name.into(), text.into());
        }
    }
    if let Some(url) = filled("avatar_url") {
        body.insert("avatar".into(), json!({ "url": url }));
    }
    let properties = ["company", "plan", "balance", "address"];
    let properties =
        properties.iter().filter_map(|name| Some(json!({ "name": name, "value": filled(name)? })));
    body.insert("properties".into(), properties.collect());
    body.into()
}

fn agent<'r>(field: &impl Fn(&str) -> Option<&'r str>) -> Value {
    let mut body = Map::new();
    for name in ["first_name", "last_name", "role_id"] {
        body.insert(name.into(), field(name).unwrap_or_default().into());
    }
    let groups = field("groups").and_then(|text| serde_json::from_str(text).ok());
    body.insert("groups".into(), groups.unwrap_or_default());
    body.into()
}
