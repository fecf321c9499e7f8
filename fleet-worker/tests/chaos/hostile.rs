//! Vehicles that send what they should not. Their names begin with `EVIL`, and nothing that they send is
//! compared with the table.

use std::future::Future;
use std::time::Duration;

use fleet_core::VehicleId;
use fleet_core::nats::reader::{Reader, ReaderOptions};
use fleet_core::nats::{Names, NatsOptions};
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::dice::Dice;

/// What hostile vehicles do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attack {
    /// One sample a day, from 2000 on.
    OldDays,
    /// Clocks that were never set: 1980, 2000, 2036, 1024 weeks back.
    UnsetClock,
    /// `off` and `on` as fast as it goes.
    OffFlood,
    /// Random bytes, more than a stream takes.
    Garbage,
    /// Broken payloads of every format, values out of range, signals that there are not.
    Malformed,
    /// `on` of vehicles that don't exist.
    Nobody,
    /// `since` in the future, in 2000, the same again after an `off`, and none that parses.
    Since,
    /// Headers that no client library writes or reads, on samples, `on` and `off`.
    Poison,
}

impl Attack {
    pub(crate) const ALL: [Self; 8] = [
        Self::OldDays,
        Self::UnsetClock,
        Self::OffFlood,
        Self::Garbage,
        Self::Malformed,
        Self::Nobody,
        Self::Since,
        Self::Poison,
    ];

    /// Messages a second of the test, so that two cores have something left for the others.
    pub(crate) fn pace(self) -> u64 {
        match self {
            Self::OldDays | Self::Malformed | Self::Poison => 100,
            Self::OffFlood => 1_000,
            Self::Nobody => 80,
            Self::UnsetClock | Self::Garbage | Self::Since => 20,
        }
    }
}

/// Milliseconds since 1970 at 2000-01-01.
const MILLENNIUM: i64 = 946_684_800_000;
const DAY: i64 = 86_400_000;

/// Attacks at so many messages a second until `over` is ready; how many were sent. A server that is away is
/// tried again.
pub(crate) async fn attack(
    attack: Attack,
    pace: u64,
    nats: NatsOptions,
    names: &Names,
    seed: u64,
    over: impl Future<Output = ()>,
) -> u64 {
    let mut attacker = Attacker { attack, names, dice: Dice::new(seed), sent: 0, run: seed % 1_000 };
    let mut over = std::pin::pin!(over);
    let mut reader = loop {
        tokio::select! {
            () = &mut over => return 0,
            connected = Reader::connect(ReaderOptions::new(nats.clone(), "evil")) => match connected {
                Ok(reader) => break reader,
                Err(_) => sleep(Duration::from_millis(500)).await,
            },
        }
    };
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        tokio::select! {
            () = &mut over => break,
            () = reader.readable() => {
                // Acks and refusals are nobody's.
                reader.read().for_each(drop);
                continue;
            }
            _ = tick.tick() => {}
        }
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(pace) / 1_000;
        // After an outage it does not make up for what it could not send.
        sent = sent.max(due.saturating_sub(pace));
        while sent < due {
            let Message { subject, headers, payload } = attacker.next();
            let reply = Some("_INBOX.EVIL.a");
            let published = match headers {
                Some(headers) => reader.publish_with_headers(&subject, reply, &headers, &payload),
                None => reader.publish(&subject, reply, &payload),
            };
            if published.is_err() {
                break;
            }
            sent += 1;
        }
    }
    for subject in attacker.known("off") {
        let _ = reader.publish(&subject, None, &[]);
    }
    // As far as the server takes it.
    for _ in 0..20 {
        reader.read().for_each(drop);
        sleep(Duration::from_millis(5)).await;
    }
    attacker.sent
}

/// What is published next.
struct Message {
    subject: String,
    /// A whole block, of any bytes.
    headers: Option<Vec<u8>>,
    payload: Vec<u8>,
}

struct Attacker<'a> {
    attack: Attack,
    names: &'a Names,
    dice: Dice,
    sent: u64,
    run: u64,
}

/// Vehicles of one attack that are known by name.
const KNOWN: u64 = 3;

impl Attacker<'_> {
    fn subject(&self, vehicle: &str, last: &str) -> String {
        VehicleId::new(vehicle)
            .map_or_else(|_| "fleet.0.EVIL.speed".to_owned(), |v| self.names.subject(&v, last))
    }

    fn vehicle(&self, number: u64) -> String {
        format!("EVIL-{:?}-{}-{}", self.attack, self.run, number % KNOWN)
    }

    fn known(&self, word: &str) -> Vec<String> {
        (0..KNOWN).map(|n| self.subject(&self.vehicle(n), word)).collect()
    }

    /// The next message: every known vehicle says `on` first, and again now and then.
    fn next(&mut self) -> Message {
        let number = self.sent;
        self.sent += 1;
        let vehicle = self.vehicle(number);
        if number % 500 < KNOWN && self.attack != Attack::Nobody {
            return Message { subject: self.subject(&vehicle, "on"), headers: None, payload: Vec::new() };
        }
        let millis = now() * 1_000 / SECOND;
        let step = i64::try_from(number).unwrap_or(0);
        let speed = |ts: i64| format!("{{\"ts\":{ts},\"value\":{}}}", 50 + ts.rem_euclid(50)).into_bytes();
        let (last, payload) = match self.attack {
            Attack::OldDays => ("speed", speed(MILLENNIUM + step * DAY % (millis - MILLENNIUM))),
            Attack::UnsetClock => {
                let begin = match number % 5 {
                    0 => MILLENNIUM,
                    1 => 315_964_800_000,
                    2 => 2_085_978_496_000,
                    3 => millis - 1_024 * 7 * DAY,
                    _ => 0,
                };
                ("speed", speed(begin + step * 1_000))
            }
            Attack::OffFlood => (if number % 4 == 3 { "on" } else { "off" }, Vec::new()),
            Attack::Garbage => ("speed", self.dice.bytes(9_000)),
            Attack::Malformed => self.malformed(millis),
            Attack::Nobody => {
                let nobody = format!("EVIL-nobody-{:x}", self.dice.roll());
                return Message { subject: self.subject(&nobody, "on"), headers: None, payload: Vec::new() };
            }
            Attack::Since => self.since(number, millis),
            Attack::Poison => match number / KNOWN % 20 {
                7 => ("off", Vec::new()),
                8 => ("on", Vec::new()),
                _ => ("speed", speed(millis)),
            },
        };
        let headers = (self.attack == Attack::Poison).then(|| self.headers());
        Message { subject: self.subject(&vehicle, last), headers, payload }
    }

    fn headers(&mut self) -> Vec<u8> {
        match self.dice.within(&(0..8)) {
            0 => b"NATS/1.0\r\nbad header line\r\n\r\n".to_vec(),
            1 => b"NATS/9.9 404 x\r\n\r\n".to_vec(),
            2 => b"NATS/1.0 404 Message Not Found\r\n\r\n".to_vec(),
            3 => b"NATS/1.0 abc\r\nNats-Sequence: 1\r\nNats-Time-Stamp: x\r\n\r\n".to_vec(),
            4 => b"\r\n".to_vec(),
            5 => Vec::new(),
            6 => [&b"NATS/1.0\r\nA: "[..], &[b'x'; 3_000], b"\r\n\r\n"].concat(),
            _ => self.dice.bytes(40),
        }
    }

    fn malformed(&mut self, millis: i64) -> (&'static str, Vec<u8>) {
        let payload = match self.dice.within(&(0..12)) {
            // Frames: cut off, none, more than there is, random.
            0 => vec![0xf1],
            1 => [&[0xf1, 0, 0, 0][..], &self.dice.bytes(8)].concat(),
            2 => [&[0xf1, 64, 0, 0][..], &self.dice.bytes(10)].concat(),
            3 => [&[0xf1, 2, 1, 0][..], &self.dice.bytes(14)].concat(),
            // SenML, JSON and CBOR.
            4 => b"[{\"n\":\"speed\",\"u\":\"km/h\",\"v\":".to_vec(),
            5 => b"[{\"bn\":\"x\",\"u\":\"furlong\",\"v\":1,\"t\":1e308}]".to_vec(),
            6 => [&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &self.dice.bytes(20)].concat(),
            7 => [&[0x81, 0xbf, 0x5b][..], &[0x7f; 8], &self.dice.bytes(9)].concat(),
            // Plain JSON.
            8 => format!("{{\"ts\":{millis},\"value\":1e999}}").into_bytes(),
            9 => format!("{{\"ts\":{millis},\"value\":4000}}").into_bytes(),
            10 => vec![b'['; 4_000],
            _ => Vec::new(),
        };
        let last = ["speed", "fuel", "position", "brake", "bogus"];
        (last[usize::try_from(self.dice.within(&(0..5))).unwrap_or(0)], payload)
    }

    fn since(&mut self, number: u64, millis: i64) -> (&'static str, Vec<u8>) {
        let since = |ms: i64| format!("{{\"since\":{ms}}}").into_bytes();
        match number / KNOWN % 9 {
            0 => ("on", since(3_471_292_800_000)),
            1 => ("on", since(millis + 90_000)),
            2 | 5 => ("on", since(millis - 30_000)),
            4 => ("off", Vec::new()),
            6 => ("on", since(MILLENNIUM)),
            7 => ("on", b"{\"since\":\"yesterday\"}".to_vec()),
            _ => ("speed", format!("{{\"ts\":{millis},\"value\":33}}").into_bytes()),
        }
    }
}
