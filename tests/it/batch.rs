//! Several records in one call: who shares one, what each of them becomes, and that nothing goes twice.

use std::collections::BTreeMap;

use runner::sandbox::Seen;
use serde_json::Value;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, Said};
use crate::world::{World, things};

/// A pipeline over `data/things.csv` that sends its rows together; `/bulk` tells of each.
pub fn bulk(batch: &str, endpoint: &str, more: &str) -> String {
    format!(
        "connection: local\nendpoint: {{ method: POST, path: /bulk{endpoint} }}\n\
         source: {{ file: data/things.csv }}\nkey: {{ value: '{{{{ record.id }}}}', public: true }}\n\
         batch: {{ replies: {{ at: '{{{{ response.body.results }}}}', status: '{{{{ reply.status }}}}', \
         message: '{{{{ reply.why }}}}', captures: {{ number: '{{{{ reply.number }}}}' }}, \
         match: {{ item: '{{{{ item.id }}}}', reply: '{{{{ reply.id }}}}' }} }}{batch} }}\n\
         delivery: {{ retry: {{ first_wait: 1ms, max_wait: 5ms }}{more} }}\n"
    )
}

/// The ids in the body of each request.
fn ids(seen: &[Seen]) -> Vec<Vec<String>> {
    let ids = |seen: &Seen| {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        let items = body.as_array().expect("a list");
        items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    seen.iter().map(ids).collect()
}

/// How often each thing was sent.
fn times(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for id in ids(seen).into_iter().flatten() {
        *times.entry(id).or_default() += 1;
    }
    times
}

fn with_names(names: &[&str]) -> String {
    let rows: Vec<String> = names.iter().enumerate().map(|(n, name)| format!("t{},{name}", n + 1)).collect();
    format!("id,name\n{}\n", rows.join("\n"))
}

#[test]
fn of_five_records_the_third_fails_and_the_first_two_are_never_sent_again() {
    let world = World::new().pipeline(&bulk("", "", ""), with_names(&["a", "b", "bad", "d", "e"]));
    world.run("apply p").exits(1);
    assert_eq!(ids(&world.seen()), [["t1", "t2", "t3", "t4", "t5"]]);
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(DELIVERED), [0, 1, 3, 4]);
    assert_eq!(said.in_state(FAILED), [2]);
    assert_eq!(said.rows[&2].message, "`bad` is no name");
    // Only what failed goes again, and only when it is asked for.
    world.run("apply p").exits(1);
    assert_eq!(world.seen().len(), 1);
    world.run("retry p").exits(1);
    assert_eq!(ids(&world.seen()[1..]), [["t3"]]);
    let delivered = world.outcomes("delivered.csv");
    assert!(delivered.lines().next().is_some_and(|head| head.ends_with("number")), "{delivered}");
    assert_eq!(delivered.lines().count(), 5);
}

#[test]
fn two_tenants_in_one_window_make_two_calls() {
    let rows = with_names(&["acme", "zen", "acme", "zen", "acme"]);
    let headers = ", headers: { X-Tenant: '{{ record.name }}' }";
    let world = World::new().pipeline(&bulk("", headers, ", concurrency: 1"), rows.clone());
    world.run("apply p").exits(0);
    assert_eq!(ids(&world.seen()), [vec!["t1", "t3", "t5"], vec!["t2", "t4"]]);
    let tenant = |seen: &Seen| seen.headers["x-tenant"].to_str().expect("text").to_owned();
    assert_eq!(world.seen().iter().map(tenant).collect::<Vec<_>>(), ["acme", "zen"]);
    // The same by a field of the record, where the requests do not differ.
    let by_field = bulk(", group_by: '{{ record.name }}'", "", ", concurrency: 1");
    let world = World::new().pipeline(&by_field, rows);
    world.run("apply p").exits(0);
    assert_eq!(ids(&world.seen()), [vec!["t1", "t3", "t5"], vec!["t2", "t4"]]);
}

#[test]
fn what_a_result_puts_off_goes_again_alone() {
    let body = r#"{"results":[{"id":"t1","status":201,"number":"1"},{"id":"t2","status":429},{"id":"t3","status":201,"number":"3"}]}"#;
    let world = World::new()
        .pipeline(&bulk("", "", ""), things(3))
        .script(&format!("POST /bulk #1 -> 207 content-type=application/json body='{body}'"));
    world.run("apply p").exits(0);
    assert_eq!(ids(&world.seen()), [vec!["t1", "t2", "t3"], vec!["t2"]]);
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(DELIVERED), [0, 1, 2]);
    assert_eq!((said.rows[&0].attempts, said.rows[&1].attempts), (1, 2));
}

#[test]
fn a_record_without_a_result_is_in_doubt_and_is_not_sent_again_by_itself() {
    let body = r#"{"results":[{"id":"t1","status":201},{"id":"t3","status":500}]}"#;
    let script = format!("POST /bulk #1 -> 207 content-type=application/json body='{body}'");
    let world = World::new().pipeline(&bulk("", "", ""), things(3)).script(&script);
    for _ in 0..2 {
        world.run("apply p").exits(6);
        let said = Said::of(&world, "p");
        assert_eq!((said.in_state(DELIVERED), said.in_state(IN_DOUBT)), (vec![0], vec![1, 2]));
        assert_eq!(said.rows[&1].message, "the reply says nothing of it");
        assert_eq!(world.seen().len(), 1);
    }
    // Where a repeat is harmless it goes again, without those of whom it is known.
    let natural = bulk("", ", idempotency: natural", "");
    let world = World::new().pipeline(&natural, things(3)).script(&script);
    world.run("apply p").exits(0);
    assert_eq!(ids(&world.seen()), [vec!["t1", "t2", "t3"], vec!["t2", "t3"]]);
    // Under a key they would go out in a call with another key.
    let keyed = bulk("", ", idempotency: { header: Idempotency-Key }", "");
    let world = World::new().pipeline(&keyed, things(3)).script(&script);
    world.run("apply p").exits(6);
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn results_that_cannot_be_told_apart_tell_of_nobody() {
    let reply = |body: &str| format!("POST /bulk #1 -> 207 content-type=application/json body='{body}'");
    let by_position = "connection: local\nendpoint: { method: POST, path: /bulk }\n\
         source: { file: data/things.csv }\nbatch: { replies: { at: '{{ response.body }}', delivered: '{{ reply.ok }}' } }\n";
    for (body, delivered, doubt) in [
        (r#"[{"ok":true},{"ok":true}]"#, vec![0, 1], vec![]),
        (r#"[{"ok":true}]"#, vec![], vec![0, 1]),
        (r#"[{"ok":true},{"ok":true},{"ok":true}]"#, vec![], vec![0, 1]),
        (r#"[{"ok":true},{"okay":true}]"#, vec![0], vec![1]),
        (r#"{"ok":true}"#, vec![], vec![0, 1]),
        ("nonsense", vec![], vec![0, 1]),
    ] {
        let world = World::new().pipeline(by_position, things(2)).script(&reply(body));
        world.run("apply p").exits(if doubt.is_empty() { 0 } else { 6 });
        let said = Said::of(&world, "p");
        assert_eq!((said.in_state(DELIVERED), said.in_state(IN_DOUBT)), (delivered, doubt), "{body}");
    }
    // Two results of one id.
    let twice = r#"{"results":[{"id":"t1","status":201},{"id":"t1","status":400},{"id":"t2","status":201}]}"#;
    let world = World::new().pipeline(&bulk("", "", ""), things(2)).script(&reply(twice));
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [0]);
    // 207 where nobody said how it is read.
    let plain = "connection: local\nendpoint: { method: POST, path: /bulk }\n\
         source: { file: data/things.csv }\nbatch: { size: 2 }\n";
    let world = World::new().pipeline(plain, things(2));
    world.run("apply p").exits(6).says("`batch.replies` says where");
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [0, 1]);
}

/// A pipeline of calls that are taken or refused as a whole.
fn load(batch: &str) -> String {
    format!(
        "connection: local\nendpoint: {{ method: POST, path: /load }}\nsource: {{ file: data/things.csv }}\n\
         key: '{{{{ record.id }}}}'\nbatch: {{ {batch} }}\n\
         delivery: {{ concurrency: 1, retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n"
    )
}

#[test]
fn a_refused_call_is_halved_until_the_record_at_fault_stands_alone() {
    let rows = with_names(&["a", "b", "c", "d", "bad", "f", "g", "h"]);
    let world = World::new().pipeline(&load("on_reject: bisect"), &rows);
    // The far side answers 400 and makes nothing.
    world.run("apply p").exits(1);
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(FAILED), [4]);
    assert_eq!(said.in_state(DELIVERED).len(), 7);
    let accepted: Vec<Seen> = world.seen().into_iter().filter(|seen| seen.accepted).collect();
    assert!(times(&accepted).values().all(|times| *times == 1), "{accepted:?}");
    // Without it all share the fate of the call.
    let world = World::new().pipeline(&load("size: 4"), &rows);
    world.run("apply p").exits(1);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(FAILED)), (vec![0, 1, 2, 3], vec![4, 5, 6, 7]));
    assert_eq!(world.seen().len(), 2);
    // What may have been applied is not halved.
    let world =
        World::new().pipeline(&load("on_reject: bisect"), things(4)).script("POST /load -> cut_after_effect");
    world.run("apply p").exits(6);
    assert_eq!((world.seen().len(), Said::of(&world, "p").in_state(IN_DOUBT).len()), (1, 4));
}

#[test]
fn calls_are_put_together_by_the_algorithm() {
    let calls = |batch: &str, n: usize| {
        let world = World::new().pipeline(&load(batch), things(n));
        world.run("apply p").exits(0);
        ids(&world.seen()).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(calls("size: 3", 7), [3, 3, 1]);
    assert_eq!(calls("size: 3, algorithm: balanced", 7), [3, 2, 2]);
    assert_eq!(calls("size: 3", 130), [vec![3; 43], vec![1]].concat());
    // One thing is `{"id":"t1","name":"thing 1"}`, 28 bytes: three and what joins them are 88.
    assert_eq!(calls("max_bytes: 90B", 7), [3, 3, 1]);
    assert_eq!(calls("max_bytes: 90B, algorithm: by_size", 7), [3, 3, 1]);
    // What stands around them counts, too: one fits, or none does.
    let padded = |padding: usize| {
        let padding = "x".repeat(padding);
        load(&format!("max_bytes: 90B, body: {{ padding: {padding}, things: '{{{{ batch.items }}}}' }}"))
    };
    let world = World::new().pipeline(&padded(29), things(4));
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 4);
    let world = World::new().pipeline(&padded(60), things(4));
    world.run("apply p").exits(1).says("body has 114 bytes and the limit is 90");
    assert_eq!(world.seen().len(), 0);
}

#[test]
fn a_killed_call_goes_again_with_the_same_bytes_and_key() {
    for (endpoint, keyed) in
        [(", idempotency: natural", false), (", idempotency: { header: Idempotency-Key }", true)]
    {
        let world = World::new()
            .pipeline(&bulk(", size: 4", endpoint, ", concurrency: 3"), things(30))
            .script("POST /bulk #3-5 -> hang act");
        let running = world.start("apply p");
        assert!(world.until(&running, 5));
        running.kill(&world);
        world.answers("");
        world.run("apply p").exits(0);
        assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 30);
        let seen = world.seen();
        let mut bodies: BTreeMap<Vec<u8>, Vec<&Seen>> = BTreeMap::new();
        for one in &seen {
            bodies.entry(one.body.to_vec()).or_default().push(one);
        }
        let again: Vec<_> = bodies.values().filter(|seen| seen.len() > 1).collect();
        assert!(again.len() >= 3, "{} calls went again", again.len());
        // Eight calls in all: none was put together otherwise.
        assert_eq!(bodies.len(), 8, "{:?}", ids(&seen));
        if keyed {
            for seen in again {
                assert_eq!(seen[0].headers["idempotency-key"], seen[1].headers["idempotency-key"]);
            }
        }
    }
}

#[test]
fn of_a_killed_plain_post_all_records_of_its_calls_are_in_doubt() {
    let world = World::new()
        .pipeline(&bulk(", size: 4", "", ", concurrency: 2"), things(20))
        .script("POST /bulk #3-4 -> hang act");
    let running = world.start("apply p");
    assert!(world.until(&running, 4));
    running.kill(&world);
    world.answers("");
    world.run("apply p").exits(6);
    let said = Said::of(&world, "p");
    let sent = times(&world.seen());
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
    assert!(said.in_state(IN_DOUBT).len() >= 8, "{:?}", said.in_state(IN_DOUBT));
    assert_eq!(said.in_state(IN_DOUBT).len() + said.in_state(DELIVERED).len(), 20);
    assert_eq!(world.outcomes("in_doubt.csv").lines().count(), said.in_state(IN_DOUBT).len() + 1);
    // A person settles them.
    world.run("resolve p --delivered --all").exits(0);
    world.run("apply p").exits(0);
    assert_eq!(sent, times(&world.seen()));
}

#[test]
fn preview_and_plan_show_the_calls() {
    let world = World::new().pipeline(&bulk(", size: 2", "", ""), things(5));
    let shown = world.run("preview p --limit 4").exits(0).stdout.clone();
    insta::assert_snapshot!(world.plain(&shown));
    let planned = world.run("plan p").exits(0);
    assert!(planned.stdout.contains("5 records in 3 calls"), "{}", planned.stdout);
    assert!(world.seen().is_empty());
}

#[test]
fn a_single_try_is_read_by_its_result_and_explain_names_the_call() {
    let world = World::new().pipeline(&bulk(", size: 2", "", ""), with_names(&["a", "bad", "c"]));
    world.write("one.json", r#"{"id":"t9","name":"bad"}"#);
    let tried = world.run("try p --payload one.json").exits(1).stdout;
    assert!(tried.contains("failed: item_400: `bad` is no name"), "{tried}");
    world.run("try p --record t1").exits(0);
    world.run("apply p").exits(1);
    assert_eq!(ids(&world.seen()), [vec!["t9"], vec!["t1"], vec!["t2", "t3"]]);
    let said = world.run("explain p t3").exits(0).stdout;
    assert!(said.contains("in call 2 of 2 records"), "{said}");
    assert!(said.contains("its request in a call of its own"), "{said}");
}

#[test]
fn the_same_key_twice_never_shares_a_call() {
    let rows = "id,name\nt1,a\nt2,b\nt1,c\nt3,d\n";
    let pipeline = format!("{}select: {{ duplicates: allow }}\n", bulk("", "", ""));
    let world = World::new().pipeline(&pipeline, rows);
    world.run("apply p").exits(0);
    assert_eq!(ids(&world.seen()), [vec!["t1", "t2"], vec!["t1", "t3"]]);
}

#[test]
fn what_has_an_order_goes_one_call_behind_the_other() {
    let rows: Vec<String> = (0..40).map(|n| format!("t{n},g{}", n % 3)).collect();
    let rows = format!("id,name\n{}\n", rows.join("\n"));
    let ordered = ", order_by: '{{ record.name }}', concurrency: 16";
    let world = World::new()
        .pipeline(&bulk(", size: 3", "", ordered), rows)
        .script("POST /bulk every=4 -> late 4ms\nPOST /bulk every=3 -> delay 5ms");
    world.run("apply p").exits(0);
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for seen in world.seen() {
        let body: Vec<Value> = serde_json::from_slice(&seen.body).expect("a list");
        for item in body {
            let number: usize = item["id"].as_str().and_then(|id| id[1..].parse().ok()).expect("an id");
            let before = last.insert(item["name"].to_string(), number);
            assert!(before.is_none_or(|before| before < number), "{number} behind {before:?}");
        }
    }
    assert!(ids(&world.seen()).iter().all(|call| call.len() <= 3));
    // Behind one in doubt nothing of its order goes; the others of its call do.
    let body = r#"{"results":[{"id":"t0","status":201},{"id":"t2","status":201}]}"#;
    let rows = "id,name\nt0,a\nt1,b\nt2,c\nt3,b\nt4,a\nt5,c\n";
    let world = World::new()
        .pipeline(&bulk(", size: 3", "", ordered), rows)
        .script(&format!("POST /bulk #1 -> 207 body='{body}'"));
    for _ in 0..2 {
        world.run("apply p").exits(6);
        let said = Said::of(&world, "p");
        assert_eq!((said.in_state(IN_DOUBT), said.in_state(DELIVERED)), (vec![1], vec![0, 2, 4, 5]));
        assert_eq!(said.rows[&3].message, "behind record 2 in doubt");
    }
}

#[test]
fn a_reply_that_lists_failures_only_must_name_them_well() {
    let pipeline = |missing: &str| {
        format!(
            "connection: local\nendpoint: {{ method: POST, path: /bulk }}\nsource: {{ file: data/things.csv }}\n\
             batch: {{ replies: {{ at: '{{{{ response.body }}}}', delivered: '{{{{ false }}}}', missing: {missing}, \
             match: {{ item: '{{{{ item.id }}}}', reply: '{{{{ reply.id }}}}' }} }} }}\n"
        )
    };
    for (body, delivered, failed, doubt) in [
        ("[]", vec![0, 1, 2], vec![], vec![]),
        (r#"[{"id":"t2"}]"#, vec![0, 2], vec![1], vec![]),
        // Two errors of one record, and an error of nobody.
        (r#"[{"id":"t2"},{"id":"t2"}]"#, vec![], vec![], vec![0, 1, 2]),
        (r#"[{"id":"t2"},{"id":"t99"}]"#, vec![], vec![1], vec![0, 2]),
    ] {
        let world = World::new()
            .pipeline(&pipeline("delivered"), things(3))
            .script(&format!("POST /bulk -> 200 body='{body}'"));
        world.run("apply p");
        let said = Said::of(&world, "p");
        let found = (said.in_state(DELIVERED), said.in_state(FAILED), said.in_state(IN_DOUBT));
        assert_eq!(found, (delivered, failed, doubt), "{body}");
    }
}

#[test]
fn an_open_call_that_became_too_large_is_held_or_halved_and_never_forgotten() {
    // It may have arrived: it is held, as it cannot be made again.
    let natural = ", idempotency: natural";
    let world =
        World::new().pipeline(&bulk(", size: 4", natural, ""), things(8)).script("POST /bulk -> hang act");
    let running = world.start("apply p");
    assert!(world.until(&running, 2));
    running.kill(&world);
    world.answers("");
    world.write("pipelines/p.yaml", bulk(", size: 4, max_bytes: 100B", natural, ""));
    world.run("apply p").exits(6).says("cannot be made again");
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT).len(), 8);
    assert_eq!(world.seen().len(), 2);
    // It certainly did nothing: its records go in smaller calls.
    let world = World::new()
        .pipeline(&bulk(", size: 4", "", ""), things(8))
        .script("POST /bulk -> 429 retry-after=3600");
    world.run("apply p").exits(7);
    world.answers("");
    world.write("pipelines/p.yaml", bulk(", size: 4, max_bytes: 100B", "", ""));
    world.run("apply p").exits(0);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 8);
    assert!(ids(&world.seen()).iter().rev().take(3).all(|call| call.len() < 4));
}

#[test]
fn a_refusal_of_what_may_have_arrived_before_settles_only_itself() {
    let world = World::new()
        .pipeline(&bulk(", on_reject: bisect", "", ""), things(3))
        .script("POST /bulk #1 -> cut_after_effect");
    world.run("apply p").exits(6);
    world.run("resolve p --resend --all").exits(0);
    world.answers("POST /bulk -> 422");
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT).len(), 3);
    // Not halved either.
    assert_eq!(world.seen().len(), 2);
}

#[test]
fn copies_wait_until_the_calls_of_the_run_are_settled() {
    let world = World::new()
        .pipeline(&bulk(", size: 2", "", ", concurrency: 1"), with_names(&["bad", "b", "c", "d"]));
    world.run("apply p --limit 2").exits(1);
    world.write("fixed.csv", world.outcomes("failed.csv").replace("bad", "good"));
    world.answers("POST /bulk -> hang act");
    let running = world.start("apply p");
    assert!(world.until(&running, 2));
    running.kill(&world);
    world.answers("");
    let sent = world.seen().len();
    world.run("apply p --input fixed.csv").exits(5);
    assert_eq!(world.seen().len(), sent);
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [2, 3]);
    assert_eq!(world.seen().len(), sent);
}

#[test]
fn each_record_of_a_call_has_its_own_line_of_the_reply() {
    let pipeline = format!("{}responses: {{ file: true }}\n", bulk("", "", ""));
    let world = World::new().pipeline(&pipeline, with_names(&["a", "bad"]));
    world.run("apply p").exits(1);
    let lines: Vec<Value> = world
        .outcomes("responses.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    for (line, (id, state, status)) in lines.iter().zip([("t1", "delivered", 201), ("t2", "failed", 400)]) {
        assert_eq!((&line["reply"]["id"], &line["state"]), (&id.into(), &state.into()), "{line}");
        assert_eq!((&line["reply"]["status"], &line["call"]), (&status.into(), &1.into()), "{line}");
    }
}

#[test]
fn a_batch_that_cannot_work_is_refused() {
    for (batch, wanted) in [
        ("batch: { algorithm: by_size }", "`by_size` fills calls by bytes"),
        ("batch: { algorithm: by_field }", "`by_field` needs the field"),
        ("batch: { max_wait: 5s }", "no call waits for records"),
        ("batch: { body: { x: '{{ record.id }}' } }", "record"),
        (
            "batch: { replies: { at: '{{ response.body }}', delivered: '{{ reply.a }}', status: '{{ reply.b }}' } }",
            "both `delivered` and `status`",
        ),
        ("content: text\nbody: x\nbatch: { size: 2 }", "a batch is sent as a list"),
        ("method: GET\nbatch: { size: 2 }", "GET has no body"),
        ("batch: { size: 2 }\ndelivery: { in_doubt: probe }", "asks about one record"),
    ] {
        let pipeline = format!(
            "connection: local\nendpoint: {{ method: POST, path: /load }}\nsource: {{ file: data/things.csv }}\n{batch}\n"
        );
        let world = World::new().pipeline(&pipeline, things(2));
        let run = world.run("validate");
        assert_eq!(run.code, 3, "{batch}: {}", run.stderr);
        assert!(
            run.stderr.contains(wanted) || run.stdout.contains(wanted),
            "{batch}: {}{}",
            run.stdout,
            run.stderr
        );
    }
}
