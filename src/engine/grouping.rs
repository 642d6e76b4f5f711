//! Which records share a call: the algorithms of `batch:`.
//!
//! Pure, and knows nothing of records but a key that has to be equal, a size, and an order value.
//! Invariants: nothing is lost or doubled, no call is above its limits unless a single record is, and two
//! records with one order value are never in one call, and come out in the order in which they came.

use std::collections::{BTreeMap, HashMap};

use crate::config::Grouping;

/// The limits of a call and how records are put together.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How.
    pub grouping: Grouping,
    /// Records in one call, at most.
    pub size: usize,
    /// Bytes of all that the records of a call contribute, at most.
    pub bytes: usize,
    /// Records that wait for others, at most.
    pub waiting: usize,
}

/// One record to be put into a call.
#[derive(Debug)]
pub struct Item<T> {
    /// Equal for records that may share a call.
    pub key: u64,
    /// Bytes that it contributes.
    pub bytes: usize,
    /// Its order value; 0 without one.
    pub order: u64,
    /// The record.
    pub what: T,
}

/// Records that wait for others to share a call with.
#[derive(Debug)]
pub struct Grouper<T> {
    rules: Rules,
    /// By the arrival of their first record.
    open: BTreeMap<u64, Open<T>>,
    by_key: HashMap<u64, u64>,
    by_order: HashMap<u64, u64>,
    arrivals: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Open<T> {
    key: u64,
    bytes: usize,
    items: Vec<Item<T>>,
}

impl<T> Grouper<T> {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            open: BTreeMap::new(),
            by_key: HashMap::new(),
            by_order: HashMap::new(),
            arrivals: 0,
            waiting: 0,
        }
    }

    /// Takes one record; calls that are complete now go to `out`.
    pub fn take(&mut self, item: Item<T>, out: &mut Vec<Vec<T>>) {
        let Item { key, bytes, order, .. } = item;
        // What came before it with its order value goes first: within one call each has its own fate.
        if let Some(before) = self.by_order.get(&order).copied().filter(|_| order != 0) {
            self.close(before, out);
        }
        let fills = self.rules.grouping == Grouping::InOrder;
        if let Some(at) = self.by_key.get(&key).copied()
            && fills
            && self.open.get(&at).is_some_and(|group| group.bytes + bytes + 2 > self.rules.bytes)
        {
            self.close(at, out);
        }
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.arrivals += 1;
            self.arrivals
        });
        if order != 0 {
            self.by_order.insert(order, at);
        }
        let group = self.open.entry(at).or_insert_with(|| Open { key, bytes: 0, items: Vec::new() });
        group.bytes += bytes + 1;
        group.items.push(item);
        self.waiting += 1;
        if fills && group.items.len() >= self.rules.size {
            self.close(at, out);
        }
        while self.waiting > self.rules.waiting {
            let Some(oldest) = self.open.keys().next().copied() else { break };
            self.close(oldest, out);
        }
    }

    /// A window of the input ends: algorithms that look at several records at once decide now.
    pub fn end_window(&mut self, out: &mut Vec<Vec<T>>) {
        if self.rules.grouping != Grouping::InOrder {
            self.end(out);
        }
    }

    /// The input ends: nothing waits any more.
    pub fn end(&mut self, out: &mut Vec<Vec<T>>) {
        while let Some(oldest) = self.open.keys().next().copied() {
            self.close(oldest, out);
        }
    }

    fn close(&mut self, at: u64, out: &mut Vec<Vec<T>>) {
        let Some(group) = self.open.remove(&at) else { return };
        self.by_key.remove(&group.key);
        self.waiting -= group.items.len();
        for item in &group.items {
            if self.by_order.get(&item.order) == Some(&at) {
                self.by_order.remove(&item.order);
            }
        }
        let calls = match self.rules.grouping {
            Grouping::InOrder => vec![group.items],
            Grouping::Balanced => balanced(group.items, self.rules.size, self.rules.bytes),
            Grouping::BySize => by_size(group.items, self.rules.size, self.rules.bytes),
        };
        out.extend(calls.into_iter().map(|items| items.into_iter().map(|item| item.what).collect()));
    }
}

/// As few calls as the sizes allow, none with more than one record more than another.
fn balanced<T>(items: Vec<Item<T>>, size: usize, bytes: usize) -> Vec<Vec<Item<T>>> {
    let total: usize = items.iter().map(|item| item.bytes + 1).sum();
    let by_bytes = total.div_ceil(bytes.max(1));
    let wanted = items.len().div_ceil(size.max(1)).max(by_bytes).clamp(1, items.len().max(1));
    let (each, more) = (items.len() / wanted, items.len() % wanted);
    let mut rest = items.into_iter();
    let mut calls = Vec::with_capacity(wanted);
    for call in 0..wanted {
        let call: Vec<Item<T>> = rest.by_ref().take(each + usize::from(call < more)).collect();
        // A few large records can make one of them too large all the same.
        calls.extend(filled(call, bytes));
    }
    calls
}

/// Cuts a call where it would have too many bytes.
fn filled<T>(items: Vec<Item<T>>, bytes: usize) -> Vec<Vec<Item<T>>> {
    let mut calls: Vec<Vec<Item<T>>> = Vec::new();
    let mut used = usize::MAX;
    for item in items {
        let needs = item.bytes + 1;
        match calls.last_mut() {
            Some(call) if used.saturating_add(needs) <= bytes => {
                used += needs;
                call.push(item);
            }
            _ => {
                used = needs;
                calls.push(vec![item]);
            }
        }
    }
    calls
}

/// Each record goes into the first call that has room for it.
fn by_size<T>(items: Vec<Item<T>>, size: usize, bytes: usize) -> Vec<Vec<Item<T>>> {
    let mut calls: Vec<(usize, Vec<Item<T>>)> = Vec::new();
    for item in items {
        let needs = item.bytes + 1;
        let has_room = |(used, call): &&mut (usize, Vec<Item<T>>)| used + needs <= bytes && call.len() < size;
        match calls.iter_mut().find(has_room) {
            Some((used, call)) => {
                *used += needs;
                call.push(item);
            }
            None => calls.push((needs, vec![item])),
        }
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(grouping: Grouping, size: usize) -> Rules {
        Rules { grouping, size, bytes: usize::MAX >> 1, waiting: 1000 }
    }

    fn calls(rules: Rules, items: &[(u64, usize, u64)]) -> Vec<Vec<usize>> {
        let mut grouper = Grouper::new(rules);
        let mut out = Vec::new();
        for (what, (key, bytes, order)) in items.iter().enumerate() {
            grouper.take(Item { key: *key, bytes: *bytes, order: *order, what }, &mut out);
        }
        grouper.end_window(&mut out);
        grouper.end(&mut out);
        out
    }

    #[test]
    fn in_order_each_call_is_as_full_as_it_can_be() {
        let items = [(1, 1, 0); 5];
        assert_eq!(calls(rules(Grouping::InOrder, 2), &items), [vec![0, 1], vec![2, 3], vec![4]]);
        let by_bytes = Rules { bytes: 11, ..rules(Grouping::InOrder, 100) };
        let items = [(1, 4, 0), (1, 4, 0), (1, 4, 0), (1, 90, 0), (1, 1, 0)];
        assert_eq!(calls(by_bytes, &items), [vec![0, 1], vec![2], vec![3], vec![4]]);
    }

    #[test]
    fn records_with_other_keys_never_share_a_call() {
        let items = [(1, 1, 0), (2, 1, 0), (1, 1, 0), (2, 1, 0), (1, 1, 0)];
        assert_eq!(calls(rules(Grouping::InOrder, 3), &items), [vec![0, 2, 4], vec![1, 3]]);
    }

    #[test]
    fn balanced_calls_differ_by_one_at_the_most() {
        let items = [(1, 1, 0); 7];
        assert_eq!(calls(rules(Grouping::Balanced, 3), &items), [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
    }

    #[test]
    fn by_size_needs_the_fewest_calls_in_the_simple_case() {
        let sized = Rules { bytes: 10, ..rules(Grouping::BySize, 100) };
        let items = [(1, 5, 0), (1, 5, 0), (1, 3, 0), (1, 3, 0)];
        assert_eq!(calls(sized, &items), [vec![0, 2], vec![1, 3]]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let few = Rules { waiting: 2, ..rules(Grouping::InOrder, 100) };
        assert_eq!(calls(few, &[(1, 1, 0), (2, 1, 0), (3, 1, 0)]), [vec![0], vec![1], vec![2]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_every_promise_holds(
            items in prop::collection::vec((0_u64..3, 0_usize..30, 0_u64..6), 0..80),
            size in 1_usize..8,
            bytes in 1_usize..60,
            waiting in 1_usize..40,
            how in 0_usize..3,
        ) {
            let grouping = [Grouping::InOrder, Grouping::BySize, Grouping::Balanced][how];
            let out = calls(Rules { grouping, size, bytes, waiting }, &items);
            let mut all: Vec<usize> = out.iter().flatten().copied().collect();
            // The order of a value is the order in which its records come out.
            for value in 1..6 {
                let of_value: Vec<usize> = all.iter().copied().filter(|at| items[*at].2 == value).collect();
                prop_assert!(of_value.is_sorted(), "{of_value:?}");
            }
            for call in &out {
                prop_assert!(!call.is_empty() && call.len() <= size);
                let sum: usize = call.iter().map(|at| items[*at].1 + 1).sum();
                prop_assert!(call.len() == 1 || sum <= bytes, "{sum}");
                prop_assert!(call.iter().all(|at| items[*at].0 == items[call[0]].0));
                let mut orders: Vec<u64> = call.iter().map(|at| items[*at].2).filter(|v| *v != 0).collect();
                let n = orders.len();
                orders.sort_unstable();
                orders.dedup();
                prop_assert_eq!(orders.len(), n);
            }
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..items.len()));
        }
    }
}
