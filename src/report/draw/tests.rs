use std::sync::Arc;

use anstream::adapter::strip_str;
use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::model::{RecordPlace, Secret, SourceText};

fn plain(diagnostic: &Diagnostic) -> String {
    strip_str(&draw(diagnostic, &Mask::default())).to_string()
}

/// A place on the first `needle` in a file that has `lines` empty lines before the text.
fn place(path: &str, lines: usize, text: &str, needle: &str) -> Place {
    let text = format!("{}{text}", "\n".repeat(lines));
    let start = text.find(needle).unwrap();
    let source = Arc::new(SourceText { path: path.into(), text });
    Place::new(source, start..start + needle.len())
}

#[test]
fn a_key_that_is_not_known() {
    let at = place("pipelines/sync-users.yaml", 13, "  retries: 3\n", "retries");
    let d = Diagnostic::error("unknown-key", "`retries` is not a key of `delivery`")
        .place(&at)
        .help("did you mean `retry`? It is written `retry: { attempts: 3 }`");
    assert_snapshot!(plain(&d), @r"
    error[unknown-key]: `retries` is not a key of `delivery`
      --> pipelines/sync-users.yaml:14:3
    14 |   retries: 3
       |   ^^^^^^^
    help: did you mean `retry`? It is written `retry: { attempts: 3 }`
    ");
}

#[test]
fn a_field_that_is_missing() {
    let at = place(
        "templates/freshchat/create-user.yaml",
        10,
        "  email: \"{{ record.emial }}\"\n",
        "record.emial",
    );
    let d = Diagnostic::error(
        "missing-field",
        "the template reads `record.emial`, which this record does not have",
    )
    .place(&at)
    .note("record: data/users.csv, line 2 (key `a-17`); the same in all 1,250 records")
    .record(&RecordPlace { file: "data/users.csv".into(), line: 2, byte: 20 })
    .help("did you mean `record.email`? `| default(omit)` leaves the key out where it is missing");
    assert_snapshot!(plain(&d), @r#"
    error[missing-field]: the template reads `record.emial`, which this record does not have
      --> templates/freshchat/create-user.yaml:11:14
    11 |   email: "{{ record.emial }}"
       |              ^^^^^^^^^^^^
       = record: data/users.csv, line 2 (key `a-17`); the same in all 1,250 records
    help: did you mean `record.email`? `| default(omit)` leaves the key out where it is missing
    "#);
}

#[test]
fn records_that_break_their_schema() {
    let d = Diagnostic::error(
        "record-invalid",
        "3 of 1,250 records break schemas/user.schema.json and were not sent",
    )
    .row("/email  is not an e-mail address       2 records   data/users.csv lines 4, 88")
    .row("/phone  is longer than 16 characters   1 record    data/users.csv line 530")
    .note("rows and reasons: .runner/default/runs/sync-users/20261122T0214-3f9c/invalid.csv");
    assert_snapshot!(plain(&d), @r"
    error[record-invalid]: 3 of 1,250 records break schemas/user.schema.json and were not sent
       | /email  is not an e-mail address       2 records   data/users.csv lines 4, 88
       | /phone  is longer than 16 characters   1 record    data/users.csv line 530
       = rows and reasons: .runner/default/runs/sync-users/20261122T0214-3f9c/invalid.csv
    ");
}

#[test]
fn a_short_line_number_is_padded_and_a_place_in_words_has_an_arrow() {
    let at = place("runner.yaml", 4, "    api_token: { env: FRESHCHAT_API_TOKEN }\n", "FRESHCHAT_API_TOKEN");
    let unset = Diagnostic::error(
        "variable-unset",
        "connection `freshchat` needs FRESHCHAT_API_TOKEN, which is not set",
    )
    .place(&at)
    .note("looked in the environment and in .env; nothing was sent");
    let refused =
        Diagnostic::error("credentials-refused", "acme.freshchat.com answered 401; the run is halted")
            .at("POST /v2/users, first for data/users.csv line 2")
            .row("401 Unauthorized: \"Invalid token\"");
    let both = strip_str(&draw_all(&[unset, refused], &Mask::default())).to_string();
    assert_snapshot!(both, @r#"
    error[variable-unset]: connection `freshchat` needs FRESHCHAT_API_TOKEN, which is not set
      --> runner.yaml:5:23
     5 |     api_token: { env: FRESHCHAT_API_TOKEN }
       |                       ^^^^^^^^^^^^^^^^^^^
       = looked in the environment and in .env; nothing was sent

    error[credentials-refused]: acme.freshchat.com answered 401; the run is halted
      --> POST /v2/users, first for data/users.csv line 2
       | 401 Unauthorized: "Invalid token"
    "#);
}

#[test]
fn further_lines_of_help_and_notes_stand_below_the_first() {
    let d = Diagnostic::warning("input-changed", "data/users.csv is not the file that run 3f9c began with")
        .note("600 of 1,250 records are settled\nnothing was sent")
        .help("put the old file back,\n      or `runner apply sync-users --fresh` to begin again");
    assert_snapshot!(plain(&d), @r"
    warning[input-changed]: data/users.csv is not the file that run 3f9c began with
       = 600 of 1,250 records are settled
         nothing was sent
    help: put the old file back,
          or `runner apply sync-users --fresh` to begin again
    ");
}

#[test]
fn a_record_without_a_note_gets_one() {
    let mut d = Diagnostic::error("ragged-row", "the row has 4 cells, the header 5")
        .record(&RecordPlace { file: "a.csv".into(), line: 9, byte: 0 })
        .pointer("/email");
    d.count = Some(1_250);
    assert_snapshot!(plain(&d), @r"
    error[ragged-row]: the row has 4 cells, the header 5
       = record: a.csv, line 9, at /email; the same in 1,250 records
    ");
}

#[test]
fn carets_stand_below_what_they_mean() {
    for (line, needle) in [
        ("\tkey: wrong", "wrong"),
        ("name: é, wrong", "wrong"),
        ("name: 漢字 wrong", "wrong"),
        ("name: 👍 👨\u{200d}👩\u{200d}👧 wrong", "wrong"),
        ("name: e\u{301} wrong\r", "wrong"),
        ("name: \u{1b}[2J wrong", "wrong"),
        ("name: 漢字", "漢字"),
    ] {
        let d = Diagnostic::error("x", "y").place(&place("a.yaml", 0, &format!("{line}\nnext"), needle));
        let drawn = plain(&d);
        let rows: Vec<&str> = drawn.lines().collect();
        let column = rows[2].split(needle).next().unwrap().width();
        assert_eq!(rows[3].find('^'), Some(column), "{drawn}");
        assert_eq!(rows[3].matches('^').count(), needle.width(), "{drawn}");
        assert!(!drawn.contains('\u{1b}') && !drawn.contains('\t') && !drawn.contains('\r'), "{drawn:?}");
    }
}

#[test]
fn an_empty_or_many_lined_span_still_points() {
    let source = Arc::new(SourceText { path: "a.yaml".into(), text: "a: 1\nbb: 2\nc: 3\n".into() });
    for (span, line, carets) in [(4..4, " 1 | a: 1", 1), (5..14, " 2 | bb: 2", 5), (16..16, " 4 |", 1)] {
        let drawn = plain(&Diagnostic::error("x", "y").place(&Place::new(Arc::clone(&source), span)));
        let rows: Vec<&str> = drawn.lines().collect();
        assert_eq!((rows[2].trim_end(), rows[3].matches('^').count()), (line, carets), "{drawn}");
    }
    let empty = Arc::new(SourceText { path: "a.yaml".into(), text: String::new() });
    assert_snapshot!(plain(&Diagnostic::error("x", "y").place(&Place::start_of(empty))), @r"
    error[x]: y
      --> a.yaml:1:1
    ");
}

#[test]
fn a_very_long_line_is_a_window_around_the_place() {
    let line = format!("body: {}wrong{}", "ä".repeat(5_000), "z".repeat(5_000));
    let drawn = plain(&Diagnostic::error("x", "y").place(&place("a.yaml", 0, &line, "wrong")));
    let rows: Vec<&str> = drawn.lines().collect();
    assert!(rows[2].width() <= WINDOW + 8 && rows[2].ends_with("zzz…") && rows[2].contains(" …ä"), "{drawn}");
    assert_eq!(rows[3].find('^'), Some(rows[2].split("wrong").next().unwrap().width()));

    let all =
        plain(&Diagnostic::error("x", "y").place(&place("a.yaml", 0, &"漢".repeat(300), &"漢".repeat(300))));
    assert!(all.lines().all(|row| row.width() <= WINDOW + 8), "{all}");
}

#[test]
fn secrets_and_steering_characters_do_not_get_through() {
    let secret = Secret::new("s3cr3t-token".into());
    let at = place("runner.yaml", 0, "token: s3cr3t-token # here\n", "here");
    let d = Diagnostic::error("x", "got s3cr3t-token\nerror[y]: forged\u{202e}")
        .place(&at)
        .row("s3cr3t-token\u{1b}[2J")
        .note("s3cr3t-token\nerror[z]: not at the margin")
        .help("use s3cr3t-token");
    let drawn = strip_str(&draw(&d, &Mask::new([&secret]))).to_string();
    assert_snapshot!(drawn, @r"
    error[x]: got ***\nerror[y]: forged\u{202e}
      --> runner.yaml:1:23
     1 | token: *** # here
       | ***\u{1b}[2J
       = ***
         error[z]: not at the margin
    help: use ***
    ");
}

#[test]
fn looks_are_there_when_a_terminal_wants_them() {
    let drawn = draw(&Diagnostic::error("x", "y").help("z"), &Mask::default());
    assert_eq!(drawn, "\x1b[1;31merror[x]\x1b[0m\x1b[1m: y\x1b[0m\n\x1b[1;36mhelp:\x1b[0m z\n");
}

proptest! {
    #[test]
    fn any_text_and_any_span_can_be_drawn(text in "\\PC*|(?s).*", start in 0usize..80, len in 0usize..80) {
        let source = Arc::new(SourceText { path: text.clone(), text: text.clone() });
        let d = Diagnostic::error("x", text.clone()).place(&Place::new(source, start..start.saturating_add(len)))
            .at(text.clone()).row(text.clone()).note(text.clone()).help(text);
        let drawn = plain(&d);
        prop_assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
