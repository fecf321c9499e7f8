//! A vehicle's subscription: the messages that wait for us, and whether some may have found no room.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use futures_util::stream::Stream;
use tokio::task::coop::has_budget_remaining;

use super::attachments::Ticket;
use crate::error::{Error, Result};

/// A subscription that says whose it is.
#[derive(Debug)]
pub(super) struct Live {
    ticket: Ticket,
    subscriber: Subscriber,
    overflow: Overflow,
}

/// What a subscription gives.
#[derive(Debug)]
pub(super) struct Taken {
    pub ticket: Ticket,
    pub message: async_nats::Message,
    /// Messages since then may have been dropped.
    pub lossy_since: Option<Instant>,
}

/// Notices that messages may have been dropped, subscription by subscription: the client's own events
/// are few and queue up in one line for all, so that one vehicle's could hide another's.
///
/// The client drops what finds the queue full. So whoever has not taken as many messages in a row as
/// the queue holds, without finding it empty, has lost none.
#[derive(Debug)]
struct Overflow {
    capacity: usize,
    in_a_row: usize,
    /// When the queue was known to be empty, or this was told.
    since: Instant,
}

impl Overflow {
    fn taken(&mut self) -> Option<Instant> {
        self.in_a_row += 1;
        if self.in_a_row < self.capacity {
            return None;
        }
        self.in_a_row = 0;
        Some(std::mem::replace(&mut self.since, Instant::now()))
    }

    fn empty(&mut self) {
        self.in_a_row = 0;
        self.since = Instant::now();
    }
}

impl Live {
    /// Subscribes on a connection whose subscriptions hold so many messages.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) from a client that is closed.
    pub(super) async fn subscribe(
        client: &Client,
        ticket: Ticket,
        subject: String,
        capacity: usize,
    ) -> Result<Self> {
        let since = Instant::now();
        let subscriber = client.subscribe(subject).await;
        let subscriber = subscriber.map_err(|e| Error::unavailable("no subscription").caused_by(e))?;
        Ok(Self { ticket, subscriber, overflow: Overflow { capacity, in_a_row: 0, since } })
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl Stream for Live {
    type Item = Taken;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ticket = self.ticket;
        match self.subscriber.poll_next_unpin(cx) {
            Poll::Ready(Some(message)) => {
                let lossy_since = self.overflow.taken();
                Poll::Ready(Some(Taken { ticket, message, lossy_since }))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                // Otherwise we are only asked to let others have their turn.
                if has_budget_remaining() {
                    self.overflow.empty();
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_in_a_row_as_the_queue_holds_may_have_displaced_others() {
        let begun = Instant::now();
        let mut overflow = Overflow { capacity: 3, in_a_row: 0, since: begun };
        assert_eq!((overflow.taken(), overflow.taken()), (None, None));
        assert_eq!(overflow.taken(), Some(begun));
        assert_eq!((overflow.taken(), overflow.taken()), (None, None), "told once");
        overflow.empty();
        let emptied = overflow.since;
        assert_eq!((overflow.taken(), overflow.taken()), (None, None));
        assert_eq!(overflow.taken(), Some(emptied));
    }
}
