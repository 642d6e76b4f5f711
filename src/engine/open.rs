//! A resolved pipeline to a compiled one: schemas, templates and rules, all mistakes at once.
//!
//! Beyond the YAML itself, this is where files are opened. Nothing is sent, no client is made.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{self, Format, Pipeline};
use crate::deliver::{Expected, ItemReader, Prober, Reader};
use crate::model::{Class, Diagnostic, Failure, Mask, Place, Placed, Problems, Str, Value};
use crate::outcome::Folder;
use crate::outcome::files::{Marks, Shape};
use crate::render::{Context, Known, Leaf, RequestTemplate, Root, RunValues, Scope};
use crate::schema::Schema;
use crate::select::Selection;
use crate::source::{self, Source};

use super::grouping::Rules;
use super::listing;
use super::lookups::{self, Lookups, TableFile};
use super::prepare::{BatchRules, Idempotency, Preparer};

/// A pipeline that is ready to work.
pub struct Plan {
    /// What it was made from.
    pub pipeline: Arc<Pipeline>,
    /// Records to requests.
    pub preparer: Preparer,
    /// Replies to readings.
    pub reader: Reader,
    /// How the far side is asked about a request in doubt, where the endpoint says so.
    pub prober: Option<Prober>,
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
    /// Go on when the input is not there: the columns are then not known.
    pub input_may_be_missing: bool,
}

/// Compiles a pipeline.
pub fn open(pipeline: Pipeline, wanted: &Wanted) -> Result<Plan, Failure> {
    let mut problems = Problems::new();
    let mut warnings = Vec::new();
    let columns = if wanted.input_may_be_missing && wanted.spool.is_none() && pipeline.source.is_spooled() {
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
    match plan {
        Some((preparer, reader, prober, items)) if !problems.has_errors() => {
            warnings.extend(problems.into_sorted());
            Ok(Plan {
                pipeline: Arc::new(pipeline),
                preparer,
                reader,
                prober,
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
            Err(Failure { class: Class::Config, diagnostics: warnings })
        }
    }
}

/// Compiles a pipeline whose records come from elsewhere: nothing is known of their fields.
pub fn open_without_input(pipeline: Pipeline, wanted: &Wanted) -> Result<Plan, Failure> {
    let mut problems = Problems::new();
    let mut warnings = Vec::new();
    let lookups = lookups::read(&pipeline, wanted, &mut warnings)?;
    let (compiled, schema_files) = compile(&pipeline, None, wanted, &lookups, &mut problems);
    warnings.extend(problems.all().iter().cloned());
    match compiled {
        Some((preparer, reader, prober, items)) if !problems.has_errors() => Ok(Plan {
            pipeline: Arc::new(pipeline),
            preparer,
            reader,
            prober,
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

type Compiled = (Preparer, Reader, Option<Prober>, Option<ItemReader>);

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
    let body_schema = load(&pipeline.endpoint.body_schema);
    let response_schema = load(&pipeline.endpoint.response_schema);
    let schema_files = [&schema, &body_schema]
        .into_iter()
        .flatten()
        .flat_map(|schema| schema.files().iter().cloned())
        .collect();

    let is_text = columns.is_some();
    let names = columns.map(|columns| Selection::renamed(&pipeline.select, columns));
    let record = match (&names, &schema) {
        // Without a schema every cell is text, and a comparison with a number is a mistake.
        (Some(names), None) => Known::Text(names.clone().into()),
        (Some(names), Some(_)) => Known::Fields(names.clone().into()),
        (None, _) => Known::Any,
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
    let idempotency = match &pipeline.endpoint.idempotency {
        config::Idempotency::Header { value: Some(value), .. } => {
            leaf(value).map(|leaf| Idempotency::Value(Box::new(leaf)))
        }
        config::Idempotency::Header { value: None, .. } => Some(Idempotency::Hash),
        config::Idempotency::None | config::Idempotency::Natural => Some(Idempotency::None),
    };
    let template = RequestTemplate::compile(
        &pipeline.endpoint,
        &pipeline.connection,
        &pipeline.select.exclude,
        &scope,
        problems,
    );
    let reader = {
        let mask = Mask::new(&pipeline.connection.secrets);
        Reader::compile(&pipeline.endpoint, base.clone(), mask, problems)
    };
    let prober = {
        let mask = Mask::new(&pipeline.connection.secrets);
        Prober::compile(&pipeline.endpoint, &pipeline.connection, &scope, mask, problems)
    };
    let (batch, items) = match &pipeline.endpoint.batch {
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
                template: template?,
                body_schema,
                idempotency: idempotency?,
                base,
                pipeline: Str::from(pipeline.name.as_str()),
                target: Str::from(wanted.target.as_str()),
                max_body: pipeline.delivery.max_body,
                keep_keys: wanted.show_keys || pipeline.responses_file,
                keep_contexts: pipeline.delivery.in_doubt == config::InDoubt::Probe,
                batch: match batch {
                    None => None,
                    Some(batch) => Some(batch?),
                },
            },
            reader?.expecting(
                response_schema.map(|schema| -> Expected { Box::new(move |body| schema.is_valid(body)) }),
            ),
            prober,
            items,
        ))
    })();
    (compiled, schema_files)
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
        waiting: 2 * delivery.concurrency.get() * batch.size.get(),
    };
    let items = batch.replies.as_ref().and_then(|replies| {
        let mask = Mask::new(&pipeline.connection.secrets);
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
            .ok_or_else(|| Failure { class: Class::Usage, diagnostics: problems.into_sorted() })
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

    /// Names of the captures, for the columns of the outcome files.
    #[must_use]
    pub fn captures(&self) -> Vec<String> {
        let endpoint = &self.pipeline.endpoint;
        let looked = endpoint.reconcile.iter().flat_map(|reconcile| &reconcile.captures);
        let mut names: Vec<String> = Vec::new();
        let replies = endpoint.batch.iter().filter_map(|batch| batch.replies.as_ref());
        let of_items = replies.flat_map(|replies| &replies.captures);
        for (name, _) in endpoint.captures.iter().chain(looked).chain(of_items) {
            if !names.contains(&name.value) {
                names.push(name.value.clone());
            }
        }
        names
    }
}
