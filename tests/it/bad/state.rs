//! Rows B094 to B109: run folder, crash, stop.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use runner::model::Class;
use rustix::process::{Pid, Signal, kill_process};

use super::{Ended, bad, bounded, limited};
use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

const DATABASE: &str = ".runner/default/state/p.db";

/// A run of five that was halted behind its first record: three refusals in a row do it.
fn halted(row: &'static str, pipeline: &str) -> Ended {
    let method = if pipeline == POST_THINGS { "POST" } else { "PUT" };
    let ended = bad(row)
        .pipeline(pipeline)
        .input(things(5))
        .script(&format!("{method} ** after=1 -> 401"))
        .arguments("apply p --concurrency 1")
        .exits(Class::Halted)
        .names(["1 delivered"])
        .sent(4);
    ended.world.answers("");
    ended
}

/// Starts once more in the same world.
fn again(row: &'static str, world: World, arguments: &str) -> Ended {
    let run = Run::of(bounded(&world, arguments).output().expect("the binary runs"), &world);
    Ended::of(row, world, run)
}

/// Starts in the background.
fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// Waits until the far side has read so many requests.
fn wait_for(world: &World, n: u64) {
    let mut requests = world.far_side().requests();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(requests.wait_for(|seen| *seen >= n)).expect("the far side lives");
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the process is there");
}

/// How often each body arrived.
fn arrivals(world: &World) -> HashMap<Vec<u8>, usize> {
    let mut times = HashMap::new();
    for seen in world.seen() {
        *times.entry(seen.body.to_vec()).or_default() += 1;
    }
    times
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let rights = from.metadata().expect("a folder").permissions();
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("a copy");
        }
    }
    std::fs::set_permissions(to, rights).expect("rights");
}

/// Puts an old state of a folder back.
fn put_back(world: &World, saved: &Path) {
    std::fs::remove_dir_all(world.path(".runner")).expect("the old state");
    copy(saved, &world.path(".runner"));
}

#[test]
fn two_starts_at_once() {
    let world = World::new().pipeline(POST_THINGS, things(3)).script("POST /things #1 -> delay 4s");
    let first = start(&mut world.command("apply p --concurrency 1"));
    wait_for(&world, 1);
    let holder = first.id().to_string();
    let second =
        again("B094", world, "apply p").exits(Class::State).rule("run-locked").names([&holder]).sent(1);
    let first = Run::of(first.wait_with_output().expect("it ends"), &second.world);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(second.world.seen().len(), 3);
}

#[test]
fn input_that_changed_before_the_point_reached() {
    let world = halted("B095", PUT_THINGS).world;
    world.write("data/things.csv", things(5).replacen("thing 1", "other", 1));
    again("B095", world, "apply p")
        .exits(Class::State)
        .rule("input-changed")
        .names(["data/things.csv", "nothing was sent"])
        .sent(4);
}

#[test]
fn input_that_grew() {
    let ended = bad("B096").pipeline(POST_THINGS).input(things(5)).exits(Class::Ok).sent(5);
    ended.world.write("data/things.csv", things(7));
    let ended = again("B096", ended.world, "apply p").exits(Class::Ok).sent(7);
    assert!(arrivals(&ended.world).values().all(|times| *times == 1));
}

#[test]
fn a_mapping_that_changed_between_starts() {
    let world = halted("B097", PUT_THINGS).world;
    world.write("pipelines/p.yaml", format!("{PUT_THINGS}body: {{ title: '{{{{ record.name }}}}' }}\n"));
    again("B097", world, "apply p")
        .exits(Class::State)
        .rule("meaning-changed")
        .names(["pipelines/p.yaml", "--accept-changes", "--fresh", "nothing was sent"])
        .sent(4);
}

#[test]
fn a_schema_that_changed_between_starts() {
    let pipeline = format!("{PUT_THINGS}schema: schemas/thing.schema.json\n");
    let ended = bad("B097")
        .pipeline(&pipeline)
        .file("schemas/thing.schema.json", "{ \"type\": \"object\" }")
        .input(things(5))
        .script("PUT ** after=1 -> 401")
        .arguments("apply p --concurrency 1")
        .exits(Class::Halted)
        .sent(4);
    ended.world.write("schemas/thing.schema.json", "{ \"type\": \"object\", \"required\": [\"name\"] }");
    again("B097", ended.world, "apply p")
        .exits(Class::State)
        .rule("meaning-changed")
        .names(["schemas/thing.schema.json", "nothing was sent"])
        .sent(4);
}

#[test]
fn a_checkpoint_that_was_deleted() {
    let world = halted("B098", PUT_THINGS).world;
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.path(&format!("{DATABASE}{ending}")));
    }
    again("B098", world, "apply p").exits(Class::State).rule("checkpoint-missing").names(["p.db"]).sent(4);
}

#[test]
fn a_write_ahead_log_that_is_cut() {
    let world = World::new().pipeline(PUT_THINGS, things(60)).script("PUT ** after=40 -> hang");
    let mut child = start(&mut world.command("apply p --concurrency 8"));
    wait_for(&world, 48);
    signal(&child, Signal::KILL);
    child.wait().expect("it ends");
    world.answers("");
    let saved = tempfile::tempdir().expect("a folder");
    copy(&world.path(".runner"), saved.path());
    let log = format!("{DATABASE}-wal");
    let bytes = std::fs::read(world.path(&log)).expect("a log is left by the kill");
    // A frame is a page and its head: cuts within the last ones, and at their edges.
    let frame = 4096 + 24;
    let mut world = world;
    for back in [0, 1, 23, 24, 25, 100, frame - 1, frame, frame + 1, 2 * frame, 2 * frame + 500, 3 * frame] {
        put_back(&world, saved.path());
        world.write(&log, &bytes[..bytes.len().saturating_sub(back)]);
        let before = world.seen().len();
        let ended = again("B099", world, "apply p").exits(Class::Ok).names(["60 delivered"]);
        world = ended.world;
        // What was in flight goes again, and so may what was noted in the part that is gone.
        let sent = world.seen().len() - before;
        assert!((20..=60).contains(&sent), "cut by {back}: {sent} requests");
        assert_eq!(arrivals(&world).len(), 60);
    }
}

#[test]
fn a_loss_of_power_with_eight_in_flight() {
    let world = World::new().pipeline(POST_THINGS, things(50)).script("POST /things after=10 -> hang");
    let mut child = start(&mut world.command("apply p --concurrency 8"));
    wait_for(&world, 18);
    signal(&child, Signal::KILL);
    child.wait().expect("it ends");
    world.answers("");
    let saved = tempfile::tempdir().expect("a folder");
    copy(&world.path(".runner"), saved.path());
    let log = format!("{DATABASE}-wal");
    let bytes = std::fs::read(world.path(&log)).expect("a log is left by the kill");
    let before = world.seen();
    let mut world = world;
    let mut granted = 0;
    for back in [0, 1, 4120, 2 * 4120, 3 * 4120, 4 * 4120, 6 * 4120] {
        put_back(&world, saved.path());
        world.write(&log, &bytes[..bytes.len().saturating_sub(back)]);
        // As after a loss of power: the machine was started anew, and the tail of the log is gone.
        let database = rusqlite::Connection::open(world.path(DATABASE)).expect("a database");
        let lease: i64 = database
            .query_row("SELECT coalesce(max(lease), 0) FROM run", [], |row| row.get(0))
            .expect("what was granted");
        database.execute("UPDATE start SET boot = 'another'", []).expect("a start");
        database.close().expect("it closes");
        if lease == 0 {
            // So much is never lost: nothing is sent before its grant is synced.
            continue;
        }
        granted += 1;
        let earlier = world.seen().len();
        world = again("B099", world, "apply p").exits(Class::InDoubt).world;
        let now = &world.seen()[earlier..];
        let twice = now.iter().filter(|seen| before.iter().any(|first| first.body == seen.body)).count();
        assert_eq!(twice, 0, "cut by {back}: sent a second time");
    }
    assert!(granted > 2, "{granted}");
}

#[test]
fn a_row_of_the_database_that_changed() {
    // S36
    for column in ["state", "status", "attempts", "digest"] {
        let world = halted("B100", PUT_THINGS).world;
        let database = rusqlite::Connection::open(world.path(DATABASE)).expect("a database");
        let changed = database
            .execute(&format!("UPDATE record SET {column} = {column} | 1 << 3 WHERE state = 2"), [])
            .expect("a row");
        assert_eq!(changed, 1);
        database.close().expect("it closes");
        again("B100", world, "apply p")
            .exits(Class::State)
            .rule("state-damaged")
            .names(["p.db", "record", "nothing was sent"])
            .sent(4);
    }
}

#[test]
fn a_bit_that_flipped_in_the_database() {
    // S36
    let mut world = halted("B100", PUT_THINGS).world;
    // All of it into the one file.
    let database = rusqlite::Connection::open(world.path(DATABASE)).expect("a database");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    database.close().expect("it closes");
    let bytes = std::fs::read(world.path(DATABASE)).expect("a database");
    let saved = tempfile::tempdir().expect("a folder");
    copy(&world.path(".runner"), saved.path());
    let before = world.seen().len();
    let mut refused = 0;
    // The head of the file, then one bit of the head of each page.
    for at in [0, 17, 21, 60].into_iter().chain((1..bytes.len() / 4096).map(|page| page * 4096)) {
        put_back(&world, saved.path());
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        world.write(DATABASE, &flipped);
        let ended = again("B100", world, "apply p --concurrency 1");
        if ended.run.code == i32::from(Class::State.code()) {
            refused += 1;
            assert!(ended.run.stderr.contains("p.db"), "byte {at}: {}", ended.run.stderr);
            // Whole pages are named by their number.
            let page = if at >= 4096 { format!("page {}", at / 4096 + 1) } else { String::new() };
            assert!(ended.run.stderr.contains(&page), "byte {at}: {}", ended.run.stderr);
            assert_eq!(ended.world.seen().len(), before, "byte {at}");
        } else {
            panic!("byte {at}: exit {}\n{}", ended.run.code, ended.run.stderr);
        }
        world = ended.world;
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn a_checkpoint_of_a_newer_version() {
    let world = halted("B101", PUT_THINGS).world;
    let database = rusqlite::Connection::open(world.path(DATABASE)).expect("a database");
    database.execute_batch("PRAGMA user_version = 99").expect("a version");
    database.close().expect("it closes");
    again("B101", world, "apply p")
        .exits(Class::State)
        .rule("state-version")
        .names(["99", "format 8"])
        .sent(4);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let case = bad("B102").input(things(2));
    let url = case.world.url();
    // A folder below a file cannot be made by anybody.
    case.file("blocked", "")
        .file(
            "runner.yaml",
            format!("connections:\n  local: {{ base_url: \"{url}\" }}\nstate: blocked/state\n"),
        )
        .exits(Class::Io)
        .names(["blocked/state", "not a directory"])
        .sent(0);
}

#[test]
fn a_disk_that_is_full_at_start() {
    let world = World::new().pipeline(PUT_THINGS, things(2));
    // No file may grow: the first write of the checkpoint fails.
    let mut command = limited(&world, "apply p", "trap '' XFSZ; ulimit -f 0; exec");
    let run = Run::of(command.output().expect("the binary runs"), &world);
    Ended::of("B102", world, run).exits(Class::Io).names(["p.db"]).sent(0);
}

#[test]
fn a_disk_that_fills_up() {
    let world = World::new().pipeline(POST_THINGS, things(3000));
    // The write-ahead log may take 150 KiB.
    let mut command = limited(&world, "apply p", "trap '' XFSZ; ulimit -f 300; exec timeout 60");
    let run = Run::of(command.output().expect("the binary runs"), &world);
    let ended = Ended::of("B103", world, run).exits(Class::Io).names(["p.db"]);
    let sent = ended.world.seen().len();
    assert!((1..3000).contains(&sent), "{sent}");
    let ended = again("B103", ended.world, "apply p");
    // Whatever could not be noted is in doubt, nothing goes twice and nothing is lost.
    let times = arrivals(&ended.world);
    assert!(times.values().all(|times| *times == 1));
    let doubt = ended.world.outcomes("in_doubt.csv").lines().count().saturating_sub(1);
    assert_eq!(ended.run.code, if doubt == 0 { 0 } else { 6 }, "{}", ended.run.stderr);
    let delivered = ended.world.outcomes("delivered.csv").lines().count() - 1;
    assert_eq!(delivered + doubt, 3000);
    assert!(times.len() >= delivered, "{} {delivered}", times.len());
}

#[test]
fn a_checkpoint_that_is_a_link() {
    // S32
    let case = bad("B105").input(things(2)).file("elsewhere", "not ours").with(|world| {
        std::fs::create_dir_all(world.path(".runner/default/state")).expect("folders");
        for folder in [".runner", ".runner/default", ".runner/default/state"] {
            std::fs::set_permissions(world.path(folder), PermissionsExt::from_mode(0o700)).expect("rights");
        }
        symlink(world.path("elsewhere"), world.path(DATABASE)).expect("a link");
    });
    let ended = case.exits(Class::State).rule("state-foreign").names(["p.db", "link"]).sent(0);
    assert_eq!(ended.world.read("elsewhere"), "not ours");
}

#[test]
fn sigterm_with_eight_in_flight() {
    let pipeline = POST_THINGS.replace("delivery: { ", "delivery: { stop_grace: 300ms, ");
    let world = World::new().pipeline(&pipeline, things(50)).script("POST /things after=10 -> hang");
    let child = start(&mut world.command("apply p --concurrency 8"));
    wait_for(&world, 18);
    signal(&child, Signal::TERM);
    let run = Run::of(child.wait_with_output().expect("it ends"), &world);
    Ended::of("B106", world, run)
        .exits(Class::Stopped)
        .names(["10 delivered", "8 in doubt", "32 unsent", "runner apply p"])
        .sent(18);
}

#[test]
fn sigkill_with_eight_in_flight() {
    let world = World::new().pipeline(POST_THINGS, things(50)).script("POST /things after=10 -> hang");
    let mut child = start(&mut world.command("apply p --concurrency 8"));
    wait_for(&world, 18);
    signal(&child, Signal::KILL);
    child.wait().expect("it ends");
    world.answers("");
    let ended = again("B107", world, "apply p").exits(Class::InDoubt).sent(50);
    assert!(arrivals(&ended.world).values().all(|times| *times == 1));
    let doubt = ended.world.outcomes("in_doubt.csv").lines().count() - 1;
    // The eight, and what was answered within the last commit interval.
    assert!((8..=18).contains(&doubt), "{doubt}");
    assert_eq!(ended.world.outcomes("delivered.csv").lines().count() - 1 + doubt, 50);
    // A second time nothing is left to do, and the doubt stays.
    again("B107", ended.world, "apply p").exits(Class::InDoubt).sent(50);
}

#[test]
fn a_reader_that_goes_away() {
    for arguments in ["apply p --format jsonl", "apply p -vv"] {
        let world = World::new().pipeline(PUT_THINGS, things(300));
        let mut command = world.command(arguments);
        let mut child = start(&mut command);
        // `| head -1` on both streams: one line is read, then nobody listens.
        let mut line = String::new();
        if arguments.ends_with("jsonl") {
            BufReader::with_capacity(1, child.stdout.take().expect("a pipe"))
                .read_line(&mut line)
                .expect("a line");
        } else {
            BufReader::with_capacity(1, child.stderr.take().expect("a pipe"))
                .read_line(&mut line)
                .expect("a line");
        }
        assert!(!line.is_empty());
        let status = child.wait_with_output().expect("it ends").status;
        assert_eq!(status.code(), Some(0), "{arguments}");
        assert_eq!(world.seen().len(), 300);
        again("B108", world, "apply p").exits(Class::Ok).names(["nothing to do"]).sent(300);
    }
}
