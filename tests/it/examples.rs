//! Every pipeline below `pipelines/examples/`: it is valid, and runs against the sandbox to its end.

use std::path::Path;

use crate::world::{below, copied};

#[test]
fn every_example_is_valid_and_runs_against_the_sandbox() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = below(&root.join("pipelines/examples"));
    assert!(!examples.is_empty());
    for path in examples {
        // Objects of the sandbox belong to a connection: examples must not meet each other's.
        let world = copied(root, &["templates", "pipelines", "schemas", "runner.yaml"]);
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let path = format!("pipelines/examples/{name}.yaml");
        // What it needs goes first; examples name it in one line.
        let text = world.read(&path);
        for line in text.lines().map(str::trim) {
            let needed = ["needs: ", "source: { responses: "].iter().find_map(|key| line.strip_prefix(key));
            if let Some(needed) = needed {
                let needed = needed.trim_end_matches(" }");
                world.run(&format!("apply {needed} --sandbox")).exits(0);
            }
        }
        world.run(&format!("validate --strict --data {path}")).exits(0);
        world.run(&format!("apply {path} --sandbox")).exits(0).says(" 0 failed, 0 invalid");
        // Once more: nothing is left to do.
        world.run(&format!("apply {path} --sandbox")).exits(0).says("nothing to do");
    }
}

#[test]
fn what_left_the_export_of_an_example_is_deleted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = copied(root, &["templates", "pipelines", "schemas", "runner.yaml"]);
    world.run("apply pipelines/examples/changed-agents.yaml --sandbox").exits(0).says("200 delivered");
    let agents = world.read("pipelines/data/agents.csv");
    // The last row is no part of a longer one.
    let (rest, gone) = agents.trim_end().rsplit_once('\n').expect("rows");
    world.write("pipelines/data/agents.csv", format!("{rest}\n"));
    world
        .run("apply pipelines/examples/changed-agents.yaml --sandbox")
        .exits(0)
        .says("199 skipped")
        .says("changed-agents.deletes: 1 delivered");
    let deleted = below(&world.path(".runner/sandbox/runs/changed-agents.deletes"));
    let delivered = deleted.iter().find(|path| path.ends_with("delivered.ndjson")).expect("an outcome file");
    let delivered = std::fs::read_to_string(delivered).expect("text");
    let id = gone.split(',').next().expect("an id");
    assert!(delivered.contains(id), "{delivered}");
}
