//! A path from a root to an entry of a leaf, moving both ways.

use super::{Arena, Layout, PageNo};

/// More levels than a tree of 2^32 pages with two children each could have.
const DEPTH_MAX: usize = 33;

/// One page of a path and the entry taken in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub page: PageNo,
    pub index: usize,
}

/// The pages from the root to a leaf. The last step's index may be one past the leaf's entries after a search.
#[derive(Clone, Debug)]
pub struct Cursor {
    steps: [Step; DEPTH_MAX],
    depth: usize,
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor {
            steps: [Step::default(); DEPTH_MAX],
            depth: 0,
        }
    }
}

impl Cursor {
    pub fn push(&mut self, page: PageNo, index: usize) {
        self.steps[self.depth] = Step { page, index };
        self.depth += 1;
    }

    pub fn pop(&mut self) -> Option<Step> {
        self.depth = self.depth.checked_sub(1)?;
        Some(self.steps[self.depth])
    }

    /// From the root down.
    pub fn steps(&self) -> &[Step] {
        &self.steps[..self.depth]
    }

    pub fn leaf(&self) -> Step {
        self.steps[self.depth - 1]
    }

    /// Goes to another entry of the same leaf.
    pub fn set_index(&mut self, index: usize) {
        self.steps[self.depth - 1].index = index;
    }

    /// Goes to the first entry of the next leaf; false, and nowhere, after the last one.
    pub fn next_leaf<L: Layout<SIZE>, const SIZE: usize>(&mut self, arena: &Arena<SIZE>) -> bool {
        self.depth -= 1;
        while let Some(step) = self.pop() {
            let page = arena.page(step.page);
            if step.index + 1 < L::count(page) {
                self.push(step.page, step.index + 1);
                self.descend::<L, SIZE>(arena, L::child(page, step.index + 1), false);
                return true;
            }
        }
        false
    }

    /// Goes to the last entry of the former leaf; false, and nowhere, before the first one.
    pub fn former_leaf<L: Layout<SIZE>, const SIZE: usize>(&mut self, arena: &Arena<SIZE>) -> bool {
        self.depth -= 1;
        while let Some(step) = self.pop() {
            if let Some(index) = step.index.checked_sub(1) {
                self.push(step.page, index);
                let child = L::child(arena.page(step.page), index);
                self.descend::<L, SIZE>(arena, child, true);
                return true;
            }
        }
        false
    }

    fn descend<L: Layout<SIZE>, const SIZE: usize>(
        &mut self,
        arena: &Arena<SIZE>,
        mut no: PageNo,
        last: bool,
    ) {
        loop {
            let page = arena.page(no);
            let index = if last {
                L::count(page).saturating_sub(1)
            } else {
                0
            };
            self.push(no, index);
            if L::is_leaf(page) {
                return;
            }
            no = L::child(page, index);
        }
    }
}
