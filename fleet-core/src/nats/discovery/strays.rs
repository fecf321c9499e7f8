//! Messages that no stream keeps.

use std::time::Duration;

use tokio::time::sleep;

use super::DiscoveryCounters;
use crate::error::Result;
use crate::nats::reader::{Event, Read, Reader, ReaderOptions};
use crate::nats::{Names, NatsOptions};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// So many of those that come at once are told.
const TOLD: usize = 16;

/// Says which subjects under `fleet.<cell>.` have the wrong number of tokens: no stream keeps them and no worker
/// hears them, so that their sender must be told of by somebody. On a connection of its own: who sends many of them
/// delays nothing else. Never ready.
pub(super) async fn watch_strays(nats: &NatsOptions, names: &Names, counters: &DiscoveryCounters) {
    loop {
        match listen(nats, names).await {
            Ok(mut reader) => loop {
                reader.readable().await;
                count(&mut reader, names, counters);
                // They come as fast as somebody sends them.
                tokio::task::yield_now().await;
            },
            Err(error) => {
                let cell = names.cell();
                tracing::warn!(%cell, %error, "nobody listens to stray subjects, trying again");
            }
        }
        sleep(Duration::from_secs(5)).await;
    }
}

async fn listen(nats: &NatsOptions, names: &Names) -> Result<Reader> {
    let mut options = ReaderOptions::new(nats.clone(), names.connection("discovery"));
    (options.headers, options.buffer) = (false, BUFFER);
    let mut reader = Reader::connect(options).await?;
    for subject in names.strays() {
        reader.subscribe(&subject)?;
    }
    Ok(reader)
}

fn count(reader: &mut Reader, names: &Names, counters: &DiscoveryCounters) {
    let (cell, mut told) = (names.cell(), 0);
    for read in reader.read() {
        let subject = match read {
            Read::Message(message) => String::from_utf8_lossy(message.subject).chars().take(120).collect(),
            Read::Event(Event::Oversized { subject, .. }) => subject.chars().take(120).collect::<String>(),
            Read::Event(Event::SubscriptionRefused { subject }) => {
                tracing::warn!(%cell, subject, "the NATS server refuses a subscription");
                continue;
            }
            Read::Event(_) => continue,
        };
        DiscoveryCounters::add(&counters.strays);
        if told < TOLD {
            tracing::warn!(%cell, subject, "a subject must have four tokens, fleet.<cell>.<vehicle>.<signal>; this message is kept nowhere");
        }
        told += 1;
    }
}
