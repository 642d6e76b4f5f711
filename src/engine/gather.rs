//! Puts records together into calls, on the thread that reads ahead; and makes the request of a call.
//!
//! A call of an earlier start that was not settled is put together again exactly as it was: the checkpoint
//! has its records and the digest of its bytes. Invariant: a call that may have arrived goes out again with
//! the same bytes, or it is held.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::State;
use crate::outcome::{BatchRow, BatchState, RecordRow, Writer};
use crate::render::RunValues;

use super::block::{Call, Job, Member, Prepared};
use super::grouping::{Grouper, Item};
use super::prepare::{Part, Preparer, Refused, settled};

/// Makes the requests of calls, and numbers them.
pub struct Assembler {
    preparer: Arc<Preparer>,
    run: RunValues,
    next: AtomicU64,
}

impl Assembler {
    /// Calls get numbers from `next` on.
    #[must_use]
    pub fn new(preparer: Arc<Preparer>, run: RunValues, next: u64) -> Self {
        Self { preparer, run, next: AtomicU64::new(next) }
    }

    /// A call that was never sent.
    pub fn new_call(&self, mut call: Call) -> Result<Box<Job>, (Vec<Member>, Refused)> {
        call.number = self.next.fetch_add(1, Ordering::Relaxed);
        call.is_stale = false;
        match self.preparer.together(&call, &self.run) {
            Ok(request) => Ok(Box::new(Job::of_call(call, request, None))),
            Err(refused) => Err((call.members, refused)),
        }
    }

    /// Calls for these records, as many as their bytes ask for: more than one only where what stands around
    /// the records took the room. A record that fits nowhere is settled.
    pub fn calls(&self, call: Call, out: &mut Vec<Prepared>) {
        let (head, group) = (call.head.clone(), call.group.clone());
        match self.new_call(call) {
            Ok(job) => out.push(Prepared::Send(job)),
            Err((mut members, Refused::Render(error)))
                if error.rule == "body-too-large" && members.len() > 1 =>
            {
                let rest = members.split_off(members.len() / 2);
                for half in [members, rest] {
                    let call = Call {
                        number: 0,
                        members: half,
                        head: head.clone(),
                        group: group.clone(),
                        is_stale: false,
                    };
                    self.calls(call, out);
                }
            }
            Err((members, refused)) => {
                let (class, message) = refused.words();
                out.extend(members.into_iter().map(|member| {
                    let settled = settled(member.identity, State::Invalid, &class, message.clone());
                    Prepared::SettledPart(settled, member.block)
                }));
            }
        }
    }

    /// A call of an earlier start: the same bytes, or the call as it was put together.
    fn same_call(&self, call: Call, row: &BatchRow) -> Result<Box<Job>, Box<Call>> {
        match self.preparer.together(&call, &self.run) {
            Ok(request) if request.digest() == row.request => {
                Ok(Box::new(Job::of_call(call, request, Some(row))))
            }
            _ => Err(Box::new(call)),
        }
    }
}

/// Records on their way into calls.
pub struct Gather {
    grouper: Grouper<Part>,
    assembler: Arc<Assembler>,
    earlier: HashMap<u64, Earlier>,
    /// Whether this start leaves records out on purpose.
    is_narrow: bool,
}

struct Earlier {
    row: BatchRow,
    parts: Vec<Option<Part>>,
    missing: usize,
}

const OTHER_BYTES: &str = "may have arrived in a call that cannot be made again with the same bytes";

impl Gather {
    /// Nothing is gathered yet; `earlier` are the open calls of earlier starts.
    pub fn new(assembler: Arc<Assembler>, earlier: Vec<BatchRow>, is_narrow: bool) -> Option<Self> {
        let rules = assembler.preparer.batch.as_ref()?.rules;
        let earlier = earlier
            .into_iter()
            .map(|row| {
                let parts = row.members.iter().map(|_| None).collect();
                let missing = row.members.len();
                (row.number, Earlier { row, parts, missing })
            })
            .collect();
        Some(Self { grouper: Grouper::new(rules), assembler, earlier, is_narrow })
    }

    /// Takes one record; what is ready goes to `out`.
    pub fn take(&mut self, part: Box<Part>, writer: Option<&Writer>, out: &mut Vec<Prepared>) {
        let mut complete = None;
        match part.call.and_then(|number| self.earlier.get_mut(&number)) {
            None => return self.group(*part, out),
            Some(earlier) => {
                let ordinal = part.member.identity.ordinal;
                let at = earlier.row.members.iter().position(|member| *member == ordinal);
                let number = earlier.row.number;
                if let Some(slot) = at.and_then(|at| earlier.parts.get_mut(at)) {
                    *slot = Some(*part);
                    earlier.missing -= 1;
                }
                if earlier.missing == 0 {
                    complete = self.earlier.remove(&number);
                }
            }
        }
        if let Some(earlier) = complete {
            self.again(earlier, writer, out);
        }
    }

    fn group(&mut self, part: Part, out: &mut Vec<Prepared>) {
        let item =
            Item { key: part.key, bytes: part.bytes, order: part.member.identity.order_hash, what: part };
        let mut groups = Vec::new();
        self.grouper.take(item, &mut groups);
        self.assemble(groups, out);
    }

    fn assemble(&self, groups: Vec<Vec<Part>>, out: &mut Vec<Prepared>) {
        for parts in groups {
            if let Some(call) = call_of(parts, 0) {
                self.assembler.calls(call, out);
            }
        }
    }

    /// Puts a call of an earlier start together again, or holds it.
    fn again(&mut self, earlier: Earlier, writer: Option<&Writer>, out: &mut Vec<Prepared>) {
        let Earlier { row, parts, missing } = earlier;
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        let is_whole = missing == 0 && parts.iter().all(|part| part.key == parts[0].key);
        let has_arrived_perhaps = row.unknown;
        if !is_whole && !has_arrived_perhaps {
            note_parted(writer, &row, parts.iter().map(|part| &part.member));
            return parts.into_iter().for_each(|part| self.group(part, out));
        }
        let Some(call) = call_of(parts, row.number) else { return };
        match self.assembler.same_call(call, &row) {
            Ok(job) if is_whole => out.push(Prepared::Send(job)),
            Ok(job) => out.push(Prepared::Held(job, OTHER_BYTES)),
            Err(call) if has_arrived_perhaps => {
                // Its request cannot be made any more: it is settled without one.
                let request = call.head.clone().without_body();
                out.push(Prepared::Held(Box::new(Job::of_call(*call, request, Some(&row))), OTHER_BYTES));
            }
            Err(call) => {
                note_parted(writer, &row, call.members.iter());
                self.assembler.calls(Call { number: 0, ..*call }, out);
            }
        }
    }

    /// A window of the input ends.
    pub fn end_window(&mut self, out: &mut Vec<Prepared>) {
        let mut groups = Vec::new();
        self.grouper.end_window(&mut groups);
        self.assemble(groups, out);
    }

    /// The input ends.
    pub fn end(&mut self, writer: Option<&Writer>, out: &mut Vec<Prepared>) {
        let mut numbers: Vec<u64> = self.earlier.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(earlier) = self.earlier.remove(&number) else { continue };
            let is_met = earlier.parts.iter().any(Option::is_some);
            // What may have arrived goes out whole, and this start does not want all of it.
            if is_met && !(self.is_narrow && earlier.row.unknown) {
                self.again(earlier, writer, out);
            }
        }
        let mut groups = Vec::new();
        self.grouper.end(&mut groups);
        self.assemble(groups, out);
    }
}

/// Puts records together as a start that begins here would.
pub struct Calls {
    gather: Gather,
    window: u64,
}

impl Calls {
    /// `earlier` are the open calls of earlier starts; `None` where calls have one record.
    pub fn new(preparer: Arc<Preparer>, values: RunValues, earlier: Vec<BatchRow>) -> Option<Self> {
        // Calls that exist only here get high numbers.
        let window = preparer.batch.as_ref()?.rules.waiting.max(64) as u64;
        let assembler = Arc::new(Assembler::new(preparer, values, 1 << 32));
        Some(Self { gather: Gather::new(assembler, earlier, false)?, window })
    }

    /// Takes one record, the `seen`th of the input from 1.
    pub fn take(&mut self, part: Box<Part>, seen: u64, ready: &mut Vec<Prepared>) {
        self.gather.take(part, None, ready);
        if seen.is_multiple_of(self.window) {
            self.gather.end_window(ready);
        }
    }

    /// The input ends.
    pub fn end(&mut self, ready: &mut Vec<Prepared>) {
        self.gather.end(None, ready);
    }
}

/// A call did not arrive and its records go other ways: each is granted by a row, in the step in which the
/// call no longer speaks for it, so that a loss of power cannot take their next call without a trace.
fn note_parted<'m>(writer: Option<&Writer>, row: &BatchRow, members: impl Iterator<Item = &'m Member>) {
    let Some(writer) = writer else { return };
    let rows =
        members.map(|member| (RecordRow { granted: true, ..member.row(State::Pending, 0) }, None)).collect();
    let _ = writer.settled_batch(rows, vec![BatchRow { state: BatchState::Settled, ..row.clone() }]);
}

fn call_of(parts: Vec<Part>, number: u64) -> Option<Call> {
    let first = parts.first()?;
    let (head, group) = (first.head.clone(), first.group.clone());
    let members = parts.into_iter().map(|part| part.member).collect();
    Some(Call { number, members, head, group, is_stale: false })
}
