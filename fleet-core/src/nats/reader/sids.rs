//! The subscriptions of a reader, which outlive its connections.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Sid;
use crate::error::{Error, Result};

/// What is looked at for each message: as small as can be, and without gaps.
#[derive(Debug, Clone, Copy)]
struct Place {
    generation: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// The server is to be told.
    New,
    Known,
    /// As known, and ends after some messages more.
    Limited,
}

/// All subscriptions, by the place of their [`Sid`].
#[derive(Debug, Default)]
pub(super) struct Sids {
    places: Vec<Place>,
    subjects: Vec<Box<str>>,
    free: Vec<u32>,
    /// How many messages are left to those that end by themselves.
    left: HashMap<Sid, u64>,
    /// Those that the server is to be told of, and some that have ended since.
    untold: VecDeque<Sid>,
}

/// What the server is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold<'a> {
    pub sid: Sid,
    pub subject: &'a str,
    /// End it after so many messages.
    pub left: Option<u64>,
}

impl Sids {
    pub(super) fn add(&mut self, subject: &str, messages: Option<u64>) -> Result<Sid> {
        // Twice as many wait only if they were ended and begun again while the server took nothing.
        if self.untold.len() >= 2 * Sid::MAX {
            return Err(Error::unavailable(
                "the NATS server does not take subscriptions as fast as they come",
            ));
        }
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None if self.places.len() < Sid::MAX => {
                self.places.push(Place { generation: 0, state: State::Free });
                self.subjects.push(Box::default());
                self.places.len() - 1
            }
            None => {
                let many = Sid::MAX;
                return Err(Error::unavailable(format!("a reader has {many} subscriptions at most")));
            }
        };
        let place = &mut self.places[index];
        place.state = State::New;
        let sid = Sid::new(index, place.generation);
        self.subjects[index] = subject.into();
        if let Some(messages) = messages {
            self.left.insert(sid, messages);
        }
        self.untold.push_back(sid);
        Ok(sid)
    }

    /// Ends it. Says whether the server knows of it, and `None` if there is no such subscription (any more).
    pub(super) fn remove(&mut self, sid: Sid) -> Option<bool> {
        let place = self.places.get_mut(sid.index())?;
        if place.state == State::Free || u64::from(place.generation) != sid.generation() {
            return None;
        }
        let known = place.state != State::New;
        self.left.remove(&sid);
        *place = Place { generation: place.generation.wrapping_add(1), state: State::Free };
        self.subjects[sid.index()] = Box::default();
        #[allow(clippy::cast_possible_truncation, reason = "20 bits")]
        self.free.push(sid.index() as u32);
        Some(known)
    }

    /// Whether a message is of a subscription that there is; counts it, and ends one whose last it was.
    #[inline]
    pub(super) fn takes(&mut self, sid: Sid) -> bool {
        match self.places.get(sid.index()) {
            Some(place) if u64::from(place.generation) == sid.generation() => match place.state {
                State::Known | State::New => true,
                State::Limited => self.count(sid),
                State::Free => false,
            },
            _ => false,
        }
    }

    fn count(&mut self, sid: Sid) -> bool {
        match self.left.get_mut(&sid) {
            Some(left) if *left > 1 => *left -= 1,
            _ => drop(self.remove(sid)),
        }
        true
    }

    /// The next one that the server is to be told of.
    pub(super) fn next_untold(&mut self) -> Option<Untold<'_>> {
        while let Some(sid) = self.untold.pop_front() {
            let index = sid.index();
            let place = &mut self.places[index];
            if place.state == State::New && u64::from(place.generation) == sid.generation() {
                let left = self.left.get(&sid).copied();
                place.state = if left.is_some() { State::Limited } else { State::Known };
                return Some(Untold { sid, subject: &self.subjects[index], left });
            }
        }
        None
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Another server: it knows of none.
    pub(super) fn forget_told(&mut self) {
        self.untold.clear();
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.state != State::Free {
                place.state = State::New;
                self.untold.push_back(Sid::new(index, place.generation));
            }
        }
    }

    pub(super) fn subject(&self, sid: Sid) -> Option<&str> {
        let place = self.places.get(sid.index())?;
        let there = place.state != State::Free && u64::from(place.generation) == sid.generation();
        there.then(|| &*self.subjects[sid.index()])
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell_all(sids: &mut Sids) -> Vec<(Sid, String, Option<u64>)> {
        let mut told = Vec::new();
        while let Some(Untold { sid, subject, left }) = sids.next_untold() {
            told.push((sid, subject.to_owned(), left));
        }
        told
    }

    #[test]
    fn a_place_that_is_used_again_is_told_apart() {
        let mut sids = Sids::default();
        let (a, b) = (sids.add("a", None).unwrap(), sids.add("b", None).unwrap());
        assert_eq!((a.index(), b.index(), sids.len()), (0, 1, 2));
        assert_eq!(tell_all(&mut sids), [(a, "a".to_owned(), None), (b, "b".to_owned(), None)]);
        assert!(sids.takes(a) && sids.takes(b));
        assert_eq!(sids.remove(a), Some(true));
        assert_eq!((sids.remove(a), sids.takes(a), sids.subject(a)), (None, false, None));
        let c = sids.add("c", None).unwrap();
        assert_eq!((c.index(), sids.subject(c)), (0, Some("c")));
        assert!(
            c != a && !sids.takes(a) && sids.takes(c),
            "a message on its way to the earlier one is not its"
        );
        assert!(!sids.takes(Sid::from_wire(77)) && !sids.takes(Sid::from_wire(u64::MAX)));
    }

    #[test]
    fn what_was_never_told_need_not_be_taken_back() {
        let mut sids = Sids::default();
        let a = sids.add("a", Some(3)).unwrap();
        assert_eq!(sids.remove(a), Some(false));
        let b = sids.add("b", None).unwrap();
        assert_eq!(tell_all(&mut sids), [(b, "b".to_owned(), None)]);
        assert!(sids.left.is_empty());
    }

    #[test]
    fn one_of_three_messages_ends_after_the_third_also_by_another_server() {
        let mut sids = Sids::default();
        let a = sids.add("a", Some(3)).unwrap();
        assert_eq!(tell_all(&mut sids), [(a, "a".to_owned(), Some(3))]);
        assert!(sids.takes(a));
        sids.forget_told();
        assert_eq!(tell_all(&mut sids), [(a, "a".to_owned(), Some(2))]);
        assert!(sids.takes(a) && sids.takes(a));
        assert!(!sids.takes(a) && sids.len() == 0 && sids.left.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let mut sids = Sids::default();
        for _ in 0..2 * Sid::MAX {
            let sid = sids.add("a", None).unwrap();
            sids.remove(sid);
        }
        assert!(sids.add("a", None).unwrap_err().to_string().contains("as fast"));
        sids.forget_told();
        for _ in 0..Sid::MAX {
            sids.add("a", None).unwrap();
        }
        assert!(sids.add("a", None).unwrap_err().to_string().contains("1048576 subscriptions at most"));
        assert_eq!(tell_all(&mut sids).len(), Sid::MAX);
    }
}
