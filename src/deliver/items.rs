//! Reads what the reply to a call with several records says of each of them.
//!
//! Invariant: a record is told about only by a result that is certainly its own. Where results cannot be
//! told apart, where there are more or fewer than records, or where one says nothing, nobody knows
//! what became of the record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::config::{ItemReplies, Matching, Missing, RecordLimits};
use crate::model::{Arrived, Mask, Problems, Request, Str, Value};
use crate::render::{Context, Known, Leaf, Root, Scope};

use super::exchange::{self, Needs, OfBody};
use super::judge::Meaning;
use super::reading::{Reading, shortened};

/// The compiled `replies:` of a batch.
pub struct ItemReader {
    at: Leaf,
    matching: Match,
    delivered: Option<Leaf>,
    status: Option<Leaf>,
    class: Option<Leaf>,
    message: Option<Leaf>,
    captures: Vec<(Str, Leaf)>,
    missing: Missing,
    needs: Needs,
    /// Whether an expression over a result reads what its record contributed.
    reads_item: bool,
    /// Whether nothing but `at` reads the body of the reply: then its list can be taken out of it.
    takes_list: bool,
    base: Context,
    limits: RecordLimits,
    mask: Mask,
}

enum Match {
    Position,
    Equal(Box<(Leaf, Leaf)>),
}

/// Why a record has no result of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unmatched {
    /// No result has its value, and no other record.
    Nothing,
    /// Several results or records have it.
    Several,
    /// It has no value to be matched by.
    Nameless,
}

impl Unmatched {
    const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "the reply says nothing of it",
            Self::Several => "the reply has several results that could be its own",
            Self::Nameless => "it has no value by which `match` could find its result",
        }
    }
}

/// What became of one record of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemReading {
    /// What its result says.
    pub reading: Reading,
    /// The result itself, where there is one.
    pub reply: Option<Arc<Value>>,
}

impl ItemReader {
    /// Compiles what a batch says of its replies. `base` holds vars and connection.
    pub fn compile(
        replies: &ItemReplies,
        base: Context,
        mask: Mask,
        problems: &mut Problems,
    ) -> Option<Self> {
        let errors = problems.errors();
        let around = Scope::new().allow(Root::Connection, Known::Any).allow(Root::Vars, Known::Any);
        let over_item = around.clone().allow(Root::Item, Known::Any);
        let over_call = around.allow(Root::Response, Known::Any).allow(Root::Request, Known::Any);
        let over_reply = over_call.clone().allow(Root::Reply, Known::Any);
        let over_both = over_reply.clone().allow(Root::Item, Known::Any);
        let at = Leaf::compile(&replies.at, &over_call, problems);
        let matching = match &replies.matching {
            Matching::Position => Some(Match::Position),
            Matching::Equal { item, reply } => {
                let item = Leaf::compile(item, &over_item, problems);
                let reply = Leaf::compile(reply, &over_reply, problems);
                item.zip(reply).map(|pair| Match::Equal(Box::new(pair)))
            }
        };
        let mut leaf = |template: &crate::config::Template| Leaf::compile(template, &over_both, problems);
        let delivered = replies.delivered.as_ref().and_then(&mut leaf);
        let status = replies.status.as_ref().and_then(&mut leaf);
        let class = replies.class.as_ref().and_then(&mut leaf);
        let message = replies.message.as_ref().and_then(&mut leaf);
        let captures: Vec<(Str, Leaf)> = replies
            .captures
            .iter()
            .filter_map(|(name, template)| Some((Str::from(name.value.as_str()), leaf(template)?)))
            .collect();
        let (at, matching) = (at?, matching?);
        let of_each = || {
            let captures = captures.iter().map(|(_, leaf)| leaf);
            delivered.iter().chain(&status).chain(&class).chain(&message).chain(captures)
        };
        let others = Needs::of(of_each());
        let takes_list = others.body == OfBody::Nothing && matches!(matching, Match::Position);
        let needs = Needs::of([&at]).and(&others).with_body();
        let reads_item = of_each().flat_map(Leaf::reads).any(|path| path.starts_with(Root::Item.name()));
        let reader = Self {
            at,
            matching,
            delivered,
            status,
            class,
            message,
            captures,
            missing: replies.missing,
            needs,
            reads_item,
            takes_list,
            base,
            limits: RecordLimits::default(),
            mask,
        };
        (problems.errors() == errors).then_some(reader)
    }

    /// What a reply that acted says of each record, in their order; `items` is what each contributed. As many
    /// readings as items.
    #[must_use]
    pub fn read(&self, arrived: &Arrived, request: &Request, items: &[&Value]) -> Vec<ItemReading> {
        let status = arrived.status.as_u16();
        let nobody_knows = |why: String| {
            let reading = Reading { status, message: why, ..Reading::without_reply("reply-unreadable", "") };
            vec![ItemReading { reading, reply: None }; items.len()]
        };
        let (mut response, readable) = exchange::response(arrived, &self.needs, &self.limits);
        if !readable {
            return nobody_knows("the reply is cut, too large or not as its type says".into());
        }
        let taken = if self.takes_list { self.at.take(Root::Response, &mut response) } else { None };
        let mut context = self.base.clone().with(Root::Response, Arc::new(response));
        if self.needs.sent {
            context.set(Root::Request, Arc::new(exchange::request(request, None, &self.limits)));
        }
        let Value::Array(results) = taken.unwrap_or_else(|| self.at.lenient_value(&context)) else {
            return nobody_knows("the reply has no list of results where `replies.at` looks for it".into());
        };
        let found = match &self.matching {
            Match::Position if results.len() == items.len() => {
                (0..items.len()).map(Ok).collect::<Vec<Result<usize, Unmatched>>>()
            }
            Match::Position => {
                return nobody_knows(format!(
                    "the reply has {} results for {} records",
                    results.len(),
                    items.len()
                ));
            }
            Match::Equal(pair) => matched(pair, &results, items, &mut context),
        };
        // Results that belong to nobody could be those of the records without one.
        let has_strays = found.iter().flatten().count() < results.len();
        let mut results: Vec<Option<Value>> = results.into_iter().map(Some).collect();
        items
            .iter()
            .zip(found)
            .map(|(item, found)| match found {
                Ok(at) => {
                    let result = results.get_mut(at).and_then(Option::take).unwrap_or(Value::Absent);
                    self.one(status, item, Arc::new(result), &mut context)
                }
                Err(why) => {
                    let reading = self.without_result(status, why, has_strays);
                    ItemReading { reading, reply: None }
                }
            })
            .collect()
    }

    /// What one result says.
    fn one(&self, status: u16, item: &Value, result: Arc<Value>, context: &mut Context) -> ItemReading {
        if self.reads_item {
            context.set(Root::Item, Arc::new(item.clone()));
        }
        context.set(Root::Reply, Arc::clone(&result));
        let (meaning, status) = self.meaning(status, context);
        let acted = meaning == Meaning::Acted;
        let text =
            |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| leaf.lenient_text(context)).unwrap_or_default();
        let masked = |text: &str| self.mask.apply(text).into_owned();
        let class = if acted { self.missing_capture(context) } else { masked(&text(&self.class)) };
        let class: String = class.chars().filter(|char| !char.is_control()).take(80).collect();
        let message = match if acted { None } else { Some(masked(&text(&self.message))) } {
            None => String::new(),
            Some(said) if said.is_empty() => shortened(&masked(&result.to_json())),
            Some(said) => shortened(&said),
        };
        let class = match class {
            word if acted || !word.is_empty() => word,
            _ if meaning == Meaning::Unknown => "reply-unreadable".into(),
            _ => format!("item_{status}"),
        };
        let captures =
            if acted { exchange::capture(&self.captures, context, &self.mask).0 } else { Value::Absent };
        let reading =
            Reading { captures, captures_lost: false, meaning, status, class, message, pause: None };
        ItemReading { reading, reply: Some(result) }
    }

    fn meaning(&self, of_call: u16, context: &Context) -> (Meaning, u16) {
        if let Some(leaf) = &self.status {
            let said = leaf.lenient_text(context);
            return match said.parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
                Some(status) => (usual(status), status.as_u16()),
                None => (Meaning::Unknown, of_call),
            };
        }
        let Some(leaf) = &self.delivered else { return (Meaning::Acted, of_call) };
        match leaf.lenient_value(context) {
            // A result without the field that decides says nothing.
            Value::Absent | Value::Null => (Meaning::Unknown, of_call),
            _ if leaf.lenient_truth(context) => (Meaning::Acted, of_call),
            _ => (Meaning::Refused { settles_unknown: false }, of_call),
        }
    }

    fn without_result(&self, status: u16, why: Unmatched, has_strays: bool) -> Reading {
        let says_nothing = matches!(why, Unmatched::Nothing) && !has_strays;
        let why = why.words();
        let (meaning, class, message) = match self.missing {
            Missing::Delivered if says_nothing => (Meaning::Acted, "", ""),
            Missing::Failed if says_nothing => {
                (Meaning::Refused { settles_unknown: false }, "result-missing", why)
            }
            _ => (Meaning::Unknown, "result-missing", why),
        };
        Reading { meaning, status, ..Reading::without_reply(class, message) }
    }

    fn missing_capture(&self, context: &Context) -> String {
        let missing = self.captures.iter().any(|(_, leaf)| leaf.lenient_value(context).is_nothing());
        if missing { "capture_missing".into() } else { String::new() }
    }
}

/// For each item the place of its result, or why it has none.
fn matched(
    (item, reply): &(Leaf, Leaf),
    results: &[Value],
    items: &[&Value],
    context: &mut Context,
) -> Vec<Result<usize, Unmatched>> {
    let mut by_text: HashMap<String, Option<usize>> = HashMap::with_capacity(results.len());
    for (at, result) in results.iter().enumerate() {
        context.set(Root::Reply, Arc::new(result.clone()));
        let text = reply.lenient_text(context);
        by_text.entry(text).and_modify(|found| *found = None).or_insert(Some(at));
    }
    let texts: Vec<String> = items
        .iter()
        .map(|value| {
            context.set(Root::Item, Arc::new((*value).clone()));
            item.lenient_text(context)
        })
        .collect();
    let mut times: HashMap<&str, usize> = HashMap::with_capacity(texts.len());
    for text in &texts {
        *times.entry(text).or_default() += 1;
    }
    texts
        .iter()
        .map(|text| match by_text.get(text) {
            // An empty text is no name of anything.
            _ if text.is_empty() => Err(Unmatched::Nameless),
            Some(Some(at)) if times.get(text.as_str()) == Some(&1) => Ok(*at),
            None if times.get(text.as_str()) == Some(&1) => Err(Unmatched::Nothing),
            None | Some(_) => Err(Unmatched::Several),
        })
        .collect()
}

/// The reading of one result's status: as that of a call, but that it cannot stop the run.
fn usual(status: StatusCode) -> Meaning {
    match status.as_u16() {
        200..=299 => Meaning::Acted,
        408 | 425 | 429 => Meaning::NotNow { asked: None::<Duration> },
        300..=499 => Meaning::Refused { settles_unknown: false },
        _ => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::fixtures::template;
    use crate::model::Map;
    use crate::render::RunValues;

    fn reader(missing: Missing, by_id: bool) -> ItemReader {
        let replies = ItemReplies {
            at: template("{{ response.body }}"),
            matching: if by_id {
                Matching::Equal { item: template("{{ item.id }}"), reply: template("{{ reply.id }}") }
            } else {
                Matching::Position
            },
            delivered: None,
            status: Some(template("{{ reply.status }}")),
            class: None,
            message: None,
            captures: Vec::new(),
            missing,
        };
        let mut problems = Problems::new();
        let base = Context::new(RunValues::of_nobody());
        ItemReader::compile(&replies, base, Mask::new([]), &mut problems).expect("a reader")
    }

    fn item(id: &str) -> Value {
        let mut map = Map::new();
        map.push("id", Value::text(id));
        Value::Object(map)
    }

    fn read(reader: &ItemReader, ids: &[&str], body: &str) -> Vec<Meaning> {
        let arrived = Arrived {
            status: StatusCode::MULTI_STATUS,
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
            complete: true,
        };
        let request = Request {
            method: http::Method::POST,
            url: "http://a.example/".parse().expect("a URL"),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            form: None,
        };
        let items: Vec<Value> = ids.iter().map(|id| item(id)).collect();
        let items: Vec<&Value> = items.iter().collect();
        reader.read(&arrived, &request, &items).into_iter().map(|found| found.reading.meaning).collect()
    }

    #[test]
    fn a_status_of_a_result_is_read_as_that_of_a_call() {
        let by_position = reader(Missing::InDoubt, false);
        for (status, meaning) in [
            ("200", Meaning::Acted),
            ("\"201\"", Meaning::Acted),
            ("404", Meaning::Refused { settles_unknown: false }),
            ("401", Meaning::Refused { settles_unknown: false }),
            ("429", Meaning::NotNow { asked: None }),
            ("503", Meaning::Unknown),
            ("null", Meaning::Unknown),
            ("\"ok\"", Meaning::Unknown),
            ("2000", Meaning::Unknown),
        ] {
            let found = read(&by_position, &["a"], &format!("[{{\"status\":{status}}}]"));
            assert_eq!(found, [meaning], "{status}");
        }
        assert_eq!(read(&by_position, &["a", "b"], "[{\"status\":200}]"), [Meaning::Unknown; 2]);
    }

    fn id() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("")]
    }

    proptest! {
        #[test]
        fn a_record_is_told_about_only_by_a_result_that_is_its_own(
            ids in prop::collection::vec(id(), 1..6),
            results in prop::collection::vec((id(), prop_oneof![Just(201_u16), Just(400), Just(429), Just(500)]), 0..6),
            missing in prop_oneof![Just(Missing::InDoubt), Just(Missing::Delivered), Just(Missing::Failed)],
        ) {
            let list: Vec<String> =
                results.iter().map(|(id, status)| format!("{{\"id\":\"{id}\",\"status\":{status}}}")).collect();
            let found = read(&reader(missing, true), &ids, &format!("[{}]", list.join(",")));
            prop_assert_eq!(found.len(), ids.len());
            let of = |id: &str| results.iter().filter(|(known, _)| *known == id).collect::<Vec<_>>();
            let is_alone = |id: &str| !id.is_empty() && ids.iter().filter(|known| **known == id).count() == 1;
            let each_has_an_owner = results.iter().all(|(id, _)| is_alone(id) && of(id).len() == 1);
            for (id, meaning) in ids.iter().zip(found) {
                let expected = match of(id)[..] {
                    [(_, status)] if is_alone(id) => usual(StatusCode::from_u16(*status).expect("a status")),
                    [] if is_alone(id) && each_has_an_owner => match missing {
                        Missing::InDoubt => Meaning::Unknown,
                        Missing::Delivered => Meaning::Acted,
                        Missing::Failed => Meaning::Refused { settles_unknown: false },
                    },
                    _ => Meaning::Unknown,
                };
                prop_assert_eq!(meaning, expected, "{} of {:?} by {:?}", id, ids, results);
            }
        }
    }
}
