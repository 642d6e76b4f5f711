//! The module as a whole: a good project, and a table of what can be wrong in one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::{Class, Diagnostic, Failure, Problems, Severity};

/// A copy of the good project in a folder of its own.
struct World {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    vars: Vec<(String, String)>,
    env_name: Option<String>,
    input: Option<String>,
    delivery: DeliveryOverrides,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/project"), folder.path());
        let variables =
            [("FRESHCHAT_SUBDOMAIN", "acme"), ("FRESHCHAT_API_TOKEN", "tok-en-secret"), ("HOOK_KEY", "hk-1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self {
            folder,
            variables,
            vars: Vec::new(),
            env_name: None,
            input: None,
            delivery: DeliveryOverrides::default(),
        }
    }
    fn file(self, path: &str, text: &str) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }
    fn pipeline(self, text: &str) -> Self {
        self.file("pipelines/p.yaml", text)
    }
    /// The good pipeline with one line replaced.
    fn replaced(self, file: &str, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1);
        self.file(file, &text)
    }
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.into(), value.into()));
        self
    }
    fn with<T>(&self, run: impl FnOnce(&Inputs<'_>) -> T) -> T {
        let environment = |name: &str| {
            self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        run(&Inputs {
            cwd: self.folder.path(),
            env_name: self.env_name.as_deref(),
            env_file: EnvFile::Default,
            vars: &self.vars,
            environment: &environment,
            input: self.input.as_deref(),
            delivery: self.delivery,
            state: None,
        })
    }
    fn load(&self, name: &str) -> Result<(Pipeline, Problems), Failure> {
        self.with(|inputs| load_pipeline(name, inputs))
    }
    /// Everything that is said about a pipeline, one finding a line.
    fn said(&self, name: &str) -> String {
        let text = match self.load(name) {
            Ok((_, warnings)) => show(warnings.all()),
            Err(failure) => {
                assert_eq!(failure.class, Class::Config);
                show(&failure.diagnostics)
            }
        };
        let root = self.folder.path().canonicalize().unwrap();
        text.replace(&root.display().to_string(), "ROOT")
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn show(found: &[Diagnostic]) -> String {
    let mut out = String::new();
    for found in found {
        let place = found.place.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let mark = if found.severity == Severity::Error { "" } else { "warning " };
        let _ = write!(out, "{mark}{} {place} {}", found.rule, found.message);
        for note in &found.notes {
            let _ = write!(out, " = {note}");
        }
        if let Some(help) = &found.help {
            let _ = write!(out, " | {help}");
        }
        out.push('\n');
    }
    out
}

#[test]
fn a_pipeline_is_read_with_everything_around_it() {
    let world = World::new();
    let (pipeline, warnings) = world.load("sync-users").unwrap();
    assert_eq!(show(warnings.all()), "");
    assert_eq!(pipeline.name, "sync-users");
    assert_eq!(pipeline.path, "pipelines/sync-users.yaml");
    assert_eq!(pipeline.connection.base_url, "https://acme.freshchat.com/v2");
    assert!(
        matches!(&pipeline.connection.auth, Auth::Bearer(Some(token)) if token.expose() == "tok-en-secret")
    );
    assert!(pipeline.connection.settings.get("api_token").is_none());
    assert_eq!(pipeline.connection.secrets.len(), 1);
    let delivery = &pipeline.delivery;
    assert_eq!(
        (delivery.concurrency.most().get(), delivery.rate, delivery.retry.attempts.get()),
        (4, Some(20.0), 3)
    );
    assert_eq!(delivery.retry.first_wait.as_millis(), 200);
    assert_eq!(pipeline.first.in_doubt, InDoubt::Hold);
    assert_eq!(pipeline.endpoint().outcomes.len(), 2);
    assert_eq!(pipeline.endpoint().outcomes[0].statuses, [StatusMatch::Exactly(409)]);
    assert_eq!(pipeline.source.csv.delimiter, Some(b';'));
    assert!(pipeline.require_state && !pipeline.confirm && pipeline.responses_file);
    assert_eq!(
        crate::model::Value::Object(pipeline.vars.clone()).to_json(),
        r#"{"since":"2026-11-22","n":3}"#
    );
    let Some(Tree::Map(body, _)) = &pipeline.endpoint().body else { panic!() };
    assert!(matches!(&body[1].1, Tree::Text(text) if text.value == "NO"));
    assert!(matches!(&body[2].1, Tree::Number(number, _) if number.as_str() == "1.10"));
    let files: Vec<_> = pipeline.files.iter().map(|file| file.path.as_str()).collect();
    let want = [
        "pipelines/sync-users.yaml",
        "schemas/freshchat/user.schema.json",
        "templates/freshchat/connector.yaml",
        "templates/freshchat/create-user.yaml",
    ];
    assert_eq!(files, want);
    assert!(!format!("{pipeline:?}").contains("tok-en"));
}

#[test]
fn the_environment_lays_over_and_a_natural_endpoint_resends() {
    let mut world = World::new();
    world.env_name = Some("staging".into());
    world.input = Some("other.csv".into());
    let (pipeline, _) = world.load("pipelines/update-users.yaml").unwrap();
    assert_eq!(pipeline.connection.base_url, "https://acme-staging.freshchat.com/v2");
    assert!(pipeline.confirm);
    assert_eq!((pipeline.environment.as_str(), pipeline.first.in_doubt), ("staging", InDoubt::Resend));
    assert_eq!(pipeline.source.file, world.folder.path().join("other.csv").to_string_lossy());
    assert!(pipeline.endpoint().params[0].binding.is_some());
    world.env_name = Some("stagin".into());
    assert_eq!(
        world.said("sync-users"),
        "unknown-environment - runner.yaml has no environment `stagin` | did you mean `staging`?\n"
    );
}

#[test]
fn what_is_unset_stays_visible_and_is_no_error() {
    let mut world = World::new().variable("FRESHCHAT_API_TOKEN", "");
    world.variables.retain(|(name, _)| name != "FRESHCHAT_SUBDOMAIN");
    let (pipeline, _) = world.load("sync-users").unwrap();
    let connection = &pipeline.connection;
    assert_eq!(connection.base_url, "https://${FRESHCHAT_SUBDOMAIN}.freshchat.com/v2");
    let failure = connection.unset_failure().unwrap();
    insta::assert_snapshot!(show(&failure.diagnostics), @r###"
    variable-unset runner.yaml:4:23 connection `freshchat` needs FRESHCHAT_SUBDOMAIN, which is not set = looked in the environment and in .env; nothing was sent | set it, or use `{ file: PATH }`; then `runner check-connection freshchat`
    variable-unset runner.yaml:5:23 connection `freshchat` needs FRESHCHAT_API_TOKEN, which is not set = looked in the environment and in .env; nothing was sent | set it, or use `{ file: PATH }`; then `runner check-connection freshchat`
    "###);
    let world = world.file(".env", "FRESHCHAT_API_TOKEN=from-file\nFRESHCHAT_SUBDOMAIN=x\n");
    let (pipeline, _) = world.load("sync-users").unwrap();
    assert!(matches!(&pipeline.connection.auth, Auth::Bearer(Some(token)) if token.expose() == "from-file"));
    assert!(pipeline.connection.unset_failure().is_none());
}

#[test]
fn meaning_changes_with_what_is_sent_and_with_nothing_else() {
    let meaning = |world: &World| world.load("sync-users").unwrap().0.meaning;
    let first = meaning(&World::new());
    let pipeline = "pipelines/sync-users.yaml";
    for (file, from, to) in [
        (pipeline, "rate: 20/s", "rate: 10/s\n  concurrency: 2\n  timeout: 5s"),
        (pipeline, "description: Users", "# comment\ndescription: People"),
        ("templates/freshchat/create-user.yaml", "title: Create User", "title: New"),
    ] {
        assert_eq!(meaning(&World::new().replaced(file, from, to)), first, "{to}");
    }
    assert_eq!(meaning(&World::new().variable("FRESHCHAT_API_TOKEN", "another")), first);
    for (file, from, to) in [
        (pipeline, "price: 1.10", "price: 1.1"),
        (pipeline, "country: NO", "country: SE"),
        (pipeline, "n: 3", "n: 4"),
        (pipeline, "delimiter: \";\"", "delimiter: \",\""),
        (pipeline, "exclude: [internal_id]", "exclude: []"),
        ("templates/freshchat/create-user.yaml", "path: /users", "path: /people"),
        ("templates/freshchat/create-user.yaml", "status: 409", "status: 410"),
        ("templates/freshchat/connector.yaml", "Accept: application/json", "Accept: text/json"),
    ] {
        assert_ne!(meaning(&World::new().replaced(file, from, to)), first, "{to}");
    }
}

const BASE: &str = "connection: freshchat\nendpoint: freshchat/create-user\nsource: { file: a.csv }\n";

#[test]
fn every_mistake_of_a_pipeline_says_where_and_what_to_do() {
    let mut out = String::new();
    for text in [
        "delivery: { retrys: 3 }",
        "delivery: { retries: 3 }",
        "select: { excludes: [a] }",
        "banana: 1",
        "key: a\nkey: b",
        "delivery: { concurrency: 0 }",
        "delivery: { concurrency: many }",
        "delivery: { concurrency: 1000000 }",
        "delivery: { concurrency: -1 }",
        "delivery: { timeout: 30 }",
        "delivery: { concurrency: 9 }",
        "delivery: { rate: 60/s }",
        "delivery: { rate: 60/s, concurrency: 9, force: true }",
        "delivery: { in_doubt: probe }",
        "delivery: { in_doubt: resend }",
        "delivery: { in_doubt: resend, mode: at_most_once }",
        "delivery: { mode: atleastonce }",
        "schema: ../../etc/passwd",
        "schema: schemas/freshchat/usr.schema.json",
        "params: { user_id: 1 }",
        "vars: { x: { env: TOKEN } }",
        "vars: { x: { type: date, default: 2026-13-01 } }",
        "vars: { x: { type: integer } }",
        "body: { token: { env: API_TOKEN } }",
        "headers: { Host: evil }",
        "headers: { Authorization: Bearer abcdef0123456789abcdef }",
        "sync: changed",
        "sync: altered",
        "steps: [{ id: a, endpoint: freshchat/create-user }]",
        "name: ../up",
        "responses: { file: NO }",
        "select: { limit: 0 }",
        "source: { file: ../a.csv }",
    ] {
        let base: String = BASE
            .lines()
            .filter(|line| !text.starts_with(line.split(':').next().unwrap()))
            .fold(String::new(), |all, line| all + line + "\n");
        let _ = write!(out, "{text:?}\n{}", World::new().pipeline(&format!("{base}{text}\n")).said("p"));
    }
    insta::assert_snapshot!(out, @r###"
    "delivery: { retrys: 3 }"
    unknown-key pipelines/p.yaml:4:13 `retrys` is not a key of `delivery` | did you mean `retry`? It is written `retry: { attempts: 3 }`
    "delivery: { retries: 3 }"
    unknown-key pipelines/p.yaml:4:13 `retries` is not a key of `delivery` | did you mean `retry`? It is written `retry: { attempts: 3 }`
    "select: { excludes: [a] }"
    unknown-key pipelines/p.yaml:4:11 `excludes` is not a key of `select` | did you mean `exclude`?
    "banana: 1"
    unknown-key pipelines/p.yaml:4:1 `banana` is not a key of a pipeline | a pipeline has: name, description, connection, endpoint, steps, find, create, update, source, schema, key, vars, lookups, select, params, headers, method, content, body, nulls, batch, delivery, responses, sync, deletes, on_new_input, needs
    "key: a\nkey: b"
    duplicate-key pipelines/p.yaml:5:1 `key` stands twice, on lines 4 and 5 | keep one of the two
    "delivery: { concurrency: 0 }"
    bad-value pipelines/p.yaml:4:26 `concurrency` is `0`, but has to be a whole number from 1 to 1024, or `adaptive`
    "delivery: { concurrency: many }"
    bad-value pipelines/p.yaml:4:26 `concurrency` is `many`, but has to be a whole number from 1 to 1024, or `adaptive`
    "delivery: { concurrency: 1000000 }"
    bad-value pipelines/p.yaml:4:26 `concurrency` is `1000000`, but has to be a whole number from 1 to 1024, or `adaptive`
    "delivery: { concurrency: -1 }"
    bad-value pipelines/p.yaml:4:26 `concurrency` is `-1`, but has to be a whole number from 1 to 1024, or `adaptive`
    "delivery: { timeout: 30 }"
    bad-value pipelines/p.yaml:4:22 `timeout` is `30`, which has no unit | write `30s` for seconds, `30ms` for milliseconds
    "delivery: { concurrency: 9 }"
    above-limit pipelines/p.yaml:4:26 `concurrency` is 9, above the connector's limit of 8 | lower it, or say that it is meant with `delivery: { force: true }`
    "delivery: { rate: 60/s }"
    above-limit pipelines/p.yaml:4:19 `rate` is 60/s, above the connector's limit of 50/s | lower it, or say that it is meant with `delivery: { force: true }`
    "delivery: { rate: 60/s, concurrency: 9, force: true }"
    "delivery: { in_doubt: probe }"
    probe-without-look pipelines/p.yaml:4:23 `in_doubt: probe` asks the far side, and the endpoint does not say how | describe the look in the endpoint (`reconcile:`), or use `hold` and settle held records with `runner resolve`
    "delivery: { in_doubt: resend }"
    resend-could-duplicate pipelines/p.yaml:4:23 records in doubt would be sent again, and the far side could act twice | `idempotency:` in the endpoint says that a repeat is harmless, `in_doubt: hold` waits for a person, `accept_duplicates: true` beside it says that duplicates are accepted
    "delivery: { in_doubt: resend, mode: at_most_once }"
    resend-at-most-once pipelines/p.yaml:4:23 `at_most_once` never sends a record in doubt again | use `in_doubt: hold`, or `mode: at_least_once`
    "delivery: { mode: atleastonce }"
    unknown-word pipelines/p.yaml:4:19 `mode` is `atleastonce`, but has to be one of at_least_once, at_most_once | did you mean `at_least_once`?
    "schema: ../../etc/passwd"
    path-outside-root pipelines/p.yaml:4:9 `../../etc/passwd` leads out of the project, whose root is ROOT | put the file below the root and name it relative to the root
    "schema: schemas/freshchat/usr.schema.json"
    schema-missing pipelines/p.yaml:4:9 the schema `schemas/freshchat/usr.schema.json` is not there = looked for ROOT/schemas/freshchat/usr.schema.json | did you mean `schemas/freshchat/user.schema.json`?
    "params: { user_id: 1 }"
    unknown-param pipelines/p.yaml:4:11 the endpoint freshchat/create-user has no parameter `user_id` | it declares none
    "vars: { x: { env: TOKEN } }"
    secret-outside-connection pipelines/p.yaml:4:12 `{ env: … }` is allowed only within a connection of runner.yaml | name the setting in runner.yaml; values for a run come in by `vars` and `--var`
    "vars: { x: { type: date, default: 2026-13-01 } }"
    wrong-type pipelines/p.yaml:4:35 the default of `x` is not a date such as 2026-11-22
    "vars: { x: { type: integer } }"
    var-missing pipelines/p.yaml:4:9 the variable `x` has no value | add `--var x=…`
    "body: { token: { env: API_TOKEN } }"
    secret-outside-connection pipelines/p.yaml:4:16 `{ env: … }` is allowed only within a connection of runner.yaml | name the setting in runner.yaml; values for a run come in by `vars` and `--var`
    "headers: { Host: evil }"
    header-not-allowed pipelines/p.yaml:4:12 the header `Host` cannot be set | it frames or routes the request, which is done by the sender itself
    "headers: { Authorization: Bearer abcdef0123456789abcdef }"
    secret-in-file pipelines/p.yaml:4:27 a secret is written into this file | put it into an environment variable, and `{ env: NAME }` into the connection in runner.yaml
    "sync: changed"
    sync-without-key pipelines/p.yaml:4:7 `sync: changed` needs a `key` | say what identifies a record: `key: "{{ record.id }}"`
    warning sync-creates pipelines/p.yaml:4:7 `sync: changed` sends a changed record again, and the endpoint would create it a second time | use an endpoint that updates, or `find` with `create` and `update`; `sync: new` leaves known keys out
    "sync: altered"
    unknown-word pipelines/p.yaml:4:7 `sync` is `altered`, but has to be one of all, new, changed
    "steps: [{ id: a, endpoint: freshchat/create-user }]"
    steps-mixed pipelines/p.yaml:1:1 a pipeline has one of `endpoint`, `steps` and `find` | several calls of a record are `steps`; a look that decides is `find`, with `create` and `update`
    "name: ../up"
    pipeline-name pipelines/p.yaml:4:7 `../up` is no name of a pipeline | use letters, digits, `-`, `_` and `.`; it becomes the name of a folder
    "responses: { file: NO }"
    wrong-type pipelines/p.yaml:4:20 `file` is text, but has to be true or false | write `true` or `false`, without quotes
    "select: { limit: 0 }"
    bad-value pipelines/p.yaml:4:18 `limit` is `0`, but has to be a whole number of at least 1
    "source: { file: ../a.csv }"
    path-outside-root pipelines/p.yaml:3:17 `../a.csv` leads out of the project, whose root is ROOT | files elsewhere are named with `--input FILE`
    "###);
}

#[test]
fn every_mistake_of_a_reference_says_where_it_was_looked_for() {
    let mut out = String::new();
    for text in [
        "connection: freshcat\nendpoint: freshchat/create-usr\nsource: { file: a.csv }\n",
        "connection: freshchat\nendpoint: ../../etc/passwd\nsource: { file: a.csv }\n",
        "connection: our-hook\nendpoint: { method: POST, url: \"https://evil.example.com/x\" }\nsource: { file: a.csv }\n",
        "connection: our-hook\nendpoint: { method: POST, url: \"https://hook.example.com/in/x\" }\nsource: { file: a.csv }\n",
        "connection: { base_url: https://x.example.com, auth: { bearer: t }, t: { env: T } }\nendpoint: { method: FETCH, path: users?a=1 }\nsource: {}\n",
        "connection: { base_url: \"https://u:secretpw@x.example.com\" }\nendpoint: { method: POST, path: /x }\nsource: { file: a.csv }\n",
        "",
    ] {
        let said = World::new().pipeline(text).said("p");
        assert!(!said.contains("secretpw"));
        let _ = write!(out, "{text:?}\n{said}");
    }
    insta::assert_snapshot!(out, @r###"
    "connection: freshcat\nendpoint: freshchat/create-usr\nsource: { file: a.csv }\n"
    unknown-connection pipelines/p.yaml:1:13 runner.yaml has no connection `freshcat` | did you mean `freshchat`?
    template-missing pipelines/p.yaml:2:11 the template `templates/freshchat/create-usr.yaml` is not there = looked for ROOT/templates/freshchat/create-usr.yaml | did you mean `templates/freshchat/create-user.yaml`?
    "connection: freshchat\nendpoint: ../../etc/passwd\nsource: { file: a.csv }\n"
    path-outside-root pipelines/p.yaml:2:11 `templates/../../etc/passwd.yaml` leads out of the project, whose root is ROOT | put the file below the root and name it relative to the root
    "connection: our-hook\nendpoint: { method: POST, url: \"https://evil.example.com/x\" }\nsource: { file: a.csv }\n"
    url pipelines/p.yaml:2:32 `url` does not lie below the base URL of its connection, https://hook.example.com/in | begin it with `https://hook.example.com/in/`, or write `path: /…`
    "connection: our-hook\nendpoint: { method: POST, url: \"https://hook.example.com/in/x\" }\nsource: { file: a.csv }\n"
    "connection: { base_url: https://x.example.com, auth: { bearer: t }, t: { env: T } }\nendpoint: { method: FETCH, path: users?a=1 }\nsource: {}\n"
    secret-outside-connection pipelines/p.yaml:1:54 a connection in a pipeline can only have `auth: none` | name the connection in runner.yaml, and here `connection: NAME`
    secret-outside-connection pipelines/p.yaml:1:72 a connection in a pipeline has no secrets | name the connection in runner.yaml, and here `connection: NAME`
    unknown-word pipelines/p.yaml:2:21 `method` is `FETCH`, but has to be one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS
    path pipelines/p.yaml:2:34 a path begins with `/` | write `/users?a=1`
    path pipelines/p.yaml:2:34 the path holds a query (`?`) | write queries under `query: { name: value }`
    missing-key pipelines/p.yaml:3:9 `source` needs `file`, `endpoint` or `responses`
    "connection: { base_url: \"https://u:secretpw@x.example.com\" }\nendpoint: { method: POST, path: /x }\nsource: { file: a.csv }\n"
    base-url-userinfo pipelines/p.yaml:1:25 the base URL of x.example.com holds a user name or password | use `auth: { basic: … }` with settings from the environment
    ""
    missing-key pipelines/p.yaml:1:1 a pipeline needs `connection`
    missing-key pipelines/p.yaml:1:1 a pipeline needs `source`
    missing-key pipelines/p.yaml:1:1 a pipeline needs `endpoint` | or `steps` for several calls of each record, or `find` with `create` and `update`
    "###);
    assert_eq!(
        World::new().said("snyc-users").split(" = ").next(),
        Some("pipeline-missing - there is no pipeline `snyc-users`")
    );
}

#[test]
fn five_mistakes_are_found_in_one_go() {
    let text = "connection: nobody\nendpoint: freshchat/none\nsource: { file: a.csv, formt: csv }\n\
                delivery: { timeout: 30, concurrency: 0 }\nkey: 3\n";
    insta::assert_snapshot!(World::new().pipeline(text).said("p"), @r###"
    unknown-connection pipelines/p.yaml:1:13 runner.yaml has no connection `nobody` | it has: freshchat, our-hook
    template-missing pipelines/p.yaml:2:11 the template `templates/freshchat/none.yaml` is not there = looked for ROOT/templates/freshchat/none.yaml
    unknown-key pipelines/p.yaml:3:24 `formt` is not a key of `source` | did you mean `format`?
    bad-value pipelines/p.yaml:4:22 `timeout` is `30`, which has no unit | write `30s` for seconds, `30ms` for milliseconds
    bad-value pipelines/p.yaml:4:39 `concurrency` is `0`, but has to be a whole number from 1 to 1024, or `adaptive`
    wrong-type pipelines/p.yaml:5:6 `key` is a number, but has to be text | put it into quotes to make it text
    "###);
}

#[test]
fn every_mistake_of_a_project_and_connector_is_found() {
    let runner = "runner.yaml";
    let connector = "templates/freshchat/connector.yaml";
    let mut out = String::new();
    for (file, from, to) in [
        (runner, "subdomain: {", "subdomian: {"),
        (runner, "api_token: { env: FRESHCHAT_API_TOKEN }", "api_token: abc"),
        (runner, "api_token: { env: FRESHCHAT_API_TOKEN }", "api_token: { env: sk-live-1234-567 }"),
        (runner, "    api_token: { env: FRESHCHAT_API_TOKEN }\n", ""),
        (runner, ", secret: false }", " }"),
        (runner, "{ env: FRESHCHAT_SUBDOMAIN, secret: false }", "A.B"),
        (runner, "proxy: none", "tls: { verify: false }"),
        (runner, "proxy: none", "proxy: nope"),
        (runner, "defaults: { delivery: { concurrency: 4", "defaults: { delivery: { concurency: 4"),
        (runner, "require_state: true", "require_state: { env: X }"),
        (connector, "auth: { bearer: api_token }", "auth: { bearer: api_tokn }"),
        (connector, "auth: { bearer: api_token }", "auth: { oauth2: {} }"),
        (
            connector,
            "base_url: \"{{ connection.base_url }}\"",
            "base_url: \"http://{{ connection.subdomain }}.x.com/\"",
        ),
        (
            connector,
            "base_url: \"{{ connection.base_url }}\"",
            "base_url: \"https://x.com/{{ connection.api_token }}\"",
        ),
        (
            connector,
            "base_url: \"{{ connection.base_url }}\"",
            "base_url: \"https://x.com/?a={{ connection.nope }}\"",
        ),
        (
            connector,
            "base_url: \"{{ connection.base_url }}\"",
            "base_url: \"{{ connection.subdomain | upper }}\"",
        ),
        (connector, "https://{{ connection.subdomain }}", "https://{{ connection.base_url }}"),
        (connector, "^[a-z0-9-]+$", "^[a-z"),
        (connector, "then: stop", "then: halt"),
        (connector, "status: 401", "status: 6xx"),
        (connector, "then: stop", "then: failed, wait: 5s"),
        (connector, "Accept: application/json", "Content-Length: '3'"),
    ] {
        let _ = write!(out, "{to:?}\n{}", World::new().replaced(file, from, to).said("sync-users"));
    }
    insta::assert_snapshot!(out, @r###"
    "subdomian: {"
    missing-setting runner.yaml:3:5 connection `freshchat` needs `subdomain` | add `subdomain: { env: FRESHCHAT_SUBDOMAIN, secret: false }`
    unknown-setting runner.yaml:4:5 `subdomian` is not a setting of the connector freshchat | did you mean `subdomain`?
    "api_token: abc"
    secret-in-file runner.yaml:5:16 the secret `api_token` is written into this file | put it into an environment variable and write `{ env: NAME }`
    "api_token: { env: sk-live-1234-567 }"
    bad-value runner.yaml:5:23 `env` does not hold the name of a variable | write `{ env: NAME }`, not the value itself
    ""
    missing-setting runner.yaml:3:5 connection `freshchat` needs `api_token` | add `api_token: { env: FRESHCHAT_API_TOKEN }`
    " }"
    secret-undeclared runner.yaml:4:23 the connector does not declare `subdomain` as a secret, so it would be shown | add `secret: false` beside it, or declare the setting with `secret: true`
    "A.B"
    setting-pattern runner.yaml:4:16 `subdomain` does not have the form that its connector asks for | `runner list connections` shows what each setting is
    "tls: { verify: false }"
    warning tls-unverified runner.yaml:6:20 certificates are not checked: anybody on the way can read the credentials | name the authority with `tls: { ca: FILE }` instead
    "proxy: nope"
    proxy runner.yaml:6:12 `proxy` has to be `none` or a URL such as http://host:3128
    "defaults: { delivery: { concurency: 4"
    unknown-key runner.yaml:11:25 `concurency` is not a key of `delivery` | did you mean `concurrency`?
    "require_state: { env: X }"
    secret-outside-connection runner.yaml:12:16 `{ env: … }` is allowed only within a connection of runner.yaml | name the setting in runner.yaml; values for a run come in by `vars` and `--var`
    "auth: { bearer: api_tokn }"
    unknown-setting templates/freshchat/connector.yaml:8:17 there is no setting `api_tokn` | did you mean `api_token`?
    "auth: { oauth2: {} }"
    missing-key templates/freshchat/connector.yaml:8:17 `oauth2` needs `grant`
    missing-key templates/freshchat/connector.yaml:8:17 `oauth2` needs `token_url`
    missing-key templates/freshchat/connector.yaml:8:17 `oauth2` needs `client_id`
    "base_url: \"http://{{ connection.subdomain }}.x.com/\""
    plain-http templates/freshchat/connector.yaml:7:11 credentials would go to http://acme.x.com without encryption | use https, or set `allow_plain_http: true` in the connection
    "base_url: \"https://x.com/{{ connection.api_token }}\""
    secret-in-url templates/freshchat/connector.yaml:7:11 the base URL holds a secret setting, and URLs are shown | give the setting `secret: false`, or send it by `auth` or `headers`
    "base_url: \"https://x.com/?a={{ connection.nope }}\""
    unknown-setting templates/freshchat/connector.yaml:7:43 there is no setting `nope` | the settings are: subdomain, api_token, base_url
    "base_url: \"{{ connection.subdomain | upper }}\""
    base-url-expression templates/freshchat/connector.yaml:7:11 only `{{ connection.NAME }}` is possible here | name settings of the connector; filters and other names are not available
    "https://{{ connection.base_url }}"
    setting-cycle templates/freshchat/connector.yaml:5:38 the default of `base_url` needs itself
    "^[a-z"
    pattern templates/freshchat/connector.yaml:4:39 the pattern of `subdomain` is not a regular expression
    "then: halt"
    unknown-word templates/freshchat/connector.yaml:13:26 `then` is `halt`, but has to be one of delivered, retry, failed, in_doubt, skipped, stop
    "status: 6xx"
    bad-value templates/freshchat/connector.yaml:13:15 `status` is `6xx`, which is neither a status such as 404 nor a class such as 4xx
    "then: failed, wait: 5s"
    outcome-wait templates/freshchat/connector.yaml:13:40 `wait` is for what is sent again | leave it out, or write `then: retry`
    "Content-Length: '3'"
    header-not-allowed templates/freshchat/connector.yaml:9:12 the header `Content-Length` cannot be set | it frames or routes the request, which is done by the sender itself
    "###);
}

#[test]
fn secrets_that_cannot_be_sent_are_refused_without_showing_them() {
    let said = World::new().variable("FRESHCHAT_API_TOKEN", "tok-en-9\n").said("sync-users");
    assert!(!said.contains("tok-en-9"));
    insta::assert_snapshot!(said, @r###"
    variable-unusable runner.yaml:5:23 the value of FRESHCHAT_API_TOKEN ends in a newline | set it again without, for example with `printf %s` instead of `echo`
    "###);
    let world = World::new().replaced("runner.yaml", "{ env: FRESHCHAT_API_TOKEN }", "{ file: token.txt }");
    let world = world.file("token.txt", "tok-en-9\n");
    insta::assert_snapshot!(world.said("sync-users"), @r###"
    warning secret-file-open runner.yaml:5:24 the secret file token.txt can be read by others (mode 0644) | chmod 600 token.txt
    "###);
    let (pipeline, _) = world.load("sync-users").unwrap();
    assert!(matches!(&pipeline.connection.auth, Auth::Bearer(Some(token)) if token.expose() == "tok-en-9"));
}

#[test]
fn values_from_outside_are_never_expressions() {
    let (pipeline, _) = World::new()
        .replaced("templates/freshchat/connector.yaml", "pattern: \"^[a-z0-9-]+$\", ", "")
        .replaced(
            "templates/freshchat/connector.yaml",
            "base_url: \"{{ connection.base_url }}\"",
            "base_url: https://x.example.com",
        )
        .variable("FRESHCHAT_SUBDOMAIN", "{{ connection.api_token }}: [")
        .load("sync-users")
        .unwrap();
    let subdomain = pipeline.connection.settings.get("subdomain").and_then(crate::model::Value::as_str);
    assert_eq!(subdomain, Some("{{ connection.api_token }}: ["));
}

#[test]
fn vars_are_typed_and_known() {
    let mut world = World::new().variable("RUNNER_VAR_n", "7");
    world.vars = vec![("since".into(), "2026-01-31".into())];
    let vars = world.load("sync-users").unwrap().0.vars;
    assert_eq!(crate::model::Value::Object(vars).to_json(), r#"{"since":"2026-01-31","n":7}"#);
    world.vars =
        vec![("since".into(), "yesterday".into()), ("sinze".into(), "1".into()), ("n".into(), "x".into())];
    insta::assert_snapshot!(world.said("sync-users"), @r###"
    var-type pipelines/sync-users.yaml:8:9 the variable `since` has to be a date such as 2026-11-22 = its value came from `--var` or the environment
    var-type pipelines/sync-users.yaml:8:53 the variable `n` has to be a whole number = its value came from `--var` or the environment
    unknown-var - the pipeline has no variable `sinze` | did you mean `since`?
    "###);
}

#[test]
fn a_file_that_is_too_large_or_outside_by_a_link_is_refused() {
    let world = World::new().pipeline(&"#".repeat(2 << 20));
    insta::assert_snapshot!(world.said("p"), @r###"
    file-too-large - pipelines/p.yaml has 2097152 bytes; a file of the project may have 1048576 (1 MiB) | records belong into a source file, named under `source:`
    "###);
    #[cfg(unix)]
    {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("s.json"), "{}").unwrap();
        let world = World::new().pipeline(&format!("{BASE}schema: schemas/s.json\n"));
        std::os::unix::fs::symlink(outside.path().join("s.json"), world.folder.path().join("schemas/s.json"))
            .unwrap();
        insta::assert_snapshot!(world.said("p"), @r###"
        path-outside-root pipelines/p.yaml:4:9 `schemas/s.json` leads out of the project, whose root is ROOT | put the file below the root and name it relative to the root
        "###);
    }
}

#[test]
fn concurrency_can_follow_the_far_side() {
    let concurrency = |text: &str| {
        let world = World::new().pipeline(&format!("{BASE}delivery: {{ {text} }}\n"));
        world.load("p").map_or_else(|_| world.said("p"), |(found, _)| found.delivery.concurrency.to_string())
    };
    let mut out = String::new();
    for text in [
        "concurrency: 4",
        // The connector's limit is 8.
        "concurrency: adaptive",
        "concurrency: { adaptive: { max: 4 } }",
        "concurrency: { adaptive: {} }",
        "concurrency: { adaptive: { max: 64 } }",
        "concurrency: { adaptive: { max: 64 } }, force: true",
        "concurrency: { adaptive: { max: 0 } }",
        "concurrency: { adaptive: { limit: 4 } }",
        "concurrency: { adaptive: 4 }",
        "concurrency: { max: 4 }",
        "concurrency: {}",
        "concurrency: [4]",
        "concurrency: adaptiv",
    ] {
        let _ = writeln!(out, "{text}\n    {}", concurrency(text).trim_end().replace('\n', "\n    "));
    }
    insta::assert_snapshot!(out, @r"
    concurrency: 4
        4
    concurrency: adaptive
        adaptive up to 8
    concurrency: { adaptive: { max: 4 } }
        adaptive up to 4
    concurrency: { adaptive: {} }
        adaptive up to 8
    concurrency: { adaptive: { max: 64 } }
        above-limit pipelines/p.yaml:4:26 `concurrency` is adaptive up to 64, above the connector's limit of 8 | lower it, or say that it is meant with `delivery: { force: true }`
    concurrency: { adaptive: { max: 64 } }, force: true
        adaptive up to 64
    concurrency: { adaptive: { max: 0 } }
        bad-value pipelines/p.yaml:4:45 `max` is `0`, but has to be a whole number from 1 to 1024
    concurrency: { adaptive: { limit: 4 } }
        unknown-key pipelines/p.yaml:4:40 `limit` is not a key of `adaptive` | it is written `adaptive: { max: 64 }`
    concurrency: { adaptive: 4 }
        wrong-type pipelines/p.yaml:4:38 `adaptive` is a number, but has to be a mapping | it is written `concurrency: { adaptive: { max: 4 } }`
    concurrency: { max: 4 }
        missing-key pipelines/p.yaml:4:26 `concurrency` needs `adaptive`
        unknown-key pipelines/p.yaml:4:28 `max` is not a key of `concurrency` | it is written `concurrency: { adaptive: { max: 64 } }`
    concurrency: {}
        missing-key pipelines/p.yaml:4:26 `concurrency` needs `adaptive`
    concurrency: [4]
        wrong-type pipelines/p.yaml:4:26 `concurrency` is a list, but has to be a whole number, or `adaptive`
    concurrency: adaptiv
        bad-value pipelines/p.yaml:4:26 `concurrency` is `adaptiv`, but has to be a whole number from 1 to 1024, or `adaptive`
    ");
}

#[test]
fn a_limit_does_not_follow_the_far_side() {
    let connection = |limit: &str| {
        let file = "templates/freshchat/connector.yaml";
        World::new().replaced(file, "concurrency: 8", &format!("concurrency: {limit}")).said("sync-users")
    };
    insta::assert_snapshot!(connection("adaptive") + &connection("{ adaptive: { max: 8 } }"), @r"
    bad-value templates/freshchat/connector.yaml:10:24 `limits: { concurrency }` is a ceiling, so it has to be a number and cannot be `adaptive` | write the most that any pipeline may use here; a pipeline, or `defaults` of runner.yaml, says `delivery: { concurrency: adaptive }`
    bad-value templates/freshchat/connector.yaml:10:24 `limits: { concurrency }` is a ceiling, so it has to be a number and cannot be `adaptive` | write the most that any pipeline may use here; a pipeline, or `defaults` of runner.yaml, says `delivery: { concurrency: adaptive }`
    ");
}

#[test]
fn limits_hold_for_flags_too() {
    let mut world = World::new();
    world.delivery =
        DeliveryOverrides { concurrency: std::num::NonZeroUsize::new(9), rate: None, unlimited: false };
    insta::assert_snapshot!(world.said("sync-users"), @r###"
    above-limit pipelines/sync-users.yaml:3:13 `--concurrency` is 9, above the connector's limit of 8 | lower it, or say that it is meant with `delivery: { force: true }`
    "###);
}

#[test]
fn check_all_looks_at_every_file_and_needs_no_secret() {
    let mut world = World::new()
        .file("pipelines/bad.yaml", "connection: freshchat\nendpoint: freshchat/bad\nsource: { file: a.csv }\nvars: { x: { type: date } }\n")
        .file("templates/freshchat/bad.yaml", "method: POST\npath: /x\nheader: {}\n");
    world.variables.clear();
    let all = world.with(|inputs| check_all(&[], inputs));
    let root = world.folder.path().canonicalize().unwrap();
    let shown: Vec<String> = all
        .files
        .iter()
        .map(|(path, problems)| {
            format!("{}: {}", path.strip_prefix(&root).unwrap().display(), show(problems.all()).trim())
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r###"
    pipelines/bad.yaml: 
    pipelines/sync-users.yaml: 
    pipelines/update-users.yaml: 
    runner.yaml: 
    templates/freshchat/bad.yaml: unknown-key templates/freshchat/bad.yaml:3:1 `header` is not a key of an endpoint | it is written `headers: { Name: value }`
    templates/freshchat/connector.yaml: 
    templates/freshchat/create-user.yaml: 
    templates/freshchat/update-user.yaml:
    "###);
    let one = world.with(|inputs| check_all(&[PathBuf::from("pipelines/sync-users.yaml")], inputs));
    assert_eq!(one.files.len(), 1);
    assert!(one.files[0].1.all().is_empty());
    assert_eq!(one.pipelines.len(), 1);
}

#[test]
fn a_project_lists_what_it_has() {
    let world = World::new();
    let project = world.with(load_project).unwrap();
    assert_eq!(project.connections, ["freshchat", "our-hook"]);
    assert_eq!(project.environments, ["staging"]);
    assert_eq!(project.pipelines, ["pipelines/sync-users.yaml", "pipelines/update-users.yaml"]);
    assert_eq!((project.keep.runs, project.keep.days), (5, 30));
    let names: Vec<_> =
        project.endpoints.iter().map(|info| (info.name.as_str(), info.title.as_deref())).collect();
    assert_eq!(
        names,
        [("freshchat/create-user", Some("Create User")), ("freshchat/update-user", Some("Update User"))]
    );
    let (connection, _) = world.with(|inputs| load_connection(&project, "our-hook", inputs)).unwrap();
    assert_eq!(connection.base_url, "https://hook.example.com/in");
    assert!(matches!(&connection.auth, Auth::ApiKeyHeader { name, value: Some(_) } if name == "X-Api-Key"));
    let (endpoint, _) =
        world.with(|inputs| load_endpoint(&project, "freshchat/create-user", inputs)).unwrap();
    assert_eq!(endpoint.sample.unwrap().get("big").unwrap().to_json(), "12345678901234567890123");
}

/// A file of ours as JSON, for the published schemas.
fn as_json(node: &read::Node) -> serde_json::Value {
    use read::Kind;
    match &node.kind {
        Kind::Null => serde_json::Value::Null,
        Kind::Bool(value) => (*value).into(),
        Kind::Number(number) => serde_json::from_str(number.as_str()).unwrap(),
        Kind::Text(text) => text.as_str().into(),
        Kind::List(items) => items.iter().map(as_json).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, node)| (key.value.clone(), as_json(node))).collect(),
    }
}

#[test]
fn the_published_schemas_accept_the_good_files_and_refuse_bad_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/project");
    let valid = |kind: &str, text: &str| {
        let source = std::sync::Arc::new(crate::model::SourceText { path: "x".into(), text: text.into() });
        let node = read::parse(&source, &mut Problems::new()).unwrap();
        let schema = jsonschema::draft7::new(&published_schema(kind).unwrap()).unwrap();
        let errors: Vec<_> = schema.iter_errors(&as_json(&node)).map(|error| error.to_string()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    };
    for (kind, path) in [
        ("runner", "runner.yaml"),
        ("connector", "templates/freshchat/connector.yaml"),
        ("endpoint", "templates/freshchat/create-user.yaml"),
        ("endpoint", "templates/freshchat/update-user.yaml"),
        ("pipeline", "pipelines/sync-users.yaml"),
        ("pipeline", "pipelines/update-users.yaml"),
    ] {
        assert_eq!(valid(kind, &std::fs::read_to_string(root.join(path)).unwrap()), Ok(()), "{path}");
    }
    for (kind, bad) in [
        ("runner", "conections: {}"),
        ("runner", "environments: { a: { confirm: 1 } }"),
        ("connector", "title: x"),
        ("endpoint", "method: FETCH"),
        ("endpoint", "method: GET\npath: /x\nidempotency: sometimes"),
        ("pipeline", BASE.replace("source", "sauce").as_str()),
        ("pipeline", format!("{BASE}delivery: {{ timeout: 30 }}").as_str()),
        ("pipeline", format!("{BASE}delivery: {{ retrys: 30 }}").as_str()),
        ("pipeline", format!("{BASE}delivery: {{ concurrency: 0 }}").as_str()),
    ] {
        assert!(valid(kind, bad).is_err(), "{bad}");
    }
}

#[test]
fn secret_headers_are_secrets_and_are_only_named_while_unset() {
    let connector = "templates/freshchat/connector.yaml";
    let world = || {
        World::new().replaced(connector, "auth: { bearer: api_token }", "auth: none").replaced(
            connector,
            "Accept: application/json",
            "X-Key: \"{{ connection.subdomain }} {{ connection.api_token }}\"",
        )
    };
    let (pipeline, _) = world().load("sync-users").unwrap();
    let [(_, HeaderTemplate::Secret(value))] = pipeline.connection.headers.as_slice() else { panic!() };
    assert_eq!(value.expose(), "acme tok-en-secret");
    let mut unset = world();
    unset.variables.retain(|(name, _)| name != "FRESHCHAT_SUBDOMAIN");
    let (pipeline, _) = unset.load("sync-users").unwrap();
    let [(_, HeaderTemplate::Plain(text))] = pipeline.connection.headers.as_slice() else { panic!() };
    assert_eq!(text.value, "${FRESHCHAT_SUBDOMAIN} ***");
    let plain = world()
        .replaced(connector, "base_url: \"{{ connection.base_url }}\"", "base_url: http://api.example.com")
        .variable("FRESHCHAT_API_TOKEN", "");
    assert!(plain.said("sync-users").starts_with("plain-http "));
}
