//! What the stand-in answers instead of the usual: faults on demand, one rule a line.
//!
//! ```text
//! METHOD PATH [CONDITION…] -> ACTION [WORD…]
//!
//! PUT /v2/agents/* #3            -> 429 retry-after=2
//! POST * first=2                 -> 500 act
//! * * 5% seed=7                  -> cut_after_effect
//! POST|PUT ** body.email=a@b.com -> 400 class=INVALID message="no such thing"
//! GET /v2/users first=1 per=path -> delay 200ms
//! ```
//!
//! METHOD is `*`, a method, or several joined by `|`. In PATH `*` is anything within a segment and
//! `**` anything at all; `*` alone is every path. The query is not looked at. Empty lines and
//! lines that begin with `#` say nothing. A word may be quoted, `'…'` or `"…"`, in whole or in
//! part; `\` escapes within double quotes.
//!
//! CONDITIONS all have to hold. A rule counts every request that fits its method, path and
//! `body.` condition, whether or not an earlier rule answers it; the first rule in the list whose
//! conditions hold decides.
//!
//! | condition | holds for |
//! |---|---|
//! | `#3`, `#3-5` | the third; the third to the fifth |
//! | `first=2`, `after=2` | the first two; all after the first two |
//! | `every=10` | the tenth, twentieth … |
//! | `over=100/s` | what comes above so many in a second, or in a minute with `/min` |
//! | `5%`, `seed=7` | so many of a hundred, drawn by the seed (0 without one) and the count |
//! | `per=path` | counts for every path by itself |
//! | `body.a.b=text` | a JSON body that holds this text, number or word there |
//!
//! | action | what happens | acts |
//! |---|---|---|
//! | `500` | this status; `name=value` sets a header, `body=` the body, `class=` and `message=` fill the API's error shape | if 2xx |
//! | `delay 2s` | the usual reply, so much later; the effect comes first | yes |
//! | `late 2s` | the effect and the usual reply, both so much later | yes |
//! | `hang` | no answer, the connection stays open | no |
//! | `cut_before` | the request is read, then the connection closed | no |
//! | `cut_after_effect` | the same, after the effect | yes |
//! | `cut_in_headers` | half of the reply headers, then closed | no |
//! | `cut_in_body` | headers and half of the body, then closed | yes |
//! | `reset` | the connection is reset (RST) | no |
//! | `slow_body 1s` | the usual reply, one byte of the body at a time with this wait between | yes |
//! | `garbage` | bytes that are not HTTP | no |
//! | `endless_headers` | reply headers without end | no |
//! | `html`, `html 502` | a page of HTML; 200 without a status | if 2xx |
//! | `gzip_bomb 10GiB` | 200 with a small gzip body that unpacks to so much | yes |
//! | `redirect URL`, `redirect URL 302` | a redirect; 307 without a status | no |
//! | `esc`, `esc 400` | a refusal whose message drives a terminal; 400 without a status | if 2xx |
//! | `close` | the usual reply with `Connection: close` | yes |
//! | `close_silent` | the usual reply, then closed without having said so | yes |
//!
//! The words `act` and `no_act` after an action decide whether the request has its effect.
//! `retry-after=date+2` and `date-2` are the HTTP date so many seconds from now.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Rules in their order; empty by default: everything is answered as usual.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script {
    pub(super) rules: Vec<Rule>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// Empty is any.
    pub(super) methods: Vec<Method>,
    pub(super) path: Glob,
    pub(super) when: Vec<When>,
    pub(super) seed: u64,
    pub(super) per: Per,
    /// Names into the body, and the text that stands there.
    pub(super) field: Option<(Vec<String>, String)>,
    pub(super) action: Action,
    pub(super) effect: Effect,
}

/// A condition on the count of a request, which begins at 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    Between(u64, u64),
    Every(u64),
    /// Above so many in this time.
    Over(u64, Duration),
    /// A share from 0 to 1.
    Share(f64),
}

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Per {
    Rule,
    Path,
}

/// Whether a scripted answer comes with the effect of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Acts,
    Nothing,
}

/// What is done instead of, or with, the usual reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Status(Answer),
    Delay(Duration),
    Late(Duration),
    Hang,
    CutBefore,
    CutAfterEffect,
    CutInHeaders,
    CutInBody,
    Reset,
    SlowBody(Duration),
    Garbage,
    EndlessHeaders,
    Html(u16),
    GzipBomb(u64),
    Redirect(u16, String),
    Esc(u16),
    Close,
    CloseSilent,
}

/// A status with its headers and body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, HeaderText)>,
    pub(super) body: Option<String>,
    pub(super) class: Option<String>,
    pub(super) message: Option<String>,
}

/// The value of a scripted header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderText {
    Text(String),
    /// The HTTP date so many seconds from now.
    DateFromNow(i64),
}

impl Action {
    /// The name in scripts and in the journal.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Delay(_) => "delay",
            Self::Late(_) => "late",
            Self::Hang => "hang",
            Self::CutBefore => "cut_before",
            Self::CutAfterEffect => "cut_after_effect",
            Self::CutInHeaders => "cut_in_headers",
            Self::CutInBody => "cut_in_body",
            Self::Reset => "reset",
            Self::SlowBody(_) => "slow_body",
            Self::Garbage => "garbage",
            Self::EndlessHeaders => "endless_headers",
            Self::Html(_) => "html",
            Self::GzipBomb(_) => "gzip_bomb",
            Self::Redirect(..) => "redirect",
            Self::Esc(_) => "esc",
            Self::Close => "close",
            Self::CloseSilent => "close_silent",
        }
    }

    /// Whether the request has its effect when the line does not say: whoever reads 2xx has to be
    /// able to trust it.
    pub(super) fn usual_effect(&self) -> Effect {
        let acts = match self {
            Self::Status(Answer { status, .. }) | Self::Html(status) | Self::Esc(status) => {
                (200..300).contains(status)
            }
            Self::Delay(_)
            | Self::Late(_)
            | Self::CutAfterEffect
            | Self::CutInBody
            | Self::SlowBody(_)
            | Self::GzipBomb(_)
            | Self::Close
            | Self::CloseSilent => true,
            Self::Hang
            | Self::CutBefore
            | Self::CutInHeaders
            | Self::Reset
            | Self::Garbage
            | Self::EndlessHeaders
            | Self::Redirect(..) => false,
        };
        if acts { Effect::Acts } else { Effect::Nothing }
    }
}

/// A path with `*` and `**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Byte(u8),
    WithinSegment,
    Anything,
}

impl Glob {
    pub(super) fn new(text: &str) -> Self {
        if text == "*" {
            return Self(vec![Step::Anything]);
        }
        let mut steps = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            match (byte, steps.last()) {
                (b'*', Some(Step::WithinSegment)) => {
                    steps.pop();
                    steps.push(Step::Anything);
                }
                (b'*', Some(Step::Anything)) => {}
                (b'*', _) => steps.push(Step::WithinSegment),
                _ => steps.push(Step::Byte(byte)),
            }
        }
        Self(steps)
    }

    /// Follows all ways through the pattern at once, so that no pattern is slow.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut here = vec![false; self.0.len() + 1];
        let pass_stars = |here: &mut Vec<bool>| {
            for (at, step) in self.0.iter().enumerate() {
                let star = !matches!(step, Step::Byte(_));
                if star
                    && here.get(at) == Some(&true)
                    && let Some(next) = here.get_mut(at + 1)
                {
                    *next = true;
                }
            }
        };
        if let Some(start) = here.first_mut() {
            *start = true;
        }
        pass_stars(&mut here);
        for byte in path.bytes() {
            let mut next = vec![false; here.len()];
            for (at, step) in self.0.iter().enumerate().filter(|(at, _)| here.get(*at) == Some(&true)) {
                let to = match step {
                    Step::Byte(expected) if *expected == byte => at + 1,
                    Step::Anything => at,
                    Step::WithinSegment if byte != b'/' => at,
                    _ => continue,
                };
                if let Some(to) = next.get_mut(to) {
                    *to = true;
                }
            }
            here = next;
            pass_stars(&mut here);
        }
        here.last() == Some(&true)
    }
}

/// A script and how far it is.
#[derive(Debug, Default)]
pub(super) struct Running {
    script: Script,
    counts: Vec<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u64,
    by_path: HashMap<u64, u64>,
    /// When the present time of a limit began, and what came since.
    window: Option<(Instant, u64)>,
}

impl Running {
    pub(super) fn new(script: Script) -> Self {
        let counts = script.rules.iter().map(|_| Counts::default()).collect();
        Self { script, counts }
    }

    /// Counts the request in every rule that it fits, and gives the first that decides it. `body`
    /// is asked for the parsed body only where a rule looks at it.
    pub(super) fn decide<'a>(
        &mut self,
        method: &Method,
        path: &str,
        now: Instant,
        body: impl Fn() -> Option<&'a Value>,
    ) -> Option<(Action, Effect)> {
        let mut decided = None;
        for (rule, counts) in self.script.rules.iter().zip(&mut self.counts) {
            if !rule.fits(method, path, &body) {
                continue;
            }
            counts.all += 1;
            let count = match rule.per {
                Per::Rule => counts.all,
                Per::Path => {
                    let count = counts.by_path.entry(xxh3_64(path.as_bytes())).or_default();
                    *count += 1;
                    *count
                }
            };
            let in_window = rule.limited_time().map_or(0, |time| counts.in_window(now, time));
            // The draw of a share goes by the overall count, else all paths would draw alike.
            if decided.is_none()
                && rule.when.iter().all(|when| when.holds(count, counts.all, in_window, rule.seed))
            {
                decided = Some((rule.action.clone(), rule.effect));
            }
        }
        decided
    }

    /// Whether any rule looks into bodies.
    pub(super) fn reads_bodies(&self) -> bool {
        self.script.rules.iter().any(|rule| rule.field.is_some())
    }
}

impl Counts {
    /// Counts one more in its window of time, and says how many that are.
    fn in_window(&mut self, now: Instant, time: Duration) -> u64 {
        match &mut self.window {
            Some((began, count)) if now < *began + time => {
                *count += 1;
                *count
            }
            window => {
                *window = Some((now, 1));
                1
            }
        }
    }
}

impl Rule {
    fn limited_time(&self) -> Option<Duration> {
        self.when.iter().find_map(|when| match when {
            When::Over(_, time) => Some(*time),
            _ => None,
        })
    }

    fn fits<'a>(&self, method: &Method, path: &str, body: impl Fn() -> Option<&'a Value>) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && self.path.matches(path)
            && self.field.as_ref().is_none_or(|(names, text)| {
                let found = names.iter().try_fold(body(), |at, name| match at? {
                    Value::Array(items) => Some(items.get(name.parse::<usize>().ok()?)),
                    other => Some(other.get(name)),
                });
                match found.flatten() {
                    Some(Value::String(found)) => found == text,
                    Some(Value::Array(_) | Value::Object(_)) | None => false,
                    Some(other) => serde_json::to_string(other).is_ok_and(|found| found == *text),
                }
            })
    }
}

impl When {
    fn holds(&self, count: u64, draw: u64, in_window: u64, seed: u64) -> bool {
        match self {
            Self::Over(most, _) => in_window > *most,
            Self::Between(from, to) => (*from..=*to).contains(&count),
            Self::Every(n) => count.is_multiple_of(*n),
            Self::Share(share) => {
                // 32 bits are exact in a float, and finer than any share that is written.
                let drawn =
                    u32::try_from(xxh3_64_with_seed(&draw.to_le_bytes(), seed) >> 32).unwrap_or_default();
                f64::from(drawn) < share * f64::from(u32::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_in_their_segment_and_double_stars_do_not() {
        let cases = [
            ("*", "/a/b", true),
            ("**", "", true),
            ("/v2/agents/*", "/v2/agents/7", true),
            ("/v2/agents/*", "/v2/agents/7/x", false),
            ("/v2/agents/**", "/v2/agents/7/x", true),
            ("/v2/*/messages", "/v2/c/messages", true),
            ("/v2/**/messages", "/v2/c/1/messages", true),
            ("/v2/users", "/v2/users/", false),
            ("*/a*b*", "x/aXb", true),
            ("/a*a*a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ];
        for (glob, path, expected) in cases {
            assert_eq!(Glob::new(glob).matches(path), expected, "{glob} {path}");
        }
    }

    fn answers(script: &str, requests: &[(&str, &str)]) -> Vec<u16> {
        let (mut running, now) = (Running::new(Script::parse("s", script).unwrap()), Instant::now());
        requests
            .iter()
            .map(|(path, body)| {
                let body: Option<Value> = serde_json::from_str(body).ok();
                match running.decide(&Method::PUT, path, now, || body.as_ref()) {
                    Some((Action::Status(answer), _)) => answer.status,
                    Some(_) => 1,
                    None => 0,
                }
            })
            .collect()
    }

    #[test]
    fn conditions_count_what_fits_and_the_first_rule_that_holds_decides() {
        let six = [("/a", ""), ("/b", ""), ("/a", ""), ("/a", ""), ("/b", ""), ("/a", "")];
        let cases: [(&str, [u16; 6]); 10] = [
            ("* * #3 -> 500", [0, 0, 500, 0, 0, 0]),
            ("* /a #2-3 -> 500", [0, 0, 500, 500, 0, 0]),
            ("PUT|POST * first=2 -> 500", [500, 500, 0, 0, 0, 0]),
            ("* * after=4 -> 500", [0, 0, 0, 0, 500, 500]),
            ("* * every=2 -> 500", [0, 500, 0, 500, 0, 500]),
            ("* * every=2 after=2 -> 500", [0, 0, 0, 500, 0, 500]),
            ("* * first=1 per=path -> 500", [500, 500, 0, 0, 0, 0]),
            ("POST * -> 500", [0; 6]),
            ("* * #1 -> 500\n* * #2 -> 429\n* /a -> 400", [500, 429, 400, 400, 0, 400]),
            ("* * 100% -> 500", [500; 6]),
        ];
        for (script, expected) in cases {
            assert_eq!(answers(script, &six), expected, "{script}");
        }
    }

    #[test]
    fn a_limit_counts_anew_in_every_window() {
        let mut running = Running::new(Script::parse("s", "* * over=2/s -> 429").unwrap());
        let start = Instant::now();
        let refused = [0, 1, 2, 999, 1000, 1001, 1002].map(|ms| {
            running.decide(&Method::PUT, "/a", start + Duration::from_millis(ms), || None).is_some()
        });
        assert_eq!(refused, [false, false, true, true, false, false, true]);
    }

    #[test]
    fn a_body_condition_looks_at_one_value() {
        let requests = [
            ("/a", r#"{"u":{"e":["x","y"]},"n":7}"#),
            ("/a", r#"{"u":{"e":["x","z"]},"n":"7"}"#),
            ("/a", "no json"),
            ("/a", r#"{"u":7,"n":8}"#),
        ];
        assert_eq!(answers("* * body.u.e.1=y -> 500", &requests), [500, 0, 0, 0]);
        assert_eq!(answers("* * body.n=7 #2 -> 500", &requests), [0, 500, 0, 0]);
    }

    #[test]
    fn a_share_is_drawn_the_same_for_the_same_seed() {
        let many = vec![("/a", ""); 2000];
        let hits = |script: &str| {
            answers(script, &many).iter().map(|status| usize::from(*status == 500)).collect::<Vec<_>>()
        };
        let drawn = hits("* * 5% seed=7 -> 500");
        assert!((60..140).contains(&drawn.iter().sum::<usize>()), "{}", drawn.iter().sum::<usize>());
        assert_eq!(drawn, hits("* * 5% seed=7 -> 500"));
        assert_ne!(drawn, hits("* * 5% seed=8 -> 500"));
        assert_eq!(hits("* * 0% -> 500").iter().sum::<usize>(), 0);
    }
}
