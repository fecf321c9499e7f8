//! One connection to NATS that nothing which a vehicle has sent can end.
//!
//! A server stores and delivers any header block, reply subject and payload. Client libraries parse headers
//! strictly, and drop the connection over a malformed one. The [`Reader`] takes messages as they come:
//! [`Message`]s are borrowed from its one buffer, and of [`Headers`] only what the server itself has put there
//! is looked for.
//!
//! It is read in ticks by one owner, who says when: [`Reader::read`] gives what is there and never waits,
//! [`Reader::readable`] waits. Subscriptions are numbered without gaps ([`Sid`]), so that an index finds what
//! belongs to a message. A lost connection is replaced by itself, to any of the configured or announced servers,
//! and the subscriptions are told to the new one; the owner learns of it by an [`Event`].
//!
//! What comes flows through `transport` (TCP, TLS) into `inbound` (the buffer), is cut by `parse` and given out by
//! `batch`; what is to be sent waits in `outbound`. A `session` is one connection, `dial` makes it, `servers`
//! says where, and `sids` are the subscriptions, which outlive it.

mod batch;
mod delivered;
mod dial;
mod headers;
mod heard;
mod inbound;
mod info;
mod options;
mod outbound;
mod parse;
mod servers;
mod session;
mod sid;
mod sids;
mod silence;
mod tls;
mod transport;

pub use batch::{Batch, Event, Read};
pub use delivered::Delivered;
pub use headers::{Headers, Status, Stored};
pub use inbound::{Inbound, Operations};
pub use options::ReaderOptions;
pub use parse::{Limits, Message, Operation, Parser, ProtocolError};
pub use sid::Sid;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use dial::{Dialled, Dialler, Round};
use outbound::{Outbound, checked};
use servers::{Servers, delay};
use session::{Barriers, Session, tell};
use sids::Sids;

use super::Auth;
use super::connect::credentials_in;
use crate::error::{Error, Result};

/// A connection to NATS with its subscriptions, for one owner. It has no task of its own: what it does, it does
/// in [`read`](Self::read) and [`readable`](Self::readable), one of which is to be called at least once a second.
///
/// ```no_run
/// # async fn example() -> fleet_core::error::Result<()> {
/// use fleet_core::nats::NatsOptions;
/// use fleet_core::nats::reader::{Event, Read, Reader, ReaderOptions};
///
/// let options = ReaderOptions::new(NatsOptions::new("nats://localhost:4222"), "example");
/// let mut reader = Reader::connect(options).await?;
/// let speeds = reader.subscribe("fleet.0.*.speed")?;
/// loop {
///     reader.readable().await;
///     for read in reader.read() {
///         match read {
///             Read::Message(message) if message.sid == speeds => println!("{} bytes", message.payload.len()),
///             Read::Message(_) => {}
///             Read::Event(Event::Disconnected { reason, .. }) => println!("{reason}"),
///             Read::Event(_) => {}
///         }
///     }
/// }
/// # }
/// ```
pub struct Reader {
    dialler: Arc<Dialler>,
    servers: Servers,
    state: State,
    inbound: Inbound,
    out: Outbound,
    sids: Sids,
    barriers: Barriers,
    /// Comes before what the buffer holds.
    event: Option<Event>,
    unowned: u64,
}

enum State {
    Connected(Box<Session>),
    /// Never locked: it makes the reader `Sync`.
    Connecting {
        round: Mutex<Pin<Box<dyn Future<Output = Round> + Send>>>,
        rounds: u32,
    },
}

/// Stands for everything that was subscribed and published before; see [`Reader::barrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier(u64);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.session().map(|session| session.server.to_string());
        f.debug_struct("Reader")
            .field("server", &server)
            .field("subscriptions", &self.sids.len())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Connects to one of the servers; from then on it reconnects by itself for ever.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for a bad URL, login or certificate,
    /// [`Unavailable`](crate::ErrorKind::Unavailable) where no server answers in time.
    pub async fn connect(options: ReaderOptions) -> Result<Self> {
        let mut servers = Servers::parse(&options.nats.url)?;
        let in_url = if options.nats.auth == Auth::None { credentials_in(&options.nats.url) } else { None };
        let auth = in_url.unwrap_or_else(|| options.nats.auth.clone());
        auth.answer(&[]).map_err(|why| Error::configuration(format!("the login to NATS: {why}")))?;
        let within = options.nats.timeout;
        let dialler = Arc::new(Dialler { options, auth });
        let round = Arc::clone(&dialler).round(std::time::Duration::ZERO, servers.round());
        let Round { failed, result } = tokio::time::timeout(within, Box::pin(round))
            .await
            .map_err(|_| Error::unavailable(format!("no NATS server lets us in within {within:?}")))?;
        failed.iter().for_each(|server| servers.failed(server));
        let (session, inbound) = opened(&dialler, &mut servers, result?);
        Ok(Self {
            dialler,
            servers,
            state: State::Connected(Box::new(session)),
            inbound,
            out: Outbound::default(),
            sids: Sids::default(),
            barriers: Barriers::default(),
            event: None,
            unowned: 0,
        })
    }

    /// Subscribes, on this connection and all later ones.
    ///
    /// # Errors
    /// [`Data`](crate::ErrorKind::Data) for what is no subject, [`Unavailable`](crate::ErrorKind::Unavailable)
    /// beyond [`Sid::MAX`] subscriptions.
    pub fn subscribe(&mut self, subject: &str) -> Result<Sid> {
        self.subscribe_up_to(subject, None)
    }

    /// Subscribes to so many messages, at least one; the subscription ends with the last.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_for(&mut self, subject: &str, messages: u64) -> Result<Sid> {
        self.subscribe_up_to(subject, Some(messages.max(1)))
    }

    fn subscribe_up_to(&mut self, subject: &str, messages: Option<u64>) -> Result<Sid> {
        checked(subject)?;
        let sid = self.sids.add(subject, messages)?;
        if self.is_connected() {
            tell(&mut self.out, &mut self.sids);
        }
        Ok(sid)
    }

    /// Ends a subscription. Nothing of it is given out from here on; of one that has ended already this is nothing.
    pub fn unsubscribe(&mut self, sid: Sid) {
        if self.sids.remove(sid) == Some(true) && self.is_connected() {
            self.out.unsubscribe(sid);
        }
    }

    /// The subject of a subscription that there is.
    pub fn subject(&self, sid: Sid) -> Option<&str> {
        self.sids.subject(sid)
    }

    /// Publishes at the next tick. Nothing says whether it arrives but an answer to `reply`.
    ///
    /// # Errors
    /// [`Data`](crate::ErrorKind::Data) for what is no subject or longer than the server takes.
    /// [`Unavailable`](crate::ErrorKind::Unavailable) without a connection, where the server takes too little, and
    /// after a reconnect as long as it has not been told all subscriptions; nothing was published then.
    pub fn publish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8]) -> Result<()> {
        self.put(subject, reply, None, payload)
    }

    /// Publishes with a header block, which begins with `NATS/1.0` and ends with an empty line.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_with_headers(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &[u8],
        payload: &[u8],
    ) -> Result<()> {
        self.put(subject, reply, Some(headers), payload)
    }

    fn put(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&[u8]>,
        payload: &[u8],
    ) -> Result<()> {
        checked(subject)?;
        reply.map_or(Ok(()), checked)?;
        let Some(session) = self.session() else {
            return Err(Error::unavailable("there is no connection to NATS at the moment"));
        };
        let (length, most) = (payload.len() + headers.map_or(0, <[u8]>::len), session.max_payload);
        if length > most {
            return Err(Error::data(format!(
                "the NATS server takes messages of {most} bytes at most, not of {length}"
            )));
        }
        // A reply is awaited by a subscription from before.
        tell(&mut self.out, &mut self.sids);
        if self.sids.has_untold() {
            return Err(Error::unavailable("the NATS server has not been told all subscriptions yet"));
        }
        self.out.publish(subject, reply, headers, payload)
    }

    /// Asks the server to say when it knows everything that was subscribed and published before.
    pub fn barrier(&mut self) -> Barrier {
        Barrier(self.barriers.ask())
    }

    /// Whether the server has said so. After a reconnect the subscriptions are meant that there were then; what was
    /// published before may be lost.
    pub fn has_passed(&self, barrier: Barrier) -> bool {
        self.barriers.has_passed(barrier.0)
    }

    /// Sends what waits, and gives what has come without waiting for more: up to as much as the buffer holds, after
    /// which there may be more at once. Between two calls the owner must let the runtime look at its connections:
    /// sleep, yield, or [`readable`](Self::readable).
    pub fn read(&mut self) -> Batch<'_> {
        self.drive(&mut Context::from_waker(Waker::noop()));
        let session = match &mut self.state {
            State::Connected(session) => Some(&mut **session),
            State::Connecting { .. } => None,
        };
        Batch {
            event: &mut self.event,
            operations: self.inbound.operations(),
            session,
            servers: &mut self.servers,
            sids: &mut self.sids,
            out: &mut self.out,
            barriers: &mut self.barriers,
            unowned: &mut self.unowned,
        }
    }

    /// Waits until there is something to [`read`](Self::read), and sends what waits meanwhile. May be cancelled: what
    /// has come is there the next time.
    pub async fn readable(&mut self) {
        poll_fn(|cx| if self.drive(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Gives this connection up for another one, as after [`Event::LameDuck`]; what has come on it is given out
    /// before.
    pub fn reconnect(&mut self) {
        if let State::Connected(session) = &mut self.state
            && session.ended.is_none()
        {
            session.ended = Some(Error::unavailable("the connection to NATS is given up for another one"));
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.session().is_some()
    }

    /// The first two numbers of the server's version; zeros without a connection.
    pub fn server_version(&self) -> (u32, u32) {
        self.session().map_or((0, 0), |session| session.version)
    }

    /// Bytes of a message that the server takes at most, headers included; 0 without a connection.
    pub fn max_payload(&self) -> usize {
        self.session().map_or(0, |session| session.max_payload)
    }

    /// How many messages came for subscriptions that had ended.
    pub fn unowned(&self) -> u64 {
        self.unowned
    }

    fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Connected(session) if session.ended.is_none() && !session.told => Some(session),
            _ => None,
        }
    }

    /// Goes on as far as it can; says whether there is something for the owner.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.event.is_some() {
                return true;
            }
            let (rounds, round) = match &mut self.state {
                State::Connected(session) if session.told => {
                    self.inbound = Inbound::new(0, Limits::default());
                    self.out.clear();
                    (0, None)
                }
                State::Connected(session) => {
                    let Self { inbound, out, sids, barriers, .. } = self;
                    session.drive(cx, inbound, out, sids, barriers);
                    return session.ended.is_some() || self.inbound.is_fresh();
                }
                State::Connecting { round, rounds } => match get_mut(round).as_mut().poll(cx) {
                    Poll::Pending => return false,
                    Poll::Ready(round) => (rounds.saturating_add(1), Some(round)),
                },
            };
            match round {
                Some(Round { failed, result: Ok(dialled) }) => {
                    failed.iter().for_each(|server| self.servers.failed(server));
                    self.reopened(dialled);
                }
                Some(Round { failed, result: Err(reason) }) => {
                    failed.iter().for_each(|server| self.servers.failed(server));
                    self.event = Some(Event::ConnectFailed { reason });
                    self.begin(rounds);
                }
                None => self.begin(rounds),
            }
        }
    }

    fn begin(&mut self, rounds: u32) {
        let round = Arc::clone(&self.dialler).round(delay(rounds), self.servers.round());
        self.state = State::Connecting { round: Mutex::new(Box::pin(round)), rounds };
    }

    fn reopened(&mut self, dialled: Dialled) {
        let (session, inbound) = opened(&self.dialler, &mut self.servers, dialled);
        let server = session.server.to_string();
        tracing::info!(connection = self.dialler.options.name, server, "connected to NATS again");
        self.state = State::Connected(Box::new(session));
        self.inbound = inbound;
        self.out.clear();
        self.sids.forget_told();
        self.barriers.restart();
        self.event = Some(Event::Reconnected { server });
    }
}

fn get_mut<T>(exclusive: &mut Mutex<T>) -> &mut T {
    exclusive.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn opened(dialler: &Dialler, servers: &mut Servers, dialled: Dialled) -> (Session, Inbound) {
    let (session, inbound, info) = Session::new(dialler.options.name.clone(), dialled);
    servers.reached(&session.server);
    servers.announce(&info.connect_urls, &session.server);
    (session, inbound)
}
