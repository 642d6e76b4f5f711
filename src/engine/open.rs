//! A resolved pipeline to a compiled one: schemas, templates and rules, all mistakes at once.
//!
//! Beyond the YAML itself, this is where files are opened. Nothing is sent, no client is made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Format, InDoubt, Pipeline};
use crate::deliver::{Expected, ItemReader, Prober, Reader};
use crate::model::{Class, Diagnostic, Failure, Place, Placed, Problems, Str, Value};
use crate::outcome::files::{Marks, Ours, Shape};
use crate::outcome::{Folder, RecordRow};
use crate::render::{Context, Known, Leaf, RequestTemplate, Root, RunValues, Scope};
use crate::schema::Schema;
use crate::select::Selection;
use crate::source::{self, Source};

use super::attach::Attachments;
use super::grouping::Rules;
use super::identity;
use super::listing;
use super::lookups::{self, Lookups, TableFile};
use super::prepare::{BatchRules, Idempotency, Preparer, hash};
use super::steps::{PerStep, StepTemplate};

/// A pipeline that is ready to work.
pub struct Plan {
    /// What it was made from.
    pub pipeline: Arc<Pipeline>,
    /// Records to requests.
    pub preparer: Preparer,
    /// How replies to each call of a record are judged.
    pub rules: PerStep<StepRules>,
    /// How the reply to a call with several records tells of each, where it does.
    pub items: Option<ItemReader>,
    /// Names that records have.
    pub columns: Option<Vec<String>>,
    /// Warnings of the opening.
    pub warnings: Vec<Diagnostic>,
    /// Texts of the schemas, for digests.
    pub schema_files: Vec<Arc<crate::model::SourceText>>,
    /// Files of lookup tables, for digests.
    pub lookup_files: Vec<TableFile>,
    /// Standard input, once it lies in a file.
    pub spool: Option<PathBuf>,
}

/// How replies to one call of a record are judged.
pub struct StepRules {
    /// Replies to readings.
    pub reader: Reader,
    /// How the far side is asked about a request in doubt, where the endpoint says so.
    prober: Option<Prober>,
    /// What happens when it may have arrived.
    pub in_doubt: InDoubt,
    /// Whether its requests carry an idempotency key.
    pub is_keyed: bool,
    /// Whether a repeat has the same effect, key or not.
    pub is_natural: bool,
    /// How long the far side remembers that key, where it lapses.
    pub remembered: Option<Duration>,
    /// Whether the path names no record, so that a 404 speaks of the endpoint.
    pub path_is_fixed: bool,
}

impl StepRules {
    /// How the far side is asked about this call, where that is what happens in doubt.
    #[must_use]
    pub fn prober(&self) -> Option<&Prober> {
        self.prober.as_ref().filter(|_| self.in_doubt == InDoubt::Probe)
    }
}

/// What the command needs of a plan.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The state's target: the environment, or `sandbox`.
    pub target: String,
    /// Whether keys of single records are shown.
    pub show_keys: bool,
    /// Where standard input lies.
    pub spool: Option<PathBuf>,
    /// Where lookup tables that are lists of an API lie.
    pub folder: Option<Folder>,
    /// Where those of them lie, by name, that this start has read and no run has taken yet.
    pub new_tables: BTreeMap<String, PathBuf>,
    /// Go on when the input is not there: the columns are then not known.
    pub input_may_be_missing: bool,
}

/// Compiles a pipeline.
pub fn open(pipeline: Pipeline, wanted: &Wanted) -> Result<Plan, Failure> {
    let mut problems = Problems::new();
    let mut warnings = Vec::new();
    let source = &pipeline.source;
    let is_elsewhere = source.is_spooled() || source.replies_of().or(source.vanished_of()).is_some();
    let columns = if wanted.input_may_be_missing && wanted.spool.is_none() && is_elsewhere {
        // Nobody asked for it to be read.
        None
    } else {
        match source::open(&pipeline.source, &pipeline.root, wanted.spool.as_deref()) {
            Ok(opened) => {
                warnings.extend_from_slice(opened.warnings());
                opened.columns().map(<[String]>::to_vec)
            }
            Err(failure) if wanted.input_may_be_missing && failure.class == Class::Input => {
                warnings.extend(failure.diagnostics.into_iter().map(|diagnostic| Diagnostic {
                    severity: crate::model::Severity::Warning,
                    ..diagnostic
                }));
                None
            }
            Err(failure) => return Err(failure),
        }
    };
    let lookups = lookups::read(&pipeline, wanted, &mut warnings)?;
    let (plan, files) = compile(&pipeline, columns.as_deref(), wanted, &lookups, &mut problems);
    let followers = open_followers(&pipeline, wanted, &mut warnings);
    match plan {
        Some((preparer, rules, items)) if !problems.has_errors() && followers => {
            warnings.extend(problems.into_sorted());
            Ok(Plan {
                pipeline: Arc::new(pipeline),
                preparer,
                rules,
                items,
                columns,
                warnings,
                schema_files: files,
                lookup_files: lookups.files,
                spool: wanted.spool.clone(),
            })
        }
        _ => {
            warnings.extend(problems.into_sorted());
            Err(Failure::of(Class::Config, warnings))
        }
    }
}

/// Compiles the pipelines that are written down in one, so that their mistakes are known before it sends;
/// whether there are none.
fn open_followers(pipeline: &Pipeline, wanted: &Wanted, found: &mut Vec<Diagnostic>) -> bool {
    let wanted = Wanted { target: wanted.target.clone(), input_may_be_missing: true, ..Wanted::default() };
    let mut are_good = true;
    for follower in pipeline.followers() {
        let diagnostics = match open(follower.clone(), &wanted) {
            Ok(plan) => plan.warnings,
            Err(failure) => {
                are_good = false;
                failure.diagnostics
            }
        };
        for diagnostic in diagnostics {
            if !found.iter().any(|known| known.is_same(&diagnostic)) {
                found.push(diagnostic);
            }
        }
    }
    are_good
}

/// Compiles a pipeline whose records come from elsewhere: nothing is known of their fields.
pub fn open_without_input(pipeline: Pipeline, wanted: &Wanted) -> Result<Plan, Failure> {
    let mut problems = Problems::new();
    let mut warnings = Vec::new();
    let lookups = lookups::read(&pipeline, wanted, &mut warnings)?;
    let (compiled, schema_files) = compile(&pipeline, None, wanted, &lookups, &mut problems);
    warnings.extend(problems.all().iter().cloned());
    match compiled {
        Some((preparer, rules, items)) if !problems.has_errors() => Ok(Plan {
            pipeline: Arc::new(pipeline),
            preparer,
            rules,
            items,
            columns: None,
            warnings,
            schema_files,
            lookup_files: lookups.files,
            spool: None,
        }),
        _ => Err(Failure::config(problems)),
    }
}

type Compiled = (Preparer, PerStep<StepRules>, Option<ItemReader>);

fn compile(
    pipeline: &Pipeline,
    columns: Option<&[String]>,
    wanted: &Wanted,
    lookups: &Lookups,
    problems: &mut Problems,
) -> (Option<Compiled>, Vec<Arc<crate::model::SourceText>>) {
    let root = &pipeline.root;
    let mut load = |named: &Option<config::Template>| {
        named.as_ref().and_then(|named| Schema::load(root, &named.value, &named.place, problems))
    };
    let schema = load(&pipeline.schema);
    let body_schemas: Vec<Option<Schema>> =
        pipeline.steps().map(|step| load(&step.endpoint.body_schema)).collect();
    let response_schemas: Vec<Option<Schema>> =
        pipeline.steps().map(|step| load(&step.endpoint.response_schema)).collect();
    let schema_files = std::iter::once(&schema)
        .chain(&body_schemas)
        .flatten()
        .flat_map(|schema| schema.files().iter().cloned())
        .collect();

    let is_text = columns.is_some();
    let names = columns.map(|columns| Selection::renamed(&pipeline.select, columns));
    let record = match (&names, &schema) {
        // Without a schema every cell is text, and a comparison with a number is a mistake.
        (Some(names), None) => Known::Text(names.clone().into()),
        (Some(names), Some(_)) => Known::Fields(names.clone().into()),
        (None, _) => {
            let fields =
                pipeline.source.fields.map(|fields| fields.iter().map(ToString::to_string).collect());
            fields.map_or(Known::Any, Known::Fields)
        }
    };
    let fields = |map: &crate::model::Map| Known::Fields(map.names().map(str::to_owned).collect());
    let scope = Scope::new()
        .allow(Root::Record, record)
        .allow(Root::Vars, fields(&pipeline.vars))
        .allow(Root::Connection, fields(&pipeline.connection.settings))
        .allow(Root::Run, Known::Any);
    let scope = if pipeline.lookups.is_empty() {
        scope
    } else {
        scope.allow(Root::Lookups, Known::Tables(lookups.known.clone().into()))
    };
    let base = base_context(pipeline, lookups);

    // Only its mistakes are wanted here.
    let tables = pipeline.lookups.iter().map(|lookup| (lookup.listing.as_deref(), &lookup.source.file));
    let source = (pipeline.listing.as_deref(), &pipeline.source.file);
    for (listing, name) in std::iter::once(source).chain(tables) {
        if let Some(listing) = listing {
            listing::compile(pipeline, listing, name, problems);
        }
    }
    let typing = schema.as_ref().filter(|_| is_text).map(Schema::typing);
    let selection =
        Selection::compile(&pipeline.select, columns, typing, pipeline.source.limits, &scope, problems);
    let mut leaf = |template: &config::Template| Leaf::compile(template, &scope, problems);
    let key = pipeline.key.as_ref().map(|key| leaf(&key.value));
    let order_by = pipeline.delivery.order_by.as_ref().map(&mut leaf);
    let mut steps = Vec::new();
    let mut rules = Vec::new();
    let mut earlier: Vec<(String, Arc<[String]>)> = Vec::new();
    for ((step, body_schema), response_schema) in pipeline.steps().zip(body_schemas).zip(response_schemas) {
        let scope = if pipeline.has_steps() {
            scope.clone().allow(Root::Steps, Known::Steps(earlier.clone().into()))
        } else {
            scope.clone()
        };
        let captures = captures_of(&step.endpoint);
        earlier.push((step.id.clone(), Arc::clone(&captures)));
        steps.push(compile_step(pipeline, step, captures, &scope, body_schema, problems));
        rules.push(compile_rules(pipeline, step, &scope, &base, response_schema, problems));
    }
    let (batch, items) = match &pipeline.endpoint().batch {
        None => (None, None),
        Some(batch) => {
            let (rules, items) = compile_batch(pipeline, batch, &scope, &base, problems);
            (Some(rules), items)
        }
    };

    let compiled = (|| {
        Some((
            Preparer {
                selection: selection?,
                schema,
                key: match key {
                    None => None,
                    Some(key) => Some(key?),
                },
                key_is_public: pipeline.key.as_ref().is_some_and(|key| key.public),
                order_by: match order_by {
                    None => None,
                    Some(order) => Some(order?),
                },
                steps: PerStep::new(steps.into_iter().collect::<Option<_>>()?)?,
                base,
                pipeline: Str::from(pipeline.name.as_str()),
                target: Str::from(wanted.target.as_str()),
                destination: hash(&identity::destination(&pipeline.connection, &wanted.target)),
                max_body: pipeline.delivery.max_body,
                attachments: Attachments::new(&pipeline.root, pipeline.delivery.max_files as u64),
                keep_keys: wanted.show_keys || pipeline.responses_file,
                keep_contexts: pipeline.has_steps()
                    || pipeline.steps().any(|step| step.in_doubt == InDoubt::Probe),
                batch: match batch {
                    None => None,
                    Some(batch) => Some(batch?),
                },
                notes_keys: pipeline.deletes.is_some(),
                keep_content: pipeline.sync == Some(config::Sync::Changed),
            },
            PerStep::new(rules.into_iter().collect::<Option<_>>()?)?,
            items,
        ))
    })();
    (compiled, schema_files)
}

fn compile_step(
    pipeline: &Pipeline,
    step: &config::Step,
    captures: Arc<[String]>,
    scope: &Scope,
    body_schema: Option<Schema>,
    problems: &mut Problems,
) -> Option<StepTemplate> {
    let mut leaf = |template: &config::Template| Leaf::compile(template, scope, problems);
    let when = step.when.as_ref().map(|when| Some((leaf(&when.value)?, when.is)));
    let idempotency = match &step.endpoint.idempotency {
        config::Idempotency::Header { value: Some(value), .. } => {
            leaf(value).map(|leaf| Idempotency::Value(Box::new(leaf)))
        }
        config::Idempotency::Header { value: None, .. } => Some(Idempotency::Hash),
        config::Idempotency::None | config::Idempotency::Natural => Some(Idempotency::None),
    };
    let exclude = &pipeline.select.exclude;
    let template = RequestTemplate::compile(&step.endpoint, &pipeline.connection, exclude, scope, problems);
    Some(StepTemplate {
        id: Str::from(step.id.as_str()),
        when: match when {
            None => None,
            Some(when) => Some(when?),
        },
        only_looks: step.only_looks,
        template: template?,
        body_schema,
        idempotency: idempotency?,
        captures,
    })
}

fn compile_rules(
    pipeline: &Pipeline,
    step: &config::Step,
    scope: &Scope,
    base: &Context,
    response_schema: Option<Schema>,
    problems: &mut Problems,
) -> Option<StepRules> {
    let mask = || pipeline.connection.mask();
    let reader = Reader::compile(&step.endpoint, base.clone(), mask(), problems);
    let prober = Prober::compile(&step.endpoint, &pipeline.connection, scope, mask(), problems);
    let expected = response_schema.map(|schema| -> Expected { Box::new(move |body| schema.is_valid(body)) });
    Some(StepRules {
        reader: reader?.expecting(expected),
        prober,
        in_doubt: step.in_doubt,
        is_keyed: matches!(step.endpoint.idempotency, config::Idempotency::Header { .. }),
        is_natural: step.endpoint.idempotency == config::Idempotency::Natural,
        remembered: match &step.endpoint.idempotency {
            config::Idempotency::Header { remembered, .. } => *remembered,
            config::Idempotency::None | config::Idempotency::Natural => None,
        },
        path_is_fixed: !step.endpoint.path.value.contains("{{"),
    })
}

/// Names of what is kept of a reply to an endpoint or of a look at it, each once.
fn captures_of(endpoint: &config::Endpoint) -> Arc<[String]> {
    let looked = endpoint.reconcile.iter().flat_map(|reconcile| &reconcile.captures);
    let replies = endpoint.batch.iter().filter_map(|batch| batch.replies.as_ref());
    let of_items = replies.flat_map(|replies| &replies.captures);
    let mut names: Vec<String> = Vec::new();
    for (name, _) in endpoint.captures.iter().chain(looked).chain(of_items) {
        if !names.contains(&name.value) {
            names.push(name.value.clone());
        }
    }
    names.into()
}

/// How records share calls, and how the reply tells of each.
fn compile_batch(
    pipeline: &Pipeline,
    batch: &config::Batch,
    scope: &Scope,
    base: &Context,
    problems: &mut Problems,
) -> (Option<BatchRules>, Option<ItemReader>) {
    let delivery = &pipeline.delivery;
    let group_by = match &batch.group_by {
        None => Some(None),
        Some(group_by) => Leaf::compile(group_by, scope, problems).map(Some),
    };
    let bytes = batch.max_bytes.unwrap_or(delivery.max_body).min(delivery.max_body);
    let rules = Rules {
        grouping: batch.grouping,
        size: batch.size.get(),
        bytes,
        waiting: 2 * delivery.concurrency.most().get() * batch.size.get(),
    };
    let items = batch.replies.as_ref().and_then(|replies| {
        let mask = pipeline.connection.mask();
        ItemReader::compile(replies, base.clone(), mask, problems)
    });
    (group_by.map(|group_by| BatchRules { rules, group_by, max_body: bytes }), items)
}

/// The context that all records of a pipeline share.
fn base_context(pipeline: &Pipeline, lookups: &Lookups) -> Context {
    let nobody = RunValues { pipeline: pipeline.name.as_str().into(), ..RunValues::of_nobody() };
    Context::new(nobody)
        .with(Root::Vars, Arc::new(Value::Object(pipeline.vars.clone())))
        .with(Root::Connection, Arc::new(Value::Object(pipeline.connection.settings.clone())))
        .with_tables(Arc::new(lookups.tables.clone()))
}

impl Plan {
    /// How replies to the call are judged at which a row says that its record stands; `None` for a call that
    /// the pipeline does not have.
    #[must_use]
    pub fn rules_of(&self, row: &RecordRow) -> Option<&StepRules> {
        self.rules.get(self.preparer.step_of(row)?)
    }

    /// Whether the far side is asked about a call of this pipeline that is in doubt.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.rules.iter().any(|rules| rules.prober().is_some())
    }

    /// Opens the source from its start.
    pub fn source(&self) -> Result<Box<dyn Source>, Failure> {
        source::open(&self.pipeline.source, &self.pipeline.root, self.spool.as_deref())
    }

    /// Compiles an expression from the command line, over `record`, `class` and `status`.
    pub fn bare_expression(&self, text: &str) -> Result<Leaf, Failure> {
        let source = Arc::new(crate::model::SourceText { path: "--where".into(), text: text.into() });
        let place = Place::new(source, 0..text.len());
        let names = self.columns.as_deref().map(|columns| Selection::renamed(&self.pipeline.select, columns));
        let record = match names {
            None => Known::Any,
            Some(names) if self.preparer.schema.is_none() => Known::Text(names.into()),
            Some(names) => Known::Fields(names.into()),
        };
        let scope = Scope::new()
            .allow(Root::Record, record)
            .allow(Root::Vars, Known::Any)
            .allow(Root::Class, Known::Any)
            .allow(Root::Status, Known::Any);
        let mut problems = Problems::new();
        Leaf::bare(&Placed::new(text.to_owned(), place), &scope, &mut problems)
            .ok_or_else(|| Failure::of(Class::Usage, problems.into_sorted()))
    }

    /// The host that requests go to, with port: for messages.
    #[must_use]
    pub fn host(&self) -> String {
        let base = &self.pipeline.connection.base_url;
        base.split("://").nth(1).unwrap_or(base).split('/').next().unwrap_or_default().to_owned()
    }

    /// How outcome files are written.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match &self.columns {
            None => Shape::Ndjson,
            Some(columns) => {
                let spec = &self.pipeline.source;
                let is_tsv = spec.format.or_else(|| Format::of_name(&spec.file)) == Some(Format::Tsv);
                Shape::Csv {
                    columns: columns.clone(),
                    marks: Marks {
                        delimiter: spec.csv.delimiter.unwrap_or(if is_tsv { b'\t' } else { b',' }),
                        quote: spec.csv.quote,
                        comment: spec.csv.comment,
                    },
                    byte_order_mark: !matches!(spec.csv.encoding, None | Some(config::Encoding::Utf8)),
                    null_word: spec.csv.null_words.first().cloned().unwrap_or_default(),
                    ending: if is_tsv { "tsv" } else { "csv" },
                }
            }
        }
    }

    /// What the outcome files say beside the record.
    #[must_use]
    pub fn ours(&self) -> Ours {
        let mut names = Vec::new();
        for step in self.preparer.steps.iter() {
            let full = |name: &String| match &*step.id {
                "" => name.clone(),
                id => format!("{id}.{name}"),
            };
            names.extend(step.captures.iter().map(full));
        }
        let ids = self.preparer.steps.iter().map(|step| step.id.to_string());
        Ours { steps: ids.filter(|id| !id.is_empty()).collect(), captures: names }
    }
}
