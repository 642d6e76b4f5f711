//! A pipeline whose records are the replies that another one kept.

use serde_json::Value;

use crate::world::{World, things};

const MAKE: &str = "connection: local
endpoint: { method: POST, path: /things, captures: { id: '{{ response.body.id }}' } }
source: { file: data/things.csv }
key: { value: '{{ record.id }}', public: true }
responses: { file: true }
sync: new
";

const TELL: &str = "connection: local
endpoint: { method: POST, path: /posted }
source: { responses: make }
key: { value: '{{ record.key }}', public: true }
select: { where: \"{{ record.state == 'delivered' }}\" }
body: { about: '{{ record.captures.id }}', name: '{{ record.reply.name }}' }
sync: new
";

fn world() -> World {
    World::new()
        .file("pipelines/make.yaml", MAKE)
        .file("pipelines/tell.yaml", TELL)
        .file("data/things.csv", things(3))
}

fn told(world: &World) -> Vec<Value> {
    let posted = world.seen();
    let posted = posted.iter().filter(|seen| seen.path == "/posted");
    posted.map(|seen| serde_json::from_slice(&seen.body).expect("JSON")).collect()
}

#[test]
fn the_replies_of_the_newest_run_are_records() {
    let world = world().script("POST /things body.id=t2 -> 422");
    world.run("validate --strict").exits(0);
    world.run("apply tell make").exits(1).says("tell: not started");
    assert!(told(&world).is_empty());
    // One of them failed, and that is known: the others are told about.
    world.run("apply tell --ignore-needs").exits(0).says("2 delivered, 0 failed, 0 invalid, 1 skipped");
    assert_eq!(told(&world).len(), 2);
    assert!(told(&world).iter().all(|body| body["about"].is_string() && body["name"].is_string()));
    // A mended one is a line behind the others, and the run goes on with it.
    world.answers("");
    world.run("retry make").exits(0);
    world.run("apply tell").exits(0).says("3 delivered");
    assert_eq!(told(&world).len(), 3);
    // A new run has replies of its own.
    world.write("data/things.csv", "id,name\nt9,thing 9\n");
    world.run("apply make tell").exits(0);
    assert_eq!(told(&world).len(), 4);
    world.run("apply make tell").exits(0).says("nothing to do");
}

#[test]
fn replies_that_nobody_keeps_are_refused() {
    let world = world();
    world.run("apply tell").exits(5).says("needs-not-met").says("it never ran");
    world.run("apply tell --ignore-needs").exits(4).says("make has no run whose replies are kept");
    world.run("plan tell").exits(4);
    world.write("pipelines/make.yaml", MAKE.replace("responses: { file: true }\n", ""));
    world.run("validate").exits(3).says("the pipeline make keeps no replies");
    world.write("pipelines/tell.yaml", TELL.replace("responses: make", "responses: mak"));
    world.run("validate").exits(3).says("there is no pipeline `mak`").says("did you mean `make`?");
    world.write("pipelines/tell.yaml", TELL.replace("responses: make", "responses: make, format: csv"));
    world.run("validate").exits(3).says("only `limits` may stand beside it");
    assert!(world.seen().is_empty());
}
