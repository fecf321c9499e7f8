//! Tries again what a sink could not do because its server was away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Progress, Sink};
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};

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

/// Gives a batch again while the sink inside says [`ErrorKind::Unavailable`]; other errors pass.
///
/// It holds every batch that is accepted and not durable, and gives those again when a
/// [`flush`](Sink::flush) fails: of a sink that gathers, as much as that gathers. (Columns are shared,
/// not copied.) Each outage is logged once, when it begins, and once more when it ends.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    name: String,
    backoff: Backoff,
    /// Accepted, not durable.
    held: VecDeque<Batch>,
}

/// The tries of one call.
struct Tries<'a> {
    name: &'a str,
    backoff: Backoff,
    began: Option<Instant>,
    wait: Duration,
}

impl Tries<'_> {
    /// Waits for the next try; gives the error back if there is none.
    async fn failed(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Unavailable {
            return Err(error);
        }
        let since = *self.began.get_or_insert_with(|| {
            tracing::warn!(sink = %self.name, %error, "the sink is unavailable, trying again");
            Instant::now()
        });
        if self.backoff.deadline.is_some_and(|deadline| since.elapsed() + self.wait > deadline) {
            return Err(error);
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(self.backoff.cap);
        Ok(())
    }

    fn succeeded(&self) {
        if let Some(began) = self.began {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(sink = %self.name, seconds, "the sink is available again");
        }
    }
}

impl<S> Retry<S> {
    /// Wraps a sink; `name` is what the log calls it.
    pub fn new(inner: S, name: impl Into<String>, backoff: Backoff) -> Self {
        Self { inner, name: name.into(), backoff, held: VecDeque::new() }
    }

    /// The sink inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

fn tries(name: &str, backoff: Backoff) -> Tries<'_> {
    Tries { name, backoff, began: None, wait: backoff.first }
}

impl<S: Sink> Retry<S> {
    async fn flush_once(&mut self, again: bool) -> Result<Progress> {
        let mut rejected = Vec::new();
        if again {
            for batch in &self.held {
                rejected.extend(self.inner.accept(batch).await?.rejected);
            }
        }
        let mut progress = self.inner.flush().await?;
        progress.rejected.splice(0..0, rejected);
        Ok(progress)
    }
}

impl<S: Sink> Sink for Retry<S> {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let mut tries = tries(&self.name, self.backoff);
        let progress = loop {
            match self.inner.accept(batch).await {
                Ok(progress) => break progress,
                Err(error) => tries.failed(error).await?,
            }
        };
        tries.succeeded();
        self.held.push_back(batch.clone());
        self.held.retain(|batch| batch.sequence() > progress.durable);
        Ok(progress)
    }

    async fn flush(&mut self) -> Result<Progress> {
        let name = self.name.clone();
        let mut tries = tries(&name, self.backoff);
        let progress = loop {
            match self.flush_once(tries.began.is_some()).await {
                Ok(progress) => break progress,
                Err(error) => tries.failed(error).await?,
            }
        };
        tries.succeeded();
        self.held.retain(|batch| batch.sequence() > progress.durable);
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::schema::Schema;

    /// Fails the given number of times in the given way.
    struct Failing(u32, ErrorKind);

    impl Sink for Failing {
        async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
            if self.0 == 0 {
                return Ok(Progress { durable: batch.sequence(), rejected: Vec::new() });
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

    #[tokio::test(start_paused = true)]
    async fn a_deadline_and_other_errors_end_it() {
        let (answer, took) = tried(9, ErrorKind::Unavailable, Some(Duration::from_secs(1))).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(took <= Duration::from_secs(1), "{took:?}");
        let (answer, took) = tried(1, ErrorKind::Configuration, None).await;
        assert_eq!((answer.unwrap_err().kind(), took), (ErrorKind::Configuration, Duration::ZERO));
    }
}
