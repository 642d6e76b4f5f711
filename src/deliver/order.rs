//! Keeps requests with the same order value one behind the other.
//!
//! Only values that are in use are kept, so memory is bounded by what is under way. Values are
//! 64-bit hashes: two values that collide are kept in order too, which is never wrong.

use std::collections::{HashMap, VecDeque};

/// Jobs by order value: at most one of each value is out at a time.
#[derive(Debug)]
pub struct Order<J> {
    busy: HashMap<u64, VecDeque<J>>,
    /// Values behind a record that is held: the record's ordinal.
    held: HashMap<u64, u64>,
    waiting: usize,
}

impl<J> Default for Order<J> {
    fn default() -> Self {
        Self { busy: HashMap::new(), held: HashMap::new(), waiting: 0 }
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
    /// Asks for a job's turn. 0 is no order value.
    pub fn enter(&mut self, value: u64, job: J) -> Turn<J> {
        if value == 0 {
            return Turn::Go(job);
        }
        if let Some(ordinal) = self.held.get(&value) {
            return Turn::Behind(job, *ordinal);
        }
        if let Some(queue) = self.busy.get_mut(&value) {
            queue.push_back(job);
            self.waiting += 1;
            Turn::Waits
        } else {
            self.busy.insert(value, VecDeque::new());
            Turn::Go(job)
        }
    }

    /// The job of this value is settled: the next one, if any, can go out.
    pub fn leave(&mut self, value: u64) -> Option<J> {
        let queue = self.busy.get_mut(&value)?;
        if let Some(next) = queue.pop_front() {
            self.waiting -= 1;
            return Some(next);
        }
        self.busy.remove(&value);
        None
    }

    /// The job of this value is held: all behind it stay unsent.
    pub fn hold(&mut self, value: u64, ordinal: u64) -> Vec<J> {
        if value == 0 {
            return Vec::new();
        }
        self.held.insert(value, ordinal);
        let behind: Vec<J> = self.busy.remove(&value).into_iter().flatten().collect();
        self.waiting -= behind.len();
        behind
    }

    /// Takes out all that wait, when the run stops.
    pub fn drain(&mut self) -> impl Iterator<Item = J> + '_ {
        self.waiting = 0;
        self.busy.drain().flat_map(|(_, queue)| queue)
    }

    /// Jobs that wait for their turn.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
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
        assert_eq!(order.hold(7, 3), vec!['b']);
        assert_eq!(order.enter(7, 'c'), Turn::Behind('c', 3));
        assert_eq!(order.waiting(), 0);
    }
}
