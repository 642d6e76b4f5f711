//! The endpoint's parameters: bound by the pipeline, or the record's field of the same name.

use super::context::{Context, Known, Root, Scope};
use super::error::RenderError;
use super::path::field_step;
use super::tree::{Nulls, TreeTemplate};
use crate::config::{Param, ParamKind, Template, Tree};
use crate::model::{Diagnostic, Map, Number, Place, Problems, Str, Value};

/// All parameters of an endpoint.
#[derive(Debug)]
pub(super) struct ParamsTemplate {
    params: Vec<OneParam>,
}

#[derive(Debug)]
struct OneParam {
    name: Str,
    kind: ParamKind,
    required: bool,
    default: Option<Value>,
    /// `None` when neither a binding nor a field of the record can give a value.
    source: Option<TreeTemplate>,
    place: Place,
}

impl ParamsTemplate {
    pub fn compile(params: &[Param], scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let all: Vec<_> = params.iter().map(|param| OneParam::compile(param, scope, problems)).collect();
        Some(Self { params: all.into_iter().collect::<Option<_>>()? })
    }

    /// What expressions may know of `params`.
    pub fn known(params: &[Param]) -> Known {
        let names: Vec<String> = params.iter().map(|param| param.name.value.clone()).collect();
        Known::Fields(names.into())
    }

    pub fn value(&self, context: &Context) -> Result<Value, RenderError> {
        let mut map = Map::with_capacity(self.params.len());
        for param in &self.params {
            map.push(Str::clone(&param.name), param.value(context)?);
        }
        Ok(Value::Object(map))
    }
}

impl OneParam {
    fn compile(param: &Param, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let name = &param.name.value;
        let place = param.binding.as_ref().map_or(&param.name.place, Tree::place).clone();
        let source = if let Some(tree) = &param.binding {
            Some(TreeTemplate::compile(tree, scope, Nulls::Keep, problems)?)
        } else if has_field(scope, name) {
            // The same as if it had been bound by hand.
            let text = format!("{{{{ record{} | default(none) }}}}", field_step(name));
            let tree = Tree::Text(Template::new(text, param.name.place.clone()));
            Some(TreeTemplate::compile(&tree, scope, Nulls::Keep, problems)?)
        } else {
            None
        };
        if source.is_none() && param.required && param.default.is_none() {
            problems.push(
                Diagnostic::error("param-missing", format!("the parameter `{name}` has no value"))
                    .place(&place)
                    .note("records have no field of this name")
                    .help(format!("bind it in the pipeline: `params: {{ {name}: \"{{{{ record.… }}}}\" }}`")),
            );
            return None;
        }
        Some(Self {
            name: name.as_str().into(),
            kind: param.kind,
            required: param.required,
            default: param.default.clone(),
            source,
            place,
        })
    }

    fn value(&self, context: &Context) -> Result<Value, RenderError> {
        let bound = match &self.source {
            Some(source) => source.value(context)?,
            None => Value::Absent,
        };
        let value = match (&self.default, bound) {
            (Some(default), bound) if bound.is_nothing() => default.clone(),
            (_, bound) => bound,
        };
        if value.is_nothing() {
            if self.required {
                let message = format!("the parameter `{}` has no value", self.name);
                return Err(RenderError::new("param-missing", &self.place, message)
                    .note(format!("it is {} in this record", value.kind()))
                    .help("leave such records out with `select: { where: … }`, or bind a `default(…)`"));
            }
            return Ok(Value::Absent);
        }
        let found = value.kind();
        typed(value, self.kind).ok_or_else(|| {
            let message =
                format!("the parameter `{}` must be {} and is {found}", self.name, wanted(self.kind));
            RenderError::new("param-type", &self.place, message)
        })
    }
}

/// Whether records have, or may have, a field of this name.
fn has_field(scope: &Scope, name: &str) -> bool {
    match scope.get(Root::Record) {
        Some(Known::Any) => true,
        Some(Known::Fields(fields) | Known::Text(fields)) => fields.iter().any(|field| field == name),
        Some(Known::Tables(_) | Known::Steps(_)) | None => false,
    }
}

/// The value as this type: only what is exactly that, never something near to it.
fn typed(value: Value, kind: ParamKind) -> Option<Value> {
    let number = |text: &str| Number::parse(text);
    Some(match (kind, value) {
        (ParamKind::String, value @ Value::String(_))
        | (ParamKind::Number, value @ Value::Number(_))
        | (ParamKind::Boolean, value @ Value::Bool(_))
        | (ParamKind::Array, value @ Value::Array(_))
        | (ParamKind::Object, value @ Value::Object(_)) => value,
        (ParamKind::String, Value::Number(number)) => Value::text(number.as_str()),
        (ParamKind::String, Value::Bool(value)) => Value::text(if value { "true" } else { "false" }),
        (ParamKind::Integer, Value::Number(number)) if number.is_written_as_integer() => {
            Value::Number(number)
        }
        (ParamKind::Integer, Value::String(text)) => {
            Value::Number(number(&text).filter(Number::is_written_as_integer)?)
        }
        (ParamKind::Number, Value::String(text)) => Value::Number(number(&text)?),
        (ParamKind::Boolean, Value::String(text)) => match &*text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return None,
        },
        (ParamKind::Date, Value::String(text)) => {
            let shape = text.len() == 10
                && text.bytes().enumerate().all(|(at, b)| (b == b'-') == matches!(at, 4 | 7));
            (shape && text.parse::<jiff::civil::Date>().is_ok())
                .then_some(Value::String(Str::clone(&text)))?
        }
        _ => return None,
    })
}

const fn wanted(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::String => "text",
        ParamKind::Integer => "an integer",
        ParamKind::Number => "a number",
        ParamKind::Boolean => "true or false",
        ParamKind::Date => "a date such as 2026-11-22",
        ParamKind::Array => "a list",
        ParamKind::Object => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_another_type_only_when_it_is_exactly_that() {
        use ParamKind::{Array, Boolean, Date, Integer, Number as Num, Object, String as Text};
        for (json, kind, expected) in [
            ("\"x\"", Text, Some("\"x\"")),
            ("1.10", Text, Some("\"1.10\"")),
            ("true", Text, Some("\"true\"")),
            ("[]", Text, None),
            ("12345678901234567890123", Integer, Some("12345678901234567890123")),
            ("\"007\"", Integer, None),
            ("\"-7\"", Integer, Some("-7")),
            ("\" 7\"", Integer, None),
            ("\"7.0\"", Integer, None),
            ("7.0", Integer, None),
            ("\"1.10\"", Num, Some("1.10")),
            ("\"NaN\"", Num, None),
            ("\"true\"", Boolean, Some("true")),
            ("\"yes\"", Boolean, None),
            ("1", Boolean, None),
            ("\"2026-02-28\"", Date, Some("\"2026-02-28\"")),
            ("\"2026-02-30\"", Date, None),
            ("\"20260228\"", Date, None),
            ("\"2026-02-28T00:00\"", Date, None),
            ("[1]", Array, Some("[1]")),
            ("\"[1]\"", Array, None),
            ("{}", Object, Some("{}")),
        ] {
            let found = typed(super::super::context::tests::value(json), kind).map(|value| value.to_json());
            assert_eq!(found.as_deref(), expected, "{json} as {kind:?}");
        }
    }
}
