//! Sinks as trait objects: they are chosen by configuration.

use std::future::Future;
use std::pin::Pin;

use super::{Progress, Sink};
use crate::batch::Batch;
use crate::error::Result;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Sink`] with boxed futures; every sink is one. A box per batch costs nothing beside the batch.
pub trait DynSink: Send {
    /// See [`Sink::accept`].
    fn accept<'a>(&'a mut self, batch: &'a Batch) -> Boxed<'a, Result<Progress>>;

    /// See [`Sink::flush`].
    fn flush(&mut self) -> Boxed<'_, Result<Progress>>;

    /// See [`Sink::probe`].
    fn probe(&mut self) -> Boxed<'_, Result<()>>;
}

impl<S: Sink> DynSink for S {
    fn accept<'a>(&'a mut self, batch: &'a Batch) -> Boxed<'a, Result<Progress>> {
        Box::pin(Sink::accept(self, batch))
    }

    fn flush(&mut self) -> Boxed<'_, Result<Progress>> {
        Box::pin(Sink::flush(self))
    }

    fn probe(&mut self) -> Boxed<'_, Result<()>> {
        Box::pin(Sink::probe(self))
    }
}

impl Sink for Box<dyn DynSink> {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        (**self).accept(batch).await
    }

    async fn flush(&mut self) -> Result<Progress> {
        (**self).flush().await
    }

    async fn probe(&mut self) -> Result<()> {
        (**self).probe().await
    }
}
