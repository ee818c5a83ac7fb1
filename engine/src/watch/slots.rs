//! Numbered places whose numbers are used again.

/// Values by their number.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    /// All places before it are empty.
    first: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            places: Vec::new(),
            free: Vec::new(),
            first: 0,
        }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(no) => {
                self.places[no as usize] = Some(value);
                self.first = self.first.min(no as usize);
                no
            }
            None => {
                self.places.push(Some(value));
                (self.places.len() - 1) as u32
            }
        }
    }

    pub(super) fn get(&self, no: u32) -> Option<&T> {
        self.places.get(no as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, no: u32) -> Option<&mut T> {
        self.places.get_mut(no as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, no: u32) -> Option<T> {
        let value = self.places.get_mut(no as usize)?.take()?;
        self.free.push(no);
        if self.free.len() == self.places.len() {
            // All have gone; their number may have been large.
            *self = Slots::default();
        }
        Some(value)
    }

    /// The lowest number in use.
    pub(super) fn first(&mut self) -> Option<u32> {
        let ahead = self.places.get(self.first..)?;
        self.first += ahead.iter().position(Option::is_some)?;
        Some(self.first as u32)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
