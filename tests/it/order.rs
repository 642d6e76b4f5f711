//! `order_by`: what belongs together goes one behind the other, and waits behind what is held.

use std::collections::BTreeMap;

use crate::oracle::{DELIVERED, IN_DOUBT, PENDING, Said};
use crate::world::World;

fn by_group(more: &str) -> String {
    format!(
        "connection: local\nendpoint: {{ method: POST, path: /things }}\nsource: {{ file: data/things.csv }}\n\
         key: '{{{{ record.id }}}}'\ndelivery: {{ order_by: '{{{{ record.name }}}}', concurrency: 64, \
         retry: {{ first_wait: 1ms, max_wait: 5ms }}{more} }}\n"
    )
}

fn rows(n: usize, groups: usize) -> String {
    let rows: Vec<String> = (0..n).map(|id| format!("t{id},g{}", id % groups)).collect();
    format!("id,name\n{}", rows.join("\n"))
}

#[test]
fn one_of_a_group_at_a_time_and_in_the_order_of_the_input() {
    // Each group answers slowly and unevenly; with two of a group under way their order would break.
    let world = World::new().pipeline(&by_group(""), rows(300, 7)).script(
        "POST * every=11 -> 429 retry-after=0\nPOST * every=3 -> late 4ms\nPOST * every=5 -> delay 6ms",
    );
    world.run("apply p").exits(0);
    let mut order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seen in world.seen().iter().filter(|seen| seen.accepted) {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        let id = body["id"].as_str().and_then(|id| id[1..].parse().ok()).expect("an id");
        order.entry(body["name"].to_string()).or_default().push(id);
    }
    assert_eq!(order.len(), 7);
    for (group, ids) in order {
        assert!(ids.is_sorted(), "{group}: {ids:?}");
        assert_eq!(ids.len(), if group == "\"g6\"" { 42 } else { 43 });
    }
    // While the first of each group waits for its answer, nothing else goes out.
    let world = World::new().pipeline(&by_group(", stop_grace: 1ms"), rows(300, 7)).script("* * -> hang");
    let running = world.start("apply p");
    assert!(world.until(&running, 7));
    running.signal(rustix::process::Signal::TERM);
    let mut running = running;
    running.ended(&world).exits(7);
    assert_eq!(world.seen().len(), 7);
}

#[test]
fn behind_a_held_record_nothing_goes_out_in_this_start_and_the_next() {
    let world = World::new()
        .pipeline(&by_group(""), rows(30, 3))
        .script("POST /things body.id=t4 -> cut_after_effect");
    for start in 0..3 {
        world.run("apply p").exits(6);
        let said = Said::of(&world, "p");
        assert_eq!(said.in_state(IN_DOUBT), [4], "start {start}");
        assert_eq!(said.in_state(PENDING), [7, 10, 13, 16, 19, 22, 25, 28], "start {start}");
        assert!(said.rows[&28].message.contains("behind record 5 in doubt"), "{:?}", said.rows[&28]);
        assert_eq!(said.in_state(DELIVERED).len(), 21);
        assert_eq!(world.seen().len(), 22, "start {start}");
    }
    assert!(world.outcomes("unsent.csv").contains("behind record 5 in doubt"));
}

#[test]
fn hold_rest_waits_behind_a_failure_also_in_the_next_start() {
    let world = World::new()
        .pipeline(&by_group(", on_failure: hold_rest"), rows(30, 3))
        .script("POST /things body.id=t4 -> 422");
    for _ in 0..2 {
        world.run("apply p").exits(1);
        let said = Said::of(&world, "p");
        assert_eq!(said.in_state(PENDING).len(), 8);
        assert!(said.rows[&7].message.contains("behind record 5 failed"), "{:?}", said.rows[&7]);
        assert_eq!(world.seen().len(), 22);
    }
    world.answers("");
    world.run("retry p").exits(0);
    world.run("apply p").exits(0);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 30);
}
