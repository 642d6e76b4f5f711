//! The process dies at any moment (SIGKILL), again and again: nothing is lost, nothing is sent
//! twice beyond what the checkpoint notes, and what may have arrived is known.

use std::path::Path;

use runner::sandbox::read_journal;

use crate::oracle::{Case, DELIVERED, IN_DOUBT, IN_FLIGHT, Said};
use crate::world::{POST_THINGS, PUT_THINGS, Running, World, things};

/// The seed of this run of the tests: `RUNNER_TEST_SEED`, or a fixed one.
fn seed() -> u64 {
    std::env::var("RUNNER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// Copies a shipped file into the project, with a few changes that have to fit.
fn shipped(world: &World, path: &str, changes: &[(&str, &str)]) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut text = std::fs::read_to_string(&from).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (old, new) in changes {
        assert!(text.contains(old), "{path} has no `{old}`");
        text = text.replace(old, new);
    }
    world.write(path, text);
}

/// A project with the shipped connector at an address, and one of its pipelines without its rate.
fn freshchat(world: &World, url: &str, pipeline: &str, rate: &str, endpoint: &str, schemas: &[&str]) {
    world.write(
        "runner.yaml",
        format!(
            "connections:\n  freshchat:\n    connector: freshchat\n    subdomain: acme\n    base_url: {url}/v2\n    \
             api_token: {{ env: TOKEN }}\n"
        ),
    );
    shipped(world, "templates/freshchat/connector.yaml", &[("limits: { concurrency: 8, rate: 50/s }\n", "")]);
    shipped(world, endpoint, &[]);
    for schema in schemas {
        shipped(world, &format!("schemas/freshchat/{schema}.schema.json"), &[]);
    }
    shipped(world, pipeline, &[(rate, "")]);
}

fn start(world: &World, arguments: &str) -> Running {
    Running::of(world.command(arguments).env("TOKEN", "sandbox-token"))
}

#[test]
fn updates_killed_thirty_times_all_arrive_and_every_repeat_is_noted() {
    const ROWS: usize = 1000;
    let seed = seed();
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let schemas = ["agent", "agent-update"];
    let pipeline = "pipelines/update-agents.yaml";
    let endpoint = "templates/freshchat/update-agent.yaml";
    freshchat(&world, "http://127.0.0.1:1", pipeline, "  rate: 5/s\n", endpoint, &schemas);
    let keys: Vec<String> = (0..ROWS).map(|n| format!("agent-{n:04}")).collect();
    let header = "agent_id,employee_number,first_name,last_name,role_id,groups,active,remark".to_owned();
    let rows = keys.iter().enumerate().map(|(n, key)| {
        format!("{key},{n:07},Name {n},\"O'Neil, {n}\",4964996318807468610,\"[\"\"g{n}\"\"]\",true,")
    });
    let rows: Vec<String> = std::iter::once(header).chain(rows).collect();
    world.write("pipelines/data/agents.csv", rows.join("\n"));

    // The far side is a process of its own, and survives.
    let far_side = start(&world, "sandbox --listen 127.0.0.1:0 --journal journal.ndjson");
    let url = far_side.first_line();
    freshchat(&world, &url, pipeline, "  rate: 5/s\n", endpoint, &schemas);
    let journal = || read_journal(&world.path("journal.ndjson")).expect("the journal");
    let case = Case { world: &world, pipeline: "update-agents", keys: &keys, resends: true, seed };

    let apply = "apply pipelines/update-agents.yaml --concurrency 8 --format jsonl -v";
    let mut kills = 0;
    while kills < 30 {
        let running = start(&world, apply);
        // Some lines are of the start itself; then one for each record that is settled.
        let ended = !running.until_lines(2 + chance.usize(0..38));
        let run = running.kill(&world);
        assert!(!ended, "seed {seed}: it ended after {kills} kills:\n{}\n{}", run.stdout, run.stderr);
        kills += 1;
        case.holds(&journal());
    }
    let run = start(&world, apply).ended(&world).exits(0);
    assert_eq!(run.stderr.matches("panicked").count(), 0);
    let said = case.holds_at_the_end(&journal());
    assert_eq!(said.in_state(DELIVERED).len(), ROWS, "seed {seed}");
    // A kill may come before a start is noted, but not often.
    assert!((21..=31).contains(&said.starts), "seed {seed}: {} starts", said.starts);
    let resent: u64 = said.noted.values().sum();
    assert!(resent > 0, "seed {seed}: no kill met a request under way");
    // (i) the lanes, and what one commit interval can hold, at each kill; the lease bounds it above.
    assert!(resent <= 30 * 2 * 1024, "seed {seed}: {resent} resends");
}

#[test]
fn creations_killed_thirty_times_are_never_sent_twice_and_doubt_is_listed() {
    const ROWS: usize = 1000;
    let seed = seed() + 1;
    let mut chance = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let schemas = ["user", "user-create"];
    freshchat(
        &world,
        &world.url(),
        "pipelines/sync-users.yaml",
        "  rate: 20/s\n",
        "templates/freshchat/create-user.yaml",
        &schemas,
    );
    // It can be looked for, too; here every doubt is to be counted.
    let hold =
        world.read("pipelines/sync-users.yaml").replace("delivery:\n", "delivery:\n  in_doubt: hold\n");
    world.write("pipelines/sync-users.yaml", hold);
    // The far side of this world takes users where the shipped pipeline sends them.
    let keys: Vec<String> = (0..ROWS).map(|n| format!("{n:06}")).collect();
    let header = "reference_id,first_name,last_name,email,phone,avatar_url,company,plan,balance,address,status,internal_note";
    let rows = keys.iter().enumerate().map(|(n, key)| {
        format!("{key},Name {n},,user{n}@example.com,,,,free,1.10,\"Street {n}\n12345 Town\",active,x")
    });
    let rows: Vec<String> = std::iter::once(header.to_owned()).chain(rows).collect();
    world.write("pipelines/data/users.csv", rows.join("\n"));
    let case = Case { world: &world, pipeline: "sync-users", keys: &keys, resends: false, seed };

    let apply = "apply pipelines/sync-users.yaml --concurrency 8";
    let mut kills = 0;
    let mut in_flight = 0;
    while kills < 30 {
        let running = start(&world, apply);
        let target = world.far_side().tally().requests + chance.u64(0..33);
        // At 0 it is killed before or while it begins.
        let reached = world.until(&running, target);
        let run = running.kill(&world);
        assert!(reached, "seed {seed}: it ended after {kills} kills:\n{}\n{}", run.stdout, run.stderr);
        kills += 1;
        if world.path(".runner/default/state/sync-users.db").metadata().is_ok_and(|file| file.len() > 0) {
            let said = case.holds(&world.seen());
            in_flight += said.in_state(IN_FLIGHT).len();
        }
    }
    let run = start(&world, apply).ended(&world);
    let said = case.holds_at_the_end(&world.seen());
    let doubtful = said.in_state(IN_DOUBT);
    run.exits(if doubtful.is_empty() { 0 } else { 6 });
    // Every record was delivered or is listed; the list is in the file and in the table alike, and
    // not longer than what was under way at the kills.
    assert_eq!(said.in_state(DELIVERED).len() + doubtful.len(), ROWS, "seed {seed}");
    assert!(
        !doubtful.is_empty() && doubtful.len() <= in_flight,
        "seed {seed}: {} of {in_flight}",
        doubtful.len()
    );
    assert!(doubtful.len() <= 30 * (8 + 64), "(i) seed {seed}: {}", doubtful.len());
}

#[test]
fn an_idempotency_key_and_its_bytes_survive_kills() {
    let seed = seed() + 2;
    let mut chance = fastrand::Rng::with_seed(seed);
    let pipeline = PUT_THINGS
        .replace("idempotency: natural", "idempotency: { header: Idempotency-Key }")
        .replace("method: PUT", "method: POST")
        .replace("path: /things/{{ params.id }}\n  params: { id: { required: true } }", "path: /posted");
    let keys: Vec<String> = (1..=200).map(|n| format!("t{n}")).collect();
    let world =
        World::new().pipeline(&pipeline, things(200)).script("POST * every=7 -> 503 retry-after=0 act");
    let case = Case { world: &world, pipeline: "p", keys: &keys, resends: true, seed };
    for _ in 0..8 {
        let running = world.start("apply p");
        let target = world.far_side().tally().requests + chance.u64(1..25);
        assert!(world.until(&running, target), "seed {seed}");
        running.kill(&world);
        case.holds(&world.seen());
    }
    world.run("apply p").exits(0);
    let said = case.holds(&world.seen());
    assert_eq!(said.in_state(DELIVERED).len(), 200, "seed {seed}");
    let mut keys_of = std::collections::BTreeMap::<Vec<u8>, std::collections::BTreeSet<String>>::new();
    for seen in world.seen() {
        let key = seen.headers.get("idempotency-key").expect("a key").to_str().expect("text").to_owned();
        keys_of.entry(seen.body.to_vec()).or_default().insert(key);
    }
    assert_eq!(keys_of.len(), 200, "seed {seed}");
    assert!(keys_of.values().all(|keys| keys.len() == 1), "seed {seed}: {keys_of:?}");
    let all: std::collections::BTreeSet<_> = keys_of.values().flatten().collect();
    assert_eq!(all.len(), 200, "seed {seed}: a key of its own for each record");
}

#[test]
fn a_start_killed_while_it_recovers_can_be_repeated() {
    let seed = seed() + 3;
    let keys: Vec<String> = (1..=40).map(|n| format!("t{n}")).collect();
    let world = World::new().pipeline(POST_THINGS, things(40)).script("* * after=5 -> hang");
    let case = Case { world: &world, pipeline: "p", keys: &keys, resends: false, seed };
    let running = world.start("apply p --concurrency 4");
    assert!(world.until(&running, 9));
    running.kill(&world);
    // Killed at once, so in any part of its beginning.
    for _ in 0..5 {
        world.start("apply p --concurrency 4").kill(&world);
        case.holds(&world.seen());
    }
    world.answers("");
    let before = world.seen().len();
    let run = world.run("apply p --concurrency 4");
    let said = case.holds_at_the_end(&world.seen());
    run.exits(6);
    assert_eq!(said.in_state(IN_DOUBT).len(), 4);
    assert_eq!(world.seen().len(), before + 31);
}

#[test]
fn a_look_beside_the_first_run_leaves_it_its_log() {
    // The start that makes the checkpoint: the log has everything until a lot of it is moved.
    let world = World::new().pipeline(POST_THINGS, things(300)).script("* * after=20 -> hang");
    let running = world.start("apply p");
    assert!(world.until(&running, 22));
    let log = world.path(".runner/default/state/p.db-wal");
    for look in ["status p", "explain p t1", "plan p"] {
        world.run(look);
        assert!(log.exists(), "{look}");
    }
    // Other programs may look too, as docs/checkpoint.md says. One that closes the file moves the log into it and
    // removes it, unless it sees that somebody has the file open: by this lock, which a process loses when it closes
    // any other descriptor of the file.
    let database = std::fs::metadata(world.path(".runner/default/state/p.db")).expect("the checkpoint");
    let (process, file) =
        (running.id().to_string(), format!(":{}", std::os::unix::fs::MetadataExt::ino(&database)));
    let locks = std::fs::read_to_string("/proc/locks").expect("the locks of this machine");
    let is_its = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == "POSIX" && words[4] == process && words[5].ends_with(&file)
    };
    assert!(locks.lines().any(|line| is_its(&line)), "{locks}");
    running.kill(&world);
    assert!(Said::of(&world, "p").in_state(DELIVERED).len() >= 12);
}
