//! Tokens that are fetched: waiting for one is no doubt, all of a process share one, and none is shown.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::auth::{SECRET, TOKENS, asked_for_tokens, carried, oauth2, run, stands_nowhere};
use crate::batch::bulk;
use crate::oracle::{IN_DOUBT, IN_FLIGHT, Said};
use crate::steps::steps;
use crate::world::{POST_THINGS, PUT_THINGS, Running, World};

fn start(world: &World, arguments: &str) -> Running {
    Running::of(world.command(arguments).env("CLIENT_SECRET", SECRET))
}

/// How often each request went out, by path and body.
fn times(world: &World) -> BTreeMap<(String, String), usize> {
    let mut times = BTreeMap::new();
    for seen in world.seen().iter().filter(|seen| seen.path != "/login") {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        *times.entry((seen.path.clone(), body)).or_default() += 1;
    }
    times
}

const NO_PACE: &str = "delivery: { concurrency: 1,";

/// Every way in which requests leave that could act twice.
fn pipelines() -> [(&'static str, String); 4] {
    [
        ("one call", POST_THINGS.to_owned()),
        (
            "a key",
            POST_THINGS
                .replace("path: /things }", "path: /things, idempotency: { header: Idempotency-Key } }"),
        ),
        ("several records in a call", bulk(", size: 2", "", "")),
        ("steps", steps("", "")),
    ]
}

#[test]
fn a_process_that_is_killed_while_it_waits_for_a_token_leaves_no_doubt() {
    for (what, pipeline) in pipelines() {
        let world = oauth2(&pipeline, 5, "POST /login -> hang\n");
        let running = start(&world, "apply p");
        assert!(world.until(&running, 1), "{what}");
        running.kill(&world);
        let said = Said::of(&world, "p");
        assert!(said.in_state(IN_FLIGHT).is_empty() && said.in_state(IN_DOUBT).is_empty(), "{what}");
        world.answers(TOKENS);
        run(&world, "apply p").exits(0).says("5 delivered").says("0 in doubt");
        assert!(times(&world).values().all(|times| *times == 1), "{what}: {:?}", times(&world));
    }
}

#[test]
fn a_process_that_is_killed_while_it_renews_a_refused_token_leaves_no_doubt() {
    for (what, pipeline) in pipelines() {
        let pipeline = pipeline.replace("delivery: {", NO_PACE);
        // The second request, of steps the second step, is refused.
        let script = format!(
            "POST /login #2 -> hang\nPOST /bulk #2 -> 401\nPOST /posted -> 401\nPOST /things #2 -> 401\n{TOKENS}"
        );
        let world = oauth2(&pipeline, 5, &script);
        let running = start(&world, "apply p");
        assert!(world.until(&running, 4), "{what}: {:?}", world.asked());
        running.kill(&world);
        let said = Said::of(&world, "p");
        assert!(said.in_state(IN_FLIGHT).is_empty() && said.in_state(IN_DOUBT).is_empty(), "{what}");
        world.answers(TOKENS);
        run(&world, "apply p").exits(0).says("5 delivered").says("0 in doubt");
        let times: Vec<usize> = times(&world).into_values().collect();
        // Under a key what was answered just before the kill may go again, too.
        let most = if what == "a key" { 2 } else { 1 };
        let twice = times.iter().filter(|times| **times == 2).count();
        assert!(times.iter().all(|times| *times <= 2) && (1..=most).contains(&twice), "{what}: {times:?}");
    }
}

#[test]
fn ctrl_c_does_not_wait_for_a_token() {
    for (what, pipeline) in pipelines() {
        // The grace of 20 s is longer than any patience of this test.
        let world = oauth2(&pipeline, 5, "POST /login -> hang\n");
        let mut running = start(&world, "apply p");
        assert!(world.until(&running, 1), "{what}");
        running.signal(Signal::INT);
        let ended = running.ended(&world).says("0 in doubt").says("5 unsent");
        assert!(ended.by_signal, "{what}: {}", ended.stderr);
        world.answers(TOKENS);
        run(&world, "apply p").exits(0).says("5 delivered").says("0 in doubt");
        assert!(times(&world).values().all(|times| *times == 1), "{what}: {:?}", times(&world));
    }
}

#[test]
fn a_fetch_that_fails_leaves_no_doubt() {
    for (what, pipeline) in pipelines() {
        let world = oauth2(&pipeline, 5, "POST /login -> cut_before\n");
        run(&world, "apply p").exits(7).says("token-unavailable").says("0 in doubt").says("5 unsent");
        world.answers(TOKENS);
        run(&world, "apply p").exits(0).says("5 delivered");
        assert!(times(&world).values().all(|times| *times == 1), "{what}: {:?}", times(&world));
    }
}

#[test]
fn all_that_a_process_does_with_a_connection_shares_a_token() {
    let list = "endpoint: { method: GET, path: /lists/whole, query: { count: 3 }, pagination: { items: '{{ response.body.items }}', kind: none } }";
    let pipeline = format!(
        "connection: local\nsource: {{ {list} }}\nlookups: {{ known: {{ {list}, key: id }} }}\n\
         endpoint:\n  method: PUT\n  path: /things/{{{{ params.id }}}}\n  params: {{ id: {{ required: true }} }}\n  idempotency: natural\n\
         key: '{{{{ record.id }}}}'\nresponses: {{ webhook: {{ connection: local, path: /load }} }}\n"
    );
    let world = oauth2(&pipeline, 3, TOKENS);
    world.write("pipelines/q.yaml", PUT_THINGS);
    run(&world, "apply p q").exits(0).says("2 pipelines: 2 ended well");
    assert_eq!(asked_for_tokens(&world), 1);
    let paths: Vec<_> = world.seen().into_iter().map(|seen| seen.path).collect();
    for path in ["/lists/whole", "/things/i1", "/things/t1", "/load"] {
        assert!(paths.iter().any(|seen| seen.starts_with(path)), "{path}: {paths:?}");
    }
    assert!(carried(&world).iter().all(|token| token == "Bearer first-token-0815"));
}

#[test]
fn a_token_of_which_no_life_is_told_is_used_until_it_is_refused() {
    for life in ["0", "-1", "\"nan\"", "null"] {
        let script = format!("PUT /things/t3 #1 -> 401\n{}", TOKENS.replace("3600", life));
        let world = oauth2(&PUT_THINGS.replace("delivery: {", NO_PACE), 4, &script);
        run(&world, "apply p").exits(0).says("4 delivered");
        let (first, second) = ("Bearer first-token-0815", "Bearer second-token-0815");
        assert_eq!(carried(&world), [first, first, first, second, second], "{life}");
    }
}

#[test]
fn a_token_that_a_reply_repeats_is_in_no_output_whatever_its_form() {
    let forms = [
        "first-token/with+0815",
        "first-token%2Fwith%2B0815",
        "Zmlyc3QtdG9rZW4vd2l0aCswODE1",
        "first-token\\/with\\u002b0815",
        "66697273742d746f6b656e2f776974682b30383135",
    ];
    let pipeline = PUT_THINGS.replace(
        "  idempotency: natural\n",
        "  idempotency: natural\n  captures: { said: '{{ response.body.said }}' }\n",
    );
    let pipeline = format!("{}responses: {{ file: true }}\n", pipeline.replace("delivery: {", NO_PACE));
    let mut script = TOKENS.replace("first-token-0815", "first-token/with+0815");
    for (n, form) in forms.iter().enumerate() {
        // Kept replies, captures, messages of refusals; and after the token was renewed.
        script.extend([format!("PUT /things/t{} -> 200 body='{{\"said\":\"is {form}\"}}'\n", n + 1)]);
        script.extend([format!("PUT /things/t1{n} -> 422 class=\"x {form}\" message=\"not {form}\"\n")]);
    }
    script.push_str("PUT /things/t6 #1 -> 401\n");
    let world = oauth2(&pipeline, 14, &script);
    let ended = run(&world, "apply p -vvv");
    assert_eq!(asked_for_tokens(&world), 2, "{}", ended.stderr);
    world.answers(&script);
    let tried = run(&world, "try p --record t10 --yes");
    for form in forms {
        for text in [&ended.stdout, &ended.stderr, &tried.stdout, &tried.stderr] {
            assert!(!text.contains(form), "{form}: {text}");
        }
    }
    assert!(ended.stderr.contains("not ***"), "{}", ended.stderr);
    stands_nowhere(&world.path(".runner"), &forms);
}

#[test]
fn a_token_endpoint_that_names_a_wait_is_obeyed() {
    // The schedule alone would be over long before.
    let script = format!("POST /login first=1 -> 429 retry-after=1\n{}", TOKENS.replace("#1", "#2"));
    let world = oauth2(POST_THINGS, 5, &script);
    let pipeline = POST_THINGS.replace("delivery: { retry: {", "delivery: { retry: { attempts: 2,");
    world.write("pipelines/p.yaml", pipeline);
    run(&world, "apply p").exits(0).says("5 delivered");
    assert_eq!(asked_for_tokens(&world), 2);

    let world = oauth2(POST_THINGS, 5, "POST /login -> 503 retry-after=90000\n");
    run(&world, "apply p").exits(7).says("the token endpoint asked to wait").says("5 unsent");
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn a_token_that_cannot_be_renewed_fails_no_record() {
    // The fourth was answered before, but for what is left there is no token.
    let first = TOKENS.lines().nth(1).expect("a line");
    let script = format!(
        "{first}\nPOST /login -> 503\nPOST /things #4 -> 429 retry-after=0\nPOST /things after=4 -> 401\n"
    );
    let world = oauth2(&POST_THINGS.replace("delivery: {", NO_PACE), 8, &script);
    run(&world, "apply p").exits(7).says("token-unavailable").says("3 delivered, 0 failed").says("5 unsent");
}
