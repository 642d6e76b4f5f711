//! `explain`: everything known about one record, over all runs, and which line made which part.

use insta::assert_snapshot;

use crate::world::{PUT_THINGS, Run, World, things};

/// Without what differs from run to run: times.
fn timeless(run: &Run) -> String {
    let text: Vec<String> = run
        .stdout
        .lines()
        .map(|line| {
            // `  2026-11-25 02:14:09  attempt 1 …`
            let stamped = line.get(2..21).is_some_and(|stamp| {
                stamp.bytes().enumerate().all(|(at, byte)| match at {
                    4 | 7 => byte == b'-',
                    10 => byte == b' ',
                    13 | 16 => byte == b':',
                    _ => byte.is_ascii_digit(),
                })
            });
            let line = if stamped { format!("  [TIME]{}", &line[21..]) } else { line.to_owned() };
            match line.split_once("; next step after ") {
                Some((before, _)) => format!("{before}; next step after [WAIT]"),
                None => line,
            }
        })
        .collect();
    text.join("\n")
}

const TOUCHY: &str = "\
connection: local
endpoint:
  method: PUT
  path: /things/{{ params.id }}
  params: { id: { required: true } }
  idempotency: natural
  headers: { X-Ref: 'r-{{ record.id }}' }
  captures: { at: '{{ response.body.id }}' }
source: { file: data/things.csv }
key: '{{ record.id }}'
body:
  name: '{{ record.name }}'
  tags: [fixed, '{{ record.id }}']
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

#[test]
fn the_steps_of_a_record_and_the_lines_of_its_request() {
    let world = World::new()
        .pipeline(TOUCHY, things(3))
        .script("PUT /things/t2 #1 -> 500 class=BUSY message='try later'\nPUT /things/t2 #2 -> cut_before");
    world.run("apply p").exits(0);
    assert_snapshot!(timeless(&world.run("explain p t2").exits(0)), @r#"
    p: key t2, position 1, data/things.csv, line 3
      id               t2
      name             thing 2

    run [RUN]: delivered, 3 requests may have left
      [TIME]  attempt 1: 500 http_500: {"code":500,"status":"BUSY","message":"try later"}; next step after [WAIT]
      [TIME]  attempt 2: reset: connection closed before message completed; next step after [WAIT]
      [TIME]  attempt 3: 200 delivered
      captures  {"at":"t2"}

    its request, as the project's files make it today
      PUT http://[HOST]/things/t2
      X-Ref: r-t2
      Content-Type: application/json

      {
        "name": "thing 2",
        "tags": [
          "fixed",
          "t2"
        ]
      }

    where it is written
      base URL      pipelines/p.yaml:1   http://[HOST]
      method        pipelines/p.yaml:3   PUT
      path          pipelines/p.yaml:4   /things/{{ params.id }}
      param id      pipelines/p.yaml:5   the record's field of this name
      header X-Ref  pipelines/p.yaml:7   r-{{ record.id }}
      body /name    pipelines/p.yaml:12  {{ record.name }}
      body /tags/0  pipelines/p.yaml:13  fixed
      body /tags/1  pipelines/p.yaml:13  {{ record.id }}
    "#);
    // By position and by line it is the same record.
    let by_key = world.run("explain p t2 --format json").exits(0).json();
    for named in ["#1", "data/things.csv:3", "things.csv:3"] {
        let other = world.run(&format!("explain p {named} --format json")).exits(0).json();
        assert_eq!(other["summary"], by_key["summary"], "{named}");
    }
    let run = &by_key["summary"]["runs"][0];
    assert_eq!(
        (&run["state"], &run["attempts"], &run["status"]),
        (&"delivered".into(), &3.into(), &200.into())
    );
    assert_eq!(run["earlier_attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(run["request_is_the_same"], serde_json::Value::Null, "a delivered row keeps no digest");
    assert_eq!(world.seen().len(), 5, "explain sends nothing");
    world.write("data/things.csv", "id,name\nt2,\n");
    assert!(world.run("explain p t2").exits(0).stdout.contains("  name             (absent)\n"));
}

#[test]
fn history_goes_over_runs_and_through_what_people_decided() {
    let world = World::new()
        .pipeline(&PUT_THINGS.replace("delivery: {", "delivery: { in_doubt: hold,"), things(2))
        .script("PUT /things/t2 #1 -> cut_after_effect");
    world.run("apply p").exits(6);
    world.run("resolve p --skip --record t2").exits(0);
    world.write("data/things.csv", "id,name\nt2,again\n");
    world.run("apply p").exits(0);
    let explained = timeless(&world.run("explain p t2").exits(0));
    assert_snapshot!(explained.split("\nits request").next().unwrap_or_default(), @r#"
    p: key t2, position 0, data/things.csv, line 2
      id               t2
      name             again

    run [RUN]: skipped, left out, 1 request may have left
      [TIME]  attempt 1: reset: connection closed before message completed
      [TIME]  settled by a person: resolve --skip
      [TIME]  skipped, resolved, by a person: `resolve --skip`

    run [RUN]: delivered, 1 request may have left
      [TIME]  attempt 1: 200 delivered
    "#);
    // Also of a record that is gone from the input.
    let gone = world.run("explain p t1").exits(0).stdout;
    assert!(gone.starts_with("p: a record that today's input does not have"), "{gone}");
    assert!(gone.contains("delivered, 1 request"), "{gone}");
}

#[test]
fn a_record_that_nobody_knows_is_named() {
    let world = World::new().pipeline(PUT_THINGS, things(2));
    world.run("explain p t9").exits(2).says("neither the input nor a kept run has a record with key #");
    world.run("explain p #9").exits(2).says("with position 9");
    world.run("explain p data/things.csv:99").exits(0);
    let before = world.run("explain p t1").exits(0).stdout;
    assert!(before.contains("no kept run knows it"), "{before}");
    assert!(!world.path(".runner").exists(), "explain makes nothing");
    world.write("pipelines/p.yaml", PUT_THINGS.replace("key: '{{ record.id }}'\n", ""));
    world.run("explain p t1").exits(2).says("the pipeline has no `key`");
    world.run("explain p #1").exits(0);
}

#[test]
fn an_invalid_record_says_why_it_has_no_request() {
    let schema = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":3}}}"#;
    let world = World::new()
        .pipeline(&format!("{PUT_THINGS}schema: schemas/s.json\n"), things(1))
        .file("schemas/s.json", schema);
    world.run("apply p").exits(1);
    let explained = world.run("explain p t1").exits(0).stdout;
    assert!(explained.contains("invalid, never sent"), "{explained}");
    assert!(explained.contains("none: invalid, schema, /name is longer than 3 characters"), "{explained}");
}
