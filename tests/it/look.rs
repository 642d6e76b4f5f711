//! `plan`, `preview`, `try` and `status`: what they show, and that looking changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

/// Things of which one has no key, one repeats a key and one is left out.
const MIXED: &str = "id,name\nt1,thing 1\n,nameless\nt1,again\nt3,skip me\nt4,thing 4\n";

/// A pipeline that checks, skips and limits its rate.
const CHOOSY: &str = "\
connection: far
endpoint: { method: POST, path: /things }
source: { file: data/things.csv }
key: { value: '{{ record.id }}', public: true }
select: { where: \"{{ record.name != 'skip me' }}\" }
delivery: { rate: 2/s, retry: { first_wait: 1ms, max_wait: 5ms } }
";

/// A connection whose settings are not set anywhere.
const NEEDY: &str = "\
connections:
  far:
    base_url: 'https://{{ connection.account }}.example.com/v1'
    account: { env: ACCOUNT, secret: false }
    token: { env: FAR_TOKEN }
    tenant: { env: FAR_TENANT }
    auth: { bearer: token }
    headers: { X-Tenant: 'id {{ connection.tenant }}' }
";

/// All files below a folder with their content.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                found.insert(format!("{}/", path.display()), Vec::new());
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Stdout without how long things took and when they were.
fn timeless(run: &Run) -> String {
    let keeps = |line: &str| !line.starts_with("date: ") && !line.starts_with("  last start");
    let lines = run.stdout.lines().filter(|line| keeps(line)).map(|line| match line.split_once(", in ") {
        Some((before, _)) if line.starts_with("HTTP ") => before,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn plan_needs_no_environment_and_leaves_no_trace() {
    let world = World::new().file("runner.yaml", NEEDY).pipeline(CHOOSY, MIXED);
    let before = tree(&world.path("."));
    let plan = world.run("plan p").exits(1);
    assert_snapshot!(plan.stdout, @r#"
    p: a new run, 5 records of data/things.csv
      request     POST https://${ACCOUNT}.example.com/v1/things
      connection  far, environment default
      not set     ACCOUNT, FAR_TOKEN, FAR_TENANT
      send        2 records
      skipped     1 record
                   1  where: `where` is false
                      data/things.csv line 5
      invalid     2 records
                   1  duplicate-key: another record has the same key
                      data/things.csv line 4
                   1  not-text: the `key` of the pipeline: `record.id`: null cannot stand in text (pipelines/p.yaml:4:19)
                      data/things.csv line 3
    nothing was sent; next: runner apply p
    "#);
    assert_eq!(plan.stderr, "");
    assert_eq!(world.run("apply -n p").exits(1).stdout, plan.stdout);
    assert_eq!(tree(&world.path(".")), before);
}

#[test]
fn plan_says_what_is_done_and_what_is_left() {
    let world = World::new().pipeline(PUT_THINGS, things(5));
    assert_eq!(world.run("plan p --detailed-exitcode").code, 10);
    world.run("apply p --limit 2").exits(0);
    let before = tree(&world.path("."));
    assert_snapshot!(world.run("plan p").exits(0).stdout, @r#"
    p: goes on with run [RUN], 5 records of data/things.csv
      request     PUT http://[HOST]/things/{{ params.id }}
      connection  local, environment default
      send        3 records
      done before 2 delivered
    nothing was sent; next: runner apply p
    "#);
    assert_snapshot!(world.run("plan p --record t4").exits(0).stdout, @r#"
    p: goes on with run [RUN], 5 records of data/things.csv
      request     PUT http://[HOST]/things/{{ params.id }}
      connection  local, environment default
      send        1 record
      done before 2 delivered
      left out    2 records by flags, they stay pending
    nothing was sent; next: runner apply p --record t4
    "#);
    assert_eq!(tree(&world.path(".")), before);
    assert_eq!(world.seen().len(), 2);
    world.run("apply p").exits(0);
    assert_snapshot!(world.run("plan p --detailed-exitcode").exits(0).stdout, @r#"
    p: nothing to do, run [RUN] is settled, 5 records of data/things.csv
      request     PUT http://[HOST]/things/{{ params.id }}
      connection  local, environment default
      send        0 records
      done before 5 delivered
    "#);
}

#[test]
fn plan_is_one_object_for_programs() {
    let world = World::new().pipeline(CHOOSY, MIXED).file("runner.yaml", NEEDY);
    let answer = world.run("plan p --format json").exits(1).json();
    assert_eq!(answer["exit_code"], 1);
    let counts = serde_json::json!({
        "total": 5, "send": 2, "calls": 2, "send_again": 0, "vanished": 0, "delete": 0, "left_out": 0, "behind": 0, "asked_about": 0, "held": 0,
        "skipped": 1, "invalid": 2, "duplicates": 1
    });
    assert_eq!(answer["summary"]["counts"], counts);
    let answer = world.run("plan p --format json --detailed-exitcode").exits(10).json();
    assert_eq!((&answer["exit_code"], &answer["class"]), (&10.into(), &"records_failed".into()));
    assert_eq!(answer["summary"]["seconds_at_least"], 0.5);
}

#[test]
fn plan_says_why_apply_would_refuse() {
    let world = World::new().pipeline(POST_THINGS, things(3));
    world.run("apply p --limit 1").exits(0);
    world.write("data/things.csv", "id,name\nother,thing\n");
    let plan = world.run("plan p").exits(5);
    assert_snapshot!(plan.stdout, @r#"
    p: would refuse: data/things.csv is not the file that run [RUN] began with
      request     POST http://[HOST]/things
      connection  local, environment default
    "#);
    let apply = world.run("apply p").exits(5);
    assert_eq!(plan.stderr, apply.stderr);
}

#[test]
fn plan_knows_what_waits_behind_doubt() {
    let ordered = POST_THINGS.replace("delivery: {", "delivery: { order_by: all,");
    let world = World::new().pipeline(&ordered, things(4)).script("POST /things #2 -> cut_after_effect");
    world.run("apply p --concurrency 1").exits(6);
    assert_snapshot!(world.run("plan p").exits(0).stdout, @r#"
    p: goes on with run [RUN], 4 records of data/things.csv
      request     POST http://[HOST]/things
      connection  local, environment default
      send        0 records
      done before 1 delivered, 1 in doubt
      waiting     2 records behind one in doubt
    "#);
}

#[test]
fn preview_shows_requests_without_secrets() {
    // S27
    let world = World::new().file("runner.yaml", NEEDY).pipeline(CHOOSY, MIXED);
    let before = tree(&world.path("."));
    assert_snapshot!(world.run("preview p").exits(0).stdout, @r#"
    # data/things.csv, line 2 (position 0, key t1)
    POST https://${ACCOUNT}.example.com/v1/things
    Authorization: ***
    X-Tenant: ***
    Content-Type: application/json

    {
      "id": "t1",
      "name": "thing 1"
    }

    # data/things.csv, line 6 (position 4, key t4)
    POST https://${ACCOUNT}.example.com/v1/things
    Authorization: ***
    X-Tenant: ***
    Content-Type: application/json

    {
      "id": "t4",
      "name": "thing 4"
    }
    "#);
    assert_snapshot!(world.run("preview p --ordinal 1 --ordinal 2").exits(1).stdout, @r#"
    # data/things.csv, line 3 (position 1)
    # not sent: invalid, not-text: the `key` of the pipeline: `record.id`: null cannot stand in text (pipelines/p.yaml:4:19)

    # data/things.csv, line 4 (position 2, key t1)
    # not sent: invalid, duplicate-key: record 1 has the same key and goes first
    "#);
    assert_snapshot!(world.run("preview p --record t4 --as json").exits(0).stdout, @r#"{"record":{"file":"data/things.csv","line":6,"ordinal":4,"key":"t4"},"method":"POST","url":"https://${ACCOUNT}.example.com/v1/things","headers":{"Authorization":"***","X-Tenant":"***","Content-Type":"application/json"},"body":{"id":"t4","name":"thing 4"}}"#);
    let mut command = world.command("preview p");
    let shown = command.env("ACCOUNT", "acme").env("FAR_TOKEN", "s3cr3t-1").env("FAR_TENANT", "s3cr3t-2");
    let shown = Run::of(shown.output().expect("the binary runs"), &world).exits(0).stdout;
    assert!(shown.contains("https://acme.example.com/v1/things") && !shown.contains("s3cr3t"), "{shown}");
    world.run("preview p --record nobody").exits(2).says("the input has no record with key `nobody`");
    assert_eq!(tree(&world.path(".")), before);
}

#[test]
fn a_shell_reads_the_curl_command_as_it_is_meant() {
    let name = "it's \"$HOME\" `id` \\\\ ✓";
    let csv = format!("id,name\nt1,\"{}\"\n", name.replace('"', "\"\""));
    let world = World::new().file("runner.yaml", NEEDY).pipeline(CHOOSY, csv);
    let shown = world.run("preview p --as curl").exits(0).stdout;
    let command = shown.lines().skip(1).collect::<Vec<_>>().join("\n");
    let printed = Command::new("sh")
        .args(["-c", &format!("curl() {{ printf '%s\\n' \"$@\"; }}\n{command}")])
        .envs([("ACCOUNT", "acme"), ("FAR_TOKEN", "tok en"), ("FAR_TENANT", "7")])
        .output()
        .expect("a shell");
    assert_snapshot!(String::from_utf8_lossy(&printed.stdout), @r#"
    -sS
    -X
    POST
    https://acme.example.com/v1/things
    -H
    Authorization: Bearer tok en
    -H
    X-Tenant: id 7
    -H
    Content-Type: application/json
    --data-binary
    {"id":"t1","name":"it's \"$HOME\" `id` \\\\ ✓"}
    "#);
    assert_eq!(String::from_utf8_lossy(&printed.stderr), "");
}

#[test]
fn a_record_that_was_tried_counts() {
    let world = World::new().pipeline(POST_THINGS, things(3));
    assert_snapshot!(timeless(&world.run("try p").exits(0)), @r#"
    # data/things.csv, line 2 (position 0, key #c03234fa)
    POST http://[HOST]/things
    Content-Type: application/json

    {
      "id": "t1",
      "name": "thing 1"
    }

    HTTP 201 Created
    content-type: application/json
    content-length: 62

    {
      "id": "5f140ced-a2c8-8c47-8960-8b8c1a7fc2f6",
      "name": "thing 1"
    }

    delivered
    entered in run [RUN]
    next: runner apply p (the other 2 records)
    "#);
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(world.seen().len(), 3);
    let again = world.run("try p --record t2").exits(5);
    assert_snapshot!(again.stderr, @r#"
    error[try-again]: the record is delivered already and would arrive a second time
       = run [RUN], position 1; nothing was sent
    help: `runner try p --record t2 --again` sends it all the same
    "#);
    world.run("try p").exits(5).says("every record of run [RUN] is settled");
    assert_eq!(world.seen().len(), 3);
    world.run("try p --record t2 --again").exits(0);
    assert_eq!(world.seen().len(), 4);
    world.run("apply p").exits(0).says("nothing to do");
}

#[test]
fn a_refusal_is_shown_and_kept() {
    let pipeline = POST_THINGS.replace(
        "endpoint: { ",
        "endpoint: { errors: { class: '{{ response.body.status }}', message: '{{ response.body.message }}' }, ",
    );
    let world = World::new()
        .pipeline(&pipeline, things(2))
        .script("POST /things -> 422 class=BAD message=\"no \u{1b}[31m red\"");
    let tried = world.run("try p --record t2").exits(1);
    assert!(!tried.stdout.contains('\u{1b}'), "{}", tried.stdout);
    let verdict = "\nfailed: BAD: no \\u{1b}[31m red\n";
    assert!(tried.stdout.contains("HTTP 422") && tried.stdout.contains(verdict), "{}", tried.stdout);
    world.answers("");
    world.run("apply p").exits(1).says("1 delivered, 1 failed");
}

#[test]
fn doubt_of_a_try_is_held() {
    let world = World::new().pipeline(POST_THINGS, things(2)).script("POST /things -> cut_after_effect");
    let tried = world.run("try p --format json").exits(6).json();
    assert_eq!(tried["summary"]["outcome"]["state"], "in_doubt");
    world.answers("");
    world.run("apply p").exits(6).says("1 delivered, 0 failed, 0 invalid, 0 skipped, 1 in doubt");
    world.run("try p --record t1").exits(5).says("in doubt already");
    world.run("try p --record t1 --again").exits(0);
    assert_eq!(world.run("status p --format json").exits(0).json()["summary"]["counts"]["delivered"], 2);
}

#[test]
fn a_record_that_cannot_be_sent_is_not_tried() {
    let world = World::new().pipeline(&CHOOSY.replace("far", "local"), MIXED);
    world.run("try p --record t3").exits(5).says("the record is skipped: where");
    world.run("try p --record t9").exits(2).says("no record with key `t9`");
    assert!(world.seen().is_empty() && !world.path(".runner").exists());
}

#[test]
fn a_payload_is_no_record() {
    let world = World::new().pipeline(POST_THINGS, things(2)).file("body.json", r#"{"id":"x","n":1.10}"#);
    assert_snapshot!(timeless(&world.run("try p --payload body.json").exits(0)), @r#"
    # body.json
    POST http://[HOST]/things
    Content-Type: application/json

    {
      "id": "x",
      "n": 1.10
    }

    HTTP 201 Created
    content-type: application/json
    content-length: 54

    {
      "id": "379e6340-0179-85d7-9461-f577cc9d1492",
      "n": 1.10
    }

    delivered
    not a record of the input: not entered in any run
    "#);
    assert!(!world.path(".runner").exists());
    world.write("body.json", "[1]");
    world.run("try p --payload body.json").exits(4).says("the payload is a list, not an object");
    world.run("try p --sample").exits(3).says("has no `sample`");
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn status_says_where_a_run_stands() {
    let world = World::new().pipeline(PUT_THINGS, things(4)).script("PUT /things/t1 -> 401");
    assert_snapshot!(world.run("status").exits(0).stdout, @r#"there are no runs yet; `runner apply PIPELINE` begins one"#);
    world.run("apply p --concurrency 1").exits(9);
    assert_snapshot!(timeless(&world.run("status")), @r#"
    p: halted, run [RUN]
      records     4 unsent of 4
      input       data/things.csv
      files       .runner/default/runs/p/[RUN]
      next        runner apply p
    "#);
    let summary = world.run("status p --format json").exits(0).json()["summary"].clone();
    assert_eq!((&summary["state"], &summary["counts"]["unsent"]), (&"halted".into(), &4.into()));
    world.answers("");
    world.run("apply p").exits(0);
    assert_snapshot!(timeless(&world.run("status p --verify").exits(0)), @r#"
    p: complete, run [RUN]
      records     4 delivered of 4
      input       data/things.csv
      files       .runner/default/runs/p/[RUN]
      verified    checkpoint and outcome files are sound
    "#);
}

#[test]
fn status_finds_files_that_are_not_those_of_the_checkpoint_and_makes_them_anew() {
    let world = World::new().pipeline(PUT_THINGS, things(4));
    world.run("apply p").exits(0);
    let run = std::fs::read_dir(world.path(".runner/default/runs/p")).unwrap().next().unwrap().unwrap();
    let file = run.path().join("delivered.csv");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, whole.lines().take(3).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let found = world.run("status p --verify").exits(5);
    assert_snapshot!(found.stderr, @r#"
    error[files-differ]: the outcome files of run [RUN] are not those of its checkpoint
      --> [ROOT]/.runner/default/runs/p/[RUN]
       | delivered: 2 in the files, 4 in the checkpoint
       | delivered.csv: its content changed: 178 bytes, 258 when it was written
    help: the checkpoint is what counts; `runner status PIPELINE --files` makes the files anew
    "#);
    world.run("status p --files").exits(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
    world.run("status p --verify").exits(0);
}

#[test]
fn status_finds_a_damaged_row() {
    let world = World::new().pipeline(PUT_THINGS, things(4));
    world.run("apply p").exits(0);
    let database = world.path(".runner/default/state/p.db");
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.execute("UPDATE record SET attempts = 7 WHERE id & 0xff = 2", []).unwrap();
    drop(connection);
    world.run("status p --verify").exits(5).says("ordinal 2");
}

#[test]
fn a_sandbox_run_goes_on() {
    let world = World::new().pipeline(PUT_THINGS, things(3));
    world.run("apply p --sandbox --limit 1").exits(0);
    assert!(world.run("plan p --sandbox").exits(0).stdout.contains("goes on with run"));
    world.run("try p --sandbox").exits(0);
    world.run("apply p --sandbox").exits(0).says("3 delivered");
    assert!(world.seen().is_empty());
}
