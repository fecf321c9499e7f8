//! What one tick has brought.

use tokio::time::Instant;

use super::Sid;
use super::inbound::Operations;
use super::info::ServerInfo;
use super::outbound::Outbound;
use super::parse::{Message, Operation, ProtocolError};
use super::servers::Servers;
use super::session::{Barriers, Session};
use super::sids::Sids;
use crate::error::Error;

/// A message, or something about the connection.
#[derive(Debug)]
pub enum Read<'a> {
    /// A message of a subscription that there is.
    Message(Message<'a>),
    /// Something else that its owner should know.
    Event(Event),
}

/// Ups and downs of a connection, and what the server won't do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection is lost; all that came on it was given out before. What is published from here on fails
    /// until there is another one, and what comes to the subscriptions meanwhile is lost.
    Disconnected {
        /// Why.
        reason: Error,
        /// What was sent to the subscriptions since then may be lost.
        heard: Instant,
    },
    /// None of the servers could be connected to; they are tried again.
    ConnectFailed {
        /// The reason that says most.
        reason: Error,
    },
    /// There is another connection, and the server is being told the subscriptions.
    Reconnected {
        /// Its server, `host:port`.
        server: String,
    },
    /// The server is about to end and will close the connection. [`Reader::reconnect`](super::Reader::reconnect)
    /// leaves it at a time of one's own.
    LameDuck {
        /// The server, `host:port`.
        server: String,
    },
    /// The login may not subscribe to this; nothing comes to the subscription.
    SubscriptionRefused {
        /// The subject.
        subject: String,
    },
    /// The login may not publish to this; the message is lost.
    PublishRefused {
        /// The subject.
        subject: String,
    },
    /// Another complaint of the server's. Often it ends the connection.
    ServerError(String),
    /// A message was too long to be kept and is passed over.
    Oversized {
        /// Whose it was.
        sid: Sid,
        /// Where it was published.
        subject: String,
        /// Its bytes, headers included.
        length: usize,
    },
}

/// What has come, in the order in which it came. What is not taken is there at the next tick.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) event: &'a mut Option<Event>,
    pub(super) operations: Operations<'a>,
    pub(super) session: Option<&'a mut Session>,
    pub(super) servers: &'a mut Servers,
    pub(super) sids: &'a mut Sids,
    pub(super) out: &'a mut Outbound,
    pub(super) barriers: &'a mut Barriers,
    pub(super) unowned: &'a mut u64,
}

impl<'a> Iterator for Batch<'a> {
    type Item = Read<'a>;

    #[inline]
    fn next(&mut self) -> Option<Read<'a>> {
        if let Some(event) = self.event.take() {
            return Some(Read::Event(event));
        }
        if self.session.as_ref().is_none_or(|session| session.told) {
            return None;
        }
        loop {
            let event = match self.operations.next() {
                Some(Ok(Operation::Message(message))) if self.sids.takes(message.sid) => {
                    return Some(Read::Message(message));
                }
                Some(Ok(operation)) => self.other(operation),
                None => return self.end().map(Read::Event),
                Some(Err(error)) => Some(self.misunderstood(error)),
            };
            if let Some(event) = event {
                return Some(Read::Event(event));
            }
        }
    }
}

impl Batch<'_> {
    #[cold]
    fn other(&mut self, operation: Operation<'_>) -> Option<Event> {
        let session = self.session.as_deref_mut()?;
        match operation {
            Operation::Message(_) => *self.unowned += 1,
            Operation::Ping => self.out.pong(),
            Operation::Pong => session.pong(self.barriers),
            Operation::Ok => {}
            Operation::Info(json) => match ServerInfo::parse(json) {
                Ok(info) => {
                    self.servers.announce(&info.connect_urls, &session.server);
                    session.max_payload = info.max_payload();
                    self.operations.limits_mut().announced(info.max_payload());
                    if info.ldm {
                        self.servers.leaves(&session.server);
                        return Some(Event::LameDuck { server: session.server.to_string() });
                    }
                }
                Err(error) => return Some(session.over(error)),
            },
            Operation::Error(text) => {
                let text = String::from_utf8_lossy(text);
                let event = complaint(&text);
                if let Event::ServerError(_) = event {
                    session.complaint = Some(text.into_owned());
                }
                return Some(event);
            }
            Operation::Oversized { sid, subject, length } => {
                let subject = String::from_utf8_lossy(subject).into_owned();
                match self.sids.takes(sid) {
                    true => return Some(Event::Oversized { sid, subject, length }),
                    false => *self.unowned += 1,
                }
            }
        }
        None
    }

    /// All that came is taken: what follows is the end, if that has come.
    fn end(&mut self) -> Option<Event> {
        let session = self.session.as_deref_mut()?;
        let reason = session.ended.take()?;
        Some(session.over(reason))
    }

    #[cold]
    fn misunderstood(&mut self, error: ProtocolError) -> Event {
        let reason = Error::unavailable("the NATS server is not understood").caused_by(error);
        match self.session.as_deref_mut() {
            Some(session) => session.over(reason),
            None => Event::ConnectFailed { reason },
        }
    }
}

/// What the server's words mean.
fn complaint(text: &str) -> Event {
    let refused = |word: &str| {
        let rest =
            text.strip_prefix("Permissions Violation for ")?.strip_prefix(word)?.strip_prefix(" to \"")?;
        // A queue group may follow.
        let end = rest.rfind("\" using queue \"").or_else(|| rest.rfind('"'))?;
        Some(rest[..end].to_owned())
    };
    if let Some(subject) = refused("Subscription") {
        return Event::SubscriptionRefused { subject };
    }
    match refused("Publish") {
        Some(subject) => Event::PublishRefused { subject },
        None => Event::ServerError(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_its_subject() {
        let shown = |text: &str| match complaint(text) {
            Event::SubscriptionRefused { subject } => format!("sub {subject}"),
            Event::PublishRefused { subject } => format!("pub {subject}"),
            Event::ServerError(text) => format!("error {text}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(r#"Permissions Violation for Subscription to "a.>""#), "sub a.>");
        assert_eq!(shown(r#"Permissions Violation for Subscription to "a"b" using queue "q""#), r#"sub a"b"#);
        assert_eq!(shown(r#"Permissions Violation for Publish to "x""#), "pub x");
        assert_eq!(shown("Stale Connection"), "error Stale Connection");
        let odd = r#"Permissions Violation for Publish to ""#;
        assert_eq!(shown(odd), format!("error {odd}"));
    }
}
