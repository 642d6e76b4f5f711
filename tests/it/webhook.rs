//! Replies that are sent on to somewhere else: all of them, signed, and without holding up delivery.

use serde_json::Value;

use crate::world::{POST_THINGS, World, things};

fn world(records: usize, webhook: &str) -> World {
    let world = World::new();
    let url = world.url();
    let connections = format!(
        "connections:\n  local: {{ base_url: \"{url}\" }}\n  hook:\n    base_url: \"{url}\"\n    key: {{ env: HOOK_KEY }}\n    \
         auth: {{ hmac: {{ algorithm: sha256, key: key, header: X-Signature, sign: [time, body], join: '.', \
         time: {{ header: X-Timestamp, format: unix }} }} }}\n"
    );
    let pipeline =
        format!("{POST_THINGS}responses: {{ webhook: {{ connection: hook, path: /load{webhook} }} }}\n");
    world
        .file("runner.yaml", connections)
        .file(".env", "HOOK_KEY=a-key-of-the-hook\n")
        .pipeline(&pipeline, things(records))
}

/// The lines of each call of the webhook.
fn sent_on(world: &World) -> Vec<Vec<Value>> {
    let seen = world.seen();
    let calls = seen.iter().filter(|seen| seen.path == "/load");
    calls.map(|seen| serde_json::from_slice(&seen.body).expect("a list")).collect()
}

fn keys(calls: &[Vec<Value>]) -> Vec<String> {
    calls.iter().flatten().map(|line| line["key"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn every_reply_is_sent_on_once_and_signed() {
    let world = world(5, ", batch: 2").script("POST /things body.id=t3 -> 422");
    world.run("apply p").exits(1).says("p.webhook: 5 delivered");
    let calls = sent_on(&world);
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let mut sent = keys(&calls);
    sent.sort();
    assert_eq!(sent, ["t1", "t2", "t3", "t4", "t5"]);
    let failed: Vec<&Value> = calls.iter().flatten().filter(|line| line["state"] == "failed").collect();
    assert_eq!((failed.len(), &failed[0]["status"]), (1, &422.into()));
    for seen in world.seen().iter().filter(|seen| seen.path == "/load") {
        for header in ["x-signature", "x-timestamp", "idempotency-key"] {
            assert!(seen.headers.contains_key(header), "{header}");
        }
    }
    // Nothing new, nothing sent; what a retry brings goes after.
    world.run("apply p").exits(1);
    assert_eq!(sent_on(&world).len(), 3);
    world.answers("");
    world.run("retry p").exits(0);
    assert_eq!(keys(&sent_on(&world)[3..]), ["t3"]);
    // Another input is another run, with replies of its own.
    world.write("data/things.csv", "id,name\nt9,thing 9\n");
    world.run("apply p --again").exits(0);
    assert_eq!(keys(&sent_on(&world)[4..]), ["t9"]);
}

#[test]
fn a_hook_that_is_down_holds_up_nothing_and_gets_all_later() {
    let world = world(3, "").script("POST /load -> 503");
    let run = world.run("apply p").says("p: 3 delivered");
    assert!([6, 7, 9].contains(&run.code), "{}", run.stderr);
    world.write("data/things.csv", "id,name\nt9,thing 9\n");
    world.run("apply p --again").says("p: 1 delivered");
    world.answers("");
    let before = sent_on(&world).len();
    world.run("apply p").exits(0).says("p: nothing to do");
    let mut sent = keys(&sent_on(&world)[before..]);
    sent.sort();
    assert_eq!(sent, ["t1", "t2", "t3", "t9"]);
    let status = world.run("status p.webhook --format json").json();
    assert_eq!(status["summary"]["counts"]["in_doubt"], 0, "{status}");
    assert_eq!(world.asked().iter().filter(|asked| *asked == "POST /things").count(), 4);
}

#[test]
fn what_is_wrong_with_a_webhook_is_found_before_anything_is_sent() {
    for (webhook, says) in [
        ("{ connection: nobody, path: /x }", "runner.yaml has no connection `nobody`"),
        ("{ connection: hook }", "`webhook` needs `path`"),
        ("{ connection: hook, path: x }", "begins with"),
        ("{ connection: hook, path: /x, sign: hmac }", "the connection signs"),
        ("{ url: 'https://a.example/x' }", "the connection in runner.yaml has the host"),
    ] {
        let world = world(1, "");
        world.write("pipelines/p.yaml", format!("{POST_THINGS}responses: {{ webhook: {webhook} }}\n"));
        world.run("validate").exits(3).says(says);
        world.run("apply p").exits(3);
        assert!(world.seen().is_empty());
    }
}

#[test]
fn what_the_hook_refused_is_known_and_can_be_sent_again() {
    let world = world(3, "").script("POST /load -> 422");
    world.run("apply p").exits(1).says("p: 3 delivered").says("runner retry p.webhook");
    assert_eq!(sent_on(&world).len(), 1);
    let status = world.run("status p.webhook").stdout;
    assert!(status.contains("3 failed"), "{status}");
    world.answers("");
    // By itself nothing that was refused is sent again.
    world.run("apply p").exits(1);
    assert_eq!(sent_on(&world).len(), 1);
    world.run("retry p.webhook").exits(0).says("3 delivered");
    assert_eq!(keys(&sent_on(&world)[1..]).len(), 3);
    world.run("apply p").exits(0);
    world.run("status nobody.webhook").exits(3).says("there is no pipeline `nobody.webhook`");
}
