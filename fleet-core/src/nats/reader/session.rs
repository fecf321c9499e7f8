//! One connection while it lasts.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep};

use super::Event;
use super::dial::Dialled;
use super::heard::Heard;
use super::inbound::Inbound;
use super::info::ServerInfo;
use super::outbound::Outbound;
use super::servers::Server;
use super::sids::{Sids, Untold};
use super::silence::{Beat, DEAD, Silence};
use super::transport::Transport;
use crate::error::Error;

/// Bytes that are sent in one tick at most, so that a long list of subscriptions does not hold up reading.
const SENT_IN_A_TICK: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Session {
    transport: Transport,
    /// What the server calls the connection.
    name: String,
    pub server: Server,
    pub max_payload: usize,
    pub version: (u32, u32),
    silence: Silence,
    beat: Pin<Box<Sleep>>,
    heard: Heard,
    /// PINGs without PONG: which barrier each stands for, or 0.
    pings: VecDeque<u64>,
    /// What the server has last complained about.
    pub complaint: Option<String>,
    /// It is at its end; what was read before is still to be taken.
    pub ended: Option<Error>,
    /// The owner knows that it is over.
    pub told: bool,
}

/// Round trips by which everything sent before is known to the server.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    asked: u64,
    written: u64,
    passed: u64,
}

impl Barriers {
    pub(super) fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    pub(super) fn has_passed(&self, barrier: u64) -> bool {
        barrier <= self.passed
    }

    /// Those that were not answered are asked for again.
    pub(super) fn restart(&mut self) {
        self.written = self.passed;
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Session {
    /// The buffer comes back beside it.
    pub(super) fn new(name: String, dialled: Dialled) -> (Self, Inbound, ServerInfo) {
        let Dialled { server, transport, info, inbound } = dialled;
        let session = Self {
            name,
            transport,
            server,
            max_payload: info.max_payload(),
            version: info.version(),
            silence: Silence::default(),
            beat: Box::pin(sleep(SECOND)),
            heard: Heard::new(Instant::now()),
            pings: VecDeque::new(),
            complaint: None,
            ended: None,
            told: false,
        };
        (session, inbound, info)
    }

    /// Reads what is there and sends what waits.
    pub(super) fn drive(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
        out: &mut Outbound,
        sids: &mut Sids,
        barriers: &mut Barriers,
    ) {
        if self.ended.is_some() {
            return;
        }
        self.heard.look(Instant::now());
        match self.transport.poll_fill(cx, inbound) {
            // Otherwise we are only asked to let others have their turn.
            Poll::Pending if has_budget_remaining() => self.heard.nothing(),
            Poll::Pending => {}
            // The buffer is full: it is the owner who is silent.
            Poll::Ready(Ok(0)) => self.silence.heard(),
            Poll::Ready(Ok(_)) => {
                self.silence.heard();
                self.heard.bytes();
            }
            Poll::Ready(Err(error)) => {
                return self.end("the connection to the NATS server is lost", Some(error));
            }
        }
        if self.beat.as_mut().poll(cx).is_ready() {
            self.beat.as_mut().reset(Instant::now() + SECOND);
            // Registers the next one.
            let _ = self.beat.as_mut().poll(cx);
            match self.silence.beat() {
                Beat::Fine => {}
                Beat::Ask => {
                    out.ping();
                    self.pings.push_back(0);
                }
                Beat::Dead => {
                    return self.end(&format!("the NATS server has said nothing for {DEAD} s"), None);
                }
            }
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx, out, sids, barriers) {
            self.end("the connection to the NATS server is lost", Some(error));
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outbound,
        sids: &mut Sids,
        barriers: &mut Barriers,
    ) -> Poll<std::io::Result<()>> {
        let mut sent = 0;
        loop {
            tell(out, sids);
            if !sids.has_untold() && barriers.written < barriers.asked {
                barriers.written = barriers.asked;
                out.ping();
                self.pings.push_back(barriers.asked);
            }
            if out.is_over() {
                return Poll::Ready(Err(std::io::Error::other("it takes nothing any more")));
            }
            let waiting = out.waiting();
            let polled = self.transport.poll_send(cx, out);
            sent += waiting - out.waiting();
            match polled {
                Poll::Ready(Ok(())) if out.waiting() == 0 && !sids.has_untold() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) if sent >= SENT_IN_A_TICK => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
    }

    fn end(&mut self, why: &str, error: Option<std::io::Error>) {
        let why = match &self.complaint {
            Some(complaint) => format!("{why} after it said {complaint:?}"),
            None => why.to_owned(),
        };
        let ended = Error::unavailable(why);
        self.ended = Some(match error {
            Some(error) => ended.caused_by(error),
            None => ended,
        });
    }

    /// Tells the owner that it is over.
    pub(super) fn over(&mut self, reason: Error) -> Event {
        self.told = true;
        tracing::warn!(connection = self.name, server = %self.server, %reason, "the NATS connection is lost");
        Event::Disconnected { reason, heard: self.heard.since() }
    }

    /// The server has answered a PING; one that nobody asked for means nothing.
    pub(super) fn pong(&mut self, barriers: &mut Barriers) {
        if let Some(barrier) = self.pings.pop_front() {
            barriers.passed = barriers.passed.max(barrier);
        }
    }
}

/// Writes subscriptions, as many as are to be written at once.
pub(super) fn tell(out: &mut Outbound, sids: &mut Sids) {
    while out.wants_more()
        && let Some(Untold { sid, subject, left }) = sids.next_untold()
    {
        out.subscribe(sid, subject, left);
    }
}
