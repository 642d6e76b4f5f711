//! What holds for every record: the same bytes again, any text as that very text at every
//! position, digits as they were, and no record read as a template.

use proptest::prelude::*;

use super::context::tests::context;
use super::tests::{any, any_text, endpoint, placed, record_with, request, request_template, template};
use super::*;
use crate::config::{BodyFile, Content, Endpoint, Escape, Tree};
use crate::model::Problems;

fn text_leaf(text: &str) -> Tree {
    Tree::Text(template(text))
}

fn map(entries: &[(&str, &str)]) -> Tree {
    let entries = entries.iter().map(|(name, text)| (placed(name), text_leaf(text))).collect();
    Tree::Map(entries, template("").place)
}

/// Text that a careless engine would calculate.
fn template_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{{ 7*7 }}"),
        Just("{% include 'x' %}"),
        Just("{{"),
        Just("}}"),
        Just("{#"),
        Just("record.t"),
        Just("\""),
        Just("\\"),
        Just("a"),
    ];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    ::url::form_urlencoded::parse(text).map(|(name, value)| (name.into(), value.into())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_record_gives_the_same_bytes(text in any_text(), number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?") {
        let body = map(&[("t", "{{ record.t }}"), ("u", "{{ uuid() }}"), ("n", "{{ record.n }}"), ("at", "{{ now() }}")]);
        let endpoint = Endpoint {
            body: Some(body),
            query: vec![(placed("q"), text_leaf("{{ record.t }}-{{ uuid() }}"))],
            ..endpoint()
        };
        let text = serde_json::Value::from(text);
        let record = format!("{{\"t\":{text},\"n\":{number}}}");
        let made = request_template(&endpoint).unwrap();
        let again = request_template(&endpoint).unwrap();
        let bytes = |made: &RequestTemplate, context: &mut Context| {
            let request = made.render(context).unwrap().finish(Some("key"), 1 << 20).unwrap();
            (request.digest(), request.url.to_string(), request.body)
        };
        let mut used = context(&record);
        let first = bytes(&made, &mut used);
        prop_assert_eq!(&first, &bytes(&made, &mut used));
        prop_assert_eq!(&first, &bytes(&made, &mut context(&record)));
        prop_assert_eq!(&first, &bytes(&again, &mut context(&record)));
        let digits = format!("\"n\":{number},");
        prop_assert!(String::from_utf8_lossy(&first.2).contains(&digits), "{} in {:?}", digits, first.2);
    }

    #[test]
    fn any_text_in_a_query_or_form_is_that_text(text in any_text(), name in any_text()) {
        let endpoint = Endpoint {
            query: vec![(placed(&name), text_leaf("{{ record.t }}")), (placed("b"), text_leaf("<{{ record.t }}>"))],
            content: Content::Form,
            body: Some(map(&[("v", "{{ record.t }}"), ("w", "{{ record.t | upper }}")])),
            ..endpoint()
        };
        let request = request(&endpoint, &record_with("t", &text)).unwrap();
        let query = request.url.query().unwrap_or_default();
        prop_assert_eq!(pairs(query.as_bytes()), vec![(name, text.clone()), ("b".into(), format!("<{text}>"))]);
        prop_assert_eq!(pairs(&request.body), vec![("v".into(), text.clone()), ("w".into(), text.to_uppercase())]);
        prop_assert_eq!(request.url.fragment(), None);
    }

    #[test]
    fn any_text_in_lines_text_or_a_file_is_that_text(text in any_text()) {
        let record = record_with("t", &text);
        let lines = Endpoint {
            content: Content::Ndjson,
            body: Some(Tree::List(vec![map(&[("v", "{{ record.t }}")]), text_leaf("{{ record.t }}")], template("").place)),
            ..endpoint()
        };
        let body = request(&lines, &record).unwrap().body;
        let found: Vec<serde_json::Value> =
            body.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        prop_assert_eq!(found, vec![serde_json::json!({ "v": text }), serde_json::json!(text)]);

        let plain = Endpoint { content: Content::Text, body: Some(text_leaf("<{{ record.t }}>")), ..endpoint() };
        let body = request(&plain, &record).unwrap().body;
        prop_assert_eq!(std::str::from_utf8(&body).unwrap(), format!("<{text}>"));

        let file = BodyFile { text: template("{% if true %}[{{ record.t }}]{% endif %}"), escape: Escape::Json };
        let file = Endpoint { body_file: Some(file), ..endpoint() };
        let body = request(&file, &record).unwrap().body;
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), serde_json::json!([text]));
    }

    #[test]
    fn no_record_is_read_as_a_template(text in template_like()) {
        for leaf in [
            "{{ record.t }}",
            "{{ record.t ~ '' }}",
            "{{ [record.t] | first }}",
            "{{ record['t'] }}{{ '' }}",
            "{% if true %}{{ record.t }}{% endif %}",
            "{% set x = record.t %}{{ x }}",
        ] {
            let mut problems = Problems::new();
            let made = Leaf::compile(&template(leaf), &any(), &mut problems).unwrap();
            let value = made.value(&context(&record_with("t", &text))).unwrap();
            prop_assert_eq!(value.as_str(), Some(text.as_str()), "{}", leaf);
        }
    }
}
