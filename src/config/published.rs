//! The JSON Schemas of our own files, for editors and CI.
//!
//! Made from the declarations that read the files, so that both cannot differ in their keys.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::connector::RawConnector;
use super::endpoint::RawEndpoint;
use super::pipeline::RawPipeline;
use super::project::RawRunner;

/// The kinds of files that have a published schema.
pub const KINDS: [&str; 4] = ["runner", "connector", "endpoint", "pipeline"];

/// The schema of a kind of file, in draft-07, which every editor knows.
#[must_use]
pub fn published_schema(kind: &str) -> Option<serde_json::Value> {
    let generator = SchemaSettings::draft07().for_deserialize().into_generator();
    let schema = match kind {
        "runner" => generator.into_root_schema_for::<RawRunner>(),
        "connector" => generator.into_root_schema_for::<RawConnector>(),
        "endpoint" => generator.into_root_schema_for::<RawEndpoint>(),
        "pipeline" => generator.into_root_schema_for::<RawPipeline>(),
        _ => return None,
    };
    let mut value = schema.to_value();
    if let Some(object) = value.as_object_mut() {
        object.insert("title".into(), format!("runner: {kind}").into());
    }
    Some(value)
}

/// A name, or the thing itself in place.
pub(super) struct NameOr<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for NameOr<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("NameOr{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, inner] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_SCHEMAS=1 cargo test --lib published` writes the files.
    #[test]
    fn the_published_schemas_are_those_of_the_code() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/runner");
        for kind in KINDS {
            let schema = published_schema(kind).unwrap();
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            let path = folder.join(format!("{kind}.schema.json"));
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            assert!(std::fs::read_to_string(&path).unwrap() == text, "{} is stale", path.display());
            jsonschema::draft7::meta::validate(&schema).unwrap();
        }
        assert!(published_schema("other").is_none());
    }
}
