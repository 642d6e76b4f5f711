//! Reads the text form of a script (see `script`), with every mistake at its place.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::model::{Diagnostic, Place, Problems, SourceText, did_you_mean};

use super::script::{Action, Answer, Effect, Glob, HeaderText, Per, Rule, Script, When};

const RULE: &str = "sandbox-script";
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const CONDITIONS: [&str; 7] = ["first", "after", "every", "over", "seed", "per", "body"];
const ACTIONS: [&str; 17] = [
    "delay",
    "late",
    "hang",
    "cut_before",
    "cut_after_effect",
    "cut_in_headers",
    "cut_in_body",
    "reset",
    "slow_body",
    "garbage",
    "endless_headers",
    "html",
    "gzip_bomb",
    "redirect",
    "esc",
    "close",
    "close_silent",
];

impl Script {
    /// Reads a script; `path` is what messages call it.
    pub fn parse(path: &str, text: &str) -> Result<Self, Problems> {
        let source = Arc::new(SourceText { path: path.to_owned(), text: text.to_owned() });
        let (mut problems, mut rules, mut start) = (Problems::new(), Vec::new(), 0);
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                match words(line, start).and_then(|words| rule(&words)) {
                    Ok(rule) => rules.push(rule),
                    Err(wrong) => problems.push(wrong.diagnostic(&source)),
                }
            }
            start += line.len();
        }
        if problems.has_errors() { Err(problems) } else { Ok(Self { rules }) }
    }
}

/// A word without its quotes, and where it stands.
struct Word {
    text: String,
    span: Range<usize>,
}

struct Wrong {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Wrong {
    fn new(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { span: span.clone(), message: message.into(), help: None }
    }

    fn help(mut self, help: Option<String>, or: &str) -> Self {
        self.help = Some(help.unwrap_or_else(|| or.to_owned()));
        self
    }

    fn diagnostic(self, source: &Arc<SourceText>) -> Diagnostic {
        let place = Place::new(Arc::clone(source), self.span);
        Diagnostic { help: self.help, ..Diagnostic::error(RULE, self.message).place(&place) }
    }
}

impl Word {
    fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong::new(&self.span, message)
    }

    fn number(&self, text: &str) -> Result<u64, Wrong> {
        text.parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| self.wrong(format!("`{text}` is not a count from 1")))
    }

    fn duration(&self) -> Result<Duration, Wrong> {
        humantime::parse_duration(&self.text).map_err(|_| {
            self.wrong(format!("`{}` is not a duration", self.text))
                .help(None, "write it as 200ms, 2s or 1min")
        })
    }

    fn status(&self) -> Result<u16, Wrong> {
        self.text
            .parse()
            .ok()
            .filter(|status| (200..600).contains(status))
            .ok_or_else(|| self.wrong(format!("`{}` is not a status from 200 to 599", self.text)))
    }
}

fn words(line: &str, start: usize) -> Result<Vec<Word>, Wrong> {
    let (mut words, mut word, mut quote): (Vec<Word>, Option<Word>, Option<(char, usize)>) =
        (Vec::new(), None, None);
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        let at = start + at;
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert_with(|| Word { text: String::new(), span: at..at });
        current.span.end = at + c.len_utf8();
        match (c, quote) {
            ('"' | '\'', None) => quote = Some((c, at)),
            (_, Some((open, _))) if c == open => quote = None,
            ('\\', Some(('"', _))) => {
                let Some((_, escaped)) = chars.next() else { break };
                current.text.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
            }
            _ => current.text.push(c),
        }
    }
    if let Some((_, at)) = quote {
        return Err(Wrong::new(&(at..start + line.trim_end().len()), "the quote is not closed on its line"));
    }
    words.extend(word);
    Ok(words)
}

fn rule(words: &[Word]) -> Result<Rule, Wrong> {
    let Some(arrow) = words.iter().position(|word| word.text == "->") else {
        let span =
            words.first().map_or(0, |word| word.span.start)..words.last().map_or(0, |word| word.span.end);
        let example = "write it as `POST /v2/users first=2 -> 500`";
        return Err(Wrong::new(&span, "the rule has no `->`").help(None, example));
    };
    let (left, right) = words.split_at(arrow);
    let [method, path, conditions @ ..] = left else {
        let span = right.first().map_or(0..0, |arrow| arrow.span.clone());
        let example = "write it as `* * -> 500` for every request";
        return Err(Wrong::new(&span, "a rule begins with a method and a path").help(None, example));
    };
    let [_, name, arguments @ ..] = right else {
        let span = right.first().map_or(0..0, |arrow| arrow.span.clone());
        return Err(
            Wrong::new(&span, "the rule has no action").help(None, "name a status or an action after `->`")
        );
    };
    let (action, effect) = action(name, arguments)?;
    let mut rule = Rule {
        methods: methods(method)?,
        path: glob(path)?,
        when: Vec::new(),
        seed: 0,
        per: Per::Rule,
        field: None,
        action,
        effect,
    };
    for word in conditions {
        condition(word, &mut rule)?;
    }
    Ok(rule)
}

fn methods(word: &Word) -> Result<Vec<Method>, Wrong> {
    if word.text == "*" {
        return Ok(Vec::new());
    }
    let known = |name: &str| METHODS.contains(&name).then(|| name.parse().ok()).flatten();
    word.text
        .split('|')
        .map(|name| {
            known(name).ok_or_else(|| {
                word.wrong(format!("`{name}` is not a method"))
                    .help(did_you_mean(name, METHODS), "write it as POST, or `*` for any")
            })
        })
        .collect()
}

fn glob(word: &Word) -> Result<Glob, Wrong> {
    if !word.text.starts_with(['/', '*']) {
        return Err(word.wrong("a path begins with `/` or `*`"));
    }
    if word.text.contains('?') {
        return Err(word.wrong("the query is not looked at: a path has no `?`"));
    }
    Ok(Glob::new(&word.text))
}

fn condition(word: &Word, rule: &mut Rule) -> Result<(), Wrong> {
    let text = &*word.text;
    if let Some(range) = text.strip_prefix('#') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (word.number(from)?, word.number(to)?);
        if from > to {
            return Err(word.wrong("the range ends before it begins"));
        }
        rule.when.push(When::Between(from, to));
        return Ok(());
    }
    if let Some(percent) = text.strip_suffix('%').filter(|_| !text.contains('=')) {
        let percent = percent.parse().ok().filter(|percent: &f64| (0.0..=100.0).contains(percent));
        let percent =
            percent.ok_or_else(|| word.wrong(format!("`{text}` is not a share from 0% to 100%")))?;
        rule.when.push(When::Share(percent / 100.0));
        return Ok(());
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name {
        "first" => rule.when.push(When::Between(1, word.number(value)?)),
        "after" => rule.when.push(When::Between(word.number(value)?.saturating_add(1), u64::MAX)),
        "over" => rule.when.push(limit(word, value)?),
        "every" => rule.when.push(When::Every(word.number(value)?)),
        "seed" => {
            rule.seed = value.parse().map_err(|_| word.wrong(format!("`{value}` is not a number from 0")))?;
        }
        "per" if value == "path" => rule.per = Per::Path,
        "per" => return Err(word.wrong("`per` knows only `path`").help(None, "write `per=path`")),
        _ => match name.strip_prefix("body.") {
            Some(names) if text.contains('=') => {
                rule.field = Some((names.split('.').map(str::to_owned).collect(), value.to_owned()));
            }
            _ => {
                let known = CONDITIONS.join("=, ");
                return Err(word.wrong(format!("`{name}` is not a condition")).help(
                    did_you_mean(name, CONDITIONS),
                    &format!("conditions are #3, #3-5, 5%, {known}.name="),
                ));
            }
        },
    }
    Ok(())
}

/// `100/s` or `600/min`.
fn limit(word: &Word, text: &str) -> Result<When, Wrong> {
    let time = |unit: &str| match unit {
        "s" => Some(Duration::from_secs(1)),
        "min" => Some(Duration::from_mins(1)),
        _ => None,
    };
    let parts = text.split_once('/').and_then(|(count, unit)| Some((count, time(unit)?)));
    let Some((count, time)) = parts else {
        return Err(word
            .wrong(format!("`{text}` is not a limit"))
            .help(None, "write it as 100/s or 600/min"));
    };
    Ok(When::Over(word.number(count)?, time))
}

fn action(name: &Word, arguments: &[Word]) -> Result<(Action, Effect), Wrong> {
    let mut effect = None;
    let mut rest = Vec::new();
    for word in arguments {
        match &*word.text {
            "act" => effect = Some(Effect::Acts),
            "no_act" => effect = Some(Effect::Nothing),
            _ => rest.push(word),
        }
    }
    let mut rest = rest.into_iter();
    let mut next = || rest.next();
    let action = match &*name.text {
        "delay" => Action::Delay(required(name, next(), "a duration")?.duration()?),
        "late" => Action::Late(required(name, next(), "a duration")?.duration()?),
        "slow_body" => {
            Action::SlowBody(next().map(Word::duration).transpose()?.unwrap_or(Duration::from_secs(1)))
        }
        "hang" => Action::Hang,
        "cut_before" => Action::CutBefore,
        "cut_after_effect" => Action::CutAfterEffect,
        "cut_in_headers" => Action::CutInHeaders,
        "cut_in_body" => Action::CutInBody,
        "reset" => Action::Reset,
        "garbage" => Action::Garbage,
        "endless_headers" => Action::EndlessHeaders,
        "close" => Action::Close,
        "close_silent" => Action::CloseSilent,
        "html" => Action::Html(next().map_or(Ok(200), Word::status)?),
        "esc" => Action::Esc(next().map_or(Ok(400), Word::status)?),
        "gzip_bomb" => Action::GzipBomb(next().map_or(Ok(10 << 30), size)?),
        "redirect" => {
            let url = required(name, next(), "a URL")?.text.clone();
            Action::Redirect(next().map_or(Ok(307), Word::status)?, url)
        }
        text if text.starts_with(|c: char| c.is_ascii_digit()) => Action::Status(answer(name, &mut next)?),
        text => {
            return Err(name.wrong(format!("`{text}` is not an action")).help(
                did_you_mean(text, ACTIONS),
                &format!("actions are a status, {}", ACTIONS.join(", ")),
            ));
        }
    };
    if let Some(extra) = next() {
        let text = format!("`{}` takes no `{}` here", name.text, extra.text);
        return Err(extra.wrong(text).help(did_you_mean(&extra.text, ["act", "no_act"]), "leave it out"));
    }
    let effect = effect.unwrap_or_else(|| action.usual_effect());
    match (&action, effect) {
        (Action::CutBefore, Effect::Acts) => Err(name
            .wrong("`cut_before` has no effect by its meaning")
            .help(None, "write `cut_after_effect`")),
        (Action::CutAfterEffect | Action::Delay(_) | Action::Late(_), Effect::Nothing) => Err(name
            .wrong(format!("`{}` has its effect by its meaning", name.text))
            .help(None, "leave `no_act` out")),
        _ => Ok((action, effect)),
    }
}

fn required<'a>(name: &Word, word: Option<&'a Word>, what: &str) -> Result<&'a Word, Wrong> {
    word.ok_or_else(|| name.wrong(format!("`{}` needs {what}", name.text)))
}

fn answer<'a>(name: &Word, next: &mut impl FnMut() -> Option<&'a Word>) -> Result<Answer, Wrong> {
    let status = name.status()?;
    let mut answer = Answer { status, headers: Vec::new(), body: None, class: None, message: None };
    while let Some(word) = next() {
        let Some((key, value)) = word.text.split_once('=') else {
            return Err(word
                .wrong(format!("`{}` is neither `act` nor `name=value`", word.text))
                .help(did_you_mean(&word.text, ["act", "no_act"]), "write a header as retry-after=2"));
        };
        let value = value.to_owned();
        match key {
            "body" => answer.body = Some(value),
            "class" => answer.class = Some(value),
            "message" => answer.message = Some(value),
            _ if key.parse::<http::HeaderName>().is_err() || value.contains(['\r', '\n']) => {
                return Err(word.wrong(format!("`{key}` is not a header")));
            }
            _ => answer.headers.push((key.to_owned(), header_text(value))),
        }
    }
    Ok(answer)
}

fn header_text(value: String) -> HeaderText {
    let offset = value.strip_prefix("date").filter(|rest| rest.starts_with(['+', '-']));
    match offset.and_then(|rest| rest.parse().ok()) {
        Some(seconds) => HeaderText::DateFromNow(seconds),
        None => HeaderText::Text(value),
    }
}

fn size(word: &Word) -> Result<u64, Wrong> {
    let text = &*word.text;
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
    let (digits, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    // A pebibyte is more than anybody waits for, and far from overflowing.
    let bytes = digits.parse().ok().and_then(|n: u64| n.checked_mul(1 << shift)).filter(|n| *n <= 1 << 50);
    bytes.ok_or_else(|| {
        word.wrong(format!("`{text}` is not a size up to 1048576GiB"))
            .help(None, "write it as 64MiB or 10GiB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read() {
        for name in ACTIONS {
            let argument = match name {
                "delay" | "late" => " 10ms",
                "redirect" => " http://127.0.0.1:1/ 302",
                _ => "",
            };
            let script = Script::parse("s", &format!("* * -> {name}{argument}")).unwrap();
            assert_eq!(script.rules[0].action.name(), name);
        }
    }

    #[test]
    fn words_and_quotes_are_read() {
        let text = "# a comment\n\n PUT /v2/agents/* #3 ->  429 retry-after=date-5 message=\"a \\\"b\\\"\" body='{\"a\": 1}' x-y='' act\r\n* * -> gzip_bomb 64MiB";
        let script = Script::parse("s", text).unwrap();
        assert_eq!(script.rules.len(), 2);
        let Action::Status(answer) = &script.rules[0].action else { panic!("{:?}", script.rules[0]) };
        assert_eq!(answer.headers[0].1, HeaderText::DateFromNow(-5));
        assert_eq!(answer.headers[1], ("x-y".to_owned(), HeaderText::Text(String::new())));
        assert_eq!(answer.message.as_deref(), Some("a \"b\""));
        assert_eq!(answer.body.as_deref(), Some("{\"a\": 1}"));
        assert_eq!(script.rules[0].effect, Effect::Acts);
        assert_eq!(script.rules[1].action, Action::GzipBomb(64 << 20));
    }

    #[test]
    fn success_acts_and_the_line_may_say_otherwise() {
        let effect = |text: &str| Script::parse("s", &format!("* * -> {text}")).unwrap().rules[0].effect;
        for acts in
            ["201", "html", "html 204", "cut_after_effect", "cut_in_body", "hang act", "500 act", "close"]
        {
            assert_eq!(effect(acts), Effect::Acts, "{acts}");
        }
        for nothing in
            ["200 no_act", "500", "hang", "html 502", "reset", "cut_in_headers", "redirect /x", "esc"]
        {
            assert_eq!(effect(nothing), Effect::Nothing, "{nothing}");
        }
    }

    #[test]
    fn mistakes_name_their_line_and_the_nearest_word() {
        let cases = [
            ("* *", "s:1:1", "no `->`", "POST /v2/users"),
            ("* -> 500", "s:1:3", "begins with a method and a path", "* *"),
            ("* * ->", "s:1:5", "no action", "after `->`"),
            ("\nPSOT * -> 500", "s:2:1", "`PSOT` is not a method", "did you mean `POST`?"),
            ("post * -> 500", "s:1:1", "`post` is not a method", "did you mean `POST`?"),
            ("* users -> 500", "s:1:3", "begins with `/`", ""),
            ("* /a?b=c -> 500", "s:1:3", "no `?`", ""),
            ("* * #0 -> 500", "s:1:5", "not a count", ""),
            ("* * #5-3 -> 500", "s:1:5", "ends before", ""),
            ("* * #a -> 500", "s:1:5", "not a count", ""),
            ("* * 101% -> 500", "s:1:5", "not a share", ""),
            ("* * NaN% -> 500", "s:1:5", "not a share", ""),
            ("* * evry=2 -> 500", "s:1:5", "not a condition", "did you mean `every`?"),
            ("* * every=0 -> 500", "s:1:5", "not a count", ""),
            ("* * over=5 -> 429", "s:1:5", "not a limit", "100/s"),
            ("* * body.a -> 500", "s:1:5", "not a condition", ""),
            ("* * per=body -> 500", "s:1:5", "only `path`", "per=path"),
            ("* * seed=x -> 500", "s:1:5", "not a number", ""),
            ("* * -> cut_befor", "s:1:8", "not an action", "did you mean `cut_before`?"),
            ("* * -> 99", "s:1:8", "not a status", ""),
            ("* * -> 100", "s:1:8", "not a status", ""),
            ("* * -> 500 acts", "s:1:12", "neither", "did you mean `act`?"),
            ("* * -> 500 a:b=1", "s:1:12", "not a header", ""),
            ("* * -> 500 a=\"1\\n2\"", "s:1:12", "not a header", ""),
            ("* * -> delay", "s:1:8", "needs a duration", ""),
            ("* * -> delay 5parsecs", "s:1:14", "not a duration", "200ms"),
            ("* * -> hang 5s", "s:1:13", "takes no `5s`", ""),
            ("* * -> redirect", "s:1:8", "needs a URL", ""),
            ("* * -> gzip_bomb 99999999999GiB", "s:1:18", "not a size", "10GiB"),
            ("* * -> gzip_bomb 18446744073709551615", "s:1:18", "not a size", "10GiB"),
            ("* * -> cut_before act", "s:1:8", "no effect", "cut_after_effect"),
            ("* * -> delay 1s no_act", "s:1:8", "has its effect", "no_act"),
            ("* * -> 500 body='x", "s:1:17", "not closed", ""),
        ];
        for (text, place, message, help) in cases {
            let found = Script::parse("s", text).unwrap_err().into_sorted();
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].place.as_ref().unwrap().to_string(), place, "{text}");
            assert!(found[0].message.contains(message), "{text}: {}", found[0].message);
            assert!(
                found[0].help.as_deref().unwrap_or_default().contains(help),
                "{text}: {:?}",
                found[0].help
            );
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let found = Script::parse("s", "* * -> 1\n* * -> 200\n* * -> x\n").unwrap_err();
        assert_eq!(found.errors(), 2);
    }
}
