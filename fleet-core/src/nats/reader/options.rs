//! Choices of a reader.

use crate::nats::NatsOptions;

/// How a [`Reader`](super::Reader) connects.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// Where the servers are and who we are. The login's files and the certificates are read anew for each
    /// connection, and `timeout` is for the first one.
    pub nats: NatsOptions,
    /// What the server calls the connection.
    pub name: String,
    /// Whether messages come with their headers. Without, the server takes them off live and pulled messages, the
    /// end of a pull is a message without payload, and direct gets are not answered.
    pub headers: bool,
    /// Whether what the connection itself publishes comes to its own subscriptions.
    pub echo: bool,
    /// Bytes of the buffer, which one tick fills at most.
    pub buffer: usize,
}

impl ReaderOptions {
    /// With headers and echo, TLS where the URL or the server wants it, and a buffer of 1 MiB.
    pub fn new(nats: NatsOptions, name: impl Into<String>) -> Self {
        Self { nats, name: name.into(), headers: true, echo: true, buffer: 1 << 20 }
    }
}
