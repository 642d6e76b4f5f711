//! Several calls of one record: each is made once, what it brought is kept, and a record goes on where it
//! stopped.

use runner::sandbox::Seen;
use serde_json::Value;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, SKIPPED, Said};
use crate::world::{World, things};

/// Creates a thing, then posts about it under the id that it got, then closes it.
pub fn steps(second: &str, more: &str) -> String {
    format!(
        "connection: local
source: {{ file: data/things.csv }}
key: {{ value: '{{{{ record.id }}}}', public: true }}
steps:
  - id: thing
    endpoint: {{ method: POST, path: /things, captures: {{ id: '{{{{ response.body.id }}}}' }} }}
  - id: post
    endpoint:
      method: POST
      path: /posted
      body: {{ about: '{{{{ steps.thing.captures.id }}}}', name: '{{{{ record.name }}}}' }}
      captures: {{ id: '{{{{ response.body.id }}}}' }}
{second}
  - id: close
    endpoint:
      method: PUT
      path: '/things/{{{{ steps.thing.captures.id }}}}'
      idempotency: natural
      body: {{ id: '{{{{ steps.thing.captures.id }}}}', post: '{{{{ steps.post.captures.id }}}}' }}
delivery: {{ retry: {{ first_wait: 1ms, max_wait: 5ms }}{more} }}
"
    )
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

fn count(world: &World, what: &str) -> usize {
    world.asked().iter().filter(|asked| asked.starts_with(what)).count()
}

#[test]
fn a_later_step_reads_what_an_earlier_one_captured() {
    let world = World::new().pipeline(&steps("", ""), things(3));
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(world.seen().len(), 9);
    for seen in world.seen().iter().filter(|seen| seen.path == "/posted") {
        let about = body(seen)["about"].as_str().expect("an id").to_owned();
        let closed = format!("/things/{about}");
        assert_eq!(world.seen().iter().filter(|seen| seen.path == closed).count(), 1, "{about}");
    }
    let delivered = world.outcomes("delivered.csv");
    let head = delivered.lines().next().expect("a head");
    assert!(head.ends_with("_runner_attempts,_runner_step,_runner_thing.id,_runner_post.id"), "{head}");
    // Once more: nothing is left to do.
    world.run("apply p").exits(0).says("nothing to do");
    assert_eq!(world.seen().len(), 9);
}

#[test]
fn a_refused_step_decides_the_record_and_retry_begins_with_it() {
    let world = World::new()
        .pipeline(&steps("", ""), things(2))
        .script("POST /posted #1 -> 422 body='{\"message\":\"not now\"}'");
    world.run("apply p").exits(1);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED).len(), said.in_state(FAILED).len()), (1, 1));
    let failed = world.outcomes("failed.csv");
    assert!(failed.contains(",post,"), "{failed}");
    assert!(failed.contains("step post: "), "{failed}");
    world.answers("");
    world.run("retry p").exits(0).says("2 delivered");
    assert_eq!(count(&world, "POST /things"), 2, "the first step is not made again");
    assert_eq!(count(&world, "POST /posted"), 3);
    assert_eq!(count(&world, "PUT /things"), 2);
}

#[test]
fn a_step_in_doubt_is_held_and_what_a_person_says_goes_on_with_the_next() {
    let world = World::new().pipeline(&steps("", ""), things(1)).script("POST /posted #1 -> reset");
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [0]);
    assert_eq!(world.seen().len(), 2);
    world.answers("");
    world.run("resolve p --all --resend").exits(0);
    world.run("apply p").exits(0);
    assert_eq!(count(&world, "POST /things"), 1);
    assert_eq!(count(&world, "POST /posted"), 2);

    // Said to have arrived: the next step needs what nobody has seen of its reply.
    let world = World::new().pipeline(&steps("", ""), things(1)).script("POST /posted #1 -> reset");
    world.run("apply p").exits(6);
    world.run("resolve p --all --delivered").exits(0);
    world.run("apply p").exits(1);
    assert_eq!(count(&world, "POST /posted"), 1);
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(FAILED), [0]);
    assert_eq!(said.rows[&0].class, "capture-missing");
}

#[test]
fn a_step_that_is_not_for_a_record_is_left_out() {
    let world = World::new().pipeline(
        &steps("    when: \"{{ record.name != 'thing 2' }}\"", "")
            .replace("steps.post.captures.id", "steps.post.captures.id | default(\"none\")"),
        things(3),
    );
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(count(&world, "POST /posted"), 2);
    let without: Vec<Value> = world
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(body)
        .filter(|body| body["post"] == "none")
        .collect();
    assert_eq!(without.len(), 1);
}

#[test]
fn a_record_that_no_step_is_for_is_skipped() {
    let pipeline = "connection: local
source: { file: data/things.csv }
steps:
  - { id: only, when: \"{{ record.id == 't1' }}\", endpoint: { method: POST, path: /things } }
";
    let world = World::new().pipeline(pipeline, things(2));
    world.run("apply p").exits(0);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(SKIPPED)), (vec![0], vec![1]));
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn a_capture_that_did_not_come_fails_the_record_and_nothing_is_sent_again() {
    let world = World::new().pipeline(&steps("", ""), things(2)).script("POST /things #1 -> 201 body='{}'");
    world.run("apply p").exits(1);
    let said = Said::of(&world, "p");
    let failed = said.in_state(FAILED);
    assert_eq!(failed.len(), 1);
    assert_eq!(said.rows[&failed[0]].class, "capture-missing");
    assert_eq!(count(&world, "POST /things"), 2);
    world.run("retry p").exits(1);
    assert_eq!(count(&world, "POST /things"), 2, "what was delivered stays so");
    // A person looks it up, and says it.
    for (argument, says) in [
        ("retry p --capture thing.nope=1", "these are captured: thing.id, post.id"),
        ("retry p --capture post.id=1", "step post of the record was not delivered"),
        ("retry p --capture post=1", "write it STEP.NAME=VALUE"),
        (
            "retry p --capture thing.id=1 --where record.id=='t9'",
            "`--capture` speaks of one record, and 0 are chosen",
        ),
    ] {
        world.run(argument).exits(2).says(says);
    }
    world
        .run("retry p --capture thing.id=from-a-person --where class=='capture-missing'")
        .exits(0)
        .says("2 delivered");
    assert_eq!(count(&world, "POST /things"), 2);
    let last = world.seen().pop().expect("a call");
    assert_eq!(last.path, "/things/from-a-person");
}

const UPSERT: &str = "connection: local
source: { file: data/things.csv }
key: '{{ record.id }}'
find:
  endpoint: { method: GET, path: '/things/{{ params.id }}', params: { id: { required: true } } }
  captures: { name: '{{ response.body.name | default(omit) }}' }
create:
  endpoint: { method: POST, path: /posted }
update:
  endpoint:
    method: PUT
    path: /things/{{ params.id }}
    params: { id: { required: true } }
    body: { id: '{{ record.id }}', name: '{{ record.name }}', was: '{{ steps.find.captures.name }}' }
    idempotency: natural
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

#[test]
fn what_is_there_is_updated_and_what_is_not_is_created() {
    let put = "connection: local
endpoint: { method: PUT, path: '/things/{{ record.id }}', body: { id: '{{ record.id }}', name: old }, idempotency: natural }
source: { file: data/old.csv }
";
    let world = World::new()
        .pipeline(UPSERT, things(3))
        .file("pipelines/old.yaml", put)
        .file("data/old.csv", "id\nt2\n");
    world.run("apply old").exits(0);
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(count(&world, "GET /things/"), 3);
    assert_eq!(count(&world, "POST /posted"), 2);
    let updated: Vec<Value> = world.seen().iter().filter(|seen| seen.method == "PUT").map(body).collect();
    assert_eq!(updated[1]["was"], "old");
}

#[test]
fn a_look_that_cannot_be_read_creates_nothing() {
    let listed =
        UPSERT.replace("  captures: {", "  exists: '{{ response.body.items | length > 0 }}'\n  captures: {");
    // Not JSON, cut short, or without the list: none of them says that nothing is there.
    for answer in ["200 body='<html>'", "200 body='{}'", "404 body='gone'"] {
        let world = World::new().pipeline(&listed, things(1)).script(&format!("GET /things/* -> {answer}"));
        world.run("apply p").exits(1);
        assert_eq!(world.seen().len(), 1, "{answer}");
        assert_eq!(Said::of(&world, "p").rows[&0].class, "capture-missing", "{answer}");
    }
}

#[test]
fn preview_shows_all_calls_with_marks_for_what_is_not_known() {
    let world = World::new().pipeline(&steps("", ""), things(1));
    let shown = world.run("preview p").exits(0).stdout;
    assert!(shown.contains("step thing\nPOST "), "{shown}");
    assert!(shown.contains("step post\nPOST "), "{shown}");
    assert!(shown.contains("/things/__thing.id__"), "{shown}");
    let world = World::new().pipeline(UPSERT, things(1));
    let shown = world.run("preview p").exits(0).stdout;
    assert!(shown.contains("step create, if the reply before it says so"), "{shown}");
    let plan = world.run("plan p").exits(0);
    assert!(plan.stdout.contains("step create"), "{}", plan.stdout);
    assert!(world.seen().is_empty());
}

#[test]
fn replies_of_all_steps_are_kept() {
    let world = World::new().pipeline(&(steps("", "") + "responses: { file: true }\n"), things(1));
    world.run("apply p").exits(0);
    let lines = world.outcomes("responses.ndjson");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["step"].as_str().expect("a step"), line["state"].as_str().expect("a state")))
        .collect();
    assert_eq!(said, [("thing", "pending"), ("post", "pending"), ("close", "delivered")]);
}

#[test]
fn killed_at_any_moment_a_record_goes_on_at_the_step_where_it_stopped() {
    const ROWS: usize = 150;
    let seed =
        std::env::var("RUNNER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125);
    let mut chance = fastrand::Rng::with_seed(seed);
    // A plain POST that is held in doubt, one under a key, and one whose repeat is harmless.
    let keyed = "    method: POST\n      path: /posted\n      idempotency: { header: Idempotency-Key }";
    let pipeline = steps("", ", concurrency: 6").replace("    method: POST\n      path: /posted", keyed);
    let world = World::new().pipeline(&pipeline, things(ROWS));
    for kill in 0..15 {
        let running = world.start("apply p");
        let target = world.far_side().tally().requests + chance.u64(1..24);
        assert!(world.until(&running, target), "seed {seed}: it ended after {kill} kills");
        running.kill(&world);
    }
    let run = world.run("apply p");
    let said = Said::of(&world, "p");
    let (delivered, in_doubt) = (said.in_state(DELIVERED), said.in_state(IN_DOUBT));
    run.exits(if in_doubt.is_empty() { 0 } else { 6 });
    assert_eq!(delivered.len() + in_doubt.len(), ROWS, "seed {seed}");
    let requests = world.seen();
    let created: Vec<String> = requests
        .iter()
        .filter(|seen| seen.path == "/things")
        .map(|seen| body(seen)["id"].to_string())
        .collect();
    let once: std::collections::BTreeSet<&String> = created.iter().collect();
    assert_eq!(once.len(), created.len(), "seed {seed}: a thing was created twice");
    // Under a key the same bytes, however often.
    let mut posts = std::collections::BTreeMap::<String, std::collections::BTreeSet<Vec<u8>>>::new();
    for seen in requests.iter().filter(|seen| seen.path == "/posted") {
        let key = seen.headers["idempotency-key"].to_str().expect("text").to_owned();
        posts.entry(key).or_default().insert(seen.body.to_vec());
    }
    assert!(posts.values().all(|bodies| bodies.len() == 1), "seed {seed}");
    assert_eq!(posts.len(), delivered.len(), "seed {seed}: every record that went on posted under one key");
    let closed: std::collections::BTreeSet<&str> =
        requests.iter().filter(|seen| seen.method == "PUT").map(|seen| seen.path.as_str()).collect();
    assert_eq!(closed.len(), delivered.len(), "seed {seed}");
    // What is in doubt stands at its first step: nothing of it went on.
    assert!(
        world.outcomes("in_doubt.csv").lines().skip(1).all(|line| line.contains(",thing,")),
        "seed {seed}"
    );
    assert!(!in_doubt.is_empty(), "seed {seed}: no kill met a creation under way");
}

#[test]
fn harmless_steps_go_on_after_a_kill_too() {
    let seed = 7;
    let mut chance = fastrand::Rng::with_seed(seed);
    let pipeline = "connection: local
source: { file: data/things.csv }
key: '{{ record.id }}'
steps:
  - id: one
    endpoint: { method: PUT, path: '/things/{{ record.id }}', idempotency: natural, captures: { id: '{{ response.body.id }}' } }
  - id: two
    endpoint: { method: PUT, path: '/things/{{ steps.one.captures.id }}-two', idempotency: natural }
delivery: { concurrency: 4, retry: { first_wait: 1ms, max_wait: 5ms } }
";
    let world = World::new().pipeline(pipeline, things(100)).script("PUT * every=9 -> 503 retry-after=0 act");
    for _ in 0..8 {
        let running = world.start("apply p");
        let target = world.far_side().tally().requests + chance.u64(1..20);
        assert!(world.until(&running, target));
        running.kill(&world);
    }
    world.run("apply p").exits(0);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 100);
    for id in 1..=100 {
        assert!(count(&world, &format!("PUT /things/t{id}-two")) > 0, "{id}");
    }
}

#[test]
fn a_stop_between_steps_is_gone_on_with() {
    let world = World::new().pipeline(&steps("", ", concurrency: 2"), things(20));
    let mut starts = 0;
    loop {
        let mut running = world.start("apply p");
        let target = world.far_side().tally().requests + 7;
        let reached = world.until(&running, target);
        if reached {
            running.signal(rustix::process::Signal::INT);
        }
        let run = running.ended(&world);
        starts += 1;
        if run.code == 0 {
            break;
        }
        assert_eq!(run.code, 130, "{}", run.stderr);
        assert!(starts < 30, "{}", run.stderr);
    }
    // An orderly stop leaves no doubt: each call was made once.
    assert_eq!(world.seen().len(), 60);
}

#[test]
fn a_look_is_made_again_until_something_was_written() {
    let listed = UPSERT.replace("  captures: {", "  exists: '{{ response.body.there }}'\n  captures: {");
    // What could not be read is looked at again.
    let world = World::new()
        .pipeline(&listed, things(1))
        .script("GET /things/* #1 -> 200 body='<html>'\nGET /things/* -> 200 body='{\"there\":false}'");
    world.run("apply p").exits(1);
    world.run("retry p").exits(0);
    assert_eq!((count(&world, "GET /"), count(&world, "POST /posted")), (2, 1));
    // Refused, as somebody else was faster: the next look finds it.
    let world = World::new().pipeline(&listed, things(1)).script(
        "GET /things/* #1 -> 200 body='{\"there\":false}'\nGET /things/* -> 200 body='{\"there\":true,\"name\":\"x\"}'\nPOST /posted -> 409",
    );
    world.run("apply p").exits(1);
    world.run("retry p").exits(0);
    assert_eq!((count(&world, "POST /posted"), count(&world, "PUT /things/")), (1, 1));
    // Text is no answer: it would count as true.
    let world =
        World::new().pipeline(&listed, things(1)).script("GET /things/* -> 200 body='{\"there\":\"false\"}'");
    world.run("apply p").exits(1);
    assert_eq!(Said::of(&world, "p").rows[&0].class, "not-a-condition");
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn a_look_is_never_in_doubt_and_delivers_nothing_by_itself() {
    for policy in ["mode: at_most_once", "in_doubt: hold", "in_doubt: skip"] {
        let pipeline = UPSERT.replace("delivery: {", &format!("delivery: {{ {policy},"));
        let world = World::new().pipeline(&pipeline, things(1)).script("GET /things/* #1 -> reset");
        world.run("apply p").exits(0).says("1 delivered");
        assert_eq!((count(&world, "GET /"), count(&world, "POST /posted")), (2, 1), "{policy}");
    }
    let only_create = UPSERT[..UPSERT.find("update:").expect("an update")].to_owned()
        + "delivery: { retry: { first_wait: 1ms } }\n";
    let world = World::new().pipeline(&only_create, things(2)).script("GET /things/t1 -> 200 body='{}'");
    world.run("apply p").exits(0).says("1 delivered, 0 failed, 0 invalid, 1 skipped");
}

#[test]
fn mistakes_in_steps_are_refused_before_anything_is_sent() {
    let find = |find: &str| {
        UPSERT.replace("find:\n  endpoint: { method: GET, path: '/things/{{ params.id }}', params: { id: { required: true } } }", find)
    };
    let step = |more: &str| {
        format!(
            "connection: local\nsource: {{ file: data/things.csv }}\nsteps:\n  - id: a\n    endpoint: {{ method: POST, path: /things }}\n{more}"
        )
    };
    for (pipeline, says) in [
        (
            find("find:\n  endpoint: { method: DELETE, path: '/things/{{ record.id }}' }"),
            "`find` only looks, and DELETE may change something",
        ),
        (
            find("find:\n  endpoint: { method: POST, path: /search }\n  exists: '{{ response.body.found }}'"),
            "`find` only looks, and POST may change something",
        ),
        (find("find:\n  endpoint: { method: GET, path: /things }"), "`find` has to say what its reply means"),
        (
            find("find:\n  exists: response.body.found\n  endpoint: { method: GET, path: /things }"),
            "`exists` has to be one expression",
        ),
        (step("    when: record.id\n"), "`when` has to be one expression"),
        (step("    captures: { 'a b': '{{ response.body.id }}' }\n"), "cannot be the name of a capture"),
        (step("create: { endpoint: { method: POST, path: /x } }\n"), "`create` needs a `find`"),
        (step("body: { x: 1 }\n"), "`body` speaks of one call"),
        (step("batch: { size: 2 }\n"), "cannot be a step"),
        (
            step("  - id: b\n    endpoint: { method: POST, path: '/{{ steps.a.status.foo }}' }\n"),
            "has nothing in it",
        ),
        (
            step("  - id: b\n    endpoint: { method: POST, path: '/{{ steps.a.response.body.id }}' }\n"),
            "only its captures are kept",
        ),
        (
            step("  - id: b\n    endpoint: { method: POST, path: '/{{ steps.b.captures.id }}' }\n"),
            "no earlier step `b`",
        ),
        (step("  - id: a\n    endpoint: { method: POST, path: /x }\n"), "there is another step `a`"),
    ] {
        let world = World::new().pipeline(&pipeline, things(1));
        world.run("validate").exits(3).says(says);
        world.run("apply p").exits(3);
        assert!(world.seen().is_empty());
    }
}

#[test]
fn try_shows_every_call_that_it_makes() {
    let world = World::new().pipeline(&steps("", ""), things(2));
    let run = world.run("try p").exits(0);
    for call in ["POST http://[HOST]/things", "POST http://[HOST]/posted", "PUT http://[HOST]/things/"] {
        assert_eq!(run.stdout.matches(call).count(), 1, "{}", run.stdout);
    }
    assert!(
        run.stdout.contains("captured thing.id = ") && !run.stdout.contains("captured thing = "),
        "{}",
        run.stdout
    );
    let json = world.run("try p --format json").exits(0).json();
    assert_eq!(json["summary"]["earlier"].as_array().map(Vec::len), Some(2));
}
