//! `manifest.json`: what a run was made from and what it left, and how `status --verify` uses it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::world::{PUT_THINGS, Run, World, things};

/// A pipeline of several files: a template, a schema and a body beside it.
const MANY_FILES: &str = "\
connection: local
endpoint: local/put-thing
source: { file: data/things.csv }
schema: schemas/thing.json
key: '{{ record.id }}'
responses: { file: true }
delivery: { retry: { attempts: 1 } }
";

const ENDPOINT: &str = "\
method: PUT
path: /things/{{ params.id }}
params: { id: { required: true } }
idempotency: natural
content: text
headers: { Content-Type: application/json }
body_file: thing.txt
";

const CONNECTOR: &str = "settings: { base_url: { type: string } }\nbase_url: '{{ connection.base_url }}'\n";

const SCHEMA: &str = r#"{ "type": "object", "properties": { "name": { "maxLength": 7 } } }"#;

/// Twelve things: the second is refused, and the names of the last three are too long.
fn mixed() -> World {
    let world = World::new();
    let connection =
        format!("connections:\n  local: {{ connector: local, base_url: \"{}\" }}\n", world.url());
    world
        .file("runner.yaml", connection)
        .pipeline(MANY_FILES, things(12))
        .file("templates/local/thing.txt", "{ \"name\": {{ record.name | tojson }} }\n")
        .file("templates/local/connector.yaml", CONNECTOR)
        .file("templates/local/put-thing.yaml", ENDPOINT)
        .file("schemas/thing.json", SCHEMA)
        .script("PUT /things/t2 -> 422")
}

/// The folders of the runs of `p`, the oldest first.
fn folders(world: &World, target: &str) -> Vec<PathBuf> {
    let runs = world.path(&format!(".runner/{target}/runs/p"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(runs).unwrap().flatten().map(|e| e.path()).collect();
    folders.sort_by_key(|folder| folder.metadata().unwrap().modified().unwrap());
    folders
}

fn folder(world: &World) -> PathBuf {
    folders(world, "default").pop().unwrap()
}

fn manifest(world: &World) -> Value {
    serde_json::from_slice(&std::fs::read(folder(world).join("manifest.json")).unwrap()).unwrap()
}

fn sha256(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    runner::model::hex(&sha2::Sha256::digest(&bytes))
}

fn paths(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

#[test]
fn every_digest_is_that_of_its_file() {
    let world = mixed();
    world.run("apply p").exits(1);
    let manifest = manifest(&world);
    assert_eq!(
        paths(&manifest["config"]),
        [
            "runner.yaml",
            "pipelines/p.yaml",
            "schemas/thing.json",
            "templates/local/connector.yaml",
            "templates/local/put-thing.yaml",
            "templates/local/thing.txt"
        ]
    );
    assert_eq!(paths(&manifest["input"]), ["data/things.csv"]);
    assert_eq!(
        paths(&manifest["output"]),
        ["delivered.csv", "failed.csv", "invalid.csv", "responses.ndjson", "summary.json"]
    );
    let folder = folder(&world);
    for (list, top) in [("config", world.path("")), ("input", world.path("")), ("output", folder.clone())] {
        for file in manifest[list].as_array().unwrap() {
            let path = top.join(file["path"].as_str().unwrap());
            assert_eq!(file["sha256"], json!(sha256(&path)), "{}", path.display());
            assert_eq!(file["size"], json!(path.metadata().unwrap().len()), "{}", path.display());
        }
    }
}

#[test]
fn it_says_which_run_it_is_of_and_how_that_ended() {
    let world = mixed();
    let answer = world.run("apply p --format json").exits(1).json();
    let manifest = manifest(&world);
    let mut known = manifest.clone();
    for list in ["config", "input", "output"] {
        known.as_object_mut().unwrap().remove(list);
    }
    for stamp in ["started_at", "ended_at", "written_at"] {
        let at = known.as_object_mut().unwrap().remove(stamp).unwrap();
        let at = at.as_str().unwrap();
        assert!(at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{stamp}: {at}");
    }
    assert_eq!(world.plain(known["run_id"].as_str().unwrap()), answer["summary"]["run_id"]);
    known["run_id"] = "[RUN]".into();
    let meaning = known["meaning"].as_str().unwrap();
    assert!(meaning.len() == 32 && meaning.bytes().all(|byte| byte.is_ascii_hexdigit()), "{meaning}");
    known["meaning"] = "[MEANING]".into();
    assert_eq!(
        known,
        json!({
            "format_version": 1,
            "runner_version": env!("CARGO_PKG_VERSION"),
            "run_id": "[RUN]",
            "pipeline": "p",
            "target": "default",
            "destination": { "connector": "local", "connection": "local", "base_url": world.url() },
            "starts": 1,
            "class": "records_failed",
            "state": "complete",
            "counts": { "total": 12, "delivered": 8, "failed": 1, "invalid": 3, "skipped": 0, "in_doubt": 0, "unsent": 0 },
            "meaning": "[MEANING]",
            "meaning_changes": [],
            "git": null,
        })
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &folder(&world).join("manifest.json").metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_run_against_the_stand_in_says_so() {
    let world = World::new().pipeline(PUT_THINGS, things(2));
    world.run("apply p --sandbox").exits(0);
    let folder = folders(&world, "sandbox").pop().unwrap();
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(
        (&manifest["target"], &manifest["destination"]["base_url"]),
        (&json!("sandbox"), &json!("sandbox"))
    );
    world.run("status p --sandbox --verify").exits(0);
}

#[test]
fn standard_input_is_named_as_such() {
    let world = World::new().pipeline(PUT_THINGS, "id,name\n");
    let piped = "id,name\na,1\nb,2\n";
    let mut child = world
        .command("apply p --input -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(piped.as_bytes()).unwrap();
    let ended = Run::of(child.wait_with_output().unwrap(), &world);
    ended.exits(0);
    let input = manifest(&world)["input"].clone();
    let digest = runner::model::hex(&sha2::Sha256::digest(piped));
    assert_eq!(input, json!([{ "path": "-", "size": piped.len(), "sha256": digest }]));
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
}

#[test]
fn one_flipped_byte_is_found_in_every_file() {
    let world = mixed();
    world.run("apply p").exits(1);
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
    let folder = folder(&world);
    let manifest = manifest(&world);
    for name in paths(&manifest["output"]) {
        let path = folder.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let last = flipped.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        flipped[last] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        world
            .run("status p --verify")
            .exits(5)
            .says("files-differ")
            .says(&format!("{name}: its content changed"));
        std::fs::remove_file(&path).unwrap();
        world.run("status p --verify").exits(5).says(&format!("{name}: it is not there"));
        std::fs::write(&path, &whole).unwrap();
        world.run("status p --verify").exits(0);
    }
}

#[test]
fn counts_that_do_not_fit_are_found() {
    let world = mixed();
    world.run("apply p").exits(1);
    let path = folder(&world).join("manifest.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("\"delivered\": 8", "\"delivered\": 9")).unwrap();
    assert_snapshot!(world.run("status p --verify").exits(5).stderr, @r#"
    error[files-differ]: the files of run [RUN] are not as they were written
      --> [ROOT]/.runner/default/runs/p/[RUN]
       | manifest.json: its counts are not those of the checkpoint
       | summary.json: its counts are not those of manifest.json
    help: the checkpoint is what counts; `runner status PIPELINE --files` makes the files anew
    "#);
    std::fs::write(&path, "{ broken").unwrap();
    world.run("status p --verify").exits(5).says("manifest.json: ");
    std::fs::remove_file(&path).unwrap();
    world.run("status p --verify").exits(0).says("has no manifest.json");
    world.run("status p --files").exits(0);
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
}

#[test]
fn a_changed_file_of_the_project_is_told_and_is_no_damage() {
    let world = mixed();
    world.run("apply p").exits(1);
    world.write("schemas/thing.json", r#"{ "type": "object" }"#);
    world.write("data/things.csv", things(13));
    std::fs::remove_file(world.path("templates/local/put-thing.yaml")).unwrap();
    world.write("templates/local/put-thing.yaml", format!("# a remark\n{ENDPOINT}"));
    let looked = world.run("status p --verify").exits(0);
    assert_snapshot!(looked.stderr, @r"
    warning[changed-since]: files that run [RUN] was made from changed since
       | schemas/thing.json: its content changed: 20 bytes, 66 when it was written
       | templates/local/put-thing.yaml: its content changed: 188 bytes, 177 when it was written
       | data/things.csv: its content changed: 159 bytes, 146 when it was written
       = what the run did and kept is not touched by that
    ");
    assert!(looked.stdout.contains("sound"), "{}", looked.stdout);
}

#[test]
fn files_made_anew_keep_what_the_run_was_made_from() {
    let world = World::new().pipeline(PUT_THINGS, things(3));
    world.run("apply p").exits(0);
    let first = manifest(&world);
    let remark = format!("# a remark\n{PUT_THINGS}");
    world.write("pipelines/p.yaml", &remark);
    world.run("status p --files").exits(0);
    let second = manifest(&world);
    for kept in ["config", "input", "git", "ended_at", "started_at", "counts"] {
        assert_eq!(first[kept], second[kept], "{kept}");
    }
    world.run("status p --verify").exits(0).says("pipelines/p.yaml: its content changed");
    // Nothing tells any more what it was.
    std::fs::remove_file(folder(&world).join("manifest.json")).unwrap();
    world.run("status p --files").exits(0);
    let third = manifest(&world);
    assert_eq!(third["ended_at"], Value::Null);
    assert_eq!(third["config"][1], json!({ "path": "pipelines/p.yaml", "size": null, "sha256": null }));
    assert_eq!(third["input"], first["input"]);
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
}

#[test]
fn a_start_without_anything_to_do_hides_no_damage() {
    let world = World::new().pipeline(PUT_THINGS, things(3));
    world.run("apply p").exits(0);
    let path = folder(&world).join("delivered.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("thing 2", "thing 9")).unwrap();
    world.run("apply p").exits(0).says("nothing to do");
    world.run("status p --verify").exits(5).says("delivered.csv: its content changed");
}

#[test]
fn files_of_an_earlier_start_are_made_anew_also_when_there_is_nothing_to_do() {
    let world = World::new().pipeline(PUT_THINGS, things(3));
    world.run("apply p").exits(0);
    // As after a start that was killed before it wrote its manifest.
    let path = folder(&world).join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"starts\": 1", "\"starts\": 0")).unwrap();
    let delivered = folder(&world).join("delivered.csv");
    let whole = std::fs::read_to_string(&delivered).unwrap();
    std::fs::write(&delivered, "id,name\n").unwrap();
    world.run("apply p").exits(0).says("nothing to do");
    assert_eq!(std::fs::read_to_string(&delivered).unwrap(), whole);
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
}

#[test]
fn a_changed_meaning_stays_on_record() {
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("PUT /things/t2 -> 401\n");
    world.run("apply p --concurrency 1").exits(9);
    let first = manifest(&world);
    world.answers("");
    world.write("pipelines/p.yaml", PUT_THINGS.replace("/things/{{", "/things/x{{"));
    world.run("apply p").exits(5);
    world.run("apply p --accept-changes").exits(0);
    let second = manifest(&world);
    let changes = second["meaning_changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["meaning"]), (1, &second["meaning"]));
    assert!(changes[0]["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_ne!(first["meaning"], second["meaning"]);
    assert_eq!((&first["starts"], &second["starts"]), (&json!(1), &json!(2)));
    assert_eq!((&first["state"], &second["state"]), (&json!("halted"), &json!("complete")));
    world.run("status p --verify").exits(0);
}

#[test]
fn what_is_resolved_and_retried_is_in_the_manifest() {
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("PUT /things/t2 -> 422\n");
    world.run("apply p").exits(1);
    assert_eq!(manifest(&world)["counts"]["failed"], 1);
    world.answers("");
    world.run("retry p").exits(0);
    assert_eq!(manifest(&world)["counts"]["delivered"], 3);
    assert_eq!(world.run("status p --verify").exits(0).stderr, "");
}

/// A repository around a project, or `None` with a line that says why the test is skipped.
struct Repository<'a>(&'a World);

impl<'a> Repository<'a> {
    fn new(world: &'a World) -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            // Past the capture, so that it is seen that nothing was tested.
            let _ = writeln!(std::io::stderr(), "skipped: no git on this machine to make a repository with");
            return None;
        }
        let repository = Self(world);
        repository.git(&["init", "-q"]);
        repository.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
        Some(repository)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=somebody",
                "-c",
                "user.email=somebody@example.com",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(arguments)
            .current_dir(self.0.path(""))
            .env("HOME", self.0.path(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", "a project"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What the manifest of a new run says.
    fn found(&self) -> Value {
        self.0.run("apply p --fresh --yes").exits(0);
        manifest(self.0)["git"].clone()
    }
}

fn in_repository() -> World {
    World::new()
        .pipeline(PUT_THINGS, things(2))
        .file(".gitignore", ".runner/\n.*.yaml\nprivate/\n")
        .file("README.md", "not used by a run\n")
}

#[test]
fn the_revision_is_that_of_the_repository() {
    let world = in_repository();
    let Some(repository) = Repository::new(&world) else { return };
    let unborn = repository.found();
    assert_eq!(
        unborn,
        json!({
            "revision": null, "branch": "trunk", "dirty": true,
            "dirty_files": ["runner.yaml", "pipelines/p.yaml", "data/things.csv"],
        })
    );
    let revision = repository.commit();
    let clean = json!({ "revision": revision, "branch": "trunk", "dirty": false, "dirty_files": [] });
    assert_eq!(repository.found(), clean);
    repository.git(&["pack-refs", "--all"]);
    repository.git(&["gc", "-q"]);
    assert_eq!(repository.found(), clean);
    repository.git(&["checkout", "-q", "--detach"]);
    assert_eq!(
        repository.found(),
        json!({ "revision": revision, "branch": null, "dirty": false, "dirty_files": [] })
    );
}

#[test]
fn only_files_that_the_run_used_make_it_dirty() {
    let world = in_repository();
    let Some(repository) = Repository::new(&world) else { return };
    repository.commit();
    world.write("README.md", "changed\n");
    world.write("other.txt", "untracked\n");
    assert_eq!(repository.found()["dirty"], false);
    // Also what is staged differs from the revision.
    world.write("data/things.csv", things(3));
    repository.git(&["add", "."]);
    assert_eq!(repository.found()["dirty_files"], json!(["data/things.csv"]));
    world.write("data/things.csv", things(2).replace('\n', "\r\n"));
    assert_eq!(repository.found()["dirty"], false, "line ends alone are no change");
    world.write("pipelines/p.yaml", format!("# a remark\n{PUT_THINGS}"));
    let found = repository.found();
    assert_eq!((&found["dirty"], &found["dirty_files"]), (&json!(true), &json!(["pipelines/p.yaml"])));
}

#[test]
fn data_that_is_ignored_on_purpose_does_not_make_it_dirty() {
    let world = in_repository()
        .file("private/things.csv", things(2))
        .file("pipelines/p.yaml", PUT_THINGS.replace("data/", "private/"));
    let Some(repository) = Repository::new(&world) else { return };
    repository.commit();
    assert_eq!(repository.found()["dirty"], false);
    // Configuration that no revision has is another matter.
    repository.git(&["rm", "-q", "--cached", "runner.yaml"]);
    repository.git(&["commit", "-q", "-m", "without"]);
    assert_eq!(repository.found()["dirty_files"], json!(["runner.yaml"]));
}

#[test]
fn a_work_tree_beside_its_repository_is_found() {
    let world = in_repository();
    let Some(repository) = Repository::new(&world) else { return };
    let revision = repository.commit();
    std::fs::rename(world.path(".git"), world.path("elsewhere")).unwrap();
    world.write(".git", "gitdir: elsewhere\n");
    assert_eq!(repository.found()["revision"], json!(revision));
}

#[test]
fn a_repository_that_cannot_be_read_is_said_and_ends_nothing() {
    let world = in_repository();
    let Some(repository) = Repository::new(&world) else { return };
    repository.commit();
    std::fs::write(world.path(".git/config"), "[core]\n\trepositoryformatversion = 9\n").unwrap();
    let found = repository.found();
    assert_eq!((&found["revision"], &found["dirty"]), (&Value::Null, &Value::Null));
    assert!(found["problem"].as_str().is_some_and(|why| !why.is_empty()), "{found}");
}

#[test]
fn no_filter_of_the_repository_is_run() {
    let world = in_repository().file(".gitattributes", "*.csv filter=loud\n");
    let Some(repository) = Repository::new(&world) else { return };
    repository.commit();
    let touched = world.path("touched");
    repository.git(&["config", "filter.loud.clean", &format!("touch {}", touched.display())]);
    world.write("data/things.csv", things(1));
    assert_eq!(repository.found()["dirty_files"], json!(["data/things.csv"]));
    assert!(!touched.exists());
}
