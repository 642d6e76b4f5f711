//! Keeps requests with the same order value one behind the other.
//!
//! A request can have several values: those of all records in its call. Jobs enter in the order of the
//! input and each waits only for earlier ones, so that none waits in a ring. Only values that are in use
//! are kept, so memory is bounded by what is under way. Values are 64-bit hashes: two values that
//! collide are kept in order too, which is never wrong.

use std::collections::{HashMap, VecDeque};

/// Jobs by order value: at most one of each value is out at a time.
#[derive(Debug)]
pub struct Order<J> {
    /// Values that a job has, out or not, and who waits for them.
    busy: HashMap<u64, VecDeque<u64>>,
    /// Jobs that wait, by ticket.
    waiting: HashMap<u64, Waiting<J>>,
    /// Values behind a record that is held: the record's ordinal.
    held: HashMap<u64, u64>,
    tickets: u64,
}

#[derive(Debug)]
struct Waiting<J> {
    job: J,
    /// How many of its values others have.
    blocked: usize,
    /// The values that it has already.
    has: Vec<u64>,
}

impl<J> Default for Order<J> {
    fn default() -> Self {
        Self { busy: HashMap::new(), waiting: HashMap::new(), held: HashMap::new(), tickets: 0 }
    }
}

/// What may be done with a job now.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<J> {
    /// It can go out.
    Go(J),
    /// It waits for one before it.
    Waits,
    /// It is behind a record that is held: that record's ordinal.
    Behind(J, u64),
}

impl<J> Order<J> {
    /// The held record behind which a value stands, if it does.
    #[must_use]
    pub fn held_by(&self, value: u64) -> Option<u64> {
        self.held.get(&value).copied()
    }

    /// Asks for the turn of a job with one value. 0 is no order value.
    pub fn enter(&mut self, value: u64, job: J) -> Turn<J> {
        if value == 0 {
            return Turn::Go(job);
        }
        if let Some(ordinal) = self.held_by(value) {
            return Turn::Behind(job, ordinal);
        }
        self.enter_all(&[value], job)
    }

    /// Asks for the turn of a job with several values: each once, none of them 0 or held.
    pub fn enter_all(&mut self, values: &[u64], job: J) -> Turn<J> {
        let ticket = self.tickets;
        let mut blocked = 0;
        let mut has = Vec::new();
        for value in values {
            if let Some(queue) = self.busy.get_mut(value) {
                queue.push_back(ticket);
                blocked += 1;
            } else {
                self.busy.insert(*value, VecDeque::new());
                if values.len() > 1 {
                    has.push(*value);
                }
            }
        }
        if blocked == 0 {
            return Turn::Go(job);
        }
        self.tickets += 1;
        self.waiting.insert(ticket, Waiting { job, blocked, has });
        Turn::Waits
    }

    /// The job of this value is settled: the next one, if any, has it, and can go out if it has all of
    /// its values.
    pub fn leave(&mut self, value: u64) -> Option<J> {
        loop {
            let Some(ticket) = self.busy.get_mut(&value)?.pop_front() else {
                self.busy.remove(&value);
                return None;
            };
            // Who stays behind a held one does not come for its turn.
            if self.waiting.contains_key(&ticket) {
                return self.step(ticket, value);
            }
        }
    }

    /// The job of this value is held: what waits behind it stays unsent. `without` takes the value out of
    /// a waiting job and says whether anything is left of it. Gives the jobs of which nothing is left,
    /// and those that can go out now.
    pub fn hold(
        &mut self,
        value: u64,
        ordinal: u64,
        mut without: impl FnMut(&mut J) -> bool,
    ) -> (Vec<J>, Vec<J>) {
        let (mut behind, mut ready) = (Vec::new(), Vec::new());
        if value == 0 {
            return (behind, ready);
        }
        self.held.insert(value, ordinal);
        for ticket in self.busy.remove(&value).into_iter().flatten() {
            let Some(waiting) = self.waiting.get_mut(&ticket) else { continue };
            if without(&mut waiting.job) {
                ready.extend(self.step(ticket, value));
            } else if let Some(waiting) = self.waiting.remove(&ticket) {
                for other in waiting.has {
                    ready.extend(self.leave(other));
                }
                behind.push(waiting.job);
            }
        }
        (behind, ready)
    }

    /// A waiting job has one more of its values.
    fn step(&mut self, ticket: u64, value: u64) -> Option<J> {
        let waiting = self.waiting.get_mut(&ticket)?;
        waiting.blocked -= 1;
        if waiting.blocked > 0 {
            waiting.has.push(value);
            return None;
        }
        self.waiting.remove(&ticket).map(|waiting| waiting.job)
    }

    /// Takes out all that wait, when the run stops; in the order in which they came.
    pub fn drain(&mut self) -> impl Iterator<Item = J> + '_ {
        self.busy.clear();
        let mut tickets: Vec<u64> = self.waiting.keys().copied().collect();
        tickets.sort_unstable();
        tickets.into_iter().filter_map(|ticket| self.waiting.remove(&ticket)).map(|waiting| waiting.job)
    }

    /// Jobs that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_in_order() {
        let mut order = Order::default();
        assert_eq!(order.enter(7, 'a'), Turn::Go('a'));
        assert_eq!(order.enter(7, 'b'), Turn::Waits);
        assert_eq!(order.enter(7, 'c'), Turn::Waits);
        assert_eq!(order.enter(8, 'x'), Turn::Go('x'));
        assert_eq!(order.enter(0, 'y'), Turn::Go('y'));
        assert_eq!(order.leave(7), Some('b'));
        assert_eq!(order.leave(7), Some('c'));
        assert_eq!(order.leave(7), None);
        assert_eq!(order.enter(7, 'd'), Turn::Go('d'));
        assert_eq!(order.waiting(), 0);
    }

    #[test]
    fn behind_a_held_record_nothing_goes_out() {
        let mut order = Order::default();
        assert_eq!(order.enter(7, 'a'), Turn::Go('a'));
        assert_eq!(order.enter(7, 'b'), Turn::Waits);
        assert_eq!(order.hold(7, 3, |_| false), (vec!['b'], vec![]));
        assert_eq!(order.enter(7, 'c'), Turn::Behind('c', 3));
        assert_eq!(order.waiting(), 0);
    }

    #[test]
    fn a_job_with_several_values_waits_for_all_of_them_and_keeps_others_behind_it() {
        let mut order = Order::default();
        assert_eq!(order.enter_all(&[1, 2], "12"), Turn::Go("12"));
        assert_eq!(order.enter(3, "3"), Turn::Go("3"));
        assert_eq!(order.enter_all(&[2, 3, 4], "234"), Turn::Waits);
        // 4 is free, but the one before it has it.
        assert_eq!(order.enter(4, "4"), Turn::Waits);
        assert_eq!(order.leave(1), None);
        assert_eq!(order.leave(3), None);
        assert_eq!(order.leave(2), Some("234"));
        assert_eq!(order.leave(4), Some("4"));
        assert_eq!((order.leave(2), order.leave(3), order.leave(4)), (None, None, None));
        assert_eq!(order.waiting(), 0);
    }

    #[test]
    fn what_stays_behind_gives_its_other_values_back() {
        let mut order = Order::default();
        assert_eq!(order.enter(1, "1"), Turn::Go("1"));
        assert_eq!(order.enter(5, "5"), Turn::Go("5"));
        assert_eq!(order.enter_all(&[1, 2, 5], "125"), Turn::Waits);
        assert_eq!(order.enter(2, "2"), Turn::Waits);
        assert_eq!(order.enter(5, "5 again"), Turn::Waits);
        assert_eq!(order.hold(1, 9, |_| false), (vec!["125"], vec!["2"]));
        assert_eq!(order.leave(5), Some("5 again"));
        assert_eq!((order.leave(5), order.leave(2)), (None, None));
        assert_eq!(order.waiting(), 0);
    }

    #[test]
    fn of_a_job_with_several_values_only_the_held_one_stays() {
        let mut order = Order::default();
        assert_eq!(order.enter(1, vec![1]), Turn::Go(vec![1]));
        assert_eq!(order.enter(2, vec![2]), Turn::Go(vec![2]));
        assert_eq!(order.enter_all(&[1, 2, 3], vec![1, 2, 3]), Turn::Waits);
        let without = |value: i32| {
            move |job: &mut Vec<i32>| {
                job.retain(|one| *one != value);
                !job.is_empty()
            }
        };
        assert_eq!(order.hold(1, 9, without(1)), (vec![], vec![]));
        assert_eq!(order.hold(2, 8, without(2)), (vec![], vec![vec![3]]));
        assert_eq!(order.leave(3), None);
        assert_eq!((order.held_by(1), order.held_by(2), order.held_by(3)), (Some(9), Some(8), None));
    }
}
