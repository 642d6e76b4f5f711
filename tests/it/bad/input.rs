//! Rows B001 to B021: bytes and CSV.

use runner::model::Class;

use super::bad;
use crate::world::{PUT_THINGS, things};

#[test]
fn an_input_that_is_not_there() {
    bad("B001")
        .exits(Class::Input)
        .rule("input-missing")
        .names(["data/things.csv", "does not exist"])
        .sent(0);
}

#[test]
fn an_input_that_is_a_directory() {
    bad("B001")
        .file("data/things.csv/x", "")
        .exits(Class::Input)
        .names(["data/things.csv", "is a directory"])
        .sent(0);
}

#[test]
fn an_input_that_cannot_be_read() {
    // Rights do not stop every user; a link to itself does.
    bad("B001")
        .file("data/other", "")
        .with(|world| {
            std::os::unix::fs::symlink("things.csv", world.path("data/things.csv")).expect("a link");
        })
        .exits(Class::Input)
        .names(["data/things.csv", "cannot be read"])
        .sent(0);
}

#[test]
fn a_csv_of_no_bytes() {
    bad("B002").input("").exits(Class::Input).rule("empty-file").names(["data/things.csv", "header"]).sent(0);
}

#[test]
fn a_csv_without_rows() {
    bad("B003").input("id,name\n").exits(Class::Ok).names(["0 records"]).sent(0);
}

#[test]
fn a_byte_order_mark() {
    bad("B004")
        .input(b"\xEF\xBB\xBFid,name\nt1,x\n")
        .exits(Class::Ok)
        .asked(["PUT /things/t1"])
        .bodies([r#"{"name":"x"}"#]);
}

#[test]
fn utf_16() {
    let mut bytes = vec![0xFF, 0xFE];
    bytes.extend(things(2).encode_utf16().flat_map(u16::to_le_bytes));
    bad("B005")
        .input(bytes)
        .exits(Class::Input)
        .rule("undeclared-encoding")
        .names(["UTF-16", "encoding:", "iconv"])
        .sent(0);
}

#[test]
fn a_latin_1_byte() {
    bad("B006")
        .input(b"id,name\nt1,a\nt2,Ren\xE9\nt3,c\n")
        .exits(Class::RecordsFailed)
        .rule("not-utf8")
        .names(["data/things.csv, line 3", "column `name`", "byte 19"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
}

#[test]
fn a_latin_1_byte_in_the_header() {
    bad("B006")
        .input(b"id,na\xE9me\nt1,a\n")
        .exits(Class::Input)
        .rule("not-utf8")
        .names(["column 2", "latin1"])
        .sent(0);
}

#[test]
fn a_row_with_a_field_less() {
    bad("B007")
        .input("id,name\nt1,a\nt2\nt3,c\n")
        .exits(Class::RecordsFailed)
        .rule("ragged-row")
        .names(["line 3", "1 field found", "2 fields expected"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
}

#[test]
fn a_row_with_a_field_more() {
    bad("B008")
        .input("id,name\nt1,a\nt2,b,c\nt3,c\n")
        .exits(Class::RecordsFailed)
        .rule("ragged-row")
        .names(["line 3", "3 fields found", "2 fields expected"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
}

#[test]
fn a_quote_that_is_never_closed() {
    let text = things(1000).replacen("t1,thing 1\n", "t1,\"thing 1\n", 1);
    bad("B009").input(text).exits(Class::Input).rule("unclosed-quote").names(["line 2"]).sent(0);
}

#[test]
fn two_columns_of_one_name() {
    bad("B010")
        .input("id,email,email\nt1,a,b\n")
        .exits(Class::Input)
        .rule("duplicate-column")
        .names(["`email`", "column 2", "column 3"])
        .sent(0);
}

#[test]
fn a_column_without_a_name() {
    bad("B011")
        .input("id,,name\nt1,x,a\n")
        .exits(Class::Ok)
        .names(["warning[nameless-column]", "column 2"])
        .bodies([r#"{"name":"a"}"#]);
}

#[test]
fn a_header_with_a_leading_space() {
    bad("B012")
        .input(" id,name\nt1,a\n")
        .exits(Class::Config)
        .rule("unknown-field")
        .names(["`id`", "did you mean", "' id'", "pipelines/p.yaml"])
        .sent(0);
}

#[test]
fn a_column_to_exclude_that_is_not_there() {
    bad("B012")
        .pipeline(format!("{PUT_THINGS}select: {{ exclude: [nmae] }}\n"))
        .input(things(1))
        .exits(Class::Ok)
        .names(["warning[unknown-field]", "pipelines/p.yaml:10:", "`nmae`", "`name`"])
        .sent(1);
}

#[test]
fn a_semicolon_file_read_with_comma() {
    bad("B013")
        .input("id;name\nt1;a\n")
        .exits(Class::Config)
        .rule("unknown-field")
        .names(["`id`", "id;name", "delimiter"])
        .sent(0);
}

#[test]
fn a_nul_byte() {
    bad("B014")
        .input("id,name\nt1,a\nt2,b\0c\nt3,c\n")
        .exits(Class::RecordsFailed)
        .rule("nul-byte")
        .names(["line 3", "column `name`", "U+0000"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
}

#[test]
fn a_field_of_5_mib() {
    let text = format!("id,name\nt1,a\nt2,{}\nt3,c\n", "x".repeat(5 << 20));
    bad("B015")
        .input(text)
        .exits(Class::RecordsFailed)
        .rule("field-too-large")
        .names(["line 3", "column `name`", "5242880", "1048576"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
}

#[test]
fn blank_lines() {
    bad("B016").input("id,name\n\nt1,a\n\n\nt2,b\n").exits(Class::Ok).names(["line 3", "line 6"]).sent(2);
}

#[test]
fn mixed_line_ends() {
    bad("B017")
        .input("id,name\r\nt1,a\r\nt2,b\nt3,c")
        .exits(Class::Ok)
        .asked(["PUT /things/t1", "PUT /things/t2", "PUT /things/t3"])
        .bodies([r#"{"name":"a"}"#, r#"{"name":"b"}"#, r#"{"name":"c"}"#]);
}

#[test]
fn newlines_in_a_field_before_a_bad_row() {
    bad("B018")
        .input("id,name\nt1,\"a\nb\nc\"\nt2\nt3,d\n")
        .exits(Class::RecordsFailed)
        .rule("ragged-row")
        .names(["data/things.csv, line 5"])
        .sent(2);
}

#[test]
fn a_key_twice() {
    // Line 2 and line 7 of the file.
    let text = things(5) + "t1,again\n";
    bad("B019")
        .pipeline(
            PUT_THINGS.replace("key: '{{ record.id }}'", "key: { value: '{{ record.id }}', public: true }"),
        )
        .input(text)
        .exits(Class::RecordsFailed)
        .rule("duplicate-key")
        .names(["line 7", "record 1", "t1,again"])
        .sent(5);
}

#[test]
fn an_empty_key() {
    let pipeline = PUT_THINGS.replace("key: '{{ record.id }}'", "key: '{{ record.code }}'");
    bad("B020")
        .pipeline(pipeline)
        .input("id,code\nt1,1\nt2,2\nt3,3\nt4,\nt5,5\n")
        .exits(Class::RecordsFailed)
        .names(["line 5", "`key`"])
        .sent(4);
}

#[test]
fn values_that_look_like_numbers() {
    bad("B021")
        .input("id,a,b,c,d\nt1,00123,1.10,1e5,TRUE\n")
        .exits(Class::Ok)
        .bodies([r#"{"a":"00123","b":"1.10","c":"1e5","d":"TRUE"}"#]);
}
