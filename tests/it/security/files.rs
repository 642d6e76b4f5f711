//! Rows S31 to S36: what lies on disk, and who else may have put it there.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{posting, skipped, tree};
use crate::bad::limited;
use crate::world::{PUT_THINGS, Run, World, things};

const STATE: i32 = 5;

/// A run of five that was halted behind two, with files of every kind in its folder.
fn halted() -> World {
    let world = World::new()
        .pipeline(&format!("{PUT_THINGS}responses: {{ file: true }}\n"), things(5))
        .script("PUT /things/t2 -> 422\nPUT ** after=2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    world
}

/// The folder of the only run.
fn run_folder(world: &World) -> std::path::PathBuf {
    let runs: Vec<_> =
        std::fs::read_dir(world.path(".runner/default/runs/p")).expect("runs").flatten().collect();
    assert_eq!(runs.len(), 1);
    runs[0].path()
}

/// A start that does not wait for ever: at a pipe nobody else opens, it would.
fn bounded(world: &World, arguments: &str) -> Run {
    let mut command = limited(world, arguments, "exec timeout 20");
    Run::of(command.output().expect("it runs"), world)
}

/// What an evil neighbour puts under a name of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plant {
    Link,
    LinkToNothing,
    Pipe,
    Device,
    Folder,
}

impl Plant {
    /// Puts it there in place of what is there; false where this user may not.
    fn at(self, path: &Path, target: &Path) -> bool {
        let _ = std::fs::remove_file(path);
        match self {
            Self::Link => symlink(target, path).expect("a link"),
            Self::LinkToNothing => symlink(target.with_extension("nothing"), path).expect("a link"),
            Self::Pipe => assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success()),
            Self::Device => {
                let made = Command::new("mknod").arg(path).args(["c", "1", "3"]).output().expect("mknod");
                return made.status.success();
            }
            Self::Folder => std::fs::create_dir_all(path).expect("a folder"),
        }
        true
    }
}

/// Every name that a start uses, below the folder of the project; `RUN` is the folder of the run.
const NAMES: [&str; 18] = [
    ".runner/default/state/p.db",
    ".runner/default/state/p.db-wal",
    ".runner/default/state/p.db-shm",
    ".runner/default/state/p.db-journal",
    ".runner/default/state/p.lock",
    ".runner/default/state/p.stdin",
    ".runner/default/state/p.tmp",
    "RUN/delivered.csv",
    "RUN/failed.csv",
    "RUN/invalid.csv",
    "RUN/skipped.csv",
    "RUN/in_doubt.csv",
    "RUN/unsent.csv",
    "RUN/unreadable.ndjson",
    "RUN/responses.ndjson",
    "RUN/summary.json",
    "RUN/manifest.json",
    "RUN/.delivered.csv.new",
];

#[test]
fn what_is_no_plain_file_is_refused_under_every_name_of_ours() {
    // S32
    let mut devices = 0;
    for name in NAMES {
        for plant in [Plant::Link, Plant::LinkToNothing, Plant::Pipe, Plant::Device, Plant::Folder] {
            // What a temporary folder is there for is a folder.
            if name.ends_with(".tmp") && plant == Plant::Folder {
                continue;
            }
            // Every kind under the names that are written first and last, two under all others.
            let every =
                ["p.db", "p.lock", "responses.ndjson", "summary.json"].iter().any(|end| name.ends_with(end));
            if !every && ![Plant::Link, Plant::Pipe].contains(&plant) {
                continue;
            }
            let world = halted().file("outside/target", "not ours");
            let folder = run_folder(&world);
            let path = match name.strip_prefix("RUN/") {
                Some(name) => folder.join(name),
                None => world.path(name),
            };
            if name.ends_with(".tmp") {
                std::fs::remove_dir_all(&path).expect("it is there");
            }
            let before_seen = world.seen().len();
            if !plant.at(&path, &world.path("outside/target")) {
                continue;
            }
            devices += usize::from(plant == Plant::Device);
            let about = format!("{plant:?} at {name}");
            let mut commands = vec!["apply p", "retry p"];
            // Commands that look use less; what they use is looked at, too.
            if !name.ends_with(".tmp") {
                commands.extend(["status p", "status p --verify"]);
            }
            for arguments in commands {
                let run = bounded(&world, arguments);
                assert_eq!(run.code, STATE, "{about}, {arguments}:\n{}", run.stderr);
                let shown = path.file_name().expect("a name").to_string_lossy().into_owned();
                assert!(run.stderr.contains(&shown), "{about}, {arguments}:\n{}", run.stderr);
            }
            assert_eq!(world.seen().len(), before_seen, "{about}");
            assert_eq!(world.read("outside/target"), "not ours", "{about}");
            assert!(!world.path("outside/target.nothing").exists(), "{about}");
        }
    }
    if devices == 0 {
        skipped("this user makes no devices");
    }
}

#[test]
fn folders_of_ours_are_no_links() {
    // S32
    for name in [
        ".runner",
        ".runner/default",
        ".runner/default/state",
        ".runner/default/runs",
        ".runner/default/runs/p",
        "RUN",
    ] {
        let world = halted();
        let path = if name == "RUN" { run_folder(&world) } else { world.path(name) };
        // The same content, reached by a link.
        let aside = world.path("aside");
        std::fs::rename(&path, &aside).expect("a move");
        symlink(&aside, &path).expect("a link");
        let (before, seen) = (tree(&aside), world.seen().len());
        for arguments in ["apply p", "retry p", "status p"] {
            let run = bounded(&world, arguments);
            assert_eq!(run.code, STATE, "{name}, {arguments}:\n{}", run.stderr);
        }
        assert_eq!(world.seen().len(), seen, "{name}");
        assert_eq!(tree(&aside), before, "{name}");
    }
}

#[test]
fn temporary_names_are_made_and_never_opened() {
    // S32: what a killed start may have left under a temporary name is no part of the new file.
    let world = World::new().pipeline(PUT_THINGS, things(2));
    world.run("apply p").exits(0);
    let folder = run_folder(&world);
    // A second name of a file elsewhere is a plain file: only making it anew keeps it apart.
    world.write("outside/target", "not ours");
    for name in [".delivered.csv.new", ".summary.json.new", ".manifest.json.new"] {
        std::fs::hard_link(world.path("outside/target"), folder.join(name)).expect("a second name");
    }
    world.write("data/things.csv", things(4));
    world.run("apply p").exits(0);
    assert_eq!(world.read("outside/target"), "not ours");
    let world = World::new().pipeline(PUT_THINGS, things(2)).file("outside/target", "not ours");
    world.run("plan p").exits(0);
    std::fs::create_dir_all(world.path(".runner/default/state")).expect("a folder");
    for folder in [".runner", ".runner/default", ".runner/default/state"] {
        std::fs::set_permissions(world.path(folder), PermissionsExt::from_mode(0o700)).expect("rights");
    }
    std::fs::hard_link(world.path("outside/target"), world.path(".runner/default/state/p.db.new"))
        .expect("a name");
    world.run("apply p").exits(0);
    assert_eq!(world.read("outside/target"), "not ours");
}

#[test]
fn state_of_another_owner_or_open_to_others_is_refused() {
    // S33
    let folders = [
        ".runner",
        ".runner/default",
        ".runner/default/state",
        ".runner/default/runs",
        ".runner/default/runs/p",
        "RUN",
    ];
    let nobody = "65534";
    let mut owners = 0;
    for name in folders {
        for other in ["0777", "0720", "owner"] {
            let world = halted();
            let path = if name == "RUN" { run_folder(&world) } else { world.path(name) };
            if other == "owner" {
                if !Command::new("chown").arg(nobody).arg(&path).output().expect("chown").status.success() {
                    continue;
                }
                owners += 1;
            } else {
                let mode = u32::from_str_radix(other, 8).expect("a mode");
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("rights");
            }
            let seen = world.seen().len();
            for arguments in ["apply p", "apply p --fresh --yes", "status p", "plan p"] {
                // A new run has a folder of its own; a plan reads no files of runs.
                if name == "RUN" && (arguments.contains("--fresh") || arguments == "plan p") {
                    continue;
                }
                let run = bounded(&world, arguments);
                assert_eq!(run.code, STATE, "{name} {other}, {arguments}:\n{}", run.stderr);
                let says =
                    if other == "owner" { "belongs to user 65534" } else { "can be written by others" };
                assert!(run.stderr.contains(says), "{name} {other}, {arguments}:\n{}", run.stderr);
            }
            assert_eq!(world.seen().len(), seen, "{name} {other}");
        }
    }
    if owners == 0 {
        skipped("this user cannot give files away");
    }
}

#[test]
fn of_fifty_starts_at_once_exactly_one_runs() {
    // S34
    let world = World::new().pipeline(PUT_THINGS, things(6)).script("* * #1 -> hang\n* * -> 200");
    // The first has a request under way until all others have ended.
    let mut first = world.start("apply p --concurrency 1");
    assert!(world.until(&first, 1));
    let mut others: Vec<_> = (0..49).map(|_| world.start("apply p --concurrency 2")).collect();
    for other in &mut others {
        let run = other.ended(&world).exits(STATE).says("run-locked");
        assert!(run.stderr.contains(&format!("process {}", first.id())), "{}", run.stderr);
    }
    assert_eq!(world.seen().len(), 1);
    first.signal(rustix::process::Signal::KILL);
    first.ended(&world);
    // And where none of them is there before the others.
    world.answers("* * -> delay 30ms");
    let mut starts: Vec<_> = (0..50).map(|_| world.start("apply p --concurrency 1")).collect();
    let codes: Vec<i32> = starts.iter_mut().map(|start| start.ended(&world).code).collect();
    assert!(codes.iter().all(|code| [0, STATE].contains(code)), "{codes:?}");
    assert!(codes.contains(&0), "{codes:?}");
    // Whoever comes after the end has nothing to do: the six are sent once, but for what was cut.
    assert_eq!(world.seen().len(), 1 + 6);
}

#[test]
fn nothing_outside_the_state_is_touched_whatever_records_say() {
    // S35
    let keys = [
        "../../x",
        "/etc/x",
        "..",
        ".",
        "a/../../b",
        "~/x",
        "$HOME",
        "-rf",
        "a\0b",
        "p.db",
        "p.lock",
        "CON",
        "x\n../y",
        "*",
        "%2e%2e%2fx",
    ];
    let rows: String =
        keys.iter().map(|key| serde_json::json!({ "id": key, "n": 1 }).to_string() + "\n").collect();
    let above = tempfile::tempdir().expect("a folder");
    std::fs::write(above.path().join("neighbour"), "stays").expect("a file");
    let pipeline = posting(
        ", captures: { k: '{{ request.body.id }}' }",
        "key: '{{ record.id }}'\nresponses: { file: true }\n",
    );
    let world = World::new()
        .file("pipelines/p.yaml", pipeline.replace("things.csv", "v.ndjson"))
        .file("data/v.ndjson", rows)
        .script("* * #1 -> 422\n* * #2 -> 500\n* * -> 200");
    let around = |world: &World| {
        let mut all = tree(&world.path(""));
        let state = world.path(".runner").display().to_string();
        all.retain(|path, _| !path.starts_with(&state));
        (all, tree(above.path()))
    };
    let before = around(&world);
    world.run("apply p").exits(6);
    for arguments in [
        "apply p",
        "status p --files",
        "retry p",
        "resolve p --skip --all",
        "try p --record ../../x --again --yes",
        "apply p --fresh --yes",
        "plan p",
        "preview p --all",
    ] {
        world.run(arguments);
        assert_eq!(around(&world), before, "{arguments}");
    }
    assert!(world.seen().len() > 3, "{}", world.seen().len());
    // Names below the state are those of pipelines and runs.
    for path in tree(&world.path(".runner")).keys() {
        let name = path.rsplit('/').next().expect("a name");
        let known = name.starts_with("p.") || ["default", "state", "runs", "p"].contains(&name);
        let ours = name.ends_with(".ndjson") || name.ends_with(".json");
        assert!(known || ours || name.starts_with("2"), "{path}");
    }
}

#[test]
fn names_of_pipelines_and_environments_do_not_lead_out_of_the_state() {
    // S35
    let world = World::new().pipeline(PUT_THINGS, things(1));
    let before = tree(&world.path(""));
    for name in ["../x", "a/b", "..", "/tmp/x", "", ".", "x\ny"] {
        let mut command = world.command("apply p --env");
        command.arg(name);
        let run = Run::of(command.output().expect("it runs"), &world);
        assert!([2, 3].contains(&run.code), "{name:?}: {} {}", run.code, run.stderr);
        world.write("pipelines/q.yaml", format!("name: {}\n{PUT_THINGS}", serde_json::json!(name)));
        let run = world.run("apply pipelines/q.yaml");
        assert_eq!(run.code, 3, "{name:?}: {}", run.stderr);
        std::fs::remove_file(world.path("pipelines/q.yaml")).expect("a file");
    }
    assert_eq!(tree(&world.path("")), before);
    assert_eq!(world.seen(), []);
}

#[test]
fn a_bit_that_flipped_anywhere_is_refused_or_changes_nothing() {
    // S36
    let world = halted();
    let database = ".runner/default/state/p.db";
    let connection = rusqlite::Connection::open(world.path(database)).expect("a database");
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    connection.close().expect("it closes");
    let whole = std::fs::read(world.path(database)).expect("a database");
    let saved = tree(&world.path(".runner"));
    let put_back = || {
        for (path, content) in &saved {
            if Path::new(path).is_file() {
                std::fs::write(path, content).expect("a file");
            }
        }
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(world.path(&format!("{database}{ending}")));
        }
    };
    let verdict = |bytes: Option<Vec<u8>>| {
        put_back();
        if let Some(bytes) = bytes {
            std::fs::write(world.path(database), bytes).expect("a database");
        }
        let before = world.seen().len();
        let run = bounded(&world, "apply p --concurrency 1");
        (run, world.asked().split_off(before))
    };
    let (undisturbed, sent) = verdict(None);
    assert_eq!((undisturbed.code, sent.len()), (1, 3), "{}", undisturbed.stderr);
    let seed = 36;
    let mut chance = fastrand::Rng::with_seed(seed);
    let (mut refused, mut exact) = (0, 0);
    // Free space of a page says nothing; what is used is tried as often as all the rest.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for flip in 0..200 {
        let at = if flip % 2 == 0 { used[chance.usize(0..used.len())] } else { chance.usize(0..whole.len()) };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << chance.u8(0..8);
        let (run, now) = verdict(Some(bytes));
        if run.code == STATE {
            refused += 1;
            assert_eq!(now, Vec::<String>::new(), "byte {at}, seed {seed}: sent although refused");
        } else {
            exact += 1;
            assert_eq!((run.code, &now), (1, &sent), "byte {at}, seed {seed}:\n{}", run.stderr);
        }
    }
    assert!(refused > 20 && exact > 20, "{refused} refused, {exact} exact");
}
