//! Every pipeline below `pipelines/examples/`: it is valid, and runs against the sandbox to its end.

use std::path::{Path, PathBuf};

use crate::world::World;

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A copy of this repository as a project, without its state.
fn copied() -> World {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut world = World::new();
    let folders = ["templates", "pipelines", "schemas"].map(|name| below(&root.join(name)));
    for path in folders.into_iter().flatten().chain([root.join("runner.yaml")]) {
        let content = std::fs::read(&path).expect("a file");
        let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        world = world.file(&path, content);
    }
    world
}

#[test]
fn every_example_is_valid_and_runs_against_the_sandbox() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = below(&root.join("pipelines/examples"));
    assert!(!examples.is_empty());
    for path in examples {
        // Objects of the sandbox belong to a connection: examples must not meet each other's.
        let world = copied();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let path = format!("pipelines/examples/{name}.yaml");
        world.run(&format!("validate --strict --data {path}")).exits(0);
        world.run(&format!("apply {path} --sandbox")).exits(0).says(" 0 failed, 0 invalid");
        // Once more: nothing is left to do.
        world.run(&format!("apply {path} --sandbox")).exits(0).says("nothing to do");
    }
}
