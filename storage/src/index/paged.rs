//! A vector that grows by pages, so that growing never copies what it holds: a million entries are moved by no commit.

use std::ops::{Index, IndexMut};

const PAGE: usize = 1024;

/// Values by their number, from zero.
#[derive(Debug, Clone)]
pub(super) struct Paged<T>(Vec<Vec<T>>);

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Paged<T> {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PAGE + last.len())
    }

    pub(super) fn push(&mut self, value: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < PAGE => last.push(value),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.0.push(page);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at / PAGE][at % PAGE]
    }
}

impl<T> IndexMut<usize> for Paged<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.0[at / PAGE][at % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers() {
        let mut paged = Paged::default();
        for value in 0..PAGE * 2 + 1 {
            assert_eq!(paged.len(), value);
            paged.push(value);
        }
        paged[PAGE] = 7;
        assert_eq!((paged[PAGE - 1], paged[PAGE], paged[PAGE * 2]), (PAGE - 1, 7, PAGE * 2));
        assert_eq!(paged.iter().count(), paged.len());
    }
}
