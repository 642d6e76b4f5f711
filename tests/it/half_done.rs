//! Records of which some calls were delivered: whatever happens next, those are not made again, and what was
//! kept of them is not lost.

use serde_json::Value;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, SKIPPED, Said};
use crate::world::{World, things};

/// Creates a thing and posts about it.
fn steps(more: &str) -> String {
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
delivery: {{ concurrency: 1, retry: {{ first_wait: 1ms, max_wait: 5ms }} }}
{more}"
    )
}

fn count(world: &World, what: &str) -> usize {
    world.asked().iter().filter(|asked| asked.starts_with(what)).count()
}

/// A run of one record that stands between its calls.
fn between(more: &str) -> World {
    let world =
        World::new().pipeline(&steps(more), things(1)).script("POST /posted #1 -> 429 retry-after=4000");
    world.run("apply p").exits(7);
    world.answers("");
    world
}

#[test]
fn another_meaning_or_destination_is_not_taken_over_in_silence() {
    for changed in [
        steps("").replace("id: thing\n", "id: user\n").replace("steps.thing", "steps.user"),
        "connection: local\nendpoint: { method: POST, path: /things }\nsource: { file: data/things.csv }\n\
         key: '{{ record.id }}'\n"
            .to_owned(),
    ] {
        let world = World::new().pipeline(&steps(""), things(2)).script("POST /posted -> 422");
        world.run("apply p").exits(1);
        world.answers("");
        world.write("pipelines/p.yaml", &changed);
        world.run("retry p").exits(5).says("meaning-changed");
        // Said to be meant: what was delivered is not begun anew.
        world.run("retry p --accept-changes").exits(1);
        assert_eq!(count(&world, "POST /things"), 2);
        assert!(Said::of(&world, "p").rows.values().all(|row| row.class == "step-gone"));
    }
    let world = between("");
    let other = World::new();
    world.write("runner.yaml", format!("connections:\n  local: {{ base_url: \"{}\" }}\n", other.url()));
    world.run("apply p").exits(5);
    assert!(other.seen().is_empty());
}

#[test]
fn a_step_that_is_put_between_does_not_change_what_is_in_doubt() {
    let pipeline = |more: &str| {
        steps("")
            .replace("POST, path: /things", "PUT, path: '/things/{{ record.id }}', idempotency: natural")
            .replace("  - id: post", &format!("{more}  - id: post"))
    };
    let world = World::new().pipeline(&pipeline(""), things(2)).script("POST /posted #2 -> hang act");
    let running = world.start("apply p");
    assert!(world.until(&running, 4));
    running.kill(&world);
    world.answers("");
    let more = "  - id: more\n    endpoint: { method: PUT, path: /things/more, idempotency: natural }\n";
    world.write("pipelines/p.yaml", pipeline(more));
    world.run("apply p --accept-changes").exits(6).says("1 in doubt");
    assert_eq!(count(&world, "POST /posted"), 2);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [1]);
}

#[test]
fn what_would_be_left_out_now_fails_with_what_was_delivered_kept() {
    let world = between("");
    world.write("pipelines/p.yaml", steps("select: { where: \"{{ record.name != 'thing 1' }}\" }\n"));
    world.run("apply p").exits(5).says("meaning-changed");
    world.run("apply p --accept-changes").exits(1);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(FAILED), &*said.rows[&0].class), (vec![0], "where"));
    world.write("pipelines/p.yaml", steps(""));
    world.run("retry p --accept-changes").exits(0);
    assert_eq!((count(&world, "POST /things"), count(&world, "POST /posted")), (1, 2));

    // A later record with the same key does not push it out.
    let world = between("select: { duplicates: keep_last }\n");
    world.write("data/things.csv", "id,name\nt1,thing 1\nt1,newer\n");
    world.run("apply p").exits(0).says("2 delivered");
    let bodies: Vec<Value> =
        world.seen().iter().map(|seen| serde_json::from_slice(&seen.body).expect("JSON")).collect();
    assert_eq!(bodies.iter().filter(|body| body["id"] == "t1" && body["name"] == "thing 1").count(), 1);
}

#[test]
fn a_later_run_knows_that_it_was_begun() {
    for more in ["sync: new\n", "keep: x\n"] {
        let is_new = more.starts_with("sync");
        let world = World::new()
            .pipeline(&steps(if is_new { more } else { "" }), things(1))
            .script("POST /posted -> 422");
        world.run("apply p").exits(1);
        world.answers("");
        world.write("data/things.csv", "id,name\nt0,first\nt1,thing 1\n");
        if is_new {
            world.run("apply p").exits(0);
            let said = Said::of(&world, "p");
            assert_eq!((said.in_state(SKIPPED), &*said.rows[&1].class), (vec![1], "begun-before"));
            assert_eq!(count(&world, "POST /things"), 2, "t1 in the first run and t0 in the second");
        } else {
            world.run("apply p").exits(5).says("delivered-before");
            assert_eq!(count(&world, "POST /things"), 1);
        }
    }
}

#[test]
fn in_an_older_run_what_had_arrived_keeps_its_key() {
    let world =
        World::new().pipeline(&steps("sync: new\n"), things(1)).script("POST /things #1 -> cut_after_effect");
    world.run("apply p").exits(6);
    world.answers("");
    world.write("data/things.csv", "id,name\nt0,first\n");
    world.run("apply p").exits(0);
    world.run("resolve p --record t1 --delivered").exits(0);
    world.write("data/things.csv", "id,name\nt1,thing 1\nt9,last\n");
    world.run("apply p").exits(0);
    assert_eq!(count(&world, "POST /things"), 3, "t1 once, t0, t9");
}

#[test]
fn deep_and_large_captures_lose_nothing_in_silence() {
    let whole = steps("").replace(
        "id: '{{ response.body.id }}' }",
        "id: '{{ response.body.id }}', all: '{{ response.body }}' }",
    );
    for depth in [61, 62, 63] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let reply = format!("POST /things -> 201 body='{{\"id\":\"x\",\"deep\":{deep}}}'\n");
        let world = World::new().pipeline(&whole, things(1)).script(&(reply + "POST /posted #1 -> 422"));
        world.run("apply p").exits(1);
        world.run("retry p");
        assert_eq!(count(&world, "POST /things"), 1, "{depth}");
    }
    // More than is kept: the next call would be made of something else.
    let optional =
        whole.replace("steps.thing.captures.id }}", "steps.thing.captures.id | default(\"none\") }}");
    let large = format!("POST /things -> 201 body='{{\"id\":\"x\",\"more\":\"{}\"}}'", "x".repeat(5000));
    let world = World::new().pipeline(&optional, things(1)).script(&large);
    world.run("apply p").exits(1).says("step post: the reply to step thing brought what cannot be kept");
    assert_eq!(Said::of(&world, "p").rows[&0].class, "captures-lost");
    assert_eq!(count(&world, "POST /posted"), 0);
    assert!(world.outcomes("failed.csv").contains(",post,"), "{}", world.outcomes("failed.csv"));
}

#[test]
fn a_key_is_never_used_for_two_bodies() {
    let keyed = |body: &str| {
        steps("")
            .replace("path: /posted", "path: /posted\n      idempotency: { header: Idempotency-Key }")
            .replace(
                "body: { about: '{{ steps.thing.captures.id }}', name: '{{ record.name }}' }",
                &format!("body: {{ a: '{body}' }}"),
            )
    };
    let world = World::new().pipeline(&keyed("{{ record.name }}"), things(1)).script("POST /posted -> 422");
    world.run("apply p").exits(1);
    world.run("retry p").exits(1);
    world.write("pipelines/p.yaml", keyed("{{ record.name | int }}"));
    world.run("retry p --accept-changes").exits(1);
    world.write("pipelines/p.yaml", keyed("other {{ record.name }}"));
    world.run("retry p --accept-changes").exits(1);
    let posted: Vec<String> = world
        .seen()
        .iter()
        .filter(|seen| seen.path == "/posted")
        .map(|seen| seen.headers["idempotency-key"].to_str().expect("text").to_owned())
        .collect();
    let different: std::collections::BTreeSet<&String> = posted.iter().collect();
    assert_eq!((posted.len(), different.len()), (3, 3));
    assert_eq!(count(&world, "POST /things"), 1);
}

#[test]
fn what_stops_a_run_sees_each_step_for_itself() {
    for (answer, code, most) in [("404", 9, 12), ("503", 9, 60), ("401", 9, 12)] {
        let world =
            World::new().pipeline(&steps(""), things(100)).script(&format!("POST /posted -> {answer}"));
        let run = world.run("apply p --concurrency 4");
        assert_eq!(run.code, code, "{answer}: {}", run.stderr);
        assert!(count(&world, "POST /things") <= most, "{answer}: {}", count(&world, "POST /things"));
    }
}

#[test]
fn a_call_that_cannot_be_made_is_named_and_the_one_before_it_is_not() {
    let world = World::new()
        .pipeline(&steps("responses: { file: true }\n"), things(1))
        .script("POST /things #1 -> 201 body='{}'");
    world.run("apply p").exits(1).says("step post: ");
    let failed = world.outcomes("failed.csv");
    let row = failed.lines().nth(1).expect("a row");
    assert!(row.contains(",,capture-missing,") && row.ends_with(",1,post,"), "{failed}");
    let lines = world.outcomes("responses.ndjson");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[0]["step"], &lines[0]["state"]), (1, &"thing".into(), &"pending".into()));
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 0);
    let told = world.run("explain p t1").exits(0);
    assert!(!told.stdout.contains("201 failed"), "{}", told.stdout);
    // Of one that was refused at its second call, that call is shown, and where it is written.
    let world = World::new().pipeline(&steps(""), things(1)).script("POST /posted -> 422");
    world.run("apply p").exits(1);
    let told = world.run("explain p t1").exits(0).stdout;
    assert!(
        told.contains("its request of step post") && told.contains("POST http://[HOST]/posted"),
        "{told}"
    );
    assert!(
        !told.lines().any(|line| line.contains("pipelines/p.yaml") && line.ends_with("/things")),
        "{told}"
    );
}
