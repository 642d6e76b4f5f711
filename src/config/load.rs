//! From names and paths to resolved values: the entry points of `config`.
//!
//! Each reads what it needs, collects every mistake of all files it touched, and only then fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::batch::RawBatch;
use super::connection::{self, Parts, RawConnection};
use super::connector::RawConnector;
use super::endpoint::{self, Around, RawEndpoint};
use super::env::Environment;
use super::files::{Files, is_yaml, start_of, yaml_below};
use super::listing;
use super::lookups::{self, RawLookup};
use super::meaning::{self, Meaning};
use super::pipeline::{self, Missing, RawPipeline};
use super::project::{self, Inputs, Project, find_root};
use super::raw::FromNode;
use super::read::{Kind, Node};
use super::steps::{self, Written};
use super::{
    Connection, Deletes, Endpoint, Format, InDoubt, Limits, Listing, Lookup, Pipeline, SourceSpec, Step,
    deletes, delivery, needs, webhook,
};
use crate::model::{Class, Diagnostic, Failure, Place, Placed, Problems, SourceText, did_you_mean};

/// Reads one pipeline and everything it refers to. Warnings come beside it. `NAME.deletes` and `NAME.webhook`
/// are the pipelines that are written down in another.
pub fn load_pipeline(path_or_name: &str, inputs: &Inputs<'_>) -> Result<(Pipeline, Problems), Failure> {
    let (root, path) = match find_pipeline(path_or_name, inputs.cwd) {
        Ok(found) => found,
        Err(failure) => return load_follower(path_or_name, inputs).unwrap_or(Err(failure)),
    };
    let mut loader = Loader::open(root, inputs);
    let pipeline = loader.pipeline(&path, Missing::Refused);
    match pipeline {
        Some(mut pipeline) if !loader.problems.has_errors() => {
            pipeline.files = loader.files.texts();
            let texts = pipeline.files.clone();
            pipeline.followers_mut().for_each(|follower| follower.files.clone_from(&texts));
            tracing::debug!(
                pipeline = pipeline.name,
                file = pipeline.path,
                files = pipeline.files.len(),
                environment = pipeline.environment,
                connection = pipeline.connection.name,
                unset = pipeline.connection.unset.len(),
                "pipeline read"
            );
            Ok((pipeline, loader.problems))
        }
        _ => Err(Failure::config(loader.problems)),
    }
}

/// Reads a pipeline that is written down in another; `None` where the name is not one of those.
fn load_follower(name: &str, inputs: &Inputs<'_>) -> Option<Result<(Pipeline, Problems), Failure>> {
    let (other, kind) = name.rsplit_once('.').filter(|_| needs::is_of_follower(name))?;
    find_pipeline(other, inputs.cwd).ok()?;
    let (pipeline, problems) = match load_pipeline(other, inputs) {
        Ok(read) => read,
        Err(failure) => return Some(Err(failure)),
    };
    let follower = match kind {
        "deletes" => pipeline.deletes.map(|deletes| deletes.pipeline),
        _ => pipeline.webhook.map(|webhook| *webhook),
    };
    follower.map(|follower| Ok((follower, problems)))
}

/// Reads `runner.yaml` and lists what lies beside it.
pub fn load_project(inputs: &Inputs<'_>) -> Result<Project, Failure> {
    let mut loader = Loader::open(find_root(inputs.cwd)?, inputs);
    if loader.problems.has_errors() {
        return Err(Failure::config(loader.problems));
    }
    loader.project.list();
    let Project { root, environment, connections, pipelines, endpoints, .. } = &loader.project;
    tracing::debug!(
        root = %root.display(),
        environment,
        connections = connections.len(),
        pipelines = pipelines.len(),
        endpoints = endpoints.len(),
        "project read"
    );
    Ok(loader.project)
}

/// Where each key of a pipeline's `delivery` was written, such as `retry.attempts`: in the pipeline
/// or among the defaults of `runner.yaml`. For lists; what is wrong in there is said elsewhere.
pub fn delivery_places(path_or_name: &str, inputs: &Inputs<'_>) -> Result<Vec<(String, Place)>, Failure> {
    let (root, path) = find_pipeline(path_or_name, inputs.cwd)?;
    let mut loader = Loader::open(root, inputs);
    let node = loader.files.yaml(&path, &mut loader.problems);
    let own = node.as_ref().and_then(|node| node.get("delivery")).cloned();
    let merged = match (loader.project.delivery, own) {
        (Some(defaults), Some(own)) => Some(defaults.merged(&own)),
        (one, other) => one.or(other),
    };
    let mut found = Vec::new();
    if let Some(merged) = merged {
        leaves(&merged, "", &mut found);
    }
    Ok(found)
}

/// The leaves of a mapping by dotted name, and where their values stand.
fn leaves(node: &Node, name: &str, found: &mut Vec<(String, Place)>) {
    match &node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                let dot = if name.is_empty() { "" } else { "." };
                leaves(value, &format!("{name}{dot}{}", key.value), found);
            }
        }
        _ => found.push((name.to_owned(), node.place.clone())),
    }
}

/// Reads a template by its name, with the connector of its folder around it.
pub fn load_endpoint(
    project: &Project,
    name: &str,
    inputs: &Inputs<'_>,
) -> Result<(Endpoint, Problems), Failure> {
    let mut loader = Loader::open(project.root.clone(), inputs);
    let place = Place::start_of(command_line(name));
    let folder = name.split('/').next().unwrap_or_default().to_owned();
    let connector = loader.connector(&Placed::new(folder, place.clone()));
    let endpoint =
        loader.template(&Placed::new(name.to_owned(), place), connector.as_ref().map(|(_, raw)| raw));
    finish(endpoint.map(|(endpoint, _)| endpoint), loader.problems)
}

/// Reads a connection by its name.
pub fn load_connection(
    project: &Project,
    name: &str,
    inputs: &Inputs<'_>,
) -> Result<(Connection, Problems), Failure> {
    let mut loader = Loader::open(project.root.clone(), inputs);
    let place = Place::start_of(command_line(name));
    let connection =
        loader.named_connection(&Placed::new(name.to_owned(), place)).map(|(connection, _)| connection);
    finish(connection, loader.problems)
}

/// What a look at many files found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong with each file of ours, by its absolute path; good files are there as well.
    pub files: Vec<(PathBuf, Problems)>,
    /// Pipelines that have all their parts, with other mistakes or without.
    pub pipelines: Vec<Pipeline>,
    /// Endpoints likewise, with a connection that could use them.
    pub endpoints: Vec<CheckedEndpoint>,
    /// How many files were pipelines, endpoints and connectors.
    pub counts: FileCounts,
}

/// An endpoint that was looked at without a pipeline.
#[derive(Debug)]
pub struct CheckedEndpoint {
    /// The project's root.
    pub root: PathBuf,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// A connection of its connector.
    pub connection: Connection,
}

/// Files by their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCounts {
    /// Below `pipelines/`.
    pub pipelines: usize,
    /// Below `templates/`.
    pub endpoints: usize,
    /// The `connector.yaml` among them.
    pub connectors: usize,
    /// `runner.yaml`
    pub projects: usize,
}

/// Checks every file of ours below the paths (the project without any), and what they refer to.
/// Needs no secret and no value of a variable.
pub fn check_all(paths: &[PathBuf], inputs: &Inputs<'_>) -> Checked {
    let mut checked = Checked::default();
    let mut found: BTreeMap<PathBuf, Problems> = BTreeMap::new();
    let here = [inputs.cwd.to_path_buf()];
    let mut roots = Vec::new();
    let mut wanted = Vec::new();
    for path in if paths.is_empty() { &here } else { paths } {
        let full = inputs.cwd.join(path);
        let full = full.canonicalize().unwrap_or(full);
        match find_root(&full) {
            Ok(root) => {
                let all = if paths.is_empty() { root.clone() } else { full };
                wanted.extend(if all.is_dir() { yaml_below(&all) } else { vec![all] });
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
            Err(failure) => {
                let problems = found.entry(full).or_default();
                failure.diagnostics.into_iter().for_each(|finding| problems.push(finding));
            }
        }
    }
    wanted.sort();
    wanted.dedup();
    for path in wanted {
        let Some(root) =
            roots.iter().filter(|root| path.starts_with(root)).max_by_key(|root| root.as_os_str().len())
        else {
            continue;
        };
        let mut loader = Loader::open(root.clone(), inputs);
        if !loader.check(&path, &mut checked) {
            continue;
        }
        // What a file refers to is reported with the file in which it stands, once.
        found.entry(path).or_default();
        for finding in loader.problems.into_sorted() {
            let home = match &finding.place {
                Some(place) => root.join(place.path()),
                None => root.join("runner.yaml"),
            };
            let problems = found.entry(home).or_default();
            if !problems.all().iter().any(|known| known.is_same(&finding)) {
                problems.push(finding);
            }
        }
    }
    for (path, finding) in same_names(&checked.pipelines) {
        found.entry(path).or_default().push(finding);
    }
    checked.files = found.into_iter().collect();
    checked
}

/// Pipelines that would share what is known of their runs, as they have one name; each with its file.
fn same_names(pipelines: &[Pipeline]) -> Vec<(PathBuf, Diagnostic)> {
    let mut known: BTreeMap<(&Path, &str), &Pipeline> = BTreeMap::new();
    let mut found = Vec::new();
    for pipeline in pipelines {
        let Some(first) = known.get(&(&*pipeline.root, &*pipeline.name)) else {
            known.insert((&pipeline.root, &pipeline.name), pipeline);
            continue;
        };
        let message = format!("{} has the name `{}` as well", first.path, pipeline.name);
        let finding = Diagnostic::error("name-taken", message)
            .note("what was sent is kept under the name of the pipeline")
            .help("give one of them another `name:`");
        let text = pipeline.files.iter().find(|file| file.path == pipeline.path);
        let finding = match text {
            Some(text) => finding.place(&Place::start_of(text.clone())),
            None => finding,
        };
        found.push((pipeline.root.join(&pipeline.path), finding));
    }
    found
}

fn finish<T>(value: Option<T>, problems: Problems) -> Result<(T, Problems), Failure> {
    match value {
        Some(value) if !problems.has_errors() => Ok((value, problems)),
        _ => Err(Failure::config(problems)),
    }
}

/// A text that stands for what was typed on the command line.
fn command_line(text: &str) -> std::sync::Arc<SourceText> {
    std::sync::Arc::new(SourceText { path: "command line".into(), text: text.to_owned() })
}

/// A pipeline by its path, or by its name below `pipelines/`: the root and the file.
pub fn find_pipeline(path_or_name: &str, cwd: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let direct = cwd.join(path_or_name);
    if direct.is_file() {
        if direct.file_name().is_some_and(|name| name == "runner.yaml") {
            let finding = Diagnostic::error(
                "pipeline-missing",
                format!("`{path_or_name}` is the file of the project, not a pipeline"),
            );
            let help = "`runner list pipelines` shows what there is";
            return Err(Failure::new(Class::Config, finding.help(help)));
        }
        let full = direct.canonicalize().unwrap_or(direct);
        let root = find_root(full.parent().unwrap_or(cwd))?;
        return Ok((root, full));
    }
    let root = find_root(cwd)?;
    let all = project::pipelines(&root);
    let stem = |path: &Path| path.strip_prefix(root.join("pipelines")).unwrap_or(path).with_extension("");
    if let Some(found) = all.iter().find(|path| stem(path) == Path::new(path_or_name)) {
        return Ok((root.clone(), found.clone()));
    }
    let names: Vec<String> = all.iter().map(|path| stem(path).to_string_lossy().into_owned()).collect();
    let finding = Diagnostic::error("pipeline-missing", format!("there is no pipeline `{path_or_name}`"))
        .note(format!("looked for {} and below {}", direct.display(), root.join("pipelines").display()));
    let wanted = Path::new(path_or_name).with_extension("");
    let wanted = wanted.file_name().unwrap_or_default().to_string_lossy();
    let help = did_you_mean(&wanted, names.iter().map(String::as_str));
    let help = help.unwrap_or_else(|| "`runner list pipelines` shows what there is".to_owned());
    Err(Failure::new(Class::Config, finding.help(help)))
}

/// A connection with its connector, if it has one.
type Made = (Connection, Option<(String, RawConnector)>);

struct Loader<'a> {
    inputs: &'a Inputs<'a>,
    files: Files,
    project: Project,
    env: Environment<'a>,
    problems: Problems,
}

impl<'a> Loader<'a> {
    fn open(root: PathBuf, inputs: &'a Inputs<'a>) -> Self {
        let mut problems = Problems::new();
        let root = root.canonicalize().unwrap_or(root);
        let mut files = Files::new(root.clone());
        let project = project::read(&mut files, inputs, &mut problems);
        // The connections' file is compared by what it resolves to, not by its text.
        files = Files::new(root.clone());
        let env = Environment::open(inputs.environment, &inputs.env_file, inputs.cwd, &root, &mut problems);
        Self { inputs, files, project, env, problems }
    }

    fn pipeline(&mut self, path: &Path, missing: Missing) -> Option<Pipeline> {
        let node = self.files.yaml(path, &mut self.problems)?;
        let made = self.pipeline_of(&node, path, missing)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Some(name) = [&*stem, &made.name].into_iter().find(|name| needs::is_of_follower(name)) {
            let message = format!("`{name}` is the name of what follows another pipeline");
            let place = node.get("name").map_or_else(|| start_of(&node), |name| name.place.clone());
            self.problems.push(
                Diagnostic::error("pipeline-name", message)
                    .place(&place)
                    .help("take a name that does not end in `.deletes` or `.webhook`"),
            );
        }
        Some(made)
    }

    /// The pipeline that sends the replies of one on.
    fn webhook(&mut self, raw: &RawPipeline, name: &str, path: &Path) -> Option<Box<Pipeline>> {
        let node = webhook::written(raw.responses.as_ref()?.webhook.as_ref()?, name)?;
        // Variables of the command line are those of the other.
        let mut made = self.pipeline_of(&node, path, Missing::Accepted)?;
        made.source.file = format!("{}{name}", listing::OF_REPLIES);
        made.source.place = None;
        Some(Box::new(made))
    }

    /// The pipeline that deletes what vanished from the input of one.
    fn deletes(&mut self, raw: &RawPipeline, of: &Node, name: &str, path: &Path) -> Option<Box<Deletes>> {
        deletes::check(raw, &mut self.problems);
        let node = deletes::written(raw, of, name)?;
        let defaults = self.project.delivery.clone();
        self.project.delivery = defaults.clone().map(deletes::of_any_calls);
        // Variables of the command line are those of the other.
        let made = self.pipeline_of(&node, path, Missing::Accepted);
        self.project.delivery = defaults;
        let mut pipeline = made?;
        deletes::check_body(&pipeline, &mut self.problems);
        pipeline.source.file = format!("{}{name}", listing::OF_VANISHED);
        pipeline.source.format = Some(Format::Ndjson);
        pipeline.source.place = None;
        pipeline.source.fields = Some(deletes::FIELDS);
        let Placed { value: cap, place } = raw.deletes.as_ref()?.max.0.clone()?;
        Some(Box::new(Deletes { pipeline, cap: cap.0, place }))
    }

    fn pipeline_of(&mut self, node: &Node, path: &Path, missing: Missing) -> Option<Pipeline> {
        let raw = RawPipeline::read(node, "a pipeline", &mut self.problems)?;
        let made = raw.connection.0.as_ref().and_then(|node| self.connection(node));
        let listed = raw.source.0.as_ref().and_then(|source| {
            pipeline::check_source(source, &mut self.problems);
            self.listing(&listing::Written::of_source(source)?, made.as_ref())
        });
        let lookups = self.lookups(&raw.lookups.0, made.as_ref());
        let (connection, connector) =
            made.map_or((None, None), |(connection, connector)| (Some(connection), connector));
        let calls = steps::written(&raw, &mut self.problems);
        let resolved = self.calls(&calls, connection.as_ref(), connector.as_ref());
        let problems = &mut self.problems;
        if let Some(schema) = &raw.schema {
            self.files.text(schema, "schema-missing", "the schema", problems);
        }
        let raw_delivery = delivery::read(raw.delivery.as_ref(), self.project.delivery.as_ref(), problems);
        let limits = connection.as_ref().map_or_else(Limits::default, |connection| connection.limits.clone());
        let at = raw.connection.0.as_ref().map_or_else(|| start_of(node), |node| node.place.clone());
        let delivery = delivery::resolve(raw_delivery.as_ref(), &limits, self.inputs.delivery, &at, problems);
        let steps = resolved.map(|endpoints| {
            let doubts =
                delivery::in_doubts(raw_delivery.as_ref(), delivery.mode, &calls, &endpoints, problems);
            let step = |((call, endpoint), in_doubt): ((&Written<'_>, Endpoint), InDoubt)| Step {
                id: call.id.clone(),
                when: call.when.clone(),
                only_looks: call.only_looks,
                in_doubt,
                endpoint,
            };
            calls.iter().zip(endpoints).zip(doubts).map(step).collect::<Vec<_>>()
        });
        for step in steps.iter().flatten() {
            delivery::check_waits(&step.endpoint, &delivery.retry, problems);
        }
        let input = self.inputs.input.map(|input| (input, self.inputs.cwd));
        let (source, listing) = match listed {
            Some((source, listing)) if input.is_none() => (Some(source), Some(Box::new(listing))),
            _ => (pipeline::source(raw.source.0.as_ref(), input, &self.files, problems), None),
        };
        let vars = pipeline::vars(&raw.vars.0, self.inputs.vars, self.inputs.environment, missing, problems);
        let select = pipeline::select(raw.select.as_ref());
        let key = raw.key.clone().map(|key| key.0);
        let name = pipeline_name(raw.name.as_ref(), path, problems)?;
        let sync =
            pipeline::sync(raw.sync.as_ref(), key.as_ref(), steps.as_deref().unwrap_or_default(), problems);
        let shown = self.files.shown(path);
        let mut needs = raw.needs.0.clone();
        // What it reads has to be there first.
        needs.extend(raw.source.0.as_ref().and_then(|source| source.responses.clone()));
        let needs = needs::check(needs, &shown, &self.project.root, problems);
        let mut source = source;
        if let Some(source) = &mut source
            && let Some(other) = source.replies_of().map(str::to_owned)
        {
            self.name_replies(source, &other);
        }
        let webhook = self.webhook(&raw, &name, path);
        let deletes = self.deletes(&raw, node, &name, path);
        let (connection, source) = (connection?, source?);
        let mut steps = steps?.into_iter();
        let (first, later) = (steps.next()?, steps.collect::<Vec<_>>());
        let meaning = meaning::text(&Meaning {
            connection: &connection,
            first: &first,
            later: &later,
            source: &source,
            listing: listing.as_deref(),
            schema: raw.schema.as_ref(),
            key: key.as_ref(),
            vars: &vars,
            lookups: &lookups,
            select: &select,
            order_by: delivery.order_by.as_ref(),
        });
        Some(Pipeline {
            name,
            path: shown,
            root: self.project.root.clone(),
            description: raw.description.clone(),
            connection,
            first,
            later,
            source,
            listing,
            schema: raw.schema.clone(),
            key,
            vars,
            lookups,
            select,
            delivery,
            responses_file: webhook.is_some()
                || raw.responses.as_ref().is_some_and(|responses| responses.file == Some(true)),
            webhook,
            deletes,
            sync,
            on_new_input: raw.on_new_input.unwrap_or_default(),
            needs,
            state_dir: self.project.state_dir.clone(),
            require_state: self.project.require_state,
            keep: self.project.keep,
            environment: self.project.environment.clone(),
            confirm: self.project.confirm,
            files: Vec::new(),
            meaning,
        })
    }

    /// Names the pipeline whose replies are a source as its state is named, and finds one that keeps none.
    fn name_replies(&mut self, source: &mut SourceSpec, other: &str) {
        let path =
            ["yaml", "yml"].map(|ending| self.project.root.join(format!("pipelines/{other}.{ending}")));
        // One that is not there was said with `needs`, one that cannot be read where it is checked itself.
        let Some(path) = path.into_iter().find(|path| path.is_file()) else { return };
        let shown = self.files.shown(&path);
        let Ok(text) = super::read::read_text(&path, &shown) else { return };
        let Some(node) = super::read::parse(&text, &mut Problems::new()) else { return };
        let text = |node: Option<&Node>| match node.map(|node| &node.kind) {
            Some(Kind::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let name = text(node.get("name")).or_else(|| Some(path.file_stem()?.to_string_lossy().into_owned()));
        if let Some(name) = name {
            source.file = format!("{}{name}", listing::OF_REPLIES);
        }
        let keeps = node.get("responses").and_then(|responses| responses.get("file"));
        let sends_on = node.get("responses").is_some_and(|responses| responses.get("webhook").is_some());
        if !sends_on
            && !matches!(keeps.map(|node| &node.kind), Some(Kind::Bool(true)))
            && let Some(place) = &source.place
        {
            self.problems.push(
                Diagnostic::error("responses-not-kept", format!("the pipeline {other} keeps no replies"))
                    .place(place)
                    .help(format!("add `responses: {{ file: true }}` to pipelines/{other}.yaml")),
            );
        }
    }

    /// The endpoints of a pipeline's calls, each with what the pipeline lays over it; all or none.
    fn calls(
        &mut self,
        calls: &[Written<'_>],
        connection: Option<&Connection>,
        connector: Option<&(String, RawConnector)>,
    ) -> Option<Vec<Endpoint>> {
        let mut found = Vec::with_capacity(calls.len());
        for call in calls {
            let Some((mut endpoint, batch)) = self.endpoint(call.endpoint, connection, connector) else {
                continue;
            };
            pipeline::bind(&mut endpoint, batch.as_ref(), call, &mut self.problems);
            found.push(endpoint);
        }
        (found.len() == calls.len()).then_some(found)
    }

    /// A list of an API with the account that reads it; `own` is the pipeline's.
    fn listing(
        &mut self,
        written: &listing::Written<'_>,
        own: Option<&Made>,
    ) -> Option<(SourceSpec, Listing)> {
        let (connection, connector) = match written.connection {
            Some(node) => self.connection(node)?,
            None => own.cloned()?,
        };
        let (mut endpoint, _) = self.endpoint(written.endpoint, Some(&connection), connector.as_ref())?;
        let source = listing::resolve(written, &mut endpoint, &mut self.problems);
        Some((source, Listing { endpoint, connection }))
    }

    /// The lookup tables; those that are lists are read with an account of their own, or `own`.
    fn lookups(&mut self, all: &[(Placed<String>, RawLookup)], own: Option<&Made>) -> Vec<Lookup> {
        let mut found = Vec::new();
        for (name, raw) in all {
            lookups::check(name, raw, &mut self.problems);
            let of = match raw.written() {
                Some(written) => {
                    self.listing(&written, own).map(|(source, listing)| (source, Some(Box::new(listing))))
                }
                None => lookups::file(raw, &self.files, &mut self.problems).map(|source| (source, None)),
            };
            if let (Some((source, listing)), Some(key)) = (of, raw.key.0.clone()) {
                found.push(Lookup { name: name.clone(), source, listing, key, columns: raw.columns.clone() });
            }
        }
        found
    }

    fn connection(&mut self, node: &Node) -> Option<(Connection, Option<(String, RawConnector)>)> {
        if let Kind::Text(name) = &node.kind {
            return self.named_connection(&Placed::new(name.clone(), node.place.clone()));
        }
        let raw = connection::in_place(node, &mut self.problems)?;
        self.made("in place", &node.place, &raw)
    }

    fn named_connection(
        &mut self,
        name: &Placed<String>,
    ) -> Option<(Connection, Option<(String, RawConnector)>)> {
        let found = self.project.raw_connections.iter().find(|(known, _)| known.value == name.value);
        let Some((_, raw)) = found else {
            let finding = Diagnostic::error(
                "unknown-connection",
                format!("runner.yaml has no connection `{}`", name.value),
            )
            .place(&name.place);
            let names = &self.project.connections;
            self.problems.push(match did_you_mean(&name.value, names.iter().map(String::as_str)) {
                Some(help) => finding.help(help),
                None if names.is_empty() => finding.help("add it under `connections:` in runner.yaml"),
                None => finding.help(format!("it has: {}", names.join(", "))),
            });
            return None;
        };
        let raw = raw.clone();
        self.made(&name.value, &name.place, &raw)
    }

    fn made(
        &mut self,
        name: &str,
        place: &Place,
        raw: &RawConnection,
    ) -> Option<(Connection, Option<(String, RawConnector)>)> {
        let connector = match &raw.own.connector {
            Some(folder) => Some(self.connector(folder)?),
            None => None,
        };
        let parts =
            Parts { name, place, raw, connector: connector.as_ref().map(|(name, raw)| (name.as_str(), raw)) };
        let connection = connection::resolve(&parts, &self.env, &self.files, &mut self.problems)?;
        Some((connection, connector))
    }

    fn connector(&mut self, folder: &Placed<String>) -> Option<(String, RawConnector)> {
        let path = folder.clone().map(|folder| format!("templates/{folder}/connector.yaml"));
        self.files.text(&path, "connector-missing", "the connector", &mut self.problems)?;
        let full = self.files.inside(&path.value).ok()?;
        let node = self.files.yaml(&full, &mut self.problems)?;
        let raw = RawConnector::read(&node, "a connector", &mut self.problems)?;
        check_connector(&raw, &mut self.problems);
        Some((folder.value.clone(), raw))
    }

    fn endpoint(
        &mut self,
        node: &Node,
        connection: Option<&Connection>,
        connector: Option<&(String, RawConnector)>,
    ) -> Option<(Endpoint, Option<RawBatch>)> {
        let Kind::Text(name) = &node.kind else {
            let raw = endpoint::in_place(node, &mut self.problems)?;
            let around = Around {
                name: "in place",
                place: &node.place,
                folder: "",
                connector: connector.map(|(_, raw)| raw),
                base_url: Some(connection.map_or("", |connection| connection.base_url.as_str())),
            };
            let endpoint = endpoint::resolve(&raw, &around, &mut self.files, &mut self.problems)?;
            return Some((endpoint, raw.batch));
        };
        if let Some((folder, _)) = connector
            && !name.starts_with(&format!("{folder}/"))
            && !name.contains("..")
        {
            self.problems.push(
                Diagnostic::error(
                    "connector-mismatch",
                    format!("`{name}` is not an endpoint of the connector {folder}"),
                )
                .place(&node.place)
                .help("a pipeline's endpoint and connection belong to the same connector"),
            );
        }
        self.template(&Placed::new(name.clone(), node.place.clone()), connector.map(|(_, raw)| raw))
    }

    /// An endpoint from its file, with what that says of batches as it is written.
    fn template(
        &mut self,
        name: &Placed<String>,
        connector: Option<&RawConnector>,
    ) -> Option<(Endpoint, Option<RawBatch>)> {
        let path = name.clone().map(|name| format!("templates/{name}.yaml"));
        self.files.text(&path, "template-missing", "the template", &mut self.problems)?;
        let full = self.files.inside(&path.value).ok()?;
        let node = self.files.yaml(&full, &mut self.problems)?;
        let raw = RawEndpoint::read(&node, "an endpoint", &mut self.problems)?;
        let folder = path.value.rsplit_once('/').map_or("", |(folder, _)| folder);
        let around = Around { name: &name.value, place: &name.place, folder, connector, base_url: None };
        let endpoint = endpoint::resolve(&raw, &around, &mut self.files, &mut self.problems)?;
        Some((endpoint, raw.batch))
    }

    /// Checks one file by what it is; false when it is none of ours.
    fn check(&mut self, path: &Path, checked: &mut Checked) -> bool {
        let shown = self.files.shown(path);
        let parts: Vec<&str> = shown.split('/').collect();
        match parts.as_slice() {
            ["runner.yaml"] => {
                checked.counts.projects += 1;
                for (name, _) in self.project.raw_connections.clone() {
                    self.named_connection(&name);
                }
            }
            ["templates", folder, "connector.yaml"] => {
                checked.counts.connectors += 1;
                let place = Place::start_of(command_line(&shown));
                self.connector(&Placed::new((*folder).to_owned(), place));
            }
            ["templates", folder, file] if is_yaml(file) => {
                checked.counts.endpoints += 1;
                let name = shown.strip_prefix("templates/").unwrap_or(&shown);
                let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned();
                let place = Place::start_of(command_line(&shown));
                let user = self.a_connection_of(folder);
                let endpoint = self.template(
                    &Placed::new(name, place),
                    user.as_ref().and_then(|(_, connector)| connector.as_ref()).map(|(_, raw)| raw),
                );
                if let (Some((endpoint, _)), Some((connection, _))) = (endpoint, user) {
                    let root = self.project.root.clone();
                    checked.endpoints.push(CheckedEndpoint { root, endpoint, connection });
                }
            }
            ["pipelines", "tests", ..] => return false,
            ["pipelines", .., file] if is_yaml(file) => {
                checked.counts.pipelines += 1;
                checked.pipelines.extend(self.pipeline(path, Missing::Accepted));
            }
            _ => return false,
        }
        true
    }

    /// A connection of a connector, to look at its endpoints; mistakes in it are said where it is
    /// checked itself.
    fn a_connection_of(&mut self, folder: &str) -> Option<(Connection, Option<(String, RawConnector)>)> {
        let of = |raw: &RawConnection| raw.own.connector.as_ref().is_some_and(|name| name.value == folder);
        let (name, _) = self.project.raw_connections.iter().find(|(_, raw)| of(raw)).cloned()?;
        let problems = std::mem::take(&mut self.problems);
        let made = self.named_connection(&name);
        self.problems = problems;
        made
    }
}

/// What is wrong with a connector whatever connection uses it.
fn check_connector(raw: &RawConnector, problems: &mut Problems) {
    for (name, setting) in &raw.settings.0 {
        if let Some(pattern) = &setting.pattern
            && super::settings::matcher(&pattern.value).is_none()
        {
            let message = format!("the pattern of `{}` is not a regular expression", name.value);
            problems.at("pattern", &pattern.place, message);
        }
    }
}

/// The name of a pipeline, which is also the name of folders.
fn pipeline_name(written: Option<&Placed<String>>, path: &Path, problems: &mut Problems) -> Option<String> {
    let name = match written {
        Some(name) => name.value.clone(),
        None => path.file_stem()?.to_string_lossy().into_owned(),
    };
    let good = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with(['.', '-'])
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !good {
        let message = format!("`{}` is no name of a pipeline", name.escape_debug());
        let finding = Diagnostic::error("pipeline-name", message)
            .help("use letters, digits, `-`, `_` and `.`; it becomes the name of a folder");
        problems.push(match written {
            Some(name) => finding.place(&name.place),
            None => finding.help("rename the file, or set `name:`"),
        });
        return None;
    }
    Some(name)
}
