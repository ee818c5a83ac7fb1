//! Intervals of keys, and which of them hold a key.
//!
//! A treap ordered by start and end, in which each node knows the greatest end below it: a look-up passes over every
//! subtree that ends before the key. Priorities come from a counter, so the shape depends on the order of calls alone.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::random::SplitMix64;

/// Position of a node; [`NONE`] is none.
type NodeNo = u32;

const NONE: NodeNo = NodeNo::MAX;

/// Half-open; without an end it goes on for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    fn order(&self, other: &Span) -> Ordering {
        self.start
            .cmp(&other.start)
            .then_with(|| order_ends(&self.end, &other.end))
    }
}

/// An open end comes last.
fn order_ends(one: &Option<Bytes>, other: &Option<Bytes>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

fn ends_after(end: &Option<Bytes>, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| key < end.as_ref())
}

#[derive(Debug)]
struct Node {
    span: Span,
    /// The greatest end in this subtree.
    end_max: Option<Bytes>,
    priority: u64,
    left: NodeNo,
    right: NodeNo,
    value: u32,
}

/// A value for each of a set of spans.
#[derive(Debug)]
pub(super) struct Spans {
    nodes: Vec<Node>,
    free: Vec<NodeNo>,
    root: NodeNo,
    random: SplitMix64,
}

impl Default for Spans {
    fn default() -> Self {
        Spans {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            random: SplitMix64(0),
        }
    }
}

impl Spans {
    pub(super) fn get(&self, start: &Bytes, end: &Option<Bytes>) -> Option<u32> {
        let span = Span {
            start: start.clone(),
            end: end.clone(),
        };
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            at = match span.order(&node.span) {
                Ordering::Equal => return Some(node.value),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Adds a span that is not there.
    pub(super) fn insert(&mut self, start: Bytes, end: Option<Bytes>, value: u32) {
        let node = Node {
            end_max: end.clone(),
            span: Span { start, end },
            priority: self.random.next(),
            left: NONE,
            right: NONE,
            value,
        };
        let no = match self.free.pop() {
            Some(no) => {
                self.nodes[no as usize] = node;
                no
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeNo
            }
        };
        let (left, right) = self.split(self.root, no);
        let left = self.join(left, no);
        self.root = self.join(left, right);
    }

    /// Takes a span out, if it is there.
    pub(super) fn remove(&mut self, start: &Bytes, end: &Option<Bytes>) {
        let span = Span {
            start: start.clone(),
            end: end.clone(),
        };
        self.root = self.remove_below(self.root, &span);
        if self.root == NONE {
            // Nothing is left that would need its place.
            *self = Spans {
                random: self.random.clone(),
                ..Spans::default()
            };
        }
    }

    /// Calls back for each span that holds `key`, in order.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, at: NodeNo, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at as usize];
        if !ends_after(&node.end_max, key) {
            return;
        }
        self.stab_below(node.left, key, found);
        if node.span.start.as_ref() <= key {
            if ends_after(&node.span.end, key) {
                found(node.value);
            }
            self.stab_below(node.right, key, found);
        }
    }

    fn remove_below(&mut self, at: NodeNo, span: &Span) -> NodeNo {
        if at == NONE {
            return NONE;
        }
        let node = &self.nodes[at as usize];
        let (left, right) = (node.left, node.right);
        match span.order(&node.span) {
            Ordering::Equal => {
                self.free.push(at);
                return self.join(left, right);
            }
            Ordering::Less => {
                let left = self.remove_below(left, span);
                self.nodes[at as usize].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(right, span);
                self.nodes[at as usize].right = right;
            }
        }
        self.refresh(at);
        at
    }

    /// Cuts a subtree into what is before the span of `pivot` and what is behind it.
    fn split(&mut self, at: NodeNo, pivot: NodeNo) -> (NodeNo, NodeNo) {
        if at == NONE {
            return (NONE, NONE);
        }
        let node = &self.nodes[at as usize];
        let is_before = node.span.order(&self.nodes[pivot as usize].span).is_lt();
        if is_before {
            let (near, far) = self.split(node.right, pivot);
            self.nodes[at as usize].right = near;
            self.refresh(at);
            (at, far)
        } else {
            let (near, far) = self.split(node.left, pivot);
            self.nodes[at as usize].left = far;
            self.refresh(at);
            (near, at)
        }
    }

    /// Makes one tree of two, all of `left` before all of `right`.
    fn join(&mut self, left: NodeNo, right: NodeNo) -> NodeNo {
        if left == NONE || right == NONE {
            return left.min(right);
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let inner = self.join(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = inner;
            self.refresh(left);
            left
        } else {
            let inner = self.join(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = inner;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: NodeNo) {
        let node = &self.nodes[at as usize];
        let mut greatest = &node.span.end;
        for child in [node.left, node.right] {
            if child != NONE {
                let end = &self.nodes[child as usize].end_max;
                if order_ends(end, greatest).is_gt() {
                    greatest = end;
                }
            }
        }
        let greatest = greatest.clone();
        self.nodes[at as usize].end_max = greatest;
    }
}

// An absent child is the greater number, so that `join` can take the other one.
const _: () = assert!(NONE == NodeNo::MAX);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn stabbed(spans: &Spans, key: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        spans.stab(key, &mut |value| found.push(value));
        found
    }

    proptest! {
        #[test]
        fn finds_what_a_list_finds(
            steps in vec((any::<bool>(), 0..20_u8, 1..20_u8), 1..200),
        ) {
            let mut spans = Spans::default();
            let mut twin: BTreeMap<(Bytes, Option<Bytes>), u32> = BTreeMap::new();
            for (number, (adds, start, len)) in steps.into_iter().enumerate() {
                let end = (len < 17).then(|| Bytes::from(vec![start + len]));
                let start = Bytes::from(vec![start]);
                let key = (start.clone(), end.clone());
                prop_assert_eq!(spans.get(&start, &end), twin.get(&key).copied());
                if !adds {
                    spans.remove(&start, &end);
                    twin.remove(&key);
                } else if let Entry::Vacant(place) = twin.entry(key) {
                    spans.insert(start, end, number as u32);
                    place.insert(number as u32);
                }
                for point in 0..40_u8 {
                    let mut wanted: Vec<u32> = twin
                        .iter()
                        .filter(|((start, end), _)| {
                            start[0] <= point && end.as_ref().is_none_or(|end| point < end[0])
                        })
                        .map(|(_, value)| *value)
                        .collect();
                    let mut found = stabbed(&spans, &[point]);
                    wanted.sort_unstable();
                    found.sort_unstable();
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }

    /// A key that few spans hold costs few nodes, however many spans there are.
    #[test]
    fn the_tree_stays_flat_though_spans_come_in_order() {
        let mut spans = Spans::default();
        for number in 0..10_000_u32 {
            let start = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = Bytes::copy_from_slice(&(number + 1).to_be_bytes());
            spans.insert(start, Some(end), number);
        }
        fn depth(spans: &Spans, at: NodeNo) -> usize {
            match at {
                NONE => 0,
                at => {
                    let node = &spans.nodes[at as usize];
                    1 + depth(spans, node.left).max(depth(spans, node.right))
                }
            }
        }
        let depth = depth(&spans, spans.root);
        assert!(depth < 60, "{depth}");
        assert_eq!(stabbed(&spans, &4711_u32.to_be_bytes()), [4711]);
    }
}
