//! What `init` writes: this project's own files, embedded, so that they are the ones that are tested.

use super::super::schema;
use crate::config;

/// A connector that can be begun with.
pub struct Connector {
    /// Its name: the folder below `templates/`.
    pub name: &'static str,
    /// The pipeline to try first.
    pub pipeline: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../", $path)))),*]
    };
}

/// All of them.
pub const CONNECTORS: [Connector; 1] = [Connector {
    name: "freshchat",
    pipeline: "pipelines/sync-users.yaml",
    files: files![
        "runner.yaml",
        ".env.example",
        "pipelines/sync-users.yaml",
        "templates/freshchat/connector.yaml",
        "templates/freshchat/create-conversation.yaml",
        "templates/freshchat/create-user.yaml",
        "templates/freshchat/delete-agent.yaml",
        "templates/freshchat/list-agents.yaml",
        "templates/freshchat/list-channels.yaml",
        "templates/freshchat/list-groups.yaml",
        "templates/freshchat/list-messages.yaml",
        "templates/freshchat/list-user-conversations.yaml",
        "templates/freshchat/list-users.yaml",
        "templates/freshchat/send-message.yaml",
        "templates/freshchat/update-agent-status.yaml",
        "templates/freshchat/update-agent.yaml",
        "templates/freshchat/update-conversation.yaml",
        "templates/freshchat/update-user.yaml",
        "templates/freshchat/upload-file.yaml",
        "schemas/freshchat/agent-status-update.schema.json",
        "schemas/freshchat/agent-update.schema.json",
        "schemas/freshchat/conversation-create.schema.json",
        "schemas/freshchat/conversation-update.schema.json",
        "schemas/freshchat/message-create.schema.json",
        "schemas/freshchat/user-create.schema.json",
        "schemas/freshchat/user-update.schema.json",
        "schemas/freshchat/user.schema.json",
    ],
}];

/// Where the accounts of examples begin in this repository's `runner.yaml`; they end with a blank line.
const EXAMPLES: &str = "\n  # Only for pipelines/examples/.\n";

fn without_examples(text: &str) -> String {
    let Some((before, rest)) = text.split_once(EXAMPLES) else { return text.to_owned() };
    let behind = rest.split_once("\n\n").map_or("", |(_, behind)| behind);
    format!("{before}\n{behind}")
}

/// The files of a new project, by path, in the order in which they are told.
pub fn of(connector: &Connector) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> =
        connector.files.iter().map(|(path, text)| ((*path).to_owned(), without_examples(text))).collect();
    files.insert(1, (".gitignore".into(), include_str!("gitignore").into()));
    // Small and whole, unlike the input that this repository tests with.
    files.insert(4, ("pipelines/data/users.csv".into(), include_str!("users.csv").into()));
    for kind in config::KINDS {
        files.push((format!("schemas/runner/{}", schema::file_name(kind)), schema::text(kind)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_and_all_that_it_names_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_yaml = |path: &str| std::path::Path::new(path).extension().is_some_and(|end| end == "yaml");
        for connector in &CONNECTORS {
            let files = of(connector);
            let has = |path: &str| files.iter().any(|(known, _)| known == path);
            let folder = format!("templates/{}", connector.name);
            for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
                assert!(has(&path), "{path} is not embedded");
            }
            for (path, text) in files.iter().filter(|(path, _)| is_yaml(path)) {
                for line in text.lines().filter(|line| line.contains("schema: schemas/")) {
                    let named = line.split(": ").nth(1).unwrap().trim();
                    assert!(has(named), "{path} names {named}, which is not embedded");
                }
                assert!(text.starts_with("# yaml-language-server: $schema="), "{path} has no modeline");
            }
            assert!(has(connector.pipeline));
        }
    }
}
