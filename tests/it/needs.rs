//! Several pipelines in one command, and what has to end well before another begins.

use crate::world::{PUT_THINGS, World, things};

/// `a` needs `b`, `b` needs `c`; each sends to a place of its own.
fn three() -> World {
    let one = |name: &str, needs: &str| {
        PUT_THINGS.replace("/things/{{ params.id }}", &format!("/things/{name}-{{{{ params.id }}}}")) + needs
    };
    World::new()
        .file("pipelines/a.yaml", one("a", "needs: b\n"))
        .file("pipelines/b.yaml", one("b", "needs: [c]\n"))
        .file("pipelines/c.yaml", one("c", ""))
        .file("data/things.csv", things(1))
}

#[test]
fn what_is_needed_goes_first_whatever_the_order_of_names() {
    let world = three();
    let run =
        world.run("apply pipelines").exits(0).says("3 pipelines: 3 ended well, 0 did not, 0 not started");
    assert_eq!(world.asked(), ["PUT /things/c-t1", "PUT /things/b-t1", "PUT /things/a-t1"], "{}", run.stderr);
}

#[test]
fn what_needs_a_failed_one_is_not_begun() {
    let world = three().script("PUT /things/c-t1 -> 422");
    world
        .run("apply a b c --keep-going")
        .exits(1)
        .says("a: not started: it needs b, which did not end well")
        .says("b: not started: it needs c, which did not end well")
        .says("3 pipelines: 0 ended well, 1 did not, 2 not started");
    assert_eq!(world.asked(), ["PUT /things/c-t1"]);
    // Alone it is refused as well, by how the other stands.
    world
        .run("apply b")
        .exits(5)
        .says("needs-not-met")
        .says("b needs c, and its run")
        .says("`runner apply c` first");
    assert_eq!(world.seen().len(), 1);
    world.run("apply b --ignore-needs").exits(0);
    world.answers("");
    world.run("retry c").exits(0);
    world.run("apply b").exits(0);
    world.run("apply a").exits(0);
    assert_eq!(world.seen().len(), 4);
}

#[test]
fn nothing_begins_unless_all_can_be_read() {
    let world = three().file("pipelines/d.yaml", "connection: local\nendpoint: { method: PUT }\n");
    world.run("apply pipelines --keep-going").exits(3).says("not-started").says("nothing was sent");
    assert!(world.seen().is_empty());
}

#[test]
fn a_circle_and_a_wrong_name_are_found() {
    let world = three();
    world.write("pipelines/c.yaml", world.read("pipelines/c.yaml") + "needs: a\n");
    world.run("apply a b c").exits(3).says("these pipelines need each other: a → b → c → a");
    world.run("validate").exits(3).says("these pipelines need each other");
    world.write("pipelines/c.yaml", PUT_THINGS.to_owned() + "needs: [bb, c]\n");
    world
        .run("validate")
        .exits(3)
        .says("there is no pipeline `bb`")
        .says("did you mean `b`?")
        .says("cannot need itself");
    assert!(world.seen().is_empty());
}
