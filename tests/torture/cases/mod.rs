//! The cases by name; `docs/reliability.md` says in words what each does. Behind a case stand the rows of
//! `tests/bad_input.tsv` that point to it.

mod faults;
mod kills;
mod power;
mod replies;
mod starts;

use crate::Plan;
use crate::figures::Figures;

type Case = fn(&Plan) -> Figures;

pub const ALL: [(&str, Case); 15] = [
    ("T01 kill at a call", kills::at_each_call),
    ("T02 kill at any time", kills::at_any_time),
    ("T03 kill until done", kills::until_done),
    ("T04 power cut", power::cut),
    ("T05 failing calls", faults::each_call_fails), // B104
    ("T06 short writes", faults::short_writes),
    ("T07 full disk", faults::full_disk),
    ("T08 bad replies", replies::bad),
    ("T09 closed connections", replies::closed_after_each),
    ("T10 storm of 429", replies::storm),
    ("T11 SIGTERM", starts::stopped),
    ("T12 many starts at once", starts::many_at_once),
    ("T13 wall clock", starts::clock), // B109
    ("T22 one key often", replies::one_key_often),
    ("T23 held syncs", faults::held_syncs),
];
