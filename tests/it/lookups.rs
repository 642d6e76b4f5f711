//! `lookups:` values of other tables in requests, and what a table means for a run.

use std::fmt::Write as _;

use crate::security::resources::peak;
use crate::world::{World, things};

const WITH_TEAMS: &str = "\
connection: local
endpoint:
  method: PUT
  path: /things/{{ params.id }}
  params: { id: { required: true } }
  idempotency: natural
source: { file: data/things.csv }
key: '{{ record.id }}'
lookups:
  teams: { file: data/teams.csv, key: name, columns: [number] }
body: { team: '{{ lookups.teams[record.name].number }}', title: 'of {{ lookups.teams[record.name | lower].number }}' }
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

const TEAMS: &str = "name,number,secret\nthing 1,007,x\nthing 2,9007199254740993001,y\n";

fn world(rows: usize, teams: &str) -> World {
    World::new().pipeline(WITH_TEAMS, things(rows)).file("data/teams.csv", teams)
}

#[test]
fn a_value_comes_from_the_row_of_a_table() {
    let world = world(2, TEAMS);
    world.run("apply p --concurrency 1").exits(0).says("2 delivered");
    let bodies: Vec<String> =
        world.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"team":"007","title":"of 007"}"#,
            r#"{"team":"9007199254740993001","title":"of 9007199254740993001"}"#
        ]
    );
}

#[test]
fn a_record_without_a_row_is_invalid_by_a_class_of_its_own() {
    let world = world(3, TEAMS);
    world.run("apply p").exits(1).says("2 delivered, 0 failed, 1 invalid").says("`lookups.teams` has no row");
    let invalid = world.outcomes("invalid.csv");
    assert!(
        invalid.contains(",lookup-teams,`lookups.teams` has no row for the value of `record.name`"),
        "{invalid}"
    );
    // What the table lacks comes with the table: the record is not sent by itself.
    world.write("data/teams.csv", format!("{TEAMS}thing 3,3,\n"));
    let copy = world.outcomes("invalid.csv");
    world.write("again.csv", copy);
    world.run("apply p --input again.csv").exits(5).says("data/teams.csv");
    world.run("apply p --input again.csv --accept-changes").exits(0).says("3 delivered");
    assert_eq!(world.asked().len(), 3);
}

#[test]
fn a_default_takes_the_place_of_a_row_that_is_not_there() {
    let pipeline = WITH_TEAMS
        .replace("].number }}', title", "].number | default(0) }}', title")
        .replace("title: 'of {{ lookups.teams[record.name | lower].number }}'", "title: x");
    let world = World::new().pipeline(&pipeline, things(3)).file("data/teams.csv", TEAMS);
    world.run("apply p --concurrency 1").exits(0).says("3 delivered");
    assert_eq!(world.seen()[2].body, r#"{"team":0,"title":"x"}"#);
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (from, to, said) in [
        (
            "lookups.teams[record.name].number",
            "lookups.team[record.name].number",
            "did you mean `lookups.teams`?",
        ),
        ("lookups.teams[record.name].number", "lookups.teams[record.name].numbr", "did you mean `number`?"),
        ("lookups.teams[record.name].number", "lookups.teams[record.name].secret", "has no column `secret`"),
        ("key: name, columns", "key: nam, columns", "did you mean `name`?"),
        ("columns: [number]", "columns: [numbers]", "did you mean `number`?"),
        ("columns: [number]", "column: [number]", "did you mean `columns`?"),
        ("teams.csv", "../../teams.csv", "leads out of the project"),
        ("teams.csv", "teams.txt", "does not exist"),
        ("  teams: {", "  team-s: {", "is a word of letters"),
    ] {
        assert!(WITH_TEAMS.contains(from), "{from}");
        let world =
            World::new().pipeline(&WITH_TEAMS.replacen(from, to, 1), things(2)).file("data/teams.csv", TEAMS);
        let run = world.run("apply p");
        assert_ne!(run.code, 0, "{to}");
        run.says(said);
        if to != "teams.txt" {
            world.run("validate").exits(3).says(said);
        }
        assert!(world.seen().is_empty(), "{to}");
    }
    // `validate` without the table says so, and goes on.
    let world = World::new().pipeline(WITH_TEAMS, things(2));
    world.run("validate").exits(0).says("warning[input-missing]").says("it is the table `lookups.teams`");
    world.run("apply p").exits(4).says("`lookups.teams.file`, which counts from the project's root");
}

#[test]
fn a_key_that_repeats_names_both_lines() {
    let world = world(2, "name,number\nthing 1,1\nthing 2,2\nthing 1,3\n");
    let run = world.run("apply p").exits(4).says("error[lookup-repeated]");
    assert!(run.stderr.contains("data/teams.csv, line 4") && run.stderr.contains("data/teams.csv, line 2"));
    assert!(!run.stderr.contains("thing 1"), "{}", run.stderr);
    assert!(world.seen().is_empty());
}

#[test]
fn a_table_belongs_to_the_meaning_of_a_run_and_to_its_manifest() {
    let world = world(2, TEAMS).script("PUT /things/t2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    world.write("data/teams.csv", TEAMS.replace("007", "008"));
    world.run("apply p").exits(5).says("data/teams.csv").says("--accept-changes");
    world.write("data/teams.csv", TEAMS);
    world.run("apply p").exits(0).says("2 delivered");
    let folder =
        std::fs::read_dir(world.path(".runner/default/runs/p")).unwrap().next().unwrap().unwrap().path();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let table =
        manifest["config"].as_array().unwrap().iter().find(|file| file["path"] == "data/teams.csv").unwrap();
    assert_eq!(table["size"], TEAMS.len());
    assert_eq!(table["sha256"].as_str().unwrap().len(), 64);
    world.run("status p --verify").exits(0);
    world.write("data/teams.csv", "name,number\n");
    world.run("status p --verify").exits(0).says("data/teams.csv");
}

#[test]
fn a_large_table_takes_about_the_room_of_its_data() {
    let mut table = String::from("name,number,rest\n");
    for n in 0..100_000 {
        let _ = writeln!(table, "thing {n},{},{}", n * 7, "x".repeat(200));
    }
    let world = world(1000, &table).script("* * -> hang");
    let mut running = world.start("apply p");
    assert!(world.until(&running, 1), "{}", running.ended(&world).stderr);
    let whole = peak(running.id());
    running.kill(&world);
    // 22 MB of text, of which two short columns are kept.
    assert!(whole < 64 * 1024, "{whole} KiB");
    world.write("pipelines/p.yaml", WITH_TEAMS.replace(", columns: [number]", ""));
    let mut running = world.start("apply p --fresh --yes");
    assert!(world.until(&running, 9), "{}", running.ended(&world).stderr);
    let all = peak(running.id());
    running.kill(&world);
    assert!(all < 100 * 1024, "{all} KiB");
}

const OF_A_LIST: &str = "\
connection: local
endpoint:
  method: PUT
  path: /things/{{ params.id }}
  params: { id: { required: true } }
  idempotency: natural
source: { file: data/things.csv }
key: '{{ record.id }}'
lookups:
  known:
    endpoint:
      method: GET
      path: /lists/page
      query: { count: 4 }
      sandbox: { list: 4, item: { id: 'i{{ new.number }}' } }
      pagination: { kind: page, param: page, size_param: size, size: 3, items: '{{ response.body.items }}' }
    key: id
body: { known: \"{{ lookups.known[record.name | replace('thing ', 'i')].id }}\" }
delivery: { concurrency: 1, retry: { first_wait: 1ms, max_wait: 5ms } }
";

#[test]
fn a_table_may_be_a_list_of_an_api() {
    let world = World::new().pipeline(OF_A_LIST, things(5)).script("PUT /things/t3 -> 401");
    let lists = |world: &World| world.asked().iter().filter(|asked| asked.starts_with("GET")).count();
    world.run("validate --data").exits(0).says("reads api:GET /lists/page, which is not checked");
    world.run("plan p").exits(4).says("the table `lookups.known` was not read yet");
    assert!(world.seen().is_empty());
    world.run("apply p").exits(9).says("api:GET /lists/page: 4 items on 3 pages");
    world.answers("");
    let read = lists(&world);
    // The run goes on with the table that it began with.
    world.run("apply p").exits(1).says("4 delivered, 0 failed, 1 invalid");
    assert_eq!(lists(&world), read);
    assert!(world.outcomes("invalid.csv").contains(",lookup-known,"), "{}", world.outcomes("invalid.csv"));
    assert!(world.seen().iter().any(|seen| seen.body == r#"{"known":"i4"}"#));
    world.run("plan p").exits(1);
    world.run("explain p t4").exits(0);
    world.run("status p --files").exits(0);
    world.run("status p --verify").exits(0);
    assert_eq!(lists(&world), read, "looks ask nobody");
    let folder =
        std::fs::read_dir(world.path(".runner/default/runs/p")).unwrap().next().unwrap().unwrap().path();
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"api:GET /lists/page lookups.known\""), "{manifest}");
    // A run that is settled is followed by a new look.
    world.run("apply p").exits(1).says("nothing to do");
    assert!(lists(&world) > read);
    world.run("apply p --sandbox").exits(1).says("4 delivered, 0 failed, 1 invalid");
}

#[test]
fn a_table_that_cannot_be_read_ends_the_start() {
    let world = World::new().pipeline(OF_A_LIST, things(2)).script("GET /lists/* #2 -> 403");
    world.run("apply p").exits(9).says("refused page 2").says("nothing was sent");
    assert!(world.asked().iter().all(|asked| asked.starts_with("GET")));
    for (from, to, said) in [
        ("    key: id", "    key: nr", "has no column `nr`"),
        ("    endpoint:", "    file: a.csv\n    endpoint:", "either `file` or `endpoint`"),
        ("    key: id", "    format: csv\n    key: id", "`format` belongs to a file"),
    ] {
        let world = World::new().pipeline(&OF_A_LIST.replacen(from, to, 1), things(2));
        let run = world.run("apply p");
        assert_ne!(run.code, 0);
        run.says(said);
        assert!(world.asked().iter().all(|asked| asked.starts_with("GET")), "{to}");
    }
}

const TABLE: &str = ".runner/default/state/p.lookup-known";

/// A script line: the list of the table has these rows.
fn rows(rows: &[(&str, &str)]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .map(|(id, rest)| format!("{{\"id\":\"{id}\",\"to\":\"{rest}\",\"seen\":\"{rest}\"}}"))
        .collect();
    format!("GET /lists/known -> 200 body='{{\"items\":[{}]}}'\n", rows.join(","))
}

const OF_ROWS: &str = "\
connection: local
endpoint:
  method: PUT
  path: /things/{{ params.id }}
  params: { id: { required: true } }
  idempotency: natural
source: { file: data/things.csv }
key: '{{ record.id }}'
lookups:
  known:
    endpoint: { method: GET, path: /lists/known, pagination: { kind: none, items: '{{ response.body.items }}' } }
    key: id
    columns: [to]
body: { to: '{{ lookups.known[record.id].to }}' }
delivery: { concurrency: 1, retry: { first_wait: 1ms, max_wait: 5ms } }
";

/// A run over `t1` to `t3` that ended behind `t1`, with the table `old`.
fn interrupted(pipeline: &str) -> World {
    let world = World::new().pipeline(pipeline, things(3));
    world.answers(&rows(&[("t1", "old"), ("t2", "old"), ("t3", "old")]));
    world.run("apply p --limit 1").exits(0);
    assert_eq!(bodies(&world).len(), 1);
    world
}

fn bodies(world: &World) -> Vec<String> {
    let puts = world.seen().into_iter().filter(|seen| seen.method == "PUT");
    puts.map(|seen| format!("{} {}", seen.path, String::from_utf8_lossy(&seen.body))).collect()
}

#[test]
fn a_new_run_reads_its_table_anew() {
    let new = rows(&[("t1", "new"), ("t2", "new"), ("t3", "new"), ("t9", "new")]);
    // Other input closes the run that is not finished.
    let world =
        interrupted(&format!("{OF_ROWS}on_new_input: close\n")).file("other.csv", "id,name\nt9,nine\n");
    world.answers(&new);
    world.run("apply p --input other.csv").exits(0).says("1 delivered");
    assert_eq!(bodies(&world).last().unwrap(), r#"/things/t9 {"to":"new"}"#);
    // One record of an input that no run had.
    let world = World::new().pipeline(OF_ROWS, things(1)).script(&rows(&[("t1", "old")]));
    world.run("apply p").exits(0);
    world.answers(&new);
    world.write("data/things.csv", "id,name\nt9,nine\n");
    world.run("try p").exits(0);
    assert_eq!(bodies(&world).last().unwrap(), r#"/things/t9 {"to":"new"}"#);
}

#[test]
fn a_run_that_goes_on_keeps_its_table_however_its_input_is_named() {
    let new = rows(&[("t1", "new"), ("t2", "new"), ("t3", "new"), ("t4", "new")]);
    let kept = "/things/t3 {\"to\":\"old\"}";
    // Records were added, so that the file is not what it was.
    let world = interrupted(OF_ROWS);
    world.answers(&new);
    world.write("data/things.csv", things(4));
    world.run("apply p").exits(1).says("3 delivered, 0 failed, 1 invalid");
    assert!(bodies(&world).contains(&kept.to_owned()), "{:?}", bodies(&world));
    // A copy of the file under another name.
    let world = interrupted(OF_ROWS).file("copy.csv", things(3));
    world.answers(&new);
    world.run("apply p --input copy.csv --close").exits(0).says("3 delivered");
    assert!(bodies(&world).contains(&kept.to_owned()), "{:?}", bodies(&world));
}

#[test]
fn a_start_that_is_refused_leaves_the_table_of_an_unfinished_run() {
    let world = interrupted(OF_ROWS).file("other.csv", "id,name\nt9,nine\n");
    world.answers(&rows(&[("t2", "new"), ("t3", "new")]));
    world.run("apply p --input other.csv").exits(5).says("error[input-changed]");
    world.run("apply p --input other.csv --close --where record.(").exits(2);
    world.run("apply p --fresh --yes --max-duration 1ms").exits(7);
    world.answers("GET /lists/* -> 404");
    world.run("apply p").exits(0).says("3 delivered");
    assert!(bodies(&world).iter().all(|body| body.contains("old")), "{:?}", bodies(&world));
    assert!(!world.path(&format!("{TABLE}.new")).exists());
}

#[test]
fn a_kill_between_two_tables_mixes_nothing() {
    let end = |world: &World| {
        world.answers("GET /lists/* -> 404");
        world.run("apply p").exits(0).says("3 delivered");
        assert!(bodies(world).iter().all(|body| body.contains("old")), "{:?}", bodies(world));
        assert!(!world.path(&format!("{TABLE}.new")).exists());
    };
    let other = "{\"id\":\"t2\",\"to\":\"other\"}\n{\"id\":\"t3\",\"to\":\"other\"}\n";
    // Killed when the run was begun and its table did not lie in its place yet.
    let world = interrupted(OF_ROWS);
    std::fs::rename(world.path(TABLE), world.path(&format!("{TABLE}.new"))).unwrap();
    world.write(TABLE, other);
    end(&world);
    // Killed before another run was begun.
    let world = interrupted(OF_ROWS);
    world.write(&format!("{TABLE}.new"), other);
    end(&world);
    // What is lost is read again, and is used only if it is what it was.
    for (there, code) in [("old", 0), ("new", 5)] {
        let world = interrupted(OF_ROWS);
        world.write(TABLE, other);
        world.write(&format!("{TABLE}.new"), other);
        world.answers(&rows(&[("t1", there), ("t2", there), ("t3", there)]));
        world.run("apply p").exits(code);
    }
}

#[test]
fn what_a_table_does_not_keep_is_not_its_meaning() {
    let world = World::new().pipeline(OF_ROWS, things(2)).script(
        "GET /lists/known -> 200 body='{\"items\":[{\"id\":\"t1\",\"to\":\"x\",\"seen\":1},{\"id\":\"t2\",\"to\":\"x\"}]}'\nPUT /things/t2 -> 422",
    );
    world.run("apply p").exits(1);
    let table = world.path(TABLE);
    // The same cells in another order, with other columns beside them.
    std::fs::write(&table, "{\"to\":\"x\",\"id\":\"t2\",\"seen\":9}\n{\"id\":\"t1\",\"to\":\"x\"}\n")
        .unwrap();
    world.answers("PUT /things/t2 -> 200");
    world.run("retry p").exits(0).says("2 delivered");

    let world = self::world(2, TEAMS).script("PUT /things/t2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    world.write("data/teams.csv", TEAMS.replace(",x\n", ",z\n"));
    world.run("apply p").exits(0).says("2 delivered");
}

#[test]
fn retry_of_an_input_that_no_run_had_asks_nobody() {
    let world = World::new().pipeline(OF_ROWS, things(2)).file("other.csv", "id,name\nt9,nine\n");
    for command in ["retry p", "reconcile p", "retry p --input other.csv"] {
        let run = world.run(command);
        assert!(run.code == 5 || run.code == 3, "{command}: {}", run.stderr);
    }
    world.answers(&rows(&[("t1", "a"), ("t2", "a")]));
    world.run("apply p").exits(0);
    let before = world.seen().len();
    std::fs::remove_file(world.path(TABLE)).unwrap();
    world.run("retry p --input other.csv").exits(5).says("error[nothing-to-retry]");
    assert_eq!(world.seen().len(), before);
}
