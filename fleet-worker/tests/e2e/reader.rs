//! The NATS reader on real servers.

mod links;
mod logins;
pub(crate) mod poison;
mod same;

use std::time::Duration;

use fleet_core::nats::NatsOptions;
use fleet_core::nats::reader::{Event, Read, Reader, ReaderOptions, Sid};
use fleet_worker::local::NatsServer;
use tokio::time::timeout;

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A connection to a server without login.
pub(crate) async fn open(server: &NatsServer, headers: bool) -> Reader {
    open_at(&server.url(), headers).await
}

pub(crate) async fn open_at(url: &str, headers: bool) -> Reader {
    let mut options = ReaderOptions::new(NatsOptions::new(url), "reader");
    options.headers = headers;
    Reader::connect(options).await.unwrap()
}

/// Reads until something is found.
pub(crate) async fn until<T>(
    reader: &mut Reader,
    what: &str,
    mut of: impl FnMut(Read<'_>) -> Option<T>,
) -> T {
    let found = async {
        loop {
            reader.readable().await;
            for read in reader.read() {
                if let Some(found) = of(read) {
                    return found;
                }
            }
        }
    };
    timeout(SOON, found).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Waits until the server knows what was subscribed and published before.
pub(crate) async fn flush(reader: &mut Reader) {
    let barrier = reader.barrier();
    let passed = async {
        while !reader.has_passed(barrier) {
            reader.readable().await;
            for read in reader.read() {
                assert!(matches!(read, Read::Message(_)), "{read:?}");
            }
        }
    };
    assert!(timeout(SOON, passed).await.is_ok(), "the server does not answer");
}

/// The payload of the next message of a subscription.
async fn payload(reader: &mut Reader, sid: Sid) -> Vec<u8> {
    let of = |read: Read<'_>| match read {
        Read::Message(message) if message.sid == sid => Some(message.payload.to_vec()),
        _ => None,
    };
    until(reader, "a message", of).await
}

/// The server of the next connection.
async fn reconnected(reader: &mut Reader) -> String {
    let of = |read: Read<'_>| match read {
        Read::Event(Event::Reconnected { server }) => Some(server),
        _ => None,
    };
    until(reader, "another connection", of).await
}
