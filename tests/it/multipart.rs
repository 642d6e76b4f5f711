//! Bodies of parts: what goes out, which files may, and that a file that changes never goes out by half.

use crate::security::resources::peak;
use crate::world::{Run, World};

const UPLOAD: &str = "\
connection: local
endpoint:
  method: POST
  path: /files
  content: multipart
  idempotency: natural
  body:
    id: '{{ record.id }}'
    tags: [a, '{{ record.tag }}']
    meta: { of: '{{ record.id }}' }
    doc: { file: '{{ record.path }}', name: '{{ record.name }}' }
source: { file: data/things.csv }
key: '{{ record.id }}'
delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }
";

fn rows(rows: &str) -> String {
    format!("id,tag,name,path\n{rows}")
}

fn boundary(seen: &runner::sandbox::Seen) -> String {
    let kind = seen.headers[http::header::CONTENT_TYPE].to_str().expect("text");
    kind.strip_prefix("multipart/form-data; boundary=").expect("a boundary").to_owned()
}

#[test]
fn parts_go_out_in_their_order_and_no_value_leaves_its_place() {
    let hostile = "\"x\"\"; filename=\"\"y\r\nX-Evil: 1\"";
    let world = World::new()
        .file("data/a.pdf", "%PDF \0\u{ff}")
        .file("data/empty.txt", "")
        .pipeline(UPLOAD, rows(&format!("t1,{hostile},{hostile},data/a.pdf\nt2,--x,e.txt,data/empty.txt\n")));
    world.run("apply p --concurrency 1").exits(0).says("2 delivered");
    let seen = world.seen();
    let body = String::from_utf8_lossy(&seen[0].body).replace(&boundary(&seen[0]), "B");
    let expected = "--B\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\nt1\r\n\
        --B\r\nContent-Disposition: form-data; name=\"tags\"\r\n\r\na\r\n\
        --B\r\nContent-Disposition: form-data; name=\"tags\"\r\n\r\nx\"; filename=\"y\r\nX-Evil: 1\r\n\
        --B\r\nContent-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n{\"of\":\"t1\"}\r\n\
        --B\r\nContent-Disposition: form-data; name=\"doc\"; filename=\"x%22; filename=%22y%0D%0AX-Evil: 1\"\r\n\
        Content-Type: application/pdf\r\n\r\n%PDF \0\u{ff}\r\n--B--\r\n";
    assert_eq!(body, expected);
    for seen in &seen {
        let length = seen.headers[http::header::CONTENT_LENGTH].to_str().expect("text");
        assert_eq!(length, seen.body.len().to_string());
        assert!(!seen.headers.contains_key(http::header::TRANSFER_ENCODING));
    }
    assert!(String::from_utf8_lossy(&seen[1].body).contains("text/plain\r\n\r\n\r\n--"), "an empty file");
}

#[test]
fn a_value_with_file_in_it_is_no_file() {
    let pipeline = UPLOAD
        .replace(
            "    doc: { file: '{{ record.path }}', name: '{{ record.name }}' }\n",
            "    doc: '{{ record.doc }}'\n",
        )
        .replace("    tags: [a, '{{ record.tag }}']\n", "")
        .replace("things.csv", "things.ndjson");
    let world = World::new()
        .pipeline(&pipeline, "")
        .file("data/things.ndjson", "{\"id\":\"t1\",\"doc\":{\"file\":\"runner.yaml\"}}\n");
    world.run("apply p").exits(0);
    let body = String::from_utf8_lossy(&world.seen()[0].body).into_owned();
    assert!(body.contains("{\"file\":\"runner.yaml\"}") && !body.contains("connections:"), "{body}");
}

#[test]
fn only_files_of_the_project_go_out() {
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let cases = [
        ("/etc/hostname", "file-outside"),
        ("../x", "file-outside"),
        ("data/../a.txt", "file-outside"),
        ("data/link", "file-outside"),
        (".env", "file-outside"),
        ("data/hidden", "file-outside"),
        ("data", "file-missing"),
        ("data/none-of-it.txt", "file-missing"),
        ("large.txt", "file-too-large"),
    ];
    for (path, class) in cases {
        let pipeline = UPLOAD.replace("delivery: { ", "delivery: { max_files: 8B, ");
        let world = World::new()
            .file("a.txt", "x")
            .file(".env", "SECRET=1")
            .file("large.txt", "123456789")
            .pipeline(&pipeline, rows(&format!("t1,b,c,{path}\nt2,b,c,a.txt\n")));
        std::os::unix::fs::symlink(outside.path(), world.path("data/link")).expect("a link");
        std::os::unix::fs::symlink(world.path(".env"), world.path("data/hidden")).expect("a link");
        let checked = world.run("validate --data");
        let said = format!("{}{}", checked.stdout, checked.stderr);
        assert!(checked.code != 0 && said.contains("part `doc`"), "{path}: {said}");
        let run = world.run("apply p");
        assert_eq!(run.code, 1, "{path}: {}", run.stderr);
        let invalid = world.outcomes("invalid.csv");
        assert!(invalid.contains(class), "{path}: {invalid}");
        assert!(!run.stderr.contains("none-of-it"), "{}", run.stderr);
        assert_eq!(world.seen().len(), 1, "{path}: its neighbour is sent");
    }
}

#[test]
fn a_file_that_is_changed_between_attempts_is_not_sent() {
    for (change, class) in [(Some("other"), "file-changed"), (None, "file-missing")] {
        let pipeline = UPLOAD.replace("first_wait: 1ms, max_wait: 5ms", "first_wait: 60s, max_wait: 60s");
        let world = World::new()
            .file("a.txt", "first")
            .pipeline(&pipeline, rows("t1,b,c,a.txt\n"))
            .script("* * #1 -> 429 retry-after=1");
        let mut running = world.start("apply p");
        assert!(world.until(&running, 1));
        match change {
            Some(text) => world.write("a.txt", text),
            None => std::fs::remove_file(world.path("a.txt")).expect("it is there"),
        }
        let run = running.ended(&world);
        assert_eq!((run.code, world.seen().len()), (1, 1), "{}", run.stderr);
        assert!(world.outcomes("failed.csv").contains(class), "{}", world.outcomes("failed.csv"));
    }
}

#[test]
fn a_killed_start_goes_on_with_the_same_bytes_or_not_at_all() {
    for (after, code, requests) in [("first", 0, 2), ("other", 6, 1)] {
        let world = World::new()
            .file("a.txt", "first")
            .pipeline(UPLOAD, rows("t1,b,c,a.txt\n"))
            .script("* * #1 -> hang");
        let running = world.start("apply p");
        assert!(world.until(&running, 1));
        running.kill(&world);
        world.answers("");
        world.write("a.txt", after);
        let run = world.run("apply p");
        let seen = world.seen();
        if seen.len() == 2 {
            assert_eq!(seen[0].body, seen[1].body);
            assert_eq!(boundary(&seen[0]), boundary(&seen[1]));
        }
        assert_eq!((run.code, seen.len()), (code, requests), "{after}: {}", run.stderr);
    }
}

#[test]
fn memory_does_not_grow_with_files() {
    // S41
    let world = World::new().file("large.bin", vec![7; 50 << 20]).script("* * -> hang");
    let lines = ["t1", "t2", "t3", "t4"].map(|id| [id, ",b,c,large.bin\n"].concat()).concat();
    let world = world.pipeline(UPLOAD, rows(&lines));
    let mut running = world.start("apply p --concurrency 4");
    assert!(world.until(&running, 4), "{}", running.ended(&world).stderr);
    let most = peak(running.id());
    assert!(most < 100 * 1024, "{most} KiB");
    assert!(world.seen().iter().all(|seen| seen.body.len() > 50 << 20));
    running.signal(rustix::process::Signal::KILL);
    running.ended(&world);
}

#[test]
fn what_is_changed_is_told_by_the_content_of_files() {
    let (one, two) = ("t1,b,c,a.txt\n", "t2,b,c,b.txt\n");
    let world = World::new()
        .file("a.txt", "first")
        .file("b.txt", "second")
        .pipeline(&format!("{UPLOAD}sync: changed\n"), rows(&format!("{one}{two}")));
    world.run("apply p").exits(0).says("2 delivered");
    world.write("b.txt", "another");
    world.write("data/things.csv", rows(&format!("{two}{one}")));
    world.run("apply p").exits(0).says("1 delivered");
    let seen = world.seen();
    assert!(seen.len() == 3 && String::from_utf8_lossy(&seen[2].body).contains("another"));
}

#[test]
fn a_look_shows_files_by_name_and_size() {
    let world =
        World::new().file("a.txt", "x".repeat(12_345)).pipeline(UPLOAD, rows("t1,@b,it's.txt,a.txt\n"));
    let text = world.run("preview p").exits(0).stdout;
    assert!(text.contains("<file a.txt, 12,345 bytes>") && text == world.run("preview p").stdout, "{text}");
    let curl = world.run("preview p --as curl").exits(0).stdout;
    assert!(curl.contains("--form-string 'tags=@b'") && !curl.contains("Content-Type:"), "{curl}");
    assert!(curl.contains("-F 'doc=@\"a.txt\";type=text/plain;filename=\"it'\\''s.txt\"'"), "{curl}");
    let json = world.run("preview p --as json").exits(0).stdout;
    assert!(json.contains("\"bytes\":12345") && json.contains("\"sha256\""), "{json}");
    world.run("plan p").exits(0);
    assert!(world.seen().is_empty());
}

#[test]
fn what_cannot_be_a_body_of_parts_is_refused() {
    let refused = |pipeline: String| -> Run {
        World::new().file("a.txt", "x").pipeline(&pipeline, rows("t1,b,c,a.txt\n")).run("validate")
    };
    for (change, said) in [
        (
            ("  content: multipart\n", "  content: multipart\n  headers: { Content-Type: text/plain }\n"),
            "boundary",
        ),
        (
            ("  content: multipart\n", "  content: multipart\n  batch: { size: 2 }\n"),
            "multipart body is made of one record",
        ),
        (("name: '{{ record.name }}' }", "filename: x }"), "`filename` is no key of a file"),
        (("file: '{{ record.path }}'", "file: 7"), "`file` of a file is text"),
    ] {
        refused(UPLOAD.replace(change.0, change.1)).exits(3).says(said);
    }
}
