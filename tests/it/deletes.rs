//! `deletes:`: what is not in the input any more is deleted, and nothing else.

use std::fmt::Write as _;

use crate::world::{PUT_THINGS, World, things};

fn deleting(max: &str) -> String {
    format!(
        "{PUT_THINGS}sync: changed\ndeletes:\n  endpoint: {{ method: DELETE, path: '/things/{{{{ record.captures.id }}}}', \
         idempotency: natural }}\n  max: {max}\n"
    )
    .replace("idempotency: natural\n", "idempotency: natural\n  captures: { id: '{{ response.body.id }}' }\n")
}

/// What was asked for since the last look.
fn asked(world: &World, seen: &mut usize) -> Vec<String> {
    let all = world.asked();
    let mut new = all[*seen..].to_vec();
    *seen = all.len();
    new.sort();
    new
}

fn rows(ids: &[u32]) -> String {
    ids.iter().fold("id,name\n".to_owned(), |mut text, id| {
        let _ = writeln!(text, "t{id},thing {id}");
        text
    })
}

#[test]
fn what_vanished_is_deleted_once_and_what_comes_back_is_sent() {
    let world = World::new().pipeline(&deleting("50%"), things(4));
    let mut seen = 0;
    world.run("apply p").exits(0);
    assert_eq!(asked(&world, &mut seen).len(), 4);
    world.write("data/things.csv", rows(&[1, 3, 5]));
    let plan = world.run("plan p").exits(0).stdout;
    assert!(plan.contains("  delete      2 keys"), "{plan}");
    assert!(asked(&world, &mut seen).is_empty());
    world.run("apply p").exits(0).says("2 keys that earlier runs delivered").says("p.deletes: 2 delivered");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2", "DELETE /things/t4", "PUT /things/t5"]);
    // Nothing twice: neither with the same input nor with another.
    world.run("apply p").exits(0).says("p: nothing to do").says("p.deletes: nothing to do");
    world.write("data/things.csv", rows(&[5, 3, 1]));
    let quiet = world.run("apply p").exits(0);
    assert!(!quiet.stderr.contains("not in the input"), "{}", quiet.stderr);
    assert!(asked(&world, &mut seen).is_empty());
    // It comes back, as it was: it is sent, as there is nothing any more; then it goes again.
    world.write("data/things.csv", rows(&[1, 2, 3, 5]));
    world.run("apply p").exits(0).says("1 delivered");
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t2"]);
    world.write("data/things.csv", rows(&[1, 3]));
    world.run("apply p").exits(0).says("p.deletes: 2 delivered");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2", "DELETE /things/t5"]);
}

#[test]
fn too_many_are_refused_before_anything_is_sent() {
    let world = World::new().pipeline(&deleting("1%"), things(4));
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("data/things.csv", rows(&[1, 2, 3, 9]));
    for command in ["plan p", "apply p"] {
        let refused = world.run(command).exits(4);
        let told = refused.stdout + &refused.stderr;
        for part in ["1 of the 4 keys", "allows 1 %", "runner apply p --no-deletes"] {
            assert!(told.contains(part), "{command}: {told}");
        }
    }
    assert!(asked(&world, &mut seen).is_empty());
    world.run("apply p --no-deletes").exits(0).says("stays as it is");
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t9"]);
    // The same run, without the flag: what vanished is still too much.
    world.run("apply p").exits(4).says("1 of the 4 keys");
    assert!(asked(&world, &mut seen).is_empty());
    world.write("pipelines/p.yaml", deleting("1"));
    world.run("apply p").exits(0).says("p.deletes: 1 delivered");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t4"]);
}

#[test]
fn nothing_is_deleted_while_a_record_waits_or_a_key_cannot_be_told() {
    let world = World::new().pipeline(&deleting("50%"), things(4));
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("data/things.csv", rows(&[1, 2, 3, 8, 9]));
    world.run("apply p --limit 1").exits(0).says("1 unsent");
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t8"]);
    world.run("apply p").exits(0);
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t4", "PUT /things/t9"]);
    // The second row may be t2.
    world.write("data/things.csv", "id,name\nt1,thing 1\n,thing 2\nt3,thing 3\nt8,thing 8\nt9,thing 9\n");
    world.run("apply p").exits(1).says("1 record of data/things.csv has no key");
    assert!(asked(&world, &mut seen).is_empty());
    // Another file than its own says nothing of what is not in it.
    world.write("few.csv", rows(&[1]));
    let other = world.run("apply p --input few.csv").exits(0);
    assert!(!other.stderr.contains("not in the input"), "{}", other.stderr);
    assert!(asked(&world, &mut seen).is_empty());
}

#[test]
fn a_delete_that_fails_is_accounted_for_and_tried_again() {
    let world = World::new().pipeline(&deleting("50%"), things(4)).script("DELETE /things/t3 #1 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", rows(&[1, 2]));
    asked(&world, &mut seen);
    world
        .run("apply p")
        .exits(1)
        .says("p: 0 delivered")
        .says("p.deletes: 1 delivered, 1 failed")
        .says("runner retry p.deletes");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t3", "DELETE /things/t4"]);
    for (command, part) in
        [("status p.deletes", "1 failed"), ("explain p.deletes t3", "422"), ("preview p.deletes", "DELETE")]
    {
        let run = world.run(command);
        assert!(run.stdout.contains(part), "{command}: {} {}", run.stdout, run.stderr);
    }
    world.run("retry p.deletes").exits(0);
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t3"]);
    // It counts as gone for the next run, too.
    world.write("data/things.csv", rows(&[2, 1]));
    world.run("apply p").exits(0);
    assert!(asked(&world, &mut seen).is_empty());
}

#[test]
fn a_run_that_is_killed_between_its_deletes_goes_on_with_them() {
    // What is not there any more after a doubt was deleted.
    let gone = "idempotency: natural, outcomes: [{ status: 404, after_unknown: true, then: delivered }] }";
    let pipeline = deleting("100%").replace("idempotency: natural }", gone);
    let world = World::new().pipeline(&pipeline, things(6)).script("DELETE /things/t4 #1 -> hang");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", rows(&[1, 2]));
    asked(&world, &mut seen);
    let started = world.start("apply p --concurrency 1");
    assert!(world.until(&started, 8));
    started.kill(&world);
    world.answers("");
    world.run("apply p").exits(0);
    let deleted = asked(&world, &mut seen);
    // What was settled last before it was killed may be asked for again.
    for id in ["t5", "t6"] {
        assert_eq!(
            deleted.iter().filter(|asked| **asked == format!("DELETE /things/{id}")).count(),
            1,
            "{deleted:?}"
        );
    }
    assert_eq!(deleted.iter().filter(|asked| *asked == "DELETE /things/t4").count(), 2, "{deleted:?}");
    world.run("apply p").exits(0);
    assert!(asked(&world, &mut seen).is_empty());
}

#[test]
fn keys_outlive_the_runs_that_delivered_them() {
    let world = World::new().file("runner.yaml", "").pipeline(&deleting("100%"), things(3));
    let project =
        format!("keep: {{ runs: 1, days: 1 }}\nconnections:\n  local: {{ base_url: \"{}\" }}\n", world.url());
    world.write("runner.yaml", project);
    let mut seen = 0;
    world.run("apply p").exits(0);
    let long_ago = "UPDATE run SET started_at = '2020-01-01T00:00:00Z', closed_at = started_at";
    for name in ["a", "b", "c"] {
        world.write("data/things.csv", format!("id,name\nt1,thing 1\nt2,thing 2\nt3,thing 3\nt9,{name}\n"));
        world.checkpoint("p").execute(long_ago, []).expect("an update");
        world.run("apply p").exits(0);
    }
    assert!(std::fs::read_dir(world.path(".runner/default/runs/p")).expect("runs").count() <= 2);
    asked(&world, &mut seen);
    // The run that delivered t2 is not kept any more, but its key and what was kept of the reply are.
    world.write("data/things.csv", "id,name\nt1,thing 1\nt3,thing 3\nt9,c\n");
    world.run("apply p").exits(0).says("p.deletes: 1 delivered");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2"]);
}

#[test]
fn what_was_delivered_before_or_elsewhere_is_not_guessed_at() {
    // Without `deletes` keys are not kept as they are.
    let plain = deleting("100%").split("deletes:").next().expect("a pipeline").to_owned();
    let world = World::new().pipeline(&plain, things(3));
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("pipelines/p.yaml", deleting("100%"));
    world.write("data/things.csv", rows(&[1, 2]));
    asked(&world, &mut seen);
    world.run("apply p").exits(0).says("1 key that vanished is not deleted");
    assert!(asked(&world, &mut seen).is_empty());
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (written, says) in [
        (deleting("1%").replace("sync: changed\n", ""), "`deletes` needs `sync: changed`"),
        (deleting("lots"), "a share such as"),
        (deleting("1%").replace("  max: 1%\n", ""), "`deletes` needs `max`"),
        (deleting("1%").replace("  max: 1%\n", "  cap: 1%\n  max: 1%\n"), "it is written `max: 1%`"),
        (deleting("1%").replace("record.captures.id", "record.captures.id |"), "p.yaml"),
        (deleting("1%").replace("record.captures.id", "record.id"), "`record` has no field `id`"),
        (deleting("1.23456%"), "at most four decimals"),
        (deleting("1%").replace("sync:", "select: { duplicates: allow }\nsync:"), "makes several"),
        (deleting("1%").replace("method: DELETE", "method: POST"), "nothing says what is in it"),
        (format!("name: x.deletes\n{}", deleting("1%")), "the name of what follows another pipeline"),
    ] {
        let world = World::new().pipeline(&written, things(1));
        world.run("validate").exits(3).says(says);
        world.run("apply p").exits(3);
        assert!(world.seen().is_empty(), "{says}");
    }
}

/// What is asked for while a list of keys is the input.
fn sent(world: &World, seen: &mut usize, ids: &[u32]) -> Vec<String> {
    world.write("data/things.csv", rows(ids));
    world.run("apply p");
    asked(world, seen)
}

#[test]
fn a_delete_that_failed_comes_along_with_the_next_input_and_nothing_is_noted_for_another_run() {
    let world = World::new().pipeline(&deleting("100%"), things(5)).script("DELETE /things/t5 #1 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    assert_eq!(sent(&world, &mut seen, &[7, 4, 3, 2, 1]), ["DELETE /things/t5", "PUT /things/t7"]);
    assert_eq!(sent(&world, &mut seen, &[1, 2, 3, 4]), ["DELETE /things/t5", "DELETE /things/t7"]);
    // Both come back, and go again: each is sent, and deleted once.
    assert_eq!(sent(&world, &mut seen, &[7, 1, 2, 3, 4, 5]), ["PUT /things/t5", "PUT /things/t7"]);
    assert_eq!(sent(&world, &mut seen, &[1, 2, 3, 4]), ["DELETE /things/t5", "DELETE /things/t7"]);
    assert!(sent(&world, &mut seen, &[4, 3, 2, 1]).is_empty());
}

#[test]
fn deletes_of_an_older_input_are_never_sent() {
    let world = World::new().pipeline(&deleting("100%"), things(4)).script("DELETE /things/t4 #1 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    assert_eq!(sent(&world, &mut seen, &[1, 2, 3]), ["DELETE /things/t4"]);
    world.run("apply p.deletes").exits(2).says("is deleted by a start of p").says("`runner apply p`");
    world.run("try p.deletes").exits(2);
    // It is back.
    assert!(sent(&world, &mut seen, &[4, 3, 2, 1]).is_empty());
    world.run("retry p.deletes").exits(5).says("no deletes were begun for the input that p has now");
    assert!(asked(&world, &mut seen).is_empty());
    let status = world.run("status p.deletes").exits(0).stdout;
    assert!(!status.contains("--input"), "{status}");
}

#[test]
fn a_key_whose_delete_may_have_arrived_does_not_count_as_standing() {
    let world = World::new().pipeline(&deleting("100%"), things(4)).script("DELETE /things/t3 #1 -> hang");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("data/things.csv", rows(&[1, 2]));
    let started = world.start("apply p --concurrency 1");
    assert!(world.until(&started, 5));
    // Nobody else works on it meanwhile.
    world.run("apply p").exits(5);
    started.kill(&world);
    world.answers("");
    asked(&world, &mut seen);
    // Somebody restores the file: what may be gone is sent again, and stands.
    let again = sent(&world, &mut seen, &[1, 2, 3, 4]);
    assert!(again.contains(&"PUT /things/t3".to_owned()), "{again:?}");
    assert!(again.iter().all(|asked| asked.starts_with("PUT ")), "{again:?}");
    assert!(sent(&world, &mut seen, &[4, 3, 2, 1]).is_empty());
    assert_eq!(sent(&world, &mut seen, &[1, 2, 3]), ["DELETE /things/t4"]);
}

#[test]
fn what_could_be_made_twice_is_held_while_its_delete_is_in_doubt() {
    let creating = deleting("100%").replace(PUT_THINGS.split("source:").next().expect("a beginning"), "");
    let creating = creating.split("source:").nth(1).expect("the rest");
    let creating = format!(
        "connection: local\nendpoint: {{ method: POST, path: /things, captures: {{ id: '{{{{ response.body.id }}}}' }} }}\nsource:{creating}"
    );
    let world = World::new().pipeline(&creating, things(3));
    world.run("apply p").exits(0);
    world.answers("DELETE ** -> cut_after_effect\n");
    world.write("data/things.csv", rows(&[1, 2]));
    world.run("apply p --concurrency 1").says("p.deletes:");
    let mut seen = 0;
    asked(&world, &mut seen);
    world.answers("");
    world.write("data/things.csv", rows(&[3, 2, 1]));
    let held = world.run("apply p").exits(6);
    let new = asked(&world, &mut seen);
    assert!(new.is_empty(), "{new:?} {}", held.stderr);
    let skipped = world.run("explain p t3").stdout;
    assert!(skipped.contains("`runner retry` sends it"), "{skipped}");
    world.run("retry p").exits(0);
    assert_eq!(asked(&world, &mut seen), ["POST /things"]);
}

#[test]
fn keys_of_another_tenant_or_key_expression_are_not_deleted() {
    let of_tenant = deleting("100%")
        .replace("  method: PUT\n", "  method: PUT\n  headers: { X-Tenant: '{{ vars.tenant }}' }\n")
        + "vars: { tenant: a }\n";
    let world = World::new().pipeline(&of_tenant, things(4));
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("data/things.csv", rows(&[1, 2]));
    world.run("apply p --var tenant=b").exits(0).says("2 keys that vanished are not deleted");
    let new = asked(&world, &mut seen);
    assert_eq!(new, ["PUT /things/t1", "PUT /things/t2"]);

    // One address has a capital: under another expression its key is another, and it is in the input.
    let by_mail = deleting("100%").replace("key: '{{ record.id }}'", "key: '{{ record.name }}'");
    assert_ne!(by_mail, deleting("100%"));
    let world = World::new().pipeline(&by_mail, "id,name\nt1,a@x\nt2,B@x\n");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("pipelines/p.yaml", by_mail.replace("record.name }}'", "record.name | lower }}'"));
    world.write("data/things.csv", "id,name\nt2,B@x\nt1,a@x\n");
    world.run("apply p").says("the pipeline, its variables, settings, source or destination became another");
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t2"]);
    // The same customer under a new address: deleting the old key would delete the customer.
    world.write("data/things.csv", "id,name\nt1,a@x\nt2,new@x\n");
    world.run("apply p").says("deleting them would delete what a key of the input stands for");
    let new = asked(&world, &mut seen);
    assert_eq!(new, ["PUT /things/t2"]);
}

#[test]
fn what_is_left_to_delete_is_shown_and_capped_again() {
    let world = World::new().pipeline(&deleting("100%"), things(6));
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", rows(&[1, 2, 3]));
    world.run("apply p --no-deletes").exits(0);
    asked(&world, &mut seen);
    // Who picks records speaks of those.
    for picks in ["--record t1", "--limit 1", "--where record.id=='t1'"] {
        world.run(&format!("apply p {picks}"));
        assert!(asked(&world, &mut seen).is_empty(), "{picks}");
    }
    let plan = world.run("plan p").exits(0).stdout;
    assert!(
        plan.contains("is settled, but for what it deletes") && plan.contains("  delete      3 keys"),
        "{plan}"
    );
    world.write("pipelines/p.yaml", deleting("2"));
    for command in ["plan p", "apply p"] {
        let refused = world.run(command).exits(4);
        assert!((refused.stdout + &refused.stderr).contains("`deletes` allows 2"));
    }
    assert!(asked(&world, &mut seen).is_empty());
    world.write("pipelines/p.yaml", deleting("3"));
    world.run("apply p").exits(0);
    assert_eq!(asked(&world, &mut seen).len(), 3);
}

#[test]
fn an_input_without_any_record_and_a_halted_run_delete_nothing() {
    let world = World::new().pipeline(&deleting("100%"), things(2));
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", "id,name\n");
    asked(&world, &mut seen);
    for command in ["plan p", "apply p"] {
        let refused = world.run(command).exits(4);
        assert!((refused.stdout + &refused.stderr).contains("the input has no record"));
    }
    assert!(asked(&world, &mut seen).is_empty());

    let halting = deleting("100%").replace("delivery: {", "delivery: { stop_when: { failures: 2 }, ");
    assert_ne!(halting, deleting("100%"));
    let world =
        World::new().pipeline(&halting, things(3)).script("PUT /things/t8 -> 422\nPUT /things/t9 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("data/things.csv", rows(&[1, 2, 8, 9]));
    world.run("apply p").exits(9);
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t8", "PUT /things/t9"]);
}

#[test]
fn what_a_person_settles_keeps_what_was_captured() {
    let world = World::new().pipeline(&deleting("100%"), things(3));
    let mut seen = 0;
    world.run("apply p").exits(0);
    let hold = deleting("100%").replace("delivery: {", "delivery: { in_doubt: hold, ");
    world.write("pipelines/p.yaml", &hold);
    world.answers("PUT /things/t2 -> cut_after_effect\n");
    world.write("data/things.csv", "id,name\nt1,thing 1\nt2,other\nt3,thing 3\n");
    world.run("apply p").exits(6);
    world.answers("");
    world.run("resolve p --all --delivered").exits(0);
    world.write("data/things.csv", rows(&[1, 3]));
    asked(&world, &mut seen);
    world.run("apply p").exits(0).says("p.deletes: 1 delivered");
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2"]);
}

#[test]
fn two_pipelines_of_one_name_are_found() {
    let world = World::new().pipeline(&deleting("100%"), things(1));
    world.write("pipelines/q.yaml", format!("name: p\n{}", deleting("100%")));
    world.run("validate").exits(3).says("pipelines/p.yaml has the name `p` as well");
}

#[test]
fn what_a_run_delivered_for_one_tenant_is_not_deleted_for_another() {
    let of_tenant = deleting("100%")
        .replace("  method: PUT\n", "  method: PUT\n  headers: { X-Tenant: '{{ vars.tenant }}' }\n")
        + "vars: { tenant: a }\n";
    let world = World::new().pipeline(&of_tenant, things(3));
    let mut seen = 0;
    world.run("apply p").exits(0);
    // A run in which nothing was sent goes on with the variable of another.
    world.write("data/things.csv", rows(&[3, 2, 1]));
    world.run("apply p").exits(0);
    world.write("data/things.csv", rows(&[3, 2, 1, 4]));
    world.run("apply p --var tenant=b --accept-changes").exits(0);
    world.write("data/things.csv", rows(&[4, 3]));
    asked(&world, &mut seen);
    world.run("apply p --var tenant=b").exits(0);
    let new = asked(&world, &mut seen);
    assert!(new.iter().all(|asked| asked.starts_with("PUT")), "{new:?}");
}

#[test]
fn another_account_gets_everything_and_loses_nothing() {
    let world = World::new();
    let url = world.url();
    let world = world
        .file(
            "runner.yaml",
            format!("connections:\n  local: {{ base_url: \"{url}\" }}\n  other: {{ base_url: \"{url}\" }}\n"),
        )
        .pipeline(&deleting("100%"), things(3));
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    world.write("pipelines/p.yaml", deleting("100%").replace("connection: local", "connection: other"));
    assert_eq!(sent(&world, &mut seen, &[2, 1]), ["PUT /things/t1", "PUT /things/t2"]);
    assert_eq!(sent(&world, &mut seen, &[1]), ["DELETE /things/t2"]);
}

#[test]
fn one_thing_under_a_new_name_is_not_deleted_while_that_name_is_not_delivered() {
    let by_mail = deleting("100%").replace("key: '{{ record.id }}'", "key: '{{ record.name }}'");
    let world = World::new()
        .pipeline(&by_mail, "id,name\nt1,a@x\nt2,b@x\n")
        .script("PUT /things/t1 #2 -> 422\nDELETE /things/t2 #1 -> 422");
    let mut seen = 0;
    world.run("apply p").exits(0);
    asked(&world, &mut seen);
    // t1 has a new address, which is refused at first; t2 is gone.
    world.write("data/things.csv", "id,name\nt1,new@x\n");
    world.run("apply p").exits(1).says("under a name that was not delivered");
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t1"]);
    world.run("retry p").exits(0);
    assert_eq!(asked(&world, &mut seen), ["PUT /things/t1"]);
    // Only what is gone is deleted, now and by a retry.
    world.write("data/things.csv", "id,name\nt1,new@x\nt3,c@x\n");
    world.run("apply p").exits(1);
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2", "PUT /things/t3"]);
    world.run("retry p.deletes").exits(0);
    assert_eq!(asked(&world, &mut seen), ["DELETE /things/t2"]);
}

#[test]
fn folders_of_runs_may_be_removed_while_deletes_wait() {
    let world = World::new().pipeline(&deleting("100%"), things(4)).script("DELETE /things/t3 #1 -> hang");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.write("data/things.csv", rows(&[1, 2]));
    asked(&world, &mut seen);
    let started = world.start("apply p --concurrency 1");
    assert!(world.until(&started, 5));
    started.kill(&world);
    world.answers("");
    std::fs::remove_dir_all(world.path(".runner/default/runs")).expect("the folders");
    asked(&world, &mut seen);
    world.run("apply p");
    let new = asked(&world, &mut seen);
    assert!(new.contains(&"DELETE /things/t4".to_owned()), "{new:?}");
    assert!(new.iter().all(|asked| asked.starts_with("DELETE")), "{new:?}");
}

#[test]
fn the_same_header_or_group_does_not_make_two_calls_one() {
    // The key tells what is deleted; what was captured is the same for all.
    for path in ["/things/{{ record.key }}", "/{{ record.captures.group }}/{{ record.key }}"] {
        let pipeline = deleting("100%")
            .replace("{ id: '{{ response.body.id }}' }", "{ rev: '1', group: things }")
            .replace(
                "path: '/things/{{ record.captures.id }}'",
                &format!("path: '{path}', headers: {{ If-Match: '{{{{ record.captures.rev }}}}' }}"),
            );
        let world = World::new().pipeline(&pipeline, things(3));
        let mut seen = 0;
        world.run("apply p").exits(0);
        asked(&world, &mut seen);
        assert_eq!(sent(&world, &mut seen, &[1, 2]), ["DELETE /things/t3"], "{path}");
    }
}

#[test]
fn one_thing_under_a_name_that_is_in_doubt_or_invalid_is_not_deleted() {
    let by_mail = deleting("100%").replace("key: '{{ record.id }}'", "key: '{{ record.name }}'");
    let held = by_mail.replace("delivery: {", "delivery: { in_doubt: hold, ");
    let world = World::new().pipeline(&held, "id,name\nt1,a@x\nt2,b@x\n");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.answers("PUT /things/t1 -> cut_after_effect\n");
    for file in
        ["id,name\nt1,new@x\nt2,b@x\n", "id,name\nt2,b@x\nt1,new@x\n", "id,name\nt1,new@x\nt2,b@x\nt3,c@x\n"]
    {
        world.write("data/things.csv", file);
        world.run("apply p");
        let new = asked(&world, &mut seen);
        assert!(new.iter().all(|asked| !asked.starts_with("DELETE")), "{new:?}");
    }
    // Another's old name, and refused.
    let world = World::new().pipeline(&by_mail, "id,name\nt1,a@x\nt2,b@x\n");
    let mut seen = 0;
    world.run("apply p").exits(0);
    world.answers("PUT /things/t1 -> 422\n");
    world.write("data/things.csv", "id,name\nt2,c@x\nt1,b@x\n");
    world.run("apply p").exits(1);
    let new = asked(&world, &mut seen);
    assert!(new.iter().all(|asked| !asked.starts_with("DELETE")), "{new:?}");
}
