//! `runner.yaml`: the root, the connections, the defaults, and the overlay of an environment.

use std::path::{Path, PathBuf};

use super::connection::RawConnection;
use super::delivery::RawDelivery;
use super::env::EnvFile;
use super::files::{Files, is_yaml, names_in, yaml_below};
use super::raw::{Entries, FromNode, raw};
use super::read::Node;
use super::values::Count;
use super::{DeliveryOverrides, Keep};
use crate::model::{Class, Diagnostic, Failure, Placed, Problems, did_you_mean};

raw! {
    /// `runner.yaml`: connections, defaults, environments; no secrets.
    RawRunner, "runner.yaml" {
        /// Accounts, by name.
        #[schemars(with = "Option<Entries<RawConnection>>")]
        connections: Option<Node>,
        /// Defaults of all pipelines.
        defaults: Option<RawDefaults>,
        /// Where state lies; `.runner` unless said.
        state: Option<Placed<String>>,
        /// Whether a missing state folder is an error.
        require_state: Option<bool>,
        /// How many closed runs are kept.
        keep: Option<RawKeep>,
        /// Overlays, chosen with `--env`.
        environments: Entries<RawEnvironment>,
    }
    wrong {
        "connection" => "it is written `connections: { NAME: … }`",
        "delivery" => "it is written `defaults: { delivery: … }`",
        "env" => "overlays are written `environments: { NAME: … }`",
    }
}

raw! {
    /// Defaults of all pipelines.
    RawDefaults, "`defaults`" {
        /// How requests are delivered.
        #[schemars(with = "Option<RawDelivery>")]
        delivery: Option<Node>,
    }
}

raw! {
    /// How many closed runs are kept.
    RawKeep, "`keep`" {
        /// Runs of a pipeline; 10 unless said.
        runs: Option<Count>,
        /// Days after a run's end; 30 unless said.
        days: Option<Count>,
    }
}

raw! {
    /// An overlay.
    RawEnvironment, "an environment" {
        /// What differs in connections.
        #[schemars(with = "Option<Entries<RawConnection>>")]
        connections: Option<Node>,
        /// What differs in the defaults.
        defaults: Option<RawDefaults>,
        /// Whether `apply` asks before it sends.
        confirm: Option<bool>,
    }
}

/// What the command line and the process bring.
pub struct Inputs<'a> {
    /// The working directory, absolute.
    pub cwd: &'a Path,
    /// `--env`
    pub env_name: Option<&'a str>,
    /// `--env-file`
    pub env_file: EnvFile,
    /// `--var`, in order.
    pub vars: &'a [(String, String)],
    /// The environment of the process.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// `--input`, relative to the working directory.
    pub input: Option<&'a str>,
    /// `--concurrency` and `--rate`.
    pub delivery: DeliveryOverrides,
    /// `--state` or `RUNNER_STATE`, relative to the working directory.
    pub state: Option<&'a Path>,
}

/// A template, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointInfo {
    /// `freshchat/create-user`
    pub name: String,
    /// Its title, if its file can be read.
    pub title: Option<String>,
    /// Its one sentence.
    pub summary: Option<String>,
}

/// A project: what `runner.yaml` says, and what lies beside it.
#[derive(Debug)]
pub struct Project {
    /// The root, absolute and without links.
    pub root: PathBuf,
    /// The `--env` name, `default` without one.
    pub environment: String,
    /// Whether the environment asks before it sends.
    pub confirm: bool,
    /// Where state lies, absolute.
    pub state_dir: PathBuf,
    /// Whether a missing state folder is an error.
    pub require_state: bool,
    /// How many closed runs are kept.
    pub keep: Keep,
    /// Names of the connections.
    pub connections: Vec<String>,
    /// Names of the environments.
    pub environments: Vec<String>,
    /// Pipeline files, relative to the root.
    pub pipelines: Vec<String>,
    /// Templates.
    pub endpoints: Vec<EndpointInfo>,
    pub(super) raw_connections: Vec<(Placed<String>, RawConnection)>,
    pub(super) delivery: Option<Node>,
}

impl Project {
    /// Lists what lies beside `runner.yaml`. Apart, because most loads need no list, and a list
    /// reads the title of every template.
    pub(super) fn list(&mut self) {
        let shown = |path: &PathBuf| path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into();
        self.pipelines = pipelines(&self.root).iter().map(shown).collect();
        self.endpoints = endpoints(&self.root);
    }
}

/// The nearest folder upwards that has a `runner.yaml`.
pub(super) fn find_root(from: &Path) -> Result<PathBuf, Failure> {
    let start = from.canonicalize().unwrap_or_else(|_| from.to_path_buf());
    for folder in start.ancestors() {
        if folder.join("runner.yaml").is_file() {
            return Ok(folder.to_path_buf());
        }
    }
    Err(Failure::new(
        Class::Config,
        Diagnostic::error("no-project", format!("there is no runner.yaml in {} or above it", from.display()))
            .help("`runner init` makes a project; `-C DIR` names the folder of one"),
    ))
}

/// Reads `runner.yaml` with its overlay. Something usable comes back whatever is wrong.
pub(super) fn read(files: &mut Files, inputs: &Inputs<'_>, problems: &mut Problems) -> Project {
    let root = files.root().to_path_buf();
    let node = files.yaml(&root.join("runner.yaml"), problems);
    let raw = node.as_ref().and_then(|node| RawRunner::read(node, "runner.yaml", problems));
    let raw = raw.as_ref();
    let environments: Vec<String> = raw
        .map(|raw| raw.environments.0.iter().map(|(name, _)| name.value.clone()).collect())
        .unwrap_or_default();
    for (name, _) in raw.iter().flat_map(|raw| &raw.environments.0) {
        if matches!(&*name.value, "sandbox" | "default") {
            problems.at(
                "reserved-name",
                &name.place,
                format!("`{}` cannot name an environment: runs without `--env` or with `--sandbox` are kept under it", name.value),
            );
        }
    }
    let overlay = inputs.env_name.filter(|name| *name != "default").and_then(|wanted| {
        let found = raw?.environments.0.iter().find(|(name, _)| name.value == wanted);
        if found.is_none() {
            let finding = Diagnostic::error(
                "unknown-environment",
                format!("runner.yaml has no environment `{wanted}`"),
            );
            let names = environments.iter().map(String::as_str);
            problems.push(match did_you_mean(wanted, names) {
                Some(help) => finding.help(help),
                None if environments.is_empty() => finding.help("declare it under `environments:`"),
                None => finding.help(format!("it has: {}", environments.join(", "))),
            });
        }
        found.map(|(_, environment)| environment)
    });
    // Every part is checked where it is written, chosen or not.
    let parts = raw.map(|raw| {
        let overlays = raw.environments.0.iter().map(|(_, e)| (e.connections.as_ref(), e.defaults.as_ref()));
        std::iter::once((raw.connections.as_ref(), raw.defaults.as_ref())).chain(overlays).collect::<Vec<_>>()
    });
    for (connections, defaults) in parts.into_iter().flatten() {
        if let Some(node) = connections {
            Entries::<RawConnection>::read(node, "connections", problems);
        }
        if let Some(node) = defaults.and_then(|defaults| defaults.delivery.as_ref()) {
            RawDelivery::read(node, "delivery", problems);
        }
    }
    let over = |base: Option<&Node>, over: Option<&Node>| match (base, over) {
        (Some(base), Some(over)) => Some(base.clone().merged(over)),
        (one, other) => other.or(one).cloned(),
    };
    let connections = over(
        raw.and_then(|raw| raw.connections.as_ref()),
        overlay.and_then(|overlay| overlay.connections.as_ref()),
    );
    let delivery = over(
        raw.and_then(|raw| raw.defaults.as_ref()?.delivery.as_ref()),
        overlay.and_then(|overlay| overlay.defaults.as_ref()?.delivery.as_ref()),
    );
    let raw_connections = connections
        .and_then(|node| Entries::<RawConnection>::read(&node, "connections", &mut Problems::new()))
        .map(|entries| entries.0)
        .unwrap_or_default();
    let keep = raw.and_then(|raw| raw.keep.as_ref());
    let default = Keep::default();
    Project {
        environment: inputs.env_name.unwrap_or("default").to_owned(),
        confirm: overlay.is_some_and(|overlay| overlay.confirm == Some(true)),
        state_dir: match inputs.state {
            Some(state) => inputs.cwd.join(state),
            // State may lie outside the root, on a volume of its own.
            None => root
                .join(raw.and_then(|raw| raw.state.as_ref()).map_or(".runner", |state| state.value.as_str())),
        },
        require_state: raw.is_some_and(|raw| raw.require_state == Some(true)),
        keep: Keep {
            runs: keep.and_then(|keep| keep.runs).map_or(default.runs, |count| count.0),
            days: keep.and_then(|keep| keep.days).map_or(default.days, |count| count.0),
        },
        connections: raw_connections.iter().map(|(name, _)| name.value.clone()).collect(),
        environments,
        pipelines: Vec::new(),
        endpoints: Vec::new(),
        raw_connections,
        delivery,
        root,
    }
}

/// Pipeline files: below `pipelines/`, without their tests.
pub(super) fn pipelines(root: &Path) -> Vec<PathBuf> {
    let folder = root.join("pipelines");
    let tests = folder.join("tests");
    yaml_below(&folder).into_iter().filter(|path| !path.starts_with(&tests)).collect()
}

fn endpoints(root: &Path) -> Vec<EndpointInfo> {
    let templates = root.join("templates");
    let mut found = Vec::new();
    for folder in names_in(&templates) {
        for file in names_in(&templates.join(&folder)) {
            if !is_yaml(&file) || file == "connector.yaml" {
                continue;
            }
            let path = templates.join(&folder).join(&file);
            let name = format!("{folder}/{}", file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem));
            // A list shows what can be read; `validate` says what cannot.
            let node = super::read::read_text(&path, &file)
                .ok()
                .and_then(|source| super::read::parse(&source, &mut Problems::new()));
            let text = |key: &str| String::read(node.as_ref()?.get(key)?, key, &mut Problems::new());
            found.push(EndpointInfo { name, title: text("title"), summary: text("summary") });
        }
    }
    found
}
