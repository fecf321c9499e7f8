//! Tries again what a sink could not do because its server was away.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::availability::{Availability, Outages};
use super::pulse::{ANSWER, Pulse, no_answer};
use super::{Progress, Sink};
use crate::batch::Batch;
use crate::error::{Error, Result};

/// How long to wait between tries, and for how long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure; each further one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How long one batch is tried before its error is given to the caller; `None` is for ever.
    pub deadline: Option<Duration>,
}

impl Default for Backoff {
    /// 100 ms, doubled up to 10 s, for ever.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(10), deadline: None }
    }
}

/// Of a write that takes longer it is asked whether the server is there. Where nobody can be asked it counts as
/// an outage, until it ends.
const WRITE: Duration = Duration::from_secs(30);

/// Gives a batch again while the sink inside says [`ErrorKind::Unavailable`] or [`ErrorKind::Refused`]; other
/// errors pass.
///
/// It holds every batch that is accepted and not durable, and gives those again when a
/// [`flush`](Sink::flush) fails: of a sink that gathers, as much as that gathers. (Columns are shared,
/// not copied.) Each outage is logged once, when it begins, and once more when it ends, and
/// [`availability`](Self::availability) tells of it.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    backoff: Backoff,
    /// Accepted, not durable.
    held: VecDeque<Batch>,
    outages: Outages,
    pulse: Option<Pulse>,
}

/// The tries of one call.
struct Tries {
    backoff: Backoff,
    began: Option<Instant>,
    wait: Duration,
}

impl Tries {
    fn new(backoff: Backoff) -> Self {
        Self { backoff, began: None, wait: backoff.first }
    }

    /// Waits for the next try; gives the error back if there is none.
    async fn failed(&mut self, error: Error, outages: &mut Outages) -> Result<()> {
        if !error.kind().may_pass() {
            return Err(error);
        }
        outages.began(&error);
        let since = *self.began.get_or_insert_with(Instant::now);
        if self.backoff.deadline.is_some_and(|deadline| since.elapsed() + self.wait > deadline) {
            return Err(error);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(self.backoff.cap);
        Ok(())
    }

    /// Waits for a write for as long as it takes.
    async fn watch<T>(
        &mut self,
        write: impl Future<Output = Result<T>>,
        outages: &mut Outages,
        pulse: Option<&Pulse>,
    ) -> Result<T> {
        let mut write = pin!(write);
        let (begun, mut silent, mut told) = (Instant::now(), false, false);
        loop {
            if let Ok(answer) = tokio::time::timeout(WRITE, &mut write).await {
                return answer;
            }
            let Some(pulse) = pulse else {
                outages.began(&no_answer(WRITE));
                self.began.get_or_insert_with(Instant::now);
                return write.await;
            };
            let pulse = tokio::select! {
                biased;
                answer = &mut write => return answer,
                pulse = pulse.ask() => pulse,
            };
            match pulse {
                Ok(statement) => {
                    if std::mem::take(&mut silent) {
                        outages.ended();
                    }
                    if !std::mem::replace(&mut told, true) {
                        outages.slow(begun.elapsed(), &statement);
                    }
                }
                Err(error) => {
                    silent = true;
                    outages.began(&error);
                    self.began.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}

impl<S> Retry<S> {
    /// Wraps a sink; `name` is what the log calls it.
    pub fn new(inner: S, name: impl Into<String>, backoff: Backoff) -> Self {
        Self { inner, backoff, held: VecDeque::new(), outages: Outages::new(name.into()), pulse: None }
    }

    /// Asks in this way whether the server is there when a write takes more than 30 s: as long as it answers, the
    /// write is slow, which is logged once, and the sink is there.
    #[must_use]
    pub fn asking(self, pulse: Pulse) -> Self {
        Self { pulse: Some(pulse), ..self }
    }

    /// The sink inside.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Whether the sink inside is there: not from the first failed try or [`probe`](Sink::probe) on, nor
    /// from 30 s on in a try that doesn't end, unless the server [answers](Self::asking), and again once such a
    /// try or a repeated one, a batch with rows that became durable, or a probe succeeds.
    pub fn availability(&self) -> Availability {
        self.outages.availability()
    }

    /// Forgets what is durable. Only rows that became so prove that the sink is there: it may have gathered
    /// the batch, or had nothing to store.
    fn settle(&mut self, tries: &Tries, durable: u64) {
        let stored = self.held.iter().any(|batch| !batch.is_empty() && batch.sequence() <= durable);
        if stored || tries.began.is_some() {
            self.outages.ended();
        }
        self.held.retain(|batch| batch.sequence() > durable);
    }
}

/// Flushes, what is held given again before if need be.
async fn flush_once(sink: &mut impl Sink, held: &VecDeque<Batch>, again: bool) -> Result<Progress> {
    let mut rejected = Vec::new();
    if again {
        for batch in held {
            rejected.extend(sink.accept(batch).await?.rejected);
        }
    }
    let mut progress = sink.flush().await?;
    progress.rejected.splice(0..0, rejected);
    Ok(progress)
}

impl<S: Sink> Sink for Retry<S> {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let mut tries = Tries::new(self.backoff);
        let progress = loop {
            match tries.watch(self.inner.accept(batch), &mut self.outages, self.pulse.as_ref()).await {
                Ok(progress) => break progress,
                Err(error) => tries.failed(error, &mut self.outages).await?,
            }
        };
        self.held.push_back(batch.clone());
        self.settle(&tries, progress.durable);
        Ok(progress)
    }

    async fn flush(&mut self) -> Result<Progress> {
        let mut tries = Tries::new(self.backoff);
        let progress = loop {
            let flushing = flush_once(&mut self.inner, &self.held, tries.began.is_some());
            match tries.watch(flushing, &mut self.outages, self.pulse.as_ref()).await {
                Ok(progress) => break progress,
                Err(error) => tries.failed(error, &mut self.outages).await?,
            }
        };
        self.settle(&tries, progress.durable);
        Ok(progress)
    }

    async fn probe(&mut self) -> Result<()> {
        let answer = tokio::time::timeout(ANSWER, self.inner.probe()).await;
        let answer = answer.unwrap_or_else(|_| Err(no_answer(ANSWER)));
        match &answer {
            Ok(()) => self.outages.ended(),
            Err(error) => self.outages.began(error),
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Row};
    use crate::error::ErrorKind;
    use crate::ids::VehicleId;
    use crate::schema::Schema;

    /// Fails the given number of times in the given way.
    struct Failing(u32, ErrorKind);

    impl Sink for Failing {
        async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
            if self.0 == 0 {
                return Ok(Progress::up_to(batch.sequence()));
            }
            self.0 -= 1;
            Err(Error::new(self.1, "as told"))
        }

        async fn flush(&mut self) -> Result<Progress> {
            Err(Error::unavailable("as told"))
        }
    }

    async fn tried(failures: u32, kind: ErrorKind, deadline: Option<Duration>) -> (Result<u64>, Duration) {
        let batch = BatchBuilder::new(&Schema::default()).seal().unwrap();
        let backoff = Backoff { deadline, ..Backoff::default() };
        let mut sink = Retry::new(Failing(failures, kind), "test", backoff);
        let start = Instant::now();
        let answer = sink.accept(&batch).await.map(|p| p.durable);
        (answer, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_out_in_longer_and_longer_steps() {
        let (answer, took) = tried(9, ErrorKind::Unavailable, None).await;
        assert_eq!(answer.unwrap(), 1);
        // 0.1 + 0.2 + … + 6.4, then twice the cap of 10 s.
        assert_eq!(took.as_millis(), 12_700 + 20_000);
    }

    /// What a sink that gathers does, and what it says when it is asked.
    struct Gathering {
        durable: u64,
        answers: VecDeque<bool>,
    }

    impl Gathering {
        fn answer(&mut self) -> Result<()> {
            let there = self.answers.pop_front().unwrap_or(true);
            if there { Ok(()) } else { Err(Error::unavailable("as told")) }
        }
    }

    impl Sink for Gathering {
        async fn accept(&mut self, _: &Batch) -> Result<Progress> {
            Ok(Progress::up_to(self.durable))
        }

        async fn flush(&mut self) -> Result<Progress> {
            self.answer()?;
            Ok(Progress::up_to(2))
        }

        async fn probe(&mut self) -> Result<()> {
            self.answer()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_unavailable_from_the_first_failed_try_until_one_succeeds() {
        let batch = BatchBuilder::new(&Schema::default()).seal().unwrap();
        let mut sink = Retry::new(Failing(3, ErrorKind::Unavailable), "test", Backoff::default());
        let availability = sink.availability();
        {
            let mut storing = std::pin::pin!(sink.accept(&batch));
            assert!(futures_util::poll!(&mut storing).is_pending());
            assert!(!availability.is_available());
            storing.await.unwrap();
        }
        assert!(availability.is_available());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_available_again_by_an_answer_or_durable_rows_and_by_nothing_else() {
        let mut builder = BatchBuilder::new(&Schema::default());
        let empty = builder.seal().unwrap();
        let key = builder.vehicle(&VehicleId::new("V").unwrap(), 1);
        let row = Row { ts: 0, values: &[1.0; 5], quality: 1, correction: false };
        builder.push(key, row);
        let rows = builder.seal().unwrap();

        let answers = VecDeque::from([false, true, false]);
        let mut sink = Retry::new(Gathering { durable: 1, answers }, "test", Backoff::default());
        let availability = sink.availability();
        sink.probe().await.unwrap_err();
        assert!(!availability.is_available());
        sink.accept(&empty).await.unwrap();
        assert!(!availability.is_available(), "it had nothing to store");
        sink.probe().await.unwrap();
        assert!(availability.is_available());
        sink.probe().await.unwrap_err();
        sink.accept(&rows).await.unwrap();
        assert!(!availability.is_available(), "it has only gathered");
        sink.flush().await.unwrap();
        assert!(availability.is_available());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_has_failed() {
        struct Mute;
        impl Sink for Mute {
            async fn accept(&mut self, _: &Batch) -> Result<Progress> {
                std::future::pending().await
            }
            async fn flush(&mut self) -> Result<Progress> {
                std::future::pending().await
            }
            async fn probe(&mut self) -> Result<()> {
                std::future::pending().await
            }
        }
        let mut sink = Retry::new(Mute, "test", Backoff::default());
        let said = sink.probe().await.unwrap_err();
        assert_eq!(said.to_string(), "no answer within 15 s");
        assert!(!sink.availability().is_available());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_does_not_end_is_an_outage_until_it_does() {
        struct Slow(Duration);
        impl Sink for Slow {
            async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
                tokio::time::sleep(self.0).await;
                Ok(Progress::up_to(batch.sequence()))
            }
            async fn flush(&mut self) -> Result<Progress> {
                tokio::time::sleep(self.0).await;
                Ok(Progress::up_to(1))
            }
        }
        let batch = BatchBuilder::new(&Schema::default()).seal().unwrap();
        for (seconds, outage) in [(29, false), (31, true)] {
            let mut sink = Retry::new(Slow(Duration::from_secs(seconds)), "test", Backoff::default());
            let availability = sink.availability();
            let almost = Duration::from_millis(1_000 * seconds - 1);
            let mut writing = Box::pin(sink.accept(&batch));
            tokio::time::timeout(almost, &mut writing).await.unwrap_err();
            assert_eq!(availability.is_available(), !outage);
            assert_eq!(writing.await.unwrap().durable, 1);
            assert!(availability.is_available());
            let mut writing = Box::pin(sink.flush());
            tokio::time::timeout(almost, &mut writing).await.unwrap_err();
            assert_eq!(availability.is_available(), !outage);
            writing.await.unwrap();
            assert!(availability.is_available());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_write_is_no_outage_while_the_server_answers() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

        struct Slow;
        impl Sink for Slow {
            async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
                tokio::time::sleep(Duration::from_secs(200)).await;
                Ok(Progress::up_to(batch.sequence()))
            }
            async fn flush(&mut self) -> Result<Progress> {
                Ok(Progress::up_to(1))
            }
        }
        let (is_mute, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (mute, questions) = (Arc::clone(&is_mute), Arc::clone(&asked));
        let pulse = Pulse::new(move || {
            questions.fetch_add(1, Ordering::Relaxed);
            let mute = mute.load(Ordering::Relaxed);
            async move {
                if mute {
                    std::future::pending::<()>().await;
                }
                Ok("merge records".to_owned())
            }
        });
        let batch = BatchBuilder::new(&Schema::default()).seal().unwrap();
        let mut sink = Retry::new(Slow, "test", Backoff::default()).asking(pulse);
        let availability = sink.availability();
        let mut writing = Box::pin(sink.accept(&batch));
        let mut pass = async |seconds| {
            tokio::time::timeout(Duration::from_secs(seconds), &mut writing).await.unwrap_err();
            (availability.is_available(), asked.load(Ordering::Relaxed))
        };
        assert_eq!(pass(59).await, (true, 1));
        is_mute.store(true, Ordering::Relaxed);
        assert_eq!(pass(15).await, (true, 2), "it has its time to answer");
        assert_eq!(pass(2).await, (false, 2));
        is_mute.store(false, Ordering::Relaxed);
        assert_eq!(pass(30).await, (true, 3), "it answers again");
        assert_eq!(writing.await.unwrap().durable, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_and_other_errors_end_it() {
        let (answer, took) = tried(9, ErrorKind::Unavailable, Some(Duration::from_secs(1))).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(took <= Duration::from_secs(1), "{took:?}");
        let (answer, took) = tried(1, ErrorKind::Configuration, None).await;
        assert_eq!((answer.unwrap_err().kind(), took), (ErrorKind::Configuration, Duration::ZERO));
    }
}
