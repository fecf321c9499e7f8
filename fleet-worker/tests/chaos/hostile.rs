//! Vehicles that send what they should not. Their names begin with `EVIL`, and nothing that they send is
//! compared with the table.

use std::future::Future;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use fleet_core::VehicleId;
use fleet_core::nats::Names;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

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
}

impl Attack {
    pub(crate) const ALL: [Self; 7] = [
        Self::OldDays,
        Self::UnsetClock,
        Self::OffFlood,
        Self::Garbage,
        Self::Malformed,
        Self::Nobody,
        Self::Since,
    ];

    /// Messages a second of the test, so that two cores have something left for the others.
    pub(crate) fn pace(self) -> u64 {
        match self {
            Self::OldDays | Self::Malformed => 100,
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
    client: &Client,
    names: &Names,
    seed: u64,
    over: impl Future<Output = ()>,
) -> u64 {
    let mut attacker = Attacker { attack, names, dice: Dice::new(seed), sent: 0, run: seed % 1_000 };
    let mut over = std::pin::pin!(over);
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        tokio::select! {
            () = &mut over => break,
            _ = tick.tick() => {}
        }
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(pace) / 1_000;
        // After an outage it does not make up for what it could not send.
        sent = sent.max(due.saturating_sub(pace));
        while sent < due {
            let (subject, payload) = attacker.next();
            if timeout(Duration::from_secs(1), client.publish(subject, payload)).await.is_err() {
                break;
            }
            sent += 1;
        }
        let _ = timeout(Duration::from_secs(1), client.flush()).await;
    }
    for subject in attacker.known("off") {
        let _ = timeout(Duration::from_secs(1), client.publish(subject, Bytes::new())).await;
    }
    let _ = timeout(Duration::from_secs(1), client.flush()).await;
    // Acks and refusals are nobody's.
    sleep(Duration::from_millis(10)).await;
    attacker.sent
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
    fn next(&mut self) -> (String, Bytes) {
        let number = self.sent;
        self.sent += 1;
        let vehicle = self.vehicle(number);
        if number % 500 < KNOWN && self.attack != Attack::Nobody {
            return (self.subject(&vehicle, "on"), Bytes::new());
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
                return (self.subject(&nobody, "on"), Bytes::new());
            }
            Attack::Since => self.since(number, millis),
        };
        (self.subject(&vehicle, last), payload.into())
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
