//! `delivery:` of a pipeline, laid over the defaults of `runner.yaml`.
//!
//! Pure. What happens to a record in doubt is derived here from the endpoint, once, so that no
//! later stage decides it again.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::raw::{Entries, FromNode, Needed, raw, words, wrong_type};
use super::read::{Kind, Node};
use super::steps::Written;
use super::values::{self, Count, Lanes, Percent, Rate, Size, Span, Tries, Window};
use super::{
    Concurrency, Connection, Delivery, Durability, Endpoint, Idempotency, InDoubt, Limits, Mode, OnFailure,
    Retry, StopWhen,
};
use crate::model::{Diagnostic, Place, Placed, Problems};

raw! {
    /// How requests are delivered.
    RawDelivery, "`delivery`" {
        /// Whether an attempt that may have acted can be repeated at all.
        mode: Option<Placed<Mode>>,
        /// What happens to a record in doubt; `auto` goes by the endpoint.
        in_doubt: Option<Placed<Doubt>>,
        /// With `in_doubt: resend` on an endpoint where a repeat could act twice: that this is meant.
        accept_duplicates: Option<bool>,
        /// Requests in flight at once, 1 to 1024, or `adaptive`: as many as the far side takes well.
        concurrency: Option<Placed<RawConcurrency>>,
        /// Requests in a time, such as `20/s`.
        rate: Option<Placed<Rate>>,
        /// Whether more than the connector's limits is meant.
        force: Option<bool>,
        /// Limit on one attempt, to the end of the reply; 60s unless said.
        timeout: Option<Span>,
        /// Limit on making a connection; 10s unless said.
        connect_timeout: Option<Span>,
        /// How long an orderly stop waits for replies; 20s unless said.
        stop_grace: Option<Span>,
        /// What the checkpoint survives; loss of power unless said.
        durability: Option<Placed<Durability>>,
        /// When an attempt is repeated.
        retry: Option<RawRetry>,
        /// What must not be in flight together; the key unless said.
        order_by: Option<Placed<String>>,
        /// Whether later records of an order value go on after a failure.
        on_failure: Option<OnFailure>,
        /// When the run gives up.
        stop_when: Option<RawStopWhen>,
        /// Bytes kept of one reply; 1MiB unless said.
        max_reply: Option<Size>,
        /// Bytes of one body; 8MiB unless said.
        max_body: Option<Size>,
        /// Bytes of all files of one `multipart` body; 1024MiB unless said.
        max_files: Option<Size>,
    }
    wrong {
        "retries" => "did you mean `retry`? It is written `retry: { attempts: 3 }`",
        "retrys" => "did you mean `retry`? It is written `retry: { attempts: 3 }`",
        "attempts" => "it is written `retry: { attempts: 3 }`",
        "rate_limit" => "it is written `rate: 20/s`",
        "parallel" => "it is written `concurrency: 8`",
        "workers" => "it is written `concurrency: 8`",
    }
}

raw! {
    /// When an attempt is repeated.
    RawRetry, "`retry`" {
        /// Sendings in all; 1 means no retry, 4 unless said.
        attempts: Option<Tries>,
        /// Upper end of the first random wait; 500ms unless said.
        first_wait: Option<Span>,
        /// Upper end of any random wait; 60s unless said.
        max_wait: Option<Span>,
        /// A longer wait asked for by the far side stops the run; 5min unless said.
        max_retry_after: Option<Span>,
    }
    wrong {
        "max_attempts" => "it is written `attempts: 4`, which counts all sendings",
        "backoff" => "waits are written `first_wait: 500ms` and `max_wait: 60s`",
    }
}

raw! {
    /// When the run gives up.
    RawStopWhen, "`stop_when`" {
        /// Failed and invalid records in all.
        failures: Option<Count>,
        /// Failed and invalid records by class, such as `{ EMAIL_TAKEN: 10, schema: 5 }`.
        classes: Entries<Count>,
        /// Share of failures among the last `window` outcomes, such as `5%`.
        failure_rate: Option<Percent>,
        /// Outcomes that the rate looks at; 200 unless said.
        window: Option<Window>,
        /// Outcomes that have to be there before the rate is judged; the whole `window` unless said.
        min_sample: Option<Placed<Window>>,
        /// The first so many go one at a time; more than half refused halts the run.
        canary: Option<Count>,
        /// Attempts in a row without a usable answer; 50 unless said.
        consecutive: Option<Count>,
    }
}

words!(Mode {
    "at_least_once" => Self::AtLeastOnce,
    "at_most_once" => Self::AtMostOnce,
});
words!(Durability {
    "power" => Self::Power,
    "process" => Self::Process,
});
words!(OnFailure {
    "continue" => Self::Continue,
    "hold_rest" => Self::HoldRest,
});

/// `in_doubt:` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// By the endpoint.
    Auto,
    /// As said.
    Is(InDoubt),
}

words!(Doubt {
    "auto" => Doubt::Auto,
    "resend" => Doubt::Is(InDoubt::Resend),
    "probe" => Doubt::Is(InDoubt::Probe),
    "hold" => Doubt::Is(InDoubt::Hold),
    "skip" => Doubt::Is(InDoubt::Skip),
});

/// `concurrency:` as written.
#[derive(Debug, Clone, Copy)]
pub(super) enum RawConcurrency {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as the far side takes well, and so many at the most.
    Adaptive(Option<NonZeroUsize>),
}

raw! {
    /// Concurrency that follows the far side.
    RawAdaptive, "`adaptive`" {
        /// Requests in flight at the most, 1 to 1024; the connector's limit unless said, or 64 without one.
        max: Option<Lanes>,
    }
    wrong {
        "limit" => "it is written `adaptive: { max: 64 }`",
        "min" => "it begins with 8 and goes down to 1 where it has to; only `max` is said",
    }
}

raw! {
    /// Concurrency that follows the far side.
    RawConcurrencyKind, "`concurrency`" {
        /// What it may do.
        adaptive: Needed<RawAdaptive>,
    }
    wrong {
        "max" => "it is written `concurrency: { adaptive: { max: 64 } }`",
        "fixed" => "a fixed number is written `concurrency: 8`",
    }
}

impl FromNode for RawConcurrency {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let text = match &node.kind {
            Kind::Map(entries) => {
                let number = entries.iter().find_map(|(key, node)| match &node.kind {
                    Kind::Number(number) if key.value == "adaptive" => Some((node, number)),
                    _ => None,
                });
                if let Some((node, number)) = number {
                    problems.push(wrong_type(node, "adaptive", "a mapping").help(format!(
                        "it is written `{what}: {{ adaptive: {{ max: {} }} }}`",
                        number.as_str()
                    )));
                    return None;
                }
                let raw = RawConcurrencyKind::read(node, what, problems)?;
                return Some(Self::Adaptive(raw.adaptive.0?.max.map(|most| most.0)));
            }
            Kind::Text(text) if text == "adaptive" => return Some(Self::Adaptive(None)),
            Kind::Text(text) => text.as_str(),
            Kind::Number(number) => number.as_str(),
            _ => {
                problems.push(wrong_type(node, what, "a whole number, or `adaptive`"));
                return None;
            }
        };
        match values::concurrency(text) {
            Ok(lanes) => Some(Self::Fixed(lanes)),
            Err(wrong) => {
                let message = format!("`{what}` is `{text}`, {}, or `adaptive`", wrong.message);
                problems.push(Diagnostic::error("bad-value", message).place(&node.place));
                None
            }
        }
    }
}

impl schemars::JsonSchema for RawConcurrency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Concurrency".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let lanes = generator.subschema_for::<Lanes>();
        let kind = generator.subschema_for::<RawConcurrencyKind>();
        schemars::json_schema!({ "anyOf": [lanes, { "const": "adaptive" }, kind] })
    }
}

/// What the command line says instead of the files.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryOverrides {
    /// `--concurrency`
    pub concurrency: Option<NonZeroUsize>,
    /// `--rate`, in requests a second.
    pub rate: Option<f64>,
    /// Against the stand-in: nobody's limits count.
    pub unlimited: bool,
}

/// Reads the pipeline's block over the project's defaults. The defaults are checked elsewhere.
pub(super) fn read(
    own: Option<&Node>,
    defaults: Option<&Node>,
    problems: &mut Problems,
) -> Option<RawDelivery> {
    if let Some(own) = own {
        RawDelivery::read(own, "delivery", problems)?;
    }
    let node = match (defaults, own) {
        (Some(defaults), Some(own)) => defaults.clone().merged(own),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => return None,
    };
    // Every mistake in here was noted where its own file was read.
    RawDelivery::read(&node, "delivery", &mut Problems::new())
}

impl Delivery {
    /// What holds where no pipeline says anything: for a single call.
    #[must_use]
    pub fn of(connection: &Connection) -> Self {
        let (nothing, mut problems) = (DeliveryOverrides::default(), Problems::new());
        resolve(None, &connection.limits, nothing, &connection.place, &mut problems)
    }
}

/// Makes the delivery rules, or notes what is wrong.
pub(super) fn resolve(
    raw: Option<&RawDelivery>,
    limits: &Limits,
    overrides: DeliveryOverrides,
    at: &Place,
    problems: &mut Problems,
) -> Delivery {
    let span =
        |get: fn(&RawDelivery) -> Option<Span>, default: Duration| raw.and_then(get).map_or(default, |s| s.0);
    let retry = raw.and_then(|raw| raw.retry.as_ref());
    let wait =
        |get: fn(&RawRetry) -> Option<Span>, default: Duration| retry.and_then(get).map_or(default, |s| s.0);
    let stop = raw.and_then(|raw| raw.stop_when.as_ref());
    let mode = raw.and_then(|raw| raw.mode.as_ref()).map_or(Mode::default(), |mode| mode.value);
    let forced = raw.is_some_and(|raw| raw.force == Some(true));
    let first_wait = wait(|r| r.first_wait, Duration::from_millis(500));
    let max_wait = wait(|r| r.max_wait, Duration::from_mins(1));
    if first_wait > max_wait
        && let Some(retry) = retry
    {
        problems.at("bad-value", &retry.place, "`first_wait` is longer than `max_wait`");
    }
    Delivery {
        mode,
        concurrency: lanes(raw, limits, overrides, forced, at, problems),
        rate: rate(raw, limits, overrides, forced, at, problems),
        timeout: span(|r| r.timeout, Duration::from_mins(1)),
        connect_timeout: span(|r| r.connect_timeout, Duration::from_secs(10)),
        stop_grace: span(|r| r.stop_grace, Duration::from_secs(20)),
        durability: durability(raw.and_then(|raw| raw.durability.as_ref()), problems),
        retry: Retry {
            attempts: retry
                .and_then(|retry| retry.attempts)
                .map_or(NonZeroU32::MIN.saturating_add(3), |t| t.0),
            first_wait,
            max_wait,
            max_retry_after: wait(|r| r.max_retry_after, Duration::from_mins(5)),
        },
        order_by: raw.and_then(|raw| raw.order_by.clone()),
        on_failure: raw.and_then(|raw| raw.on_failure).unwrap_or_default(),
        stop_when: stop_when(stop, problems),
        max_reply: raw.and_then(|raw| raw.max_reply).map_or(1 << 20, |size| size.0),
        max_body: raw.and_then(|raw| raw.max_body).map_or(8 << 20, |size| size.0),
        max_files: raw.and_then(|raw| raw.max_files).map_or(1 << 30, |size| size.0),
    }
}

/// The error budget.
fn stop_when(raw: Option<&RawStopWhen>, problems: &mut Problems) -> StopWhen {
    let window = raw.and_then(|stop| stop.window).map_or(200, |window| window.0);
    let min_sample = raw.and_then(|stop| stop.min_sample.as_ref());
    if let Some(Placed { value, place }) = min_sample.filter(|sample| sample.value.0 > window) {
        let message = format!("`min_sample` is {}, more than the `window` of {window}", value.0);
        problems.push(
            Diagnostic::error("bad-value", message)
                .place(place)
                .help("the rate looks at the last `window` outcomes, so that it would never be judged"),
        );
    }
    StopWhen {
        failures: raw.and_then(|stop| stop.failures).map(|count| count.0),
        classes: raw.map_or_else(Vec::new, |stop| {
            stop.classes.0.iter().map(|(class, count)| (class.value.clone(), count.0)).collect()
        }),
        failure_rate: raw.and_then(|stop| stop.failure_rate).map(|share| share.0),
        window,
        min_sample: min_sample.map_or(window, |sample| sample.value.0),
        canary: raw.and_then(|stop| stop.canary).map(|count| count.0),
        consecutive: raw.and_then(|stop| stop.consecutive).map_or(50, |count| count.0),
    }
}

/// What outlives what; less than usual is said (guarantees, section 5).
fn durability(written: Option<&Placed<Durability>>, problems: &mut Problems) -> Durability {
    let Some(Placed { value, place }) = written else { return Durability::default() };
    if *value == Durability::Process {
        problems.push(
            Diagnostic::warning(
                "durability-process",
                "with `durability: process` a loss of power can lose outcomes: such records may be sent twice",
            )
            .place(place)
            .help("`durability: power` syncs what is noted; a killed process loses nothing either way"),
        );
    }
    *value
}

/// Finds outcome rules whose wait is longer than any is waited: each would stop the run.
pub(super) fn check_waits(endpoint: &Endpoint, retry: &Retry, problems: &mut Problems) {
    for rule in &endpoint.outcomes {
        if let Some(wait) = rule.wait.filter(|wait| *wait > retry.max_retry_after) {
            let (wait, most) =
                (humantime::format_duration(wait), humantime::format_duration(retry.max_retry_after));
            problems.push(
                Diagnostic::error(
                    "wait-too-long",
                    format!("`wait` is {wait}, and a run waits {most} at most"),
                )
                .place(&rule.place)
                .help("raise `delivery: { retry: { max_retry_after: … } }`, or wait less"),
            );
        }
    }
}

/// What happens when each of a pipeline's calls may have arrived.
pub(super) fn in_doubts(
    raw: Option<&RawDelivery>,
    mode: Mode,
    calls: &[Written<'_>],
    endpoints: &[Endpoint],
    problems: &mut Problems,
) -> Vec<InDoubt> {
    let can_look = |endpoint: &Endpoint| endpoint.reconcile.is_some() && endpoint.batch.is_none();
    let of_all = raw.and_then(|raw| raw.in_doubt.as_ref());
    let asks = of_all.is_some_and(|said| said.value == Doubt::Is(InDoubt::Probe));
    let some_can = endpoints.iter().any(can_look);
    calls
        .iter()
        .zip(endpoints)
        .map(|(call, endpoint)| match call.in_doubt {
            // It changes nothing: whatever holds of the others, it may be made again.
            _ if call.only_looks => InDoubt::Resend,
            // Said of all, it holds for those that can be asked about.
            None if asks && some_can && !can_look(endpoint) => in_doubt(raw, None, mode, endpoint, problems),
            own => in_doubt(raw, own.or(of_all), mode, endpoint, problems),
        })
        .collect()
}

/// What happens when a call may have arrived (guarantees, section 4), by what is said of it.
fn in_doubt(
    raw: Option<&RawDelivery>,
    said: Option<&Placed<Doubt>>,
    mode: Mode,
    endpoint: &Endpoint,
    problems: &mut Problems,
) -> InDoubt {
    let repeatable = endpoint.idempotency != Idempotency::None;
    let is_batch = endpoint.batch.is_some();
    let can_look = endpoint.reconcile.is_some() && !is_batch;
    let accepted = raw.is_some_and(|raw| raw.accept_duplicates == Some(true));
    let Some(Placed { value: Doubt::Is(said), place }) = said else {
        return match mode {
            Mode::AtLeastOnce if repeatable => InDoubt::Resend,
            Mode::AtLeastOnce if can_look => InDoubt::Probe,
            Mode::AtLeastOnce | Mode::AtMostOnce => InDoubt::Hold,
        };
    };
    match said {
        InDoubt::Probe if is_batch => problems.push(
            Diagnostic::error("probe-batch", "`in_doubt: probe` asks about one record, and a call has several")
                .place(place)
                .help("use `in_doubt: hold` and settle held records with `runner resolve`, or leave `batch` out"),
        ),
        InDoubt::Probe if !can_look => problems.push(
            Diagnostic::error("probe-without-look", "`in_doubt: probe` asks the far side, and the endpoint does not say how")
                .place(place)
                .help("describe the look in the endpoint (`reconcile:`), or use `hold` and settle held records with `runner resolve`"),
        ),
        InDoubt::Resend if mode == Mode::AtMostOnce => problems.push(
            Diagnostic::error("resend-at-most-once", "`at_most_once` never sends a record in doubt again")
                .place(place)
                .help("use `in_doubt: hold`, or `mode: at_least_once`"),
        ),
        InDoubt::Resend if !repeatable && !accepted => problems.push(
            Diagnostic::error(
                "resend-could-duplicate",
                "records in doubt would be sent again, and the far side could act twice",
            )
            .place(place)
            .help(
                "`idempotency:` in the endpoint says that a repeat is harmless, `in_doubt: hold` waits for a person, `accept_duplicates: true` beside it says that duplicates are accepted",
            ),
        ),
        _ => {}
    }
    *said
}

fn lanes(
    raw: Option<&RawDelivery>,
    limits: &Limits,
    overrides: DeliveryOverrides,
    forced: bool,
    at: &Place,
    problems: &mut Problems,
) -> Concurrency {
    let written = raw.and_then(|raw| raw.concurrency.as_ref());
    let unless_said = |most: NonZeroUsize| limits.concurrency.unwrap_or(most);
    let value = match (overrides.concurrency, written.map(|written| written.value)) {
        (Some(lanes), _) | (None, Some(RawConcurrency::Fixed(lanes))) => Concurrency::Fixed(lanes),
        (None, Some(RawConcurrency::Adaptive(most))) => {
            let most = most.unwrap_or_else(|| unless_said(NonZeroUsize::MIN.saturating_add(63)));
            Concurrency::Adaptive { most }
        }
        (None, None) => Concurrency::Fixed(unless_said(NonZeroUsize::MIN.saturating_add(7))),
    };
    if let Some(limit) = limits.concurrency
        && value.most() > limit
        && !forced
        && !overrides.unlimited
    {
        let written = written.filter(|_| overrides.concurrency.is_none());
        let asked = if overrides.concurrency.is_some() { "--concurrency" } else { "concurrency" };
        let place = written.map_or(at, |written| &written.place);
        problems.push(above_limit(asked, &value.to_string(), &limit.to_string(), place));
    }
    value
}

fn rate(
    raw: Option<&RawDelivery>,
    limits: &Limits,
    overrides: DeliveryOverrides,
    forced: bool,
    at: &Place,
    problems: &mut Problems,
) -> Option<f64> {
    let written = raw.and_then(|raw| raw.rate.as_ref());
    let value = overrides.rate.or_else(|| written.map(|rate| rate.value.0)).or(limits.rate);
    if let (Some(limit), Some(value)) = (limits.rate, value)
        && value > limit
        && !forced
        && !overrides.unlimited
    {
        let written = written.filter(|_| overrides.rate.is_none());
        let asked = if overrides.rate.is_some() { "--rate" } else { "rate" };
        let place = written.map_or(at, |written| &written.place);
        problems.push(above_limit(asked, &format!("{value}/s"), &format!("{limit}/s"), place));
    }
    value
}

fn above_limit(key: &str, value: &str, limit: &str, place: &Place) -> Diagnostic {
    Diagnostic::error("above-limit", format!("`{key}` is {value}, above the connector's limit of {limit}"))
        .place(place)
        .help("lower it, or say that it is meant with `delivery: { force: true }`")
}
