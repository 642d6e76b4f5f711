//! Takes events and gives them to everybody who listens.
//!
//! Invariants: a settled record costs a count when nobody listens; all text for people goes aside
//! of the bar; stdout gets the answer only, once, and even when all else fails.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::json::{Answer, diagnostic, line as json_line, masked};
use super::lines::Schedule;
use super::progress::Bar;
use super::stream::Stream;
use super::tally::Tally;
use super::{Format, ProgressMode, RunSummary, Settings, Volume, draw, jsonl, text, verbose};
use crate::model::{Class, Diagnostic, Event, Mask, Severity};

/// More findings are counted, not kept, for the JSON object.
const KEPT: usize = 1_000;

/// What a command says, from its first line to its answer.
#[derive(Debug)]
pub struct Reporter {
    settings: Settings,
    mask: Mask,
    people: Stream,
    programs: Stream,
    tally: Tally,
    bar: Option<Bar>,
    for_people: Option<Schedule>,
    for_programs: Option<Schedule>,
    found: Vec<Value>,
    left_out: u64,
    summaries: Vec<Value>,
    /// When it was last said how far a list is read.
    listed: Option<Instant>,
    separator: Separator,
}

/// Whether the next diagnostic needs an empty line before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    None,
    EmptyLine,
}

impl Reporter {
    /// A reporter that has said nothing yet.
    #[must_use]
    pub fn new(settings: &Settings, mask: Mask) -> Self {
        Self {
            people: Stream::new(settings.streams.people.clone(), settings.stderr_colors),
            programs: Stream::new(settings.streams.answer.clone(), settings.stdout_colors),
            settings: settings.clone(),
            mask,
            tally: Tally::idle(Instant::now()),
            bar: None,
            for_people: None,
            for_programs: None,
            found: Vec::new(),
            left_out: 0,
            summaries: Vec::new(),
            listed: None,
            separator: Separator::None,
        }
    }

    /// From now on these secrets are hidden: the next pipeline may have another connection. What
    /// was said before stays masked as it was.
    pub fn hide(&mut self, mask: Mask) {
        self.mask = mask;
    }

    /// A line for people before there is a run, such as which file is being read.
    pub fn say(&mut self, words: &str) {
        if self.settings.volume > Volume::Quiet {
            self.for_eyes(&format!("{}\n", text::line(&self.mask.apply(words))));
        }
    }

    /// The last line for people of a command without a run, which even `-q` shows.
    pub fn conclude(&mut self, words: &str) {
        let before = if self.separator == Separator::EmptyLine { "\n" } else { "" };
        let line = format!("{before}{}\n", text::line(&self.mask.apply(words)));
        self.for_eyes(&line);
    }

    /// A line of the answer that is needed before the command ends, such as an address that was
    /// bound: on stdout for people and scripts, on stderr where stdout is one JSON object.
    pub fn announce(&mut self, line: &str) {
        let line = format!("{}\n", self.mask.apply(line));
        match self.settings.format {
            Format::Human => self.programs.raw(line.as_bytes()),
            Format::Json | Format::Jsonl => self.for_eyes(&line),
        }
    }

    /// A part of an answer that is data, as it is; false once nobody reads it any more.
    pub fn data(&mut self, bytes: &[u8]) -> bool {
        self.programs.raw(bytes);
        self.programs.is_open()
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        if let Event::Settled { outcome, .. } = event {
            self.tally.settle(outcome.state);
            if self.settings.volume < Volume::Records {
                return;
            }
        }
        let now = Instant::now();
        match event {
            Event::RunStarted { .. } => self.start(event, now),
            Event::Listing { .. } => self.listing(event, now),
            Event::Paused(pause) => self.tally.pause(pause.clone(), now),
            Event::Paced(pacing) => self.tally.pacing = Some(*pacing),
            Event::Warning(found) => self.diagnostic(found),
            Event::Stopping { in_flight, why } => self.stopping(*in_flight, why),
            Event::Settled { .. } if self.settings.format == Format::Jsonl => self.for_program(event),
            Event::Settled { .. } | Event::Retrying { .. } | Event::Attempted { .. } => {
                if let Some(lines) = verbose::lines(event, self.settings.volume, &self.mask) {
                    self.for_eyes(&format!("{lines}\n"));
                }
            }
            // The summary says it with more words.
            Event::RunEnded { .. } => {}
        }
    }

    /// How far a list is read: now and then, and at its end.
    fn listing(&mut self, event: &Event, now: Instant) {
        const OFTEN: Duration = Duration::from_secs(5);
        let Event::Listing { source, pages, items, done } = event else { return };
        let last = *self.listed.get_or_insert(now);
        if *done || now.duration_since(last) >= OFTEN {
            self.listed = (!done).then_some(now);
            let items = text::counted(*items, "item", "items");
            let pages = text::counted(*pages, "page", "pages");
            let so_far = if *done { "" } else { " so far" };
            self.say(&format!("{source}: {items} on {pages}{so_far}"));
        }
        if self.settings.format == Format::Jsonl {
            self.for_program(event);
        }
    }

    /// About ten times a second: redraws the bar, writes the lines that are due.
    pub fn tick(&mut self) {
        self.tick_at(Instant::now());
    }

    fn tick_at(&mut self, now: Instant) {
        self.tally.sample(now);
        if let Some(bar) = &self.bar {
            bar.show(self.tally.done(), self.clean(&self.tally.beside_bar(now)), {
                self.tally.waiting_words(now).map(|words| self.clean(&words))
            });
        }
        if self.for_people.as_mut().is_some_and(|schedule| schedule.is_due(now)) {
            let line = self.clean(&self.tally.plain(now));
            self.for_eyes(&format!("{line}\n"));
        }
        if self.for_programs.as_mut().is_some_and(|schedule| schedule.is_due(now)) {
            let line = jsonl::progress(&self.tally, now, &stamp());
            self.programs.raw(json_line(&masked(line, &self.mask)).as_bytes());
        }
    }

    /// A finding, now.
    pub fn diagnostic(&mut self, found: &Diagnostic) {
        let is_error = found.severity == Severity::Error;
        match self.settings.format {
            Format::Human => {}
            Format::Jsonl if !is_error => {
                let line = jsonl::warning(found, &stamp());
                self.programs.raw(json_line(&masked(line, &self.mask)).as_bytes());
            }
            Format::Json | Format::Jsonl if self.found.len() < KEPT => {
                self.found.push(masked(diagnostic(found), &self.mask));
            }
            Format::Json | Format::Jsonl => self.left_out += 1,
        }
        if is_error || self.settings.volume > Volume::Quiet {
            let drawn = draw(found, &self.mask);
            let before = if self.separator == Separator::EmptyLine { "\n" } else { "" };
            self.for_eyes(&format!("{before}{drawn}"));
            self.separator = Separator::EmptyLine;
        }
    }

    /// One line about where the run stands, for whoever asks (`SIGUSR1`).
    #[must_use]
    pub fn status_line(&self) -> String {
        self.clean(&self.tally.plain(Instant::now()))
    }

    /// Writes [`Self::status_line`] to stderr, through the bar.
    pub fn show_status(&mut self) {
        let line = self.status_line();
        self.for_eyes(&format!("{line}\n"));
    }

    /// One run of several ended: its last lines. The answer waits for [`Self::close`].
    pub fn end_run(&mut self, summary: &RunSummary) {
        self.clear();
        let mut lines = summary.counts_line(&self.mask);
        if self.settings.volume > Volume::Quiet {
            lines.push_str(&summary.further_lines(&self.mask));
        }
        if self.separator == Separator::EmptyLine {
            lines.insert(0, '\n');
        }
        self.for_eyes(&lines);
        match self.settings.format {
            Format::Human => {}
            Format::Json => self.summaries.push(masked(summary.to_json(), &self.mask)),
            Format::Jsonl => {
                let answer = self.take_answer(summary.class, summary.to_json());
                let line = jsonl::run_ended(answer.to_json(&self.mask), &stamp());
                self.programs.raw(json_line(&line).as_bytes());
            }
        }
    }

    /// The command ended after one or several runs: the answer. Gives the class to exit with,
    /// which is worse than the given one when the answer could not be written.
    #[must_use]
    pub fn close(mut self, class: Class) -> Class {
        self.clear();
        if self.settings.format == Format::Json {
            let mut summaries = std::mem::take(&mut self.summaries);
            let mut last = summaries.last().cloned().unwrap_or(Value::Null);
            if summaries.len() > 1 {
                summaries.pop();
                last["earlier"] = summaries.into();
            }
            let answer = self.take_answer(class, last);
            self.programs.raw(json_line(&answer.to_json(&self.mask)).as_bytes());
        }
        self.ending(class)
    }

    /// The command's only run ended: [`Self::end_run`] and [`Self::close`].
    #[must_use]
    pub fn finish(mut self, summary: &RunSummary) -> Class {
        self.end_run(summary);
        self.close(summary.class)
    }

    /// A command without a run ended: `human` (masked here, its parts escaped by whoever made
    /// them) goes to stdout, or the object with `summary` does. Findings said before are in it.
    #[must_use]
    pub fn answer(mut self, class: Class, exit_code: u8, human: &str, summary: Value) -> Class {
        self.clear();
        let mut answer = self.take_answer(class, summary);
        answer.exit_code = exit_code;
        match self.settings.format {
            Format::Human => {
                let text = self.mask.apply(human).into_owned();
                self.programs.styled(&text);
            }
            Format::Json => self.programs.raw(json_line(&answer.to_json(&self.mask)).as_bytes()),
            Format::Jsonl => {
                let line = jsonl::run_ended(answer.to_json(&self.mask), &stamp());
                self.programs.raw(json_line(&line).as_bytes());
            }
        }
        self.ending(class)
    }

    fn take_answer(&mut self, class: Class, summary: Value) -> Answer {
        Answer {
            summary,
            diagnostics: std::mem::take(&mut self.found),
            left_out: std::mem::take(&mut self.left_out),
            ..Answer::new(self.settings.command.clone(), class)
        }
    }

    fn ending(&self, class: Class) -> Class {
        if self.programs.is_broken() { class.worst(Class::Io) } else { class }
    }

    fn start(&mut self, event: &Event, now: Instant) {
        self.clear();
        if let Some(tally) = Tally::of(event, now) {
            self.tally = tally;
        }
        if let Some(line) = verbose::first_line(event) {
            self.say(&line);
        }
        if self.settings.format == Format::Jsonl {
            self.for_program(event);
            self.for_programs = Some(Schedule::for_programs(now));
        }
        match self.settings.progress {
            ProgressMode::Bar => {
                let bar = Bar::new(self.tally.total(), self.tally.done());
                self.settings.logs.through(Some(bar.clone()));
                self.bar = Some(bar);
                self.tick_at(now);
            }
            ProgressMode::Lines => self.for_people = Some(Schedule::for_people(now)),
            ProgressMode::None => {}
        }
    }

    fn stopping(&mut self, in_flight: usize, why: &str) {
        if in_flight == 0 {
            self.say(&format!("{why}: stopping"));
            return;
        }
        let requests = text::counted(in_flight as u64, "request", "requests");
        let again = if self.settings.stderr_is_terminal { ", press Ctrl-C again to stop now" } else { "" };
        self.say(&format!("{why}: finishing {requests}{again}"));
    }

    fn for_program(&mut self, event: &Event) {
        if let Some(line) = jsonl::event(event, &stamp()) {
            self.programs.raw(json_line(&masked(line, &self.mask)).as_bytes());
        }
    }

    fn for_eyes(&mut self, text: &str) {
        let people = &mut self.people;
        match &self.bar {
            Some(bar) => bar.aside(|| people.styled(text)),
            None => people.styled(text),
        }
    }

    fn clear(&mut self) {
        self.settings.logs.through(None);
        if let Some(bar) = self.bar.take() {
            bar.clear();
        }
        (self.for_people, self.for_programs) = (None, None);
    }

    fn clean(&self, raw: &str) -> String {
        text::line(&self.mask.apply(raw)).into_owned()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Now, for programs.
fn stamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests;
