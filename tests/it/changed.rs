//! `sync: changed`: a second run of an edited file sends what is new or changed, and nothing else.

use serde_json::Value;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, SKIPPED, Said};
use crate::world::{PUT_THINGS, World, things};

fn changed() -> String {
    format!("{PUT_THINGS}sync: changed\n")
}

/// The ids of the things that were put since the last look.
fn put(world: &World, seen: &mut usize) -> Vec<String> {
    let all = world.asked();
    let new = all[*seen..].iter().map(|asked| asked.replace("PUT /things/", "")).collect::<Vec<_>>();
    *seen = all.len();
    let mut new = new;
    new.sort();
    new
}

#[test]
fn only_what_is_new_or_changed_is_sent_and_what_vanished_is_said() {
    let world = World::new().pipeline(&changed(), things(5));
    let mut seen = 0;
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen).len(), 5);
    // t2 is changed, t6 is new, t3 is gone, and the order is another.
    let edited = "id,name\nt6,thing 6\nt5,thing 5\nt4,thing 4\nt2,another\nt1,thing 1\n";
    world.write("data/things.csv", edited);
    let plan = world.run("plan p --format json").exits(0).json();
    let counts = &plan["summary"]["counts"];
    assert_eq!((&counts["send"], &counts["skipped"], &counts["vanished"]), (&2.into(), &3.into(), &1.into()));
    world
        .run("apply p")
        .exits(0)
        .says("2 delivered")
        .says("1 key that earlier runs delivered is not in the input");
    assert_eq!(put(&world, &mut seen), ["t2", "t6"]);
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(SKIPPED).len(), 3);
    assert!(said.in_state(SKIPPED).iter().all(|ordinal| said.rows[ordinal].class == "unchanged"));
    // The same once more: nothing to do. Put back as it was: t2 is sent again, as it is another than the last.
    world.run("apply p").exits(0).says("nothing to do");
    world.write("data/things.csv", things(5) + "\n");
    world.write("data/things.csv", "id,name\nt2,thing 2\nt1,thing 1\n");
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen), ["t2"]);
}

#[test]
fn what_did_not_arrive_is_sent_next_time() {
    let world = World::new().pipeline(&changed(), things(3)).script("PUT /things/t2 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(1);
    assert_eq!(Said::of(&world, "p").in_state(FAILED), [1]);
    put(&world, &mut seen);
    world.answers("");
    world.write("data/things.csv", things(4));
    // Appended records belong to the same run, which is settled but for them; a new input begins a new one.
    world.write("data/things.csv", "id,name\nt3,thing 3\nt2,thing 2\nt1,thing 1\n");
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen), ["t2"]);
}

#[test]
fn a_changed_template_changes_what_is_sent_and_a_run_value_does_not() {
    let stamped = |more: &str| {
        PUT_THINGS.replace(
            "idempotency: natural",
            &format!("idempotency: natural\n  body: {{ name: '{{{{ record.name }}}}', run: '{{{{ run.id }}}}', at: '{{{{ now() }}}}', tag: '{{{{ uuid() }}}}'{more} }}"),
        ) + "sync: changed\n"
    };
    let world = World::new().pipeline(&stamped(""), things(3));
    let mut seen = 0;
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen).len(), 3);
    world.write("data/things.csv", "id,name\nt3,thing 3\nt2,thing 2\n");
    world.run("apply p").exits(0);
    assert!(put(&world, &mut seen).is_empty(), "the run, its time and a uuid are no change");
    world.write("pipelines/p.yaml", stamped(", more: 1"));
    world.write("data/things.csv", "id,name\nt2,thing 2\nt3,thing 3\n");
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen), ["t2", "t3"]);
}

#[test]
fn what_is_in_doubt_is_held_and_removed_runs_are_remembered() {
    let hold = changed().replace("delivery: {", "delivery: { in_doubt: hold,");
    let world =
        World::new().pipeline(&hold, things(3)).script("PUT /things/t2 #1 -> reset").file("runner.yaml", "");
    let connection =
        format!("keep: {{ runs: 1, days: 1 }}\nconnections:\n  local: {{ base_url: \"{}\" }}\n", world.url());
    world.write("runner.yaml", connection);
    let mut seen = 0;
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [1]);
    world.run("resolve p --all --delivered").exits(0);
    put(&world, &mut seen);
    world.answers("");
    // Of t2 nobody noted what arrived, so it is sent.
    world.write("data/things.csv", "id,name\nt1,thing 1\nt2,thing 2\n");
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen), ["t2"]);
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        // Only t9 changes; what older runs delivered outlives them.
        world.write("data/things.csv", format!("id,name\nt9,{name}\nt1,thing 1\nt2,thing 2\n"));
        let long_ago = "UPDATE run SET started_at = '2020-01-01T00:00:00Z', closed_at = started_at";
        world.checkpoint("p").execute(long_ago, []).expect("an update");
        world.run("apply p").exits(0);
        assert_eq!(put(&world, &mut seen), ["t9"], "round {round}");
    }
    let runs = std::fs::read_dir(world.path(".runner/default/runs/p")).expect("runs").count();
    assert!(runs <= 2, "{runs} runs are kept");
}

#[test]
fn calls_with_several_records_and_steps_are_compared_as_well() {
    let bulk = "connection: local\nendpoint: { method: POST, path: /load, idempotency: natural }\n\
                source: { file: data/things.csv }\nkey: '{{ record.id }}'\nbatch: { size: 10 }\nsync: changed\n";
    let world = World::new().pipeline(bulk, things(4));
    world.run("apply p").exits(0);
    world.write("data/things.csv", "id,name\nt4,thing 4\nt3,three\nt1,thing 1\n");
    world.run("apply p").exits(0);
    let last: Value = serde_json::from_slice(&world.seen().last().expect("a call").body).expect("JSON");
    assert_eq!(last.as_array().map(Vec::len), Some(1));
    assert_eq!(last[0]["name"], "three");

    let steps = "connection: local\nsource: { file: data/things.csv }\nkey: '{{ record.id }}'\nsync: changed\nsteps:\n  \
        - { id: one, endpoint: { method: PUT, path: '/things/{{ record.id }}', body: { id: '{{ record.id }}' }, idempotency: natural, captures: { id: '{{ response.body.id }}' } } }\n  \
        - { id: two, endpoint: { method: PUT, path: '/things/{{ steps.one.captures.id }}-2', body: { name: '{{ record.name }}' }, idempotency: natural } }\n";
    let world = World::new().pipeline(steps, things(2));
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 4);
    // Only the second call of t2 would be another.
    world.write("data/things.csv", "id,name\nt2,two\nt1,thing 1\n");
    world.run("apply p").exits(0).says("1 delivered");
    assert_eq!(world.seen().len(), 6);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 1);
}

#[test]
fn without_a_key_nothing_tells_what_was_delivered() {
    let world = World::new().pipeline(&changed().replace("key: '{{ record.id }}'\n", ""), things(1));
    world.run("validate").exits(3).says("`sync: changed` needs a `key`");
    let creates = "connection: local\nendpoint: { method: POST, path: /things }\nsource: { file: data/things.csv }\n\
                   key: '{{ record.id }}'\nsync: changed\n";
    let world = World::new().pipeline(creates, things(1));
    world.run("validate").exits(0).says("would create it a second time");
}

#[test]
fn an_input_that_is_put_back_is_a_change() {
    let world = World::new().pipeline(&changed(), "id,name\na,1\nb,1\n");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", "id,name\na,2\nb,1\n");
    world.run("apply p").exits(0);
    assert_eq!(put(&world, &mut seen), ["a", "a", "b"]);
    world.write("data/things.csv", "id,name\na,1\nb,1\n");
    assert_eq!(world.run("plan p --format json").exits(0).json()["summary"]["counts"]["send"], 1);
    world.run("apply p").exits(0).says("1 delivered");
    assert_eq!(put(&world, &mut seen), ["a"]);
    world.run("apply p").exits(0).says("nothing to do");
}
