//! Says what a reply means: the usual reading of a status, and a pipeline's exceptions from it.
//!
//! The usual reading is guarantees.md 3; `outcomes` rules go first, in their order. Strictness
//! ends where the far side's data begins: a field that is missing in a reply is no match, or
//! empty, never an error. Only where a rule has to read the body and the body is not whole is
//! the reply unknown.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::config::{Endpoint, OutcomeRule, RecordLimits, StatusMatch, Then};
use crate::model::{Arrived, Lost, Mask, Problems, Reply, Request, Str, Value};
use crate::render::{Context, Known, Leaf, Root, Scope};

use super::exchange::{self, Needs, OfBody};
use super::headers;
use super::judge::Meaning;

/// The compiled rules for reading replies of one endpoint.
pub struct Reader {
    rules: Vec<Rule>,
    class: Option<Leaf>,
    message: Option<Leaf>,
    captures: Vec<(Str, Leaf)>,
    /// What reading a success takes beside its status, and what reading a refusal does.
    needs: (Needs, Needs),
    base: Context,
    limits: RecordLimits,
    mask: Mask,
    expected: Option<Expected>,
}

/// Whether the body of a good reply is as the endpoint says.
pub type Expected = Box<dyn Fn(&Value) -> bool + Send + Sync>;

struct Rule {
    statuses: Vec<StatusMatch>,
    when: Option<Leaf>,
    when_reads_body: bool,
    needs: Needs,
    then: Then,
    wait: Option<Duration>,
    class: Option<String>,
    message: Option<Leaf>,
    after_unknown: bool,
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What it means for the record.
    pub meaning: Meaning,
    /// HTTP status; 0 without one.
    pub status: u16,
    /// The reason as a stable word; empty when delivered as usual.
    pub class: String,
    /// The reason for people.
    pub message: String,
    /// What `captures` read; an object, or absent.
    pub captures: Value,
    /// Whether what they read was too much to be kept, or repeated a secret.
    pub captures_lost: bool,
    /// A wait that the headers ask all of us for.
    pub pause: Option<Duration>,
}

impl Reading {
    /// The reading of an attempt that has no reply, for reasons of ours.
    #[must_use]
    pub fn without_reply(class: &str, message: &str) -> Self {
        Self {
            meaning: Meaning::Unknown,
            status: 0,
            class: class.into(),
            message: message.into(),
            captures: Value::Absent,
            captures_lost: false,
            pause: None,
        }
    }
}

/// At most so many characters of a far side's message are kept.
const MOST_MESSAGE: usize = 500;

impl Reader {
    /// Compiles the rules of an endpoint. `base` holds vars and connection.
    ///
    /// What replies repeat of `mask` is hidden before anything is kept of them.
    pub fn compile(endpoint: &Endpoint, base: Context, mask: Mask, problems: &mut Problems) -> Option<Self> {
        let errors = problems.errors();
        let scope = Scope::new()
            .allow(Root::Response, Known::Any)
            .allow(Root::Request, Known::Any)
            .allow(Root::Connection, Known::Any)
            .allow(Root::Vars, Known::Any)
            .allow(Root::Run, Known::Any);
        let mut leaf = |template: &crate::config::Template| Leaf::compile(template, &scope, problems);
        let mut rules = Vec::new();
        for OutcomeRule { statuses, when, then, wait, class, message, after_unknown, .. } in
            &endpoint.outcomes
        {
            let when = when.as_ref().and_then(&mut leaf);
            let message = message.as_ref().and_then(&mut leaf);
            rules.push(Rule {
                statuses: statuses.clone(),
                when_reads_body: when.as_ref().is_some_and(reads_body),
                needs: Needs::of(when.iter().chain(&message)),
                when,
                then: *then,
                wait: *wait,
                class: class.clone(),
                message,
                after_unknown: *after_unknown,
            });
        }
        let class = endpoint.errors.class.as_ref().and_then(&mut leaf);
        let message = endpoint.errors.message.as_ref().and_then(&mut leaf);
        let captures: Vec<(Str, Leaf)> = endpoint
            .captures
            .iter()
            .filter_map(|(name, template)| Some((Str::from(name.value.as_str()), leaf(template)?)))
            .collect();
        let acted = Needs::of(captures.iter().map(|(_, leaf)| leaf));
        let needs = (acted, Needs::of(class.iter().chain(&message)));
        let reader = Self {
            rules,
            class,
            message,
            captures,
            needs,
            base,
            limits: RecordLimits::default(),
            mask,
            expected: None,
        };
        (problems.errors() == errors).then_some(reader)
    }

    /// Replies that act are looked at by this; what it does not expect is delivered all the same,
    /// and noted.
    #[must_use]
    pub fn expecting(mut self, expected: Option<Expected>) -> Self {
        if expected.is_some() {
            self.needs.0.body = OfBody::All;
        }
        self.expected = expected;
        self
    }

    /// Reads the end of an attempt.
    #[must_use]
    pub fn read(&self, reply: &Reply, request: &Request) -> Reading {
        match reply {
            Reply::Lost(lost) => self.hidden(read_lost(lost)),
            Reply::Arrived(arrived) => self.hidden(self.read_arrived(arrived, request)),
        }
    }

    fn hidden(&self, mut reading: Reading) -> Reading {
        self.hide(&mut reading.class);
        self.hide(&mut reading.message);
        reading
    }

    /// Text of the far side to be kept, masked before it is cut: half of a secret is not known again.
    fn shortened(&self, text: &str) -> String {
        shortened(&self.mask.apply(text))
    }

    fn hide(&self, text: &mut String) {
        if !text.is_empty()
            && let std::borrow::Cow::Owned(masked) = self.mask.apply(text)
        {
            *text = masked;
        }
    }

    fn read_arrived(&self, arrived: &Arrived, request: &Request) -> Reading {
        let status = arrived.status;
        let now = SystemTime::now();
        let usual = usual(arrived, now);
        let pause = headers::exhausted(&arrived.headers, now);
        // Most replies need no look into the body.
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.is_for(status)).collect();
        if rules.is_empty() && self.captures.is_empty() && self.expected.is_none() && usual == Meaning::Acted
        {
            return Reading {
                meaning: usual,
                status: status.as_u16(),
                pause,
                ..Reading::without_reply("", "")
            };
        }
        let (acted, refused) = &self.needs;
        let (context, body_is_whole) = if rules.is_empty() && usual == Meaning::Acted {
            self.context(arrived, request, acted)
        } else {
            let needs = rules.iter().fold(acted.clone().and(refused), |needs, rule| needs.and(&rule.needs));
            self.context(arrived, request, &needs)
        };
        for rule in rules {
            if rule.when_reads_body && !body_is_whole {
                return Reading {
                    status: status.as_u16(),
                    pause,
                    ..Reading::without_reply(
                        "reply-unreadable",
                        "a rule has to read the reply's body, which is cut, too large or not as its type says",
                    )
                };
            }
            if rule.when.as_ref().is_none_or(|when| when.lenient_truth(&context)) {
                return self.by_rule(rule, arrived, &context, now, pause);
            }
        }
        let acted = usual == Meaning::Acted;
        let class = if acted { self.oddity(&context) } else { self.word(&context, arrived) };
        let message = if acted { String::new() } else { self.words(&context, arrived) };
        let (captures, captures_lost) = self.captured(acted, &context);
        Reading { meaning: usual, status: status.as_u16(), class, message, captures, captures_lost, pause }
    }

    fn by_rule(
        &self,
        rule: &Rule,
        arrived: &Arrived,
        context: &Context,
        now: SystemTime,
        pause: Option<Duration>,
    ) -> Reading {
        let meaning = match rule.then {
            Then::Delivered => Meaning::Acted,
            Then::Retry => Meaning::NotNow { asked: asked(&arrived.headers, now).or(rule.wait) },
            Then::Failed => Meaning::Refused { settles_unknown: rule.after_unknown },
            Then::InDoubt => Meaning::Unknown,
            Then::Skipped => Meaning::NotNeeded,
            Then::Stop => Meaning::Stop,
        };
        let acted = meaning == Meaning::Acted;
        let class = match &rule.class {
            Some(class) => class.clone(),
            None if acted => self.oddity(context),
            None => self.word(context, arrived),
        };
        let message = match &rule.message {
            Some(message) => self.shortened(&message.lenient_text(context)),
            None if acted => String::new(),
            None => self.words(context, arrived),
        };
        let (captures, captures_lost) = self.captured(acted, context);
        let status = arrived.status.as_u16();
        Reading { meaning, status, class, message, captures, captures_lost, pause }
    }

    /// What a good reply brought that is kept, and whether some of it was lost.
    fn captured(&self, acted: bool, context: &Context) -> (Value, bool) {
        if acted { exchange::capture(&self.captures, context, &self.mask) } else { (Value::Absent, false) }
    }

    /// The context with what is needed of `response` and `request`, and whether the body, if it is
    /// needed, is whole and readable.
    fn context(&self, arrived: &Arrived, request: &Request, needs: &Needs) -> (Context, bool) {
        let (response, readable) = exchange::response(arrived, needs, &self.limits);
        let mut context = self.base.clone().with(Root::Response, Arc::new(response));
        if needs.sent {
            context.set(Root::Request, Arc::new(exchange::request(request, None, &self.limits)));
        }
        (context, readable)
    }

    /// What is odd about a reply that acted: noted, never an error.
    fn oddity(&self, context: &Context) -> String {
        let body = context.get(Root::Response).and_then(|response| response.as_object()?.get("body"));
        match (&self.expected, body) {
            (Some(expected), Some(body)) if !expected(body) => "response_schema".into(),
            _ => self.missing_capture(context),
        }
    }

    /// `capture_missing` when a capture has no value: noted, never an error.
    fn missing_capture(&self, context: &Context) -> String {
        let missing = self.captures.iter().any(|(_, leaf)| leaf.lenient_value(context).is_nothing());
        if missing { "capture_missing".into() } else { String::new() }
    }

    /// The far side's own word for a refusal, or the status.
    fn word(&self, context: &Context, arrived: &Arrived) -> String {
        let word = self.class.as_ref().map(|class| class.lenient_text(context)).unwrap_or_default();
        let word: String = word.chars().filter(|char| !char.is_control()).collect();
        let word: String = self.mask.apply(&word).chars().take(80).collect();
        if !word.is_empty() {
            return word;
        }
        match arrived.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limited".into(),
            status if status.is_redirection() => "redirect".into(),
            status => format!("http_{}", status.as_u16()),
        }
    }

    /// What the far side said, or the first line of whatever came.
    fn words(&self, context: &Context, arrived: &Arrived) -> String {
        if arrived.status.is_redirection() {
            let target = arrived
                .headers
                .get(http::header::LOCATION)
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            return format!(
                "answered {} to {}; redirects are not followed",
                arrived.status.as_u16(),
                self.shortened(&target.unwrap_or_default())
            );
        }
        let text = self.message.as_ref().map(|message| message.lenient_text(context)).unwrap_or_default();
        if !text.is_empty() {
            return self.shortened(&text);
        }
        let body = String::from_utf8_lossy(&arrived.body);
        let first = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        if first.is_empty() {
            arrived.status.canonical_reason().unwrap_or("no reason given").to_lowercase()
        } else {
            self.shortened(first)
        }
    }
}

impl Rule {
    fn is_for(&self, status: StatusCode) -> bool {
        let code = status.as_u16();
        self.statuses.is_empty()
            || self.statuses.iter().any(|wanted| match wanted {
                StatusMatch::Exactly(exact) => *exact == code,
                StatusMatch::Class(class) => {
                    u16::from(*class) == code / 100 && !matches!(code, 408 | 425 | 429)
                }
            })
    }
}

/// The reading of a status without any rule (guarantees.md 3).
fn usual(arrived: &Arrived, now: SystemTime) -> Meaning {
    let named = headers::retry_after(&arrived.headers, now);
    match arrived.status.as_u16() {
        200..=299 => Meaning::Acted,
        401 => Meaning::Stop,
        408 | 425 => Meaning::NotNow { asked: named },
        429 => Meaning::NotNow { asked: asked(&arrived.headers, now) },
        503 if named.is_some() => Meaning::NotNow { asked: named },
        300..=499 => Meaning::Refused { settles_unknown: false },
        _ => Meaning::Unknown,
    }
}

/// The wait that the far side asks one for who came too often.
fn asked(headers: &http::HeaderMap, now: SystemTime) -> Option<Duration> {
    headers::retry_after(headers, now).or_else(|| headers::exhausted(headers, now))
}

fn read_lost(lost: &Lost) -> Reading {
    let meaning = match lost {
        _ if lost.is_final() => Meaning::Stop,
        _ if lost.is_of_this_alone() => Meaning::Refused { settles_unknown: false },
        _ if lost.certain && lost.asked.is_some() => Meaning::NotNow { asked: lost.asked },
        _ if lost.certain => Meaning::NotSent,
        _ => Meaning::Unknown,
    };
    Reading { meaning, message: shortened(&lost.message), ..Reading::without_reply(lost.class, "") }
}

fn reads_body(leaf: &Leaf) -> bool {
    leaf.reads().any(|path| {
        path.starts_with("response.body") || path == "response" || path.starts_with("response.text")
    })
}

pub(super) fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= MOST_MESSAGE {
        return text.to_owned();
    }
    text.chars().take(MOST_MESSAGE).chain(['…']).collect()
}
