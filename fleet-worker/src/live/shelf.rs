//! Answers that everyone who asks the same shares for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as Held, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;

/// Questions that are remembered at most, but for those under way.
const MOST: usize = 64;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// JSON.
    Found(Bytes),
    /// There is no such thing.
    Nothing,
    /// It could not be found out.
    Failed,
}

type Place = Arc<Mutex<Option<(Instant, Answer)>>>;

/// The answers by question.
#[derive(Debug)]
pub(super) struct Shelf<Q> {
    fresh: Duration,
    places: Held<HashMap<Q, Place>>,
}

impl<Q: Eq + Hash> Shelf<Q> {
    /// Keeps answers for as long as `fresh`.
    pub(super) fn new(fresh: Duration) -> Self {
        Self { fresh, places: Held::default() }
    }

    /// The kept answer, or else what `ask` gives; whoever asks the same meanwhile waits for that.
    pub(super) async fn get(&self, question: Q, ask: impl Future<Output = Answer>) -> Answer {
        let place = self.place(question);
        let mut place = place.lock().await;
        match &*place {
            Some((at, answer)) if at.elapsed() < self.fresh => answer.clone(),
            _ => {
                let answer = ask.await;
                *place = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    fn place(&self, question: Q) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MOST && !places.contains_key(&question) {
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(question).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_question_for_many_and_a_bounded_memory() {
        let shelf = Shelf::new(Duration::from_secs(3600));
        let asked = AtomicU32::new(0);
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Answer::Nothing
        };
        tokio::join!(shelf.get(0, ask()), shelf.get(0, ask()), shelf.get(0, ask()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for question in 0..1_000 {
            shelf.get(question, ask()).await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1_000);
        assert!(shelf.places.lock().unwrap().len() <= MOST);
    }

    #[tokio::test]
    async fn what_is_stale_is_asked_again() {
        let shelf = Shelf::new(Duration::ZERO);
        assert_eq!(shelf.get(0, async { Answer::Failed }).await, Answer::Failed);
        assert_eq!(shelf.get(0, async { Answer::Nothing }).await, Answer::Nothing);
    }
}
