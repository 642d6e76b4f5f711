//! Lookup tables in expressions whose keys are calculated: `lookups.agents[record.mail | lower].id`.
//!
//! Apart from `path`, which finds rows under plain keys without the engine. Invariant: a table is
//! never converted as a whole; the engine gets the one row that it asks for.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value as EngineValue};

use super::convert::Node;
use crate::model::{Table, Value};

/// A table as the engine sees it: it has rows by key and cannot be listed.
pub(super) struct Rows(pub Arc<Table>);

impl std::fmt::Debug for Rows {
    // No values: the engine prints objects in some of its messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("table")
    }
}

impl Object for Rows {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &EngineValue) -> Option<EngineValue> {
        match key.as_str() {
            Some(key) => self.get_value_by_str(key),
            None if key.is_integer() => self.get_value_by_str(&key.to_string()),
            None => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<EngineValue> {
        let row = Value::Object(self.0.row(self.0.find(key)?));
        Some(EngineValue::from_object(Node::new(Arc::new(row), Vec::new())))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::{context, tables};
    use super::super::{Known, KnownTable, Leaf, Root, Scope};
    use crate::config::fixtures::template;
    use crate::model::Problems;

    fn scope() -> Scope {
        let columns = ["email", "id", "team", "n"].map(str::to_owned).into();
        let table = KnownTable { name: "agents".into(), columns: Some(columns) };
        Scope::new().allow(Root::Record, Known::Any).allow(Root::Lookups, Known::Tables([table].into()))
    }

    /// The value as JSON, or class and message.
    fn rendered(text: &str) -> String {
        let mut problems = Problems::new();
        let Some(leaf) = Leaf::compile(&template(text), &scope(), &mut problems) else {
            let found = problems.into_sorted().remove(0);
            return format!("{}: {} {}", found.rule, found.message, found.help.unwrap_or_default());
        };
        let tables = tables(&[
            r#"{"email":"a@x","id":9007199254740993001,"team":{"name":"north"},"n":1.10}"#,
            r#"{"email":7,"id":"seven"}"#,
        ]);
        let record = context(r#"{"mail":"a@x","big":"A@X","other":"secret@x","n":7,"nil":null,"k":"name"}"#);
        match leaf.value(&record.with_tables(tables)) {
            Ok(value) => value.to_json(),
            Err(error) => format!("{}: {}", error.class(), error.message),
        }
    }

    #[test]
    fn a_row_is_found_by_plain_and_by_calculated_keys() {
        for (text, expected) in [
            ("{{ lookups.agents[record.mail].id }}", "9007199254740993001"),
            ("{{ lookups.agents[record.mail].n }}", "1.10"),
            ("{{ lookups.agents[record.mail].team.name }}", "\"north\""),
            ("{{ lookups.agents[record.mail].team[record.k] }}", "\"north\""),
            ("{{ lookups.agents['a@x'].id }}", "9007199254740993001"),
            ("{{ lookups.agents[record.n].id }}", "\"seven\""),
            ("{{ lookups.agents[7].id }}", "\"seven\""),
            ("{{ lookups.agents[record.n] }}", "{\"email\":7,\"id\":\"seven\"}"),
            ("x{{ lookups.agents[record.n].id }}", "\"xseven\""),
            ("{{ lookups.agents[record.big | lower].id }}", "9007199254740993001"),
            ("{{ lookups.agents[record.big | lower].team.name | upper }}", "\"NORTH\""),
            ("{{ lookups.agents[record.n + 0].id }}", "\"seven\""),
            ("{{ record.mail in lookups.agents }}", "true"),
            ("{{ record.other in lookups.agents }}", "false"),
            ("{{ lookups.agents[record.other] is defined }}", "false"),
            ("{{ lookups.agents[record.other].id | default('none') }}", "\"none\""),
            ("{{ lookups.agents[record.nil].id | default('none') }}", "\"none\""),
            ("{{ lookups.agents[record.nope].id | default('none') }}", "\"none\""),
            ("{{ (lookups.agents[record.other | upper] | default({})).id | default('none') }}", "\"none\""),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_names_its_table_and_no_value() {
        let no_row = "lookup-agents: `lookups.agents` has no row for";
        for (text, expected) in [
            ("{{ lookups.agents[record.other].id }}", format!("{no_row} the value of `record.other`")),
            ("{{ lookups.agents[record.nil].id }}", format!("{no_row} `record.nil`, which is null")),
            ("{{ lookups.agents['zzz'].id }}", format!("{no_row} `zzz`")),
            (
                "{{ lookups.agents[record.other | lower].id }}",
                format!("{no_row} the key that is calculated here"),
            ),
            (
                "{{ lookups.agents[record.other | lower] }}",
                format!("{no_row} the key that is calculated here"),
            ),
            ("{{ lookups.agents[record.other].id ~ 'x' }}", format!("{no_row} the value of `record.other`")),
            ("{{ lookups.agents[record.nope].id }}", "missing-field: `record` has no field `nope`".into()),
            (
                "{{ lookups.agents[record.n].team }}",
                "missing-field: `lookups.agents[record.n]` has no `team`".into(),
            ),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn unknown_tables_and_columns_are_found_before_any_record() {
        for (text, expected) in [
            (
                "{{ lookups.agent[record.mail].id }}",
                "unknown-lookup: there is no lookup `agent` did you mean `lookups.agents`?",
            ),
            (
                "{{ lookups.agents[record.mail].ids }}",
                "unknown-field: `lookups.agents` has no column `ids` did you mean `id`?",
            ),
            (
                "{{ lookups.agents[record.mail].ids | default('') }}",
                "unknown-field: `lookups.agents` has no column `ids` did you mean `id`?",
            ),
            (
                "{{ lookups.agents[record.mail | lower].ids }}",
                "unknown-field: `lookups.agents` has no column `ids` did you mean `id`?",
            ),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
        for whole in [
            "{{ lookups }}",
            "{{ lookups.agents }}",
            "{{ lookups.agents | length }}",
            "{{ lookups | tojson }}",
            "{% for a in lookups.agents %}{% endfor %}",
        ] {
            assert!(rendered(whole).starts_with("lookup-whole: "), "{whole}: {}", rendered(whole));
        }
    }
}
