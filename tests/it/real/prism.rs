//! Prism plays Freshchat by an `OpenAPI` document that is made of our templates, and refuses what does not
//! agree with it: method, path, credentials, content type, body.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::server::{Server, node_package};
use crate::oracle::{FAILED, Said};
use crate::world::{World, below, copied};

/// The pipelines, and how many of their records are sent.
const PIPELINES: [(&str, u32); 5] = [
    ("sync-users", 150),
    ("update-agents", 100),
    ("open-conversations", 100),
    ("send-messages", 150),
    ("resolve-conversations", 100),
];

/// What templates say of a path, the parameters named as `OpenAPI` does.
fn description(root: &Path) -> Value {
    let mut paths = json!({});
    let mut schemas = json!({});
    for file in below(&root.join("templates/freshchat")) {
        let text = std::fs::read_to_string(&file).expect("a template");
        let line = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().trim_matches('"'))
        };
        let (Some(method), Some(path)) = (line("method: "), line("path: ")) else { continue };
        let path = path.replace("{{ params.", "{").replace(" }}", "}");
        let parameters: Vec<Value> = path
            .split('{')
            .skip(1)
            .map(|rest| rest.split('}').next().expect("a name"))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
            .collect();
        // Lists have no body to be checked.
        let Some(schema) = line("body_schema: ") else { continue };
        let name = schema.rsplit('/').next().expect("a name").replace(".schema.json", "");
        // Names within a document of its own lie deeper in this one.
        let within = std::fs::read_to_string(root.join(schema)).expect("a schema");
        let within = within.replace("\"#/", &format!("\"#/components/schemas/{name}/"));
        schemas[&name] = serde_json::from_str(&within).expect("JSON");
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        let id = "5b0a7d0e-1c52-4a35-9f7e-6d1f0c7d9a11";
        let good = json!({ "id": id, "conversation_id": id, "created_time": "2026-01-01T00:00:00Z" });
        let bad =
            json!({ "code": 400, "status": "INVALID", "message": "the request breaks the description" });
        let answer = |example: &Value| json!({ "description": "a reply", "content": { "application/json": { "example": example } } });
        paths[&path][method.to_lowercase()] = json!({
            "parameters": parameters,
            "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
            "responses": { "200": answer(&good), "400": answer(&bad), "401": answer(&bad) },
        });
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Freshchat as our templates see it", "version": "2" },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Without the rates that spare a real account.
fn unhurried(world: &World, path: &str) {
    let text = world.read(path);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("rate: "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    world.write(path, text.replace("concurrency: 8, rate: 50/s", "concurrency: 8"));
}

#[test]
fn prism_finds_no_fault_with_what_the_pipelines_send_and_refuses_what_is_broken() {
    let Some(package) = node_package("@stoplight/prism-cli") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = copied(root, &["templates/freshchat", "schemas/freshchat", "pipelines"]);
    std::fs::remove_dir_all(world.path("pipelines/examples")).expect("examples");
    unhurried(&world, "templates/freshchat/connector.yaml");
    for (name, _) in PIPELINES {
        unhurried(&world, &format!("pipelines/{name}.yaml"));
    }
    let described = description(world.path(".").as_path());
    assert_eq!(described["paths"].as_object().expect("paths").len(), 6, "{described}");
    world.write("freshchat.json", described.to_string());
    let bin = package.join("dist/index.js");
    let bin = bin.to_string_lossy();
    let folder = world.path(".");
    let arguments = [&*bin, "mock", "--errors", "--host", "127.0.0.1", "--port", "PORT", "freshchat.json"];
    let server = Server::start(Path::new("node"), &arguments, &folder);
    world.write(".env", "T=a-token\n");
    world.write(
        "runner.yaml",
        format!("connections: {{ freshchat: {{ connector: freshchat, subdomain: acme, base_url: '{}', api_token: {{ env: T }} }} }}\n", server.url()),
    );
    for (name, limit) in PIPELINES {
        let run = world.run(&format!("apply {name} --limit {limit}"));
        let counted = run.says(" 0 failed,").says(" 0 in doubt").stderr;
        let (before, _) = counted.split_once(" delivered, ").expect("counts");
        let delivered: u32 = before.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count");
        // The rest is invalid or skipped by what the sample data holds.
        assert!(delivered > limit / 2, "{name}\n{counted}");
    }

    // Each of these is wrong in another way, and nothing of ours stops it.
    let template = world.read("templates/freshchat/create-user.yaml");
    let lines = template.lines().filter(|line| !line.starts_with("body_schema: "));
    let unchecked: String = lines.flat_map(|line| [line, "\n"]).collect();
    world.write("templates/freshchat/create-user.yaml", unchecked);
    world.write("data/things.csv", "id,what\n1,good\n2,type\n3,unknown\n4,empty\n");
    world.write(
        "pipelines/p.yaml",
        "connection: freshchat\nendpoint: freshchat/create-user\nsource: { file: data/things.csv }\n\
         key: '{{ record.id }}'\nbody:\n  first_name: \"{{ 7 if record.what == 'type' else 'A' }}\"\n  \
         email: \"{{ 'a@example.com' if record.what != 'empty' else omit }}\"\n  \
         frist_name: \"{{ 'A' if record.what == 'unknown' else omit }}\"\n  \
         reference_id: \"{{ '' if record.what == 'empty' else omit }}\"\n",
    );
    world.run("apply p").exits(1).says("1 delivered, 3 failed");
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(FAILED), [1, 2, 3]);
    let words: BTreeSet<&str> = [1, 2, 3].map(|row| &*said.rows[&row].class).into();
    assert_eq!(words, ["INVALID"].into());
}
