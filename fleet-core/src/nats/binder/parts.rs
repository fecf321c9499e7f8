//! A group that one call carries out together: where that fails, its halves are tried, so that what one
//! vehicle does to the store does not stand in the way of the others.

/// So many that fail one by one, and none that doesn't: the store refuses them all, and the rest is not
/// tried.
const HOPELESS: usize = 8;

/// The parts of a group that are still to be tried, and what has failed by itself.
#[derive(Debug)]
pub(super) struct Parts<T> {
    waiting: Vec<Vec<T>>,
    failed: Vec<T>,
    succeeded: bool,
}

impl<T> Parts<T> {
    pub(super) fn new(group: Vec<T>) -> Self {
        Self { waiting: vec![group], failed: Vec::new(), succeeded: false }
    }

    /// What to try next. Each is answered by one of the methods below.
    pub(super) fn next(&mut self) -> Option<Vec<T>> {
        loop {
            let part = self.waiting.pop()?;
            if !part.is_empty() {
                return Some(part);
            }
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.succeeded = true;
    }

    /// The part is to be tried again as it is: nothing is known of it.
    pub(super) fn again(&mut self, part: Vec<T>) {
        self.waiting.push(part);
    }

    /// Something in the part can't be done.
    pub(super) fn failed(&mut self, mut part: Vec<T>) {
        if part.len() > 1 {
            let second = part.split_off(part.len() / 2);
            self.waiting.extend([second, part]);
            return;
        }
        self.failed.append(&mut part);
        if !self.succeeded && self.failed.len() >= HOPELESS {
            self.failed.extend(self.waiting.drain(..).flatten());
        }
    }

    /// Whether anything was done.
    pub(super) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// What could not be done.
    pub(super) fn into_failed(self) -> Vec<T> {
        self.failed
    }

    /// Everything that is not done, tried or not.
    pub(super) fn into_rest(mut self) -> Vec<T> {
        self.failed.extend(self.waiting.into_iter().flatten());
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fails, and how many calls it took.
    fn tried(group: u32, is_bad: impl Fn(u32) -> bool) -> (Vec<u32>, usize) {
        let (mut parts, mut calls) = (Parts::new((0..group).collect()), 0);
        while let Some(part) = parts.next() {
            calls += 1;
            if part.iter().any(|one| is_bad(*one)) { parts.failed(part) } else { parts.succeeded() }
        }
        let mut failed = parts.into_failed();
        failed.sort_unstable();
        (failed, calls)
    }

    #[test]
    fn only_the_bad_ones_fail() {
        assert_eq!(tried(256, |_| false), (vec![], 1));
        for bad in [0, 1, 100, 255] {
            let (failed, calls) = tried(256, |one| one == bad);
            assert_eq!(failed, [bad]);
            assert_eq!(calls, 17, "each of eight times in two halves");
        }
        assert_eq!(tried(200, |one| one % 50 == 7).0, [7, 57, 107, 157]);
        assert_eq!(tried(1, |_| true), (vec![0], 1));
        assert_eq!(tried(0, |_| true), (vec![], 0));
    }

    #[test]
    fn a_store_that_refuses_all_is_not_asked_for_each() {
        let (failed, calls) = tried(256, |_| true);
        assert_eq!(failed, (0..256).collect::<Vec<_>>());
        assert!(calls < 32, "{calls}");
    }
}
