//! What a message says to type next does what it says, and what it says is so.

use crate::world::{PUT_THINGS, World, things};

/// What stands behind `next:` in the last lines.
fn next(stderr: &str) -> String {
    let line = stderr.lines().find_map(|line| line.strip_prefix("next:")).expect("a next line");
    line.trim().strip_prefix("runner ").expect("a command of runner").to_owned()
}

#[test]
fn the_next_command_repeats_account_state_variables_and_input() {
    let world = World::new()
        .pipeline(&format!("{PUT_THINGS}vars: {{ colour: {{ default: red }} }}\n"), things(2))
        .file("other.csv", things(4))
        .script("PUT /things/t1 -> 401");
    let url = world.url();
    world.write(
        "runner.yaml",
        format!(
            "connections:\n  local: {{ base_url: \"http://127.0.0.1:9\" }}\n\
             environments:\n  staging:\n    connections:\n      local: {{ base_url: \"{url}\" }}\n"
        ),
    );
    let flags = "--env staging --var colour=blue --state-dir elsewhere";
    let stopped = world.run(&format!("apply p --concurrency 1 --input other.csv {flags}")).exits(9);
    let next = next(&stopped.stderr);
    assert_eq!(next, format!("apply p {flags} --input other.csv"));
    world.answers("");
    let again = world.run(&next).exits(0).says("goes on with run");
    assert!(again.stderr.contains("4 delivered"), "{}", again.stderr);

    let none = world.run("status p --env staging").exits(0);
    assert_eq!(none.stdout, "p has no runs yet; `runner apply p --env staging` begins one\n");
}

#[test]
fn a_plan_of_some_records_ends_with_the_command_for_these() {
    let world = World::new().pipeline(PUT_THINGS, things(4));
    let plan = world.run("plan p --limit 1 --where record.id!='t1'").exits(0);
    let next = r"next: runner apply p --limit 1 --where 'record.id!='\''t1'\'''";
    assert!(plan.stdout.contains(next), "{}", plan.stdout);
}

#[test]
fn a_plan_for_the_sandbox_knows_no_rate() {
    let world = World::new().pipeline(&PUT_THINGS.replace("{ retry", "{ rate: 1/s, retry"), things(40));
    let plan = world.run("plan p --format json").exits(0).json();
    assert_eq!(plan["summary"]["rate"], 1.0);
    let plan = world.run("plan p --sandbox --format json").exits(0).json();
    assert!(plan["summary"]["rate"].is_null() && plan["summary"]["seconds_at_least"].is_null(), "{plan}");
}

#[test]
fn state_that_is_removed_under_a_run_is_no_bug() {
    let world = World::new().pipeline(PUT_THINGS, things(40));
    let mut running = world.start("apply p --rate 20/s");
    assert!(world.until(&running, 1));
    std::fs::remove_dir_all(world.path(".runner")).expect("state to remove");
    running.ended(&world).exits(5).says("error[state-gone]");
}

#[test]
fn lines_that_are_no_record_are_not_offered_as_an_input() {
    let world = World::new().pipeline(PUT_THINGS, "id,name\nt1,one,more\n");
    let run = world.run("apply p").exits(1);
    assert!(run.stderr.contains("1 of 1 record is invalid and was not sent"), "{}", run.stderr);
    assert!(run.stderr.contains("write the records of these lines anew"), "{}", run.stderr);
    assert!(run.stderr.lines().last().is_some_and(|line| line.ends_with("unreadable.ndjson")));
}

#[test]
fn the_projects_own_file_is_no_pipeline() {
    let world = World::new().pipeline(PUT_THINGS, things(1));
    world.run("apply .").exits(3).says("there is no pipeline in .");
    world.run("plan runner.yaml").exits(3).says("is the file of the project, not a pipeline");
}

#[test]
fn a_missing_or_empty_file_is_named_as_it_was_given() {
    let world = World::new().pipeline(PUT_THINGS, things(1)).file("none.json", "");
    world.run("try p --payload gone.json").exits(4).says("cannot be read: there is no such file");
    world.run("try p --payload -").exits(4).says("--> standard input");
    world.run("apply p --input gone.csv").exits(4).says("or `--input`, which counts from here");
}

#[test]
fn a_value_that_a_variable_gave_is_traced_to_it() {
    let world = World::new();
    let mut command = world.command("list");
    let output = command.env("RUNNER_FORMAT", "xml").output().expect("a run");
    let run = crate::world::Run::of(output, &world).exits(2);
    assert!(run.stderr.contains("it comes from the variable RUNNER_FORMAT"), "{}", run.stderr);
    let typed = world.run("list --format xml").exits(2);
    assert!(!typed.stderr.contains("variable"), "{}", typed.stderr);
    world.run("preview p --ordinal -1").exits(2).says("invalid value `-1`");
}

#[test]
fn a_pipeline_of_another_folder_brings_its_own_project() {
    let connector = "title: Far\nsettings: { base_url: { type: string } }\n\
                     base_url: \"{{ connection.base_url }}\"\n";
    let endpoint = "title: Put\nmethod: PUT\npath: \"/things/{{ params.id }}\"\n\
                    params: { id: { required: true } }\nidempotency: natural\nsample: { id: t9 }\n";
    let pipeline = "connection: far\nendpoint: far/put\nsource: { file: data/things.csv }\n";
    let world = World::new()
        .file(
            "deep/runner.yaml",
            "connections:\n  far: { connector: far, base_url: \"http://127.0.0.1:9\" }\n",
        )
        .file("deep/templates/far/connector.yaml", connector)
        .file("deep/templates/far/put.yaml", endpoint)
        .file("deep/pipelines/q.yaml", pipeline)
        .file("deep/data/things.csv", things(2));
    std::fs::remove_file(world.path("runner.yaml")).expect("the project above");
    let run = world.run("apply deep/pipelines/q.yaml --sandbox").exits(0);
    assert!(run.stderr.contains("2 delivered"), "{}", run.stderr);
    world.run("try deep/pipelines/q.yaml --sample --sandbox").exits(0);
}

#[test]
fn failures_of_another_input_are_retried_as_the_hint_says() {
    let world = World::new()
        .pipeline(PUT_THINGS, things(2))
        .file("my things.csv", things(3))
        .script("PUT /things/t3 -> 422");
    let mut command = world.command("apply p --input");
    let output = command.arg("my things.csv").output().expect("a run");
    let failed = crate::world::Run::of(output, &world).exits(1);
    assert_eq!(next(&failed.stderr), "retry p --input 'my things.csv'");
    let status = world.run("status p").exits(0);
    assert!(
        status.stdout.contains("next        runner retry p --input 'my things.csv'"),
        "{}",
        status.stdout
    );
    world.answers("");
    let mut command = world.command("retry p --input");
    let output = command.arg("my things.csv").output().expect("a run");
    let again = crate::world::Run::of(output, &world).exits(0);
    assert!(again.stderr.contains("3 delivered"), "{}", again.stderr);
}
