//! Tells a slow statement from a server that is gone.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::{Error, Result};

/// How long a server may take to answer before it counts as gone.
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// Asks the server behind a sink, beside a write that is under way, whether it answers; clones share it.
#[derive(Clone)]
pub struct Pulse(Arc<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>);

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").finish_non_exhaustive()
    }
}

impl Pulse {
    /// `ask` says what the write is at, for the log, or why there is no answer. It is given up after 15 s.
    pub fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(ask())))
    }

    pub(super) async fn ask(&self) -> Result<String> {
        let answer = tokio::time::timeout(ANSWER, (self.0)()).await;
        answer.unwrap_or_else(|_| Err(no_answer(ANSWER)))
    }
}

pub(super) fn no_answer(within: Duration) -> Error {
    Error::unavailable(format!("no answer within {} s", within.as_secs()))
}
