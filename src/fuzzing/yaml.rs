//! The files of a project: any text is configuration or is refused with a place in it; the same
//! text means the same, and scalars keep their digits and characters.

use std::path::Path;

use super::common::{Input, check_diagnostic, scratch, write};
use crate::config::{DeliveryOverrides, EnvFile, Inputs, Pipeline, check_all, load_pipeline};
use crate::model::Class;
use crate::model::Failure;
use crate::model::Number;
use crate::model::Problems;
use crate::model::Value;

const RUNNER: &str = "connections:\n  c: { connector: x, key: { env: KEY }, region: eu }\n  plain: { base_url: \"https://example.com/\" }\n";
const CONNECTOR: &str = "settings:\n  key: { type: string, secret: true }\n  region: { type: string }\nbase_url: \"https://{{ connection.region }}.example.com/v2\"\nauth: { bearer: key }\n";
const ENDPOINT: &str = "method: PUT\npath: /users/{{ params.id }}\nparams: { id: { type: string, required: true } }\nidempotency: natural\n";
const PIPELINE: &str = "connection: c\nendpoint: x/y\nsource: { file: data/a.csv }\n";
const FILES: [(&str, &str); 4] = [
    ("runner.yaml", RUNNER),
    ("templates/x/connector.yaml", CONNECTOR),
    ("templates/x/y.yaml", ENDPOINT),
    ("pipelines/p.yaml", PIPELINE),
];

/// The target.
pub fn yaml(data: &[u8]) {
    let mut input = Input::new(data);
    let root = scratch().join("project");
    let which = input.below(FILES.len() + 2);
    for (at, (name, text)) in FILES.iter().enumerate() {
        if at != which {
            write(&root, name, text.as_bytes());
        }
    }
    let Some((name, _)) = FILES.get(which) else {
        scalar(&root, &input.text(), which > FILES.len());
        return;
    };
    write(&root, name, input.rest());
    // Every reading of a file takes a thread with a large stack: one thing at a time is looked at.
    let first = load(&root);
    match data.len() % 3 {
        0 => check_again(&first, &load(&root)),
        1 => check_all_files(&root, first.is_ok()),
        _ => check_again(&first, &first),
    }
}

/// The same text means the same once more.
fn check_again(
    first: &Result<(Pipeline, Problems), Failure>,
    second: &Result<(Pipeline, Problems), Failure>,
) {
    match (first, second) {
        (Ok((pipeline, warnings)), Ok((again, _))) => {
            assert_eq!(pipeline.meaning, again.meaning, "the same text means something else");
            assert!(!warnings.has_errors());
            warnings.all().iter().for_each(check_diagnostic);
            assert!(pipeline.endpoint().path.value.starts_with('/'), "{:?}", pipeline.endpoint().path.value);
            assert!(
                !pipeline.name.contains(['/', '\0']) && !pipeline.name.starts_with('.'),
                "{:?}",
                pipeline.name
            );
            assert!(!pipeline.meaning.contains("k3y-value"), "a secret is part of the meaning");
            assert!(!format!("{pipeline:?}").contains("k3y-value"), "a secret is shown");
        }
        (Err(failure), Err(again)) => {
            assert_eq!(failure.class, Class::Config);
            assert!(!failure.diagnostics.is_empty());
            failure.diagnostics.iter().for_each(check_diagnostic);
            let messages = |failure: &Failure| -> Vec<String> {
                failure.diagnostics.iter().map(|found| found.message.clone()).collect()
            };
            assert_eq!(messages(failure), messages(again), "the same text is refused otherwise");
        }
        (first, second) => panic!("{:?}, and then {:?}", first.is_ok(), second.is_ok()),
    }
}

fn check_all_files(root: &Path, is_loaded: bool) {
    let checked = with(root, |inputs| check_all(&[], inputs));
    let findings = checked.files.iter().flat_map(|(_, problems)| problems.all());
    findings.for_each(check_diagnostic);
    if is_loaded
        && checked
            .files
            .iter()
            .any(|(path, problems)| path.ends_with("pipelines/p.yaml") && problems.has_errors())
    {
        panic!("what can be loaded does not pass the check: {:?}", checked.files);
    }
}

fn with<T>(root: &Path, run: impl FnOnce(&Inputs<'_>) -> T) -> T {
    run(&Inputs {
        cwd: root,
        env_name: None,
        env_file: EnvFile::Default,
        vars: &[],
        environment: &|name| (name == "KEY").then(|| "k3y-value".to_owned()),
        input: None,
        delivery: DeliveryOverrides::default(),
        state: None,
    })
}

fn load(root: &Path) -> Result<(Pipeline, Problems), Failure> {
    with(root, |inputs| load_pipeline("p", inputs))
}

/// A variable arrives as what was written: text as that text, a number in its digits.
fn scalar(root: &Path, text: &str, quoted: bool) {
    let written = if quoted { serde_json::Value::from(text).to_string() } else { text.to_owned() };
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_'));
    if !quoted && !plain {
        return;
    }
    write(root, "pipelines/p.yaml", format!("{PIPELINE}vars:\n  v: {written}\n").as_bytes());
    let found = match load(root) {
        Ok((pipeline, _)) => pipeline.vars.get("v").cloned(),
        Err(failure) => {
            failure.diagnostics.iter().for_each(check_diagnostic);
            None
        }
    };
    match found {
        Some(Value::String(found)) => assert_eq!(*found, *text),
        Some(Value::Number(found)) if !quoted => {
            assert_eq!(found.as_str(), text);
            assert!(Number::parse(text).is_some());
        }
        Some(Value::Bool(found)) if !quoted => assert_eq!(found.to_string(), text),
        Some(Value::Null) if !quoted => assert!(["null", "Null", "NULL"].contains(&text), "{text}"),
        // What YAML cannot hold, or what would be taken for something else, is refused and not bent.
        None => {}
        found => panic!("{written} is read as {found:?}"),
    }
}
