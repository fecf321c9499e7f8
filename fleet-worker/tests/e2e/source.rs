//! The source by itself on a real server: the order in which it tells things, and how it gets what it
//! could not take.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fleet_core::ids::Slot;
use fleet_core::nats::{Names, NatsOptions, NatsSource, SourceOptions, StreamOptions, set_up};
use fleet_core::source::{Attach, Source, SourceEvent};
use fleet_core::time::{Micros, SECOND};
use fleet_core::{CellId, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;
use futures_util::StreamExt;
use tokio::time::timeout;

/// A source on a server of its own.
struct World {
    source: NatsSource,
    js: async_nats::jetstream::Context,
    names: Names,
    nats: NatsServer,
}

async fn connect(nats: &NatsServer, options: SourceOptions) -> NatsSource {
    let (names, nats) = (Names::new(&CellId::default()), NatsOptions::new(nats.url()));
    NatsSource::connect(&nats, &names, &Schema::default(), options).await.unwrap()
}

impl World {
    async fn new(round_interval: Duration) -> Self {
        Self::on(NatsServer::start().await.unwrap(), round_interval).await
    }

    async fn on(nats: NatsServer, round_interval: Duration) -> Self {
        let (names, schema) = (Names::new(&CellId::default()), Schema::default());
        let js = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        set_up(&js, &names, &schema, &StreamOptions::default()).await.unwrap();
        let rounds = SourceOptions { round_interval, ..SourceOptions::default() };
        let source = connect(&nats, rounds).await;
        Self { source, js, names, nats }
    }

    fn attach(&mut self, slot: Slot, name: &str) -> VehicleId {
        self.take_over(slot, name, None)
    }

    /// One whose holder has taken what was stored before then.
    fn take_over(&mut self, slot: Slot, name: &str, taken: Option<Micros>) -> VehicleId {
        let (vehicle, from) = (VehicleId::new(name).unwrap(), now() - 10 * SECOND);
        let attach = Attach { slot, vehicle: vehicle.clone(), from, taken, on_time: from, stored_at: None };
        self.source.attach(vec![attach]);
        vehicle
    }

    async fn until_caught_up(&mut self) {
        self.until(|event| matches!(event, SourceEvent::CaughtUp(_))).await;
    }

    /// What comes before an event.
    async fn until(&mut self, is_end: fn(&SourceEvent) -> bool) -> Vec<u32> {
        let mut found = Vec::new();
        let all = async {
            loop {
                let event = self.source.next().await.unwrap();
                if is_end(&event) {
                    return;
                }
                if let SourceEvent::Message(message) = event {
                    found.push(u32::from_le_bytes(*message.payload.first_chunk().unwrap()));
                }
            }
        };
        assert!(timeout(Duration::from_secs(20), all).await.is_ok(), "it did not come, only {found:?}");
        found
    }

    async fn last_sequence(&self) -> u64 {
        let stream = self.js.get_stream(self.names.telemetry_stream()).await.unwrap();
        stream.cached_info().state.last_sequence
    }

    /// How many fences are in the stream.
    async fn fences(&self) -> usize {
        let stream = self.js.get_stream(self.names.telemetry_stream()).await.unwrap();
        let subjects = stream.info_with_subjects(self.names.fence()).await.unwrap();
        let counts = subjects.map(|subject| subject.unwrap().1);
        counts.collect::<Vec<_>>().await.into_iter().sum()
    }

    /// When the last message was stored.
    async fn last_stored(&self) -> Micros {
        let stream = self.js.get_stream(self.names.telemetry_stream()).await.unwrap();
        let last = stream.get_raw_message(self.last_sequence().await).await.unwrap().time;
        i64::try_from(last.unix_timestamp_nanos() / 1_000).unwrap()
    }

    async fn publish(&self, vehicle: &VehicleId, signal: &str, n: u32) {
        let subject = self.names.subject(vehicle, signal);
        self.js.publish(subject, n.to_le_bytes().to_vec().into()).await.unwrap().await.unwrap();
    }
}

/// The server gives up a connection that does not take what is sent to it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_reader_did_not_take_is_caught_up() {
    let nats =
        NatsServer::builder().config("max_pending: 4MB\nwrite_deadline: \"1s\"").start().await.unwrap();
    let mut world = World::on(nats, Duration::from_millis(200)).await;
    world.attach(Slot(1), "QUIET");
    world.until_caught_up().await;
    let vehicle = world.attach(Slot(0), "SLOW");
    world.until_caught_up().await;

    // Nobody reads the source while these come: more than sockets have room for.
    let subject = world.names.subject(&vehicle, "speed");
    let payload = |n: u32| [n.to_le_bytes().to_vec(), vec![0; 4_000]].concat();
    let mut acks = Vec::new();
    for n in 0..4_000 {
        acks.push(world.js.publish(subject.clone(), payload(n).into()).await.unwrap());
        if acks.len() == 64 {
            futures_util::future::try_join_all(acks.drain(..).map(IntoFuture::into_future)).await.unwrap();
        }
    }
    futures_util::future::try_join_all(acks.into_iter().map(IntoFuture::into_future)).await.unwrap();
    let mut found = BTreeSet::new();
    let all = async {
        let mut caught_up = BTreeSet::new();
        while found.len() < 4_000 || caught_up.len() < 2 {
            match world.source.next().await.unwrap() {
                SourceEvent::Message(message) => {
                    found.insert(u32::from_le_bytes(*message.payload.first_chunk().unwrap()));
                }
                SourceEvent::CaughtUp(slots) => caught_up.extend(slots),
                _ => {}
            }
        }
    };
    let all = timeout(Duration::from_secs(60), all).await;
    let missing: Vec<_> = (0..4_000).filter(|n| !found.contains(n)).collect();
    let first = missing.first();
    assert!(
        all.is_ok(),
        "{} are missing, the first is {first:?}: {:?}",
        missing.len(),
        world.source.counters()
    );
    assert!(world.source.counters().reconnects.load(Relaxed) > 0, "the server was patient");
    assert!(world.source.counters().caught_up.load(Relaxed) > 0, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_end_of_a_catch_up_follows_it_in_order() {
    let mut world = World::new(Duration::from_secs(2)).await;
    world.attach(Slot(0), "FIRST");
    world.until_caught_up().await;
    // The next round begins two seconds after that one: until then all that comes live waits.
    let vehicle = world.attach(Slot(1), "SECOND");
    let (mut published, mut caught_up) = (0, false);
    let (mut stored, mut live) = (Vec::new(), Vec::new());
    let all = async {
        while live.last() != Some(&published) || published < 10 || !caught_up {
            if !caught_up || published < 10 {
                published += 1;
                world.publish(&vehicle, "speed", published).await;
            }
            while let Ok(event) = timeout(Duration::from_millis(100), world.source.next()).await {
                match event.unwrap() {
                    SourceEvent::Message(message) => {
                        assert_eq!(message.live, caught_up, "{message:?}");
                        let n = u32::from_le_bytes(*message.payload.first_chunk().unwrap());
                        if message.live { live.push(n) } else { stored.push(n) }
                    }
                    SourceEvent::CaughtUp(slots) => caught_up |= slots == [Slot(1)],
                    _ => {}
                }
            }
        }
    };
    let all = timeout(Duration::from_secs(20), all).await;
    assert!(all.is_ok(), "caught up: {caught_up}, live {live:?} of {published}");
    assert!(live.len() > 1 && live.is_sorted(), "{live:?}");
    let found: BTreeSet<u32> = stored.into_iter().chain(live).collect();
    assert_eq!(found, (1..=published).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_handed_over_does_not_wait_for_the_others_round() {
    let mut world = World::new(Duration::from_secs(3_600)).await;
    world.attach(Slot(0), "FIRST");
    world.until_caught_up().await;
    // Its round begins in an hour.
    world.attach(Slot(1), "SECOND");
    world.take_over(Slot(2), "THIRD", Some(now() - SECOND));
    world.until_caught_up().await;
    world.take_over(Slot(3), "FOURTH", Some(now() - SECOND));
    world.until_caught_up().await;
    assert_eq!(world.source.counters().catching_up.vehicles(), 1, "the second");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_was_taken_before_only_that_which_is_missed_is_read() {
    let mut world = World::new(Duration::from_millis(200)).await;
    let vehicle = VehicleId::new("MOVED").unwrap();
    world.publish(&vehicle, "fuel", 0).await;
    world.publish(&vehicle, "speed", 1).await;
    let taken = world.last_stored().await + 1;
    world.publish(&vehicle, "speed", 2).await;
    world.take_over(Slot(0), "MOVED", Some(taken));
    let is_end: fn(&SourceEvent) -> bool = |event| matches!(event, SourceEvent::CaughtUp(_));
    assert_eq!(world.until(is_end).await, [2]);
    // Its last fuel is not missing.
    world.source.settle(Slot(0));
    assert_eq!(world.until(|event| matches!(event, SourceEvent::Settled(_))).await, [0; 0]);
    // The counter of a frame says that one is missing.
    world.source.catch_up(&[(Slot(0), taken)]);
    assert_eq!(world.until(is_end).await, [0, 1, 2]);
}

/// A loss that its holder did not notice.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_is_looked_through_in_the_next_audit() {
    let mut world = World::new(Duration::from_millis(200)).await;
    let vehicle = VehicleId::new("MOVED").unwrap();
    world.publish(&vehicle, "speed", 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One that begins now: its audits are of what comes from here on.
    let options = SourceOptions {
        margin: Duration::from_millis(100),
        audit_interval: Some(Duration::from_secs(20)),
        ..SourceOptions::default()
    };
    world.source = connect(&world.nats, options).await;
    world.take_over(Slot(0), "MOVED", Some(world.last_stored().await + 1));
    let is_end: fn(&SourceEvent) -> bool = |event| matches!(event, SourceEvent::CaughtUp(_));
    assert_eq!(world.until(is_end).await, [0; 0]);
    assert_eq!(world.until(is_end).await, [1]);
}

/// The stream is lost between a catch-up's fence and its round.
async fn a_lost_fence(grown_again: bool) {
    let mut world = World::new(Duration::from_secs(2)).await;
    let first = world.attach(Slot(0), "FIRST");
    world.until_caught_up().await;
    for n in 0..20 {
        world.publish(&first, "speed", n).await;
    }
    world.attach(Slot(1), "SECOND");
    // Its fence stands; its round begins two seconds after the other's.
    let fenced = async {
        while world.last_sequence().await < 22 {
            let _ = timeout(Duration::from_millis(20), world.source.next()).await;
        }
    };
    timeout(Duration::from_secs(20), fenced).await.unwrap();
    world.js.delete_stream(world.names.telemetry_stream()).await.unwrap();
    set_up(&world.js, &world.names, &Schema::default(), &StreamOptions::default()).await.unwrap();
    if grown_again {
        // Another message has the fence's sequence now, and more follow.
        for n in 0..40 {
            world.publish(&first, "speed", n).await;
        }
    }
    let caught_up = async {
        loop {
            if let SourceEvent::CaughtUp(slots) = world.source.next().await.unwrap() {
                return slots;
            }
        }
    };
    let slots = timeout(Duration::from_secs(30), caught_up).await;
    assert_eq!(slots.expect("the catch-up does not end"), [Slot(1)]);
    // Not by the message that stands there instead: a fence of its own was set in the new stream.
    assert_eq!(world.fences().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_whose_fence_is_gone_ends() {
    a_lost_fence(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_is_not_ended_by_what_has_its_fences_sequence_now() {
    a_lost_fence(true).await;
}
