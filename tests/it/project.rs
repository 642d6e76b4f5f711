//! The commands about a project: `init`, `check-connection`, `list`, `schema`, `help`, the log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use runner::sandbox::Handle;

use crate::world::{PUT_THINGS, Run, World, far_side, things};

/// Runs a command with further variables.
fn with(world: &World, arguments: &str, variables: &[(&str, &str)]) -> Run {
    let mut command: Command = world.command(arguments);
    command.envs(variables.iter().copied());
    Run::of(command.output().expect("the binary runs"), world)
}

#[test]
fn a_new_project_is_valid_and_runs_against_the_sandbox() {
    let world = World::new();
    let made = world.run("init shop").exits(0);
    insta::assert_snapshot!(made.stdout, @r"
    made 33 files in shop:
      runner.yaml  .gitignore  .env.example
      pipelines/sync-users.yaml
      pipelines/data/users.csv
      templates/freshchat/ (16 files)
      schemas/freshchat/ (8 files)
      schemas/runner/ (4 files)
    next:
      cd shop
      runner validate
      runner apply pipelines/sync-users.yaml --sandbox
    ");
    let checked = world.run("validate -C shop --data --strict").exits(0);
    assert_eq!(checked.stderr, "checked 1 pipeline, 15 endpoints, 1 connector, 8 records: nothing found\n");
    world
        .run("apply -C shop pipelines/sync-users.yaml --sandbox")
        .exits(0)
        .says("7 delivered, 0 failed, 0 invalid, 1 skipped");
    let git = world.read("shop/.gitignore");
    assert!(git.contains(".runner") && git.lines().any(|line| line == ".env"));
}

#[test]
fn init_keeps_what_is_there_and_names_it() {
    let world = World::new().file("shop/runner.yaml", "connections: {}\n").file("shop/.gitignore", "*.tmp\n");
    let made = world.run("init shop --format json").exits(0);
    let summary = &made.json()["summary"];
    assert_eq!(summary["kept"], serde_json::json!(["runner.yaml", ".gitignore"]));
    assert_eq!(world.read("shop/runner.yaml"), "connections: {}\n");
    assert_eq!(world.read("shop/.gitignore"), "*.tmp\n");
    insta::assert_snapshot!(made.stderr, @r"
    warning[not-ignored]: the .gitignore that was kept does not name .runner and .env
    help: add a line for each: state and tokens do not belong into a repository

    warning[connection-missing]: the runner.yaml that was kept has no connection of the connector freshchat
    help: add it under `connections:` as `freshchat: { connector: freshchat, … }`; templates/freshchat/connector.yaml says its settings
    ");
    let again = world.run("init shop --format json").exits(0);
    assert_eq!(again.json()["summary"]["made"], serde_json::json!([]));
}

#[test]
fn init_does_not_write_through_a_link() {
    let world = World::new().file("shop/x", "");
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("shop/runner.yaml")).unwrap();
    world.run("init shop").exits(0);
    assert!(!world.path("elsewhere").exists());
}

#[test]
fn a_connector_that_is_not_there_is_refused_before_anything_is_made() {
    let world = World::new();
    world.run("init shop --connector freshchart").exits(2).says("did you mean `freshchat`?");
    assert!(!world.path("shop").exists());
}

#[test]
fn init_makes_the_state_that_a_project_requires() {
    let world = World::new().pipeline(PUT_THINGS, things(2));
    let project = world.read("runner.yaml") + "require_state: true\n";
    world.write("runner.yaml", project);
    world.run("apply p").exits(5).says("`runner init --state`");
    assert_eq!(world.run("init --state").exits(0).stdout, "made the state folder .runner\n");
    assert_eq!(world.run("init --state").exits(0).stdout, "there is a state folder already: .runner\n");
    world.run("apply p").exits(0).says("2 delivered");
}

/// A world whose connection `api` has a token and a call to check it.
fn with_check() -> World {
    let world = World::new();
    let project = format!(
        "connections:\n  api:\n    base_url: \"{}\"\n    token: {{ env: API_TOKEN }}\n    auth: {{ bearer: token }}\n    check: {{ path: /me }}\n",
        world.url()
    );
    world.file("runner.yaml", project)
}

#[test]
fn a_connection_that_works_is_said_to() {
    let world = with_check().script("GET /me -> 200");
    let checked = with(&world, "check-connection --format json", &[("API_TOKEN", "s3cret-token")]).exits(0);
    let connection = &checked.json()["summary"]["connections"][0];
    assert_eq!(connection["status"], 200);
    assert_eq!(connection["result"], "ok");
    assert_eq!(connection["call"], "GET /me");
    assert_eq!(world.asked(), ["GET /me"]);
    let people = with(&world, "check-connection api", &[("API_TOKEN", "s3cret-token")]).exits(0);
    let words: Vec<&str> = people.stdout.lines().flat_map(str::split_whitespace).collect();
    assert_eq!(words[..5], ["CONNECTION", "STATUS", "TIME", "HOST", "RESULT"]);
    assert_eq!((words[5], words[6], *words.last().unwrap()), ("api", "200", "ok"));
}

#[test]
fn refused_credentials_halt_and_name_their_variable() {
    let world = with_check().script("GET /me -> 401");
    let checked = with(&world, "check-connection", &[("API_TOKEN", "s3cret-token")]).exits(9);
    insta::assert_snapshot!(checked.stderr, @r"
    error[credentials-refused]: [HOST] answered 401
      --> GET /me for connection `api`
       = the credentials came from API_TOKEN
    help: correct the value of API_TOKEN, then `runner check-connection api`
    ");
    assert!(!checked.stdout.contains("s3cret") && !checked.stderr.contains("s3cret"));
}

#[test]
fn a_check_that_nobody_answers_is_stopped_and_one_without_variables_is_not_made() {
    let world = with_check();
    with(&world, "check-connection", &[]).exits(3).says("API_TOKEN, which is not set");
    assert!(world.seen().is_empty());
    // A port that was just let go.
    let gone: Handle = far_side(None);
    let project = world.read("runner.yaml").replace(&world.url(), &gone.url());
    drop(gone);
    world.write("runner.yaml", project);
    with(&world, "check-connection", &[("API_TOKEN", "t0ken")]).exits(7).says("error[no-reply]");
    with(&world, "check-connection nope", &[]).exits(3).says("runner.yaml has no connection `nope`");
}

#[test]
fn the_sandbox_answers_the_check_of_its_connector() {
    use std::io::BufRead as _;
    let world = World::new();
    world.run("init shop").exits(0);
    let variables = [("FRESHCHAT_SUBDOMAIN", "acme"), ("FRESHCHAT_API_TOKEN", "real-token")];
    let mut sandbox = world.command("sandbox -C shop");
    let mut sandbox = sandbox
        .envs(variables)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    std::io::BufReader::new(sandbox.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let project = world.read("shop/runner.yaml").replacen(
        "\n    api_token:",
        &format!("\n    base_url: {}/v2\n    api_token:", url.trim()),
        1,
    );
    world.write("shop/runner.yaml", project);
    let right = with(&world, "check-connection -C shop", &variables);
    let wrong = [variables[0], ("FRESHCHAT_API_TOKEN", "other-token")];
    let wrong = with(&world, "check-connection -C shop", &wrong);
    sandbox.kill().unwrap();
    sandbox.wait().unwrap();
    right.exits(0);
    wrong.exits(9).says("came from FRESHCHAT_API_TOKEN");
}

#[test]
fn lists_show_what_there_is_and_what_is_broken() {
    let world =
        World::new().pipeline(PUT_THINGS, things(3)).file("pipelines/broken.yaml", "connection: nope\n");
    world.run("apply p").exits(0);
    let pipelines = world.run("list pipelines").exits(0);
    insta::assert_snapshot!(pipelines.stdout, @r"
    PIPELINE  ENDPOINT  CONNECTION  ABOUT
    broken    -         -           has mistakes: `runner validate` shows them
    p         in place  local
    ");
    let runs = world.run("list runs").exits(0);
    insta::assert_snapshot!(runs.stdout, @r"
    PIPELINE  TARGET   RUN                 ENDED  RECORDS
    p         default  [RUN]  ok     3 delivered
    ");
    world.write(".runner/default/state/other.db", "no database at all");
    let all = world.run("list --format json").exits(0).json();
    assert!(all["summary"]["runs"][0]["problem"].is_string(), "{all}");
    assert_eq!(all["summary"]["runs"][1]["counts"]["delivered"], 3);
    assert_eq!(all["summary"]["connections"][0]["name"], "local");
    assert_eq!(all["summary"]["pipelines"][0]["valid"], false);
}

#[test]
fn settings_say_where_they_came_from() {
    let world = World::new().pipeline(PUT_THINGS, things(1)).file(
        "runner.yaml",
        "connections:\n  local: { base_url: 'https://api.example.com', token: { env: API_TOKEN }, auth: { bearer: token } }\ndefaults: { delivery: { timeout: 7s } }\n",
    );
    let variables = [("API_TOKEN", "s3cret-token"), ("RUNNER_PROGRESS", "lines")];
    let run = with(&world, "list settings p --format json --state-dir elsewhere", &variables).exits(0);
    assert!(!run.stdout.contains("s3cret"));
    let json = run.json();
    let list = |name: &str| json["summary"][name].as_array().unwrap().clone();
    let settings = [list("settings"), list("delivery")].concat();
    let of = |name: &str| {
        let found = settings.iter().find(|setting| setting["name"] == name).unwrap();
        format!("{} from {}", found["value"].as_str().unwrap(), found["from"].as_str().unwrap())
    };
    assert_eq!(of("state"), "elsewhere from --state-dir");
    assert_eq!(of("format"), "json from --format");
    assert_eq!(of("progress"), "lines from RUNNER_PROGRESS");
    assert_eq!(of("environment"), "default from built in");
    assert_eq!(of("connections.local.secret"), "*** from API_TOKEN");
    assert_eq!(of("timeout"), "7s from runner.yaml:3:34");
    assert_eq!(of("retry.first_wait"), "1ms from pipelines/p.yaml:9:34");
    assert_eq!(of("retry.attempts"), "4 from built in");
}

#[test]
fn schemas_are_those_of_the_repository() {
    let world = World::new();
    world.run("schema --all --out editor/schemas").exits(0);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/runner");
    let mut names: Vec<String> = std::fs::read_dir(&shipped)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        let text = std::fs::read_to_string(shipped.join(name)).unwrap();
        assert_eq!(world.read(&format!("editor/schemas/{name}")), text, "{name}");
        let kind = name.strip_suffix(".schema.json").unwrap();
        assert_eq!(world.run(&format!("schema {kind}")).exits(0).stdout, text, "{kind}");
    }
    assert_eq!(names.len(), 4);
    assert_eq!(std::fs::read_dir(world.path("editor/schemas")).unwrap().count(), names.len());
}

#[test]
fn help_and_completions_are_answers() {
    let world = World::new();
    assert!(world.run("help exit-codes").exits(0).stdout.starts_with("EXIT CODES\n"));
    assert!(world.run("help validate").exits(0).stdout.contains("Usage: runner validate"));
    world.run("help exit-code").exits(2).says("did you mean `exit-codes`?");
    assert!(world.run("completions bash").exits(0).stdout.contains("check-connection"));
}

#[test]
fn every_command_about_the_project_gives_one_json_value_whatever_happens() {
    // S39
    let world =
        World::new().pipeline(PUT_THINGS, things(1)).file("pipelines/broken.yaml", "connection: nope\n");
    for (arguments, code) in [
        ("init new", 0),
        ("init x --connector nope", 2),
        ("validate", 3),
        ("validate p", 0),
        ("validate nope", 3),
        ("validate -C data", 3),
        ("validate -C nowhere", 2),
        ("validate --what", 2),
        ("check-connection nope", 3),
        ("check-connection local", 0),
        ("list", 0),
        ("list settings nope", 3),
        ("schema pipeline", 0),
        ("schema nope", 2),
        ("completions zsh", 0),
        ("help", 0),
        ("help nope", 2),
    ] {
        let run = world.run(&format!("{arguments} --format json")).exits(code);
        assert_eq!(run.json()["exit_code"], code, "{arguments}");
    }
}

#[test]
fn the_log_is_off_until_it_is_asked_for_and_holds_no_secret() {
    let world = with_check().script("GET /me -> 200");
    let token = ("API_TOKEN", "s3cret-token");
    assert_eq!(with(&world, "check-connection", &[token]).exits(0).stderr, "");
    let logged = with(&world, "check-connection", &[token, ("RUNNER_LOG", "trace")]).exits(0);
    logged.says("project read");
    let file = [token, ("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", "run.jsonl")];
    let silent = with(&world, "check-connection", &file).exits(0);
    assert_eq!(silent.stderr, "");
    let lines = world.read("run.jsonl");
    assert!(!lines.contains("s3cret"), "{lines}");
    let mut events = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert!(events.any(|event| event["message"] == "project read"), "{lines}");
    assert_eq!(world.path("run.jsonl").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    with(&world, "list", &[("RUNNER_LOG", "a=b=c")]).exits(2).says("RUNNER_LOG is not a filter");
}

#[test]
fn the_log_of_a_run_tells_what_was_decided() {
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("PUT /things/t2 -> 401");
    let run = with(&world, "apply p --concurrency 1", &[("RUNNER_LOG", "runner=debug")]).exits(9);
    run.says("pipeline read pipeline=\"p\"").says("run decided").says("lease granted").says("stop asked");
}
