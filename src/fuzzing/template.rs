//! One leaf of a template: it compiles or says where it does not, gives the same for the same
//! record, ends, and reads no record as a template.

use std::sync::Arc;

use super::common::{Input, check_diagnostic, run, template as placed};
use crate::model::Map;
use crate::model::Number;
use crate::model::Problems;
use crate::model::Value;
use crate::render::Context;
use crate::render::Known;
use crate::render::Leaf;
use crate::render::Root;
use crate::render::Scope;

/// The target.
pub fn template(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let (text, value, number) = (input.text(), input.text(), input.text());
    let mut scope = Scope::new().allow(Root::Vars, Known::Any).allow(Root::Response, Known::Any);
    let names = ["t", "n", "list", "map", "nil"].map(str::to_owned);
    scope = scope.allow(
        Root::Record,
        match options & 3 {
            0 | 1 => Known::Any,
            2 => Known::Fields(Arc::new(names)),
            _ => Known::Text(Arc::new(names)),
        },
    );
    let compile = || {
        let mut problems = Problems::new();
        let leaf = if options & 4 == 0 {
            Leaf::compile(&placed(&text), &scope, &mut problems)
        } else {
            Leaf::bare(&placed(&text), &scope, &mut problems)
        };
        problems.all().iter().for_each(check_diagnostic);
        assert!(leaf.is_some() || problems.has_errors(), "nothing says why there is no leaf");
        (leaf, problems.into_sorted().len())
    };
    let (leaf, found) = compile();
    let (again, found_again) = compile();
    assert_eq!((leaf.is_some(), found), (again.is_some(), found_again));
    let (Some(leaf), Some(again)) = (leaf, again) else { return };
    let context = context(&value, &number);
    check(&leaf, &again, &context, &text, options & 4 == 0);
}

fn context(text: &str, number: &str) -> Context {
    let number = Number::parse(number).map_or(Value::Null, Value::Number);
    let mut record = Map::new();
    record.push("t", Value::text(text));
    record.push("n", number.clone());
    record.push("list", Value::Array(vec![Value::text(text), number.clone()]));
    record.push(
        "map",
        Value::Object([("k".into(), number), ("t".into(), Value::text(text))].into_iter().collect()),
    );
    record.push("nil", Value::Null);
    let record = Arc::new(Value::Object(record));
    Context::new(run())
        .with(Root::Record, Arc::clone(&record))
        .with(Root::Vars, Arc::clone(&record))
        .with(Root::Response, record)
}

fn check(leaf: &Leaf, again: &Leaf, context: &Context, text: &str, whole: bool) {
    let _ = leaf.reads().count();
    if text.contains("uuid") {
        // Each call of it gives the next one.
        let _ = (leaf.value(context), leaf.lenient_text(context));
        return;
    }
    let value = leaf.value(context);
    for (other, context) in [(leaf, context.clone()), (again, context.clone())] {
        match (&value, other.value(&context)) {
            (Ok(value), Ok(other)) => assert_eq!(*value, other, "the same record gives something else"),
            (Err(error), Err(other)) => assert_eq!(error.rule, other.rule),
            (value, other) => panic!("{value:?}, and then {other:?}"),
        }
    }
    let mut out = "before ".to_owned();
    let written = leaf.text(context, &mut out);
    match &value {
        Ok(Value::String(value)) if written.is_ok() => assert_eq!(out, format!("before {value}")),
        Ok(Value::Number(value)) => assert_eq!(out, format!("before {}", value.as_str())),
        Ok(_) => {}
        Err(error) => {
            assert!(written.is_err() || !whole, "text of what has no value: {error:?}");
            check_diagnostic(&error.clone().into());
        }
    }
    if let Ok(value) = &value {
        let lenient = leaf.lenient_value(context);
        assert!(
            *value == lenient || value.is_nothing() || lenient.as_str().is_some(),
            "{value:?}, {lenient:?}"
        );
        if let Value::String(value) = value {
            assert_eq!(leaf.lenient_text(context), **value);
        }
    }
    let _ = (leaf.truth(context).is_ok(), leaf.lenient_truth(context));
    if whole && !text.contains('{') {
        assert_eq!(value.ok().as_ref().and_then(Value::as_str), Some(text), "text stands for itself");
    }
}
