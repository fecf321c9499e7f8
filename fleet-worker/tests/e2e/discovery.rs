//! Discovery by itself on a real server.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use fleet_core::CellId;
use fleet_core::nats::{Discovery, Names, NatsOptions, StreamOptions, set_up};
use fleet_worker::local::NatsServer;
use tokio::task::JoinHandle;

use crate::reader::poison::{blocks, publish};
use crate::reader::{SOON, flush, open};
use crate::world::eventually;

struct World {
    server: NatsServer,
    js: Context,
    discovery: Discovery,
    running: JoinHandle<fleet_core::error::Result<()>>,
}

impl World {
    async fn new(options: &StreamOptions) -> Self {
        // It keeps what it acknowledged even if it is killed.
        let server = NatsServer::builder().jetstream("sync_interval: always").start().await.unwrap();
        let (names, schema) = (Names::new(&CellId::default()), fleet_core::Schema::default());
        let js = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        set_up(&js, &names, &schema, options).await.unwrap();
        let nats = NatsOptions::new(server.url());
        let discovery = Discovery::connect(&nats, &names, options.max_age).await.unwrap();
        let runs = discovery.clone();
        let running = tokio::spawn(async move { runs.run(std::future::pending(), || {}).await });
        let world = Self { server, js, discovery, running };
        world.until_reading().await;
        world
    }

    async fn until_reading(&self) {
        eventually("it reads", SOON, async || self.discovery.is_reading()).await;
    }

    async fn on(&self, vehicle: &str, payload: &str) {
        let subject = format!("fleet.0.{vehicle}.on");
        self.js.publish(subject, payload.to_owned().into()).await.unwrap().await.unwrap();
    }

    /// Waits until so many vehicles are in the queue, and no `on` is left.
    async fn until_enqueued(&self, vehicles: u64) {
        let what = format!("{vehicles} are enqueued");
        eventually(&what, SOON, async || {
            let waiting = self.discovery.bindings().await.is_ok_and(|bindings| bindings.waiting == vehicles);
            waiting && self.discovery.unread().await.is_ok_and(|unread| unread == 0)
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_said_and_the_reading_goes_on() {
    let mut world = World::new(&StreamOptions::default()).await;
    world.on("FIRST", "").await;
    world.until_enqueued(1).await;
    world.server.kill().await;
    eventually("it says so", SOON, async || !world.discovery.is_reading()).await;
    world.server.start_again().await.unwrap();
    world.until_reading().await;
    // More than one group, each answered.
    for n in 0..600 {
        world.on(&format!("CAR-{n}"), "").await;
    }
    world.until_enqueued(601).await;
    let counters = world.discovery.counters();
    assert_eq!((counters.enqueued.load(Relaxed), counters.failed.load(Relaxed)), (601, 0));
    // The server may have lost the answer to the first one, and no other.
    assert!(counters.on.load(Relaxed) <= 602, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_for_good_and_what_cannot_be_dealt_with_comes_again() {
    let world = World::new(&StreamOptions::default()).await;
    world.on("BAD", "{\"stream\":\"X\",\"seq\":1}").await;
    world.on("GOOD", "").await;
    world.until_enqueued(1).await;
    let counters = world.discovery.counters();
    assert_eq!((counters.on.load(Relaxed), counters.refused.load(Relaxed)), (2, 1));

    // A queue that takes nothing.
    let full = world.js.get_stream("BINDINGS_0").await.unwrap().cached_info().config.clone();
    let mut config = full.clone();
    config.max_messages = 1;
    world.js.update_stream(config).await.unwrap();
    world.on("NEXT", "").await;
    eventually("it fails again and again", SOON, async || counters.failed.load(Relaxed) >= 2).await;
    assert!(!world.discovery.is_enqueuing() && world.discovery.is_reading());
    world.js.update_stream(full).await.unwrap();
    world.until_enqueued(2).await;
    assert!(world.discovery.is_enqueuing());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_that_is_over_for_long_is_none_whatever_its_off_looks_like() {
    let options = StreamOptions { max_age: Duration::from_secs(120), ..StreamOptions::default() };
    let world = World::new(&options).await;
    world.running.abort();
    let mut vehicle = open(&world.server, true).await;
    let small: Vec<_> = blocks().into_iter().filter(|(_, block)| block.len() < 3_900).collect();
    for (n, (_, block)) in small.iter().enumerate() {
        for word in ["on", "off"] {
            let subject = format!("fleet.0.EVIL-{n}.{word}");
            vehicle.publish_with_headers(&subject, None, block, b"").unwrap();
        }
    }
    flush(&mut vehicle).await;
    world.on("STILL", "").await;
    // All is older than samples are kept, by a clock that counts none of them.
    let (nats, names) = (NatsOptions::new(world.server.url()), Names::new(&CellId::default()));
    let discovery = Discovery::connect(&nats, &names, Duration::ZERO).await.unwrap();
    let (runs, counters) = (discovery.clone(), discovery.counters());
    let running = tokio::spawn(async move { runs.run(std::future::pending(), || {}).await });
    world.until_enqueued(1).await;
    assert_eq!(counters.off.load(Relaxed), small.len() as u64);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_on_odd_subjects_are_counted_and_delay_nothing() {
    let world = World::new(&StreamOptions::default()).await;
    let counters = world.discovery.counters();
    let mut evil = open(&world.server, true).await;
    let subjects = ["fleet.0.EVIL", "fleet.0.EVIL.speed.x", "fleet.0.EVIL.speed.x.y"];
    // Whoever listens may not do so yet.
    let client = async_nats::connect(world.server.url()).await.unwrap();
    eventually("it listens", SOON, async || {
        client.publish(subjects[0], "".into()).await.unwrap();
        client.flush().await.unwrap();
        counters.strays.load(Relaxed) > 0
    })
    .await;
    // What was sent for that is counted by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = counters.strays.load(Relaxed);
    let each: usize = subjects.map(|subject| publish(&mut evil, subject).len()).iter().sum();
    for n in 0..20_000 {
        evil.publish(subjects[n % 3], None, &[0; 100]).unwrap();
    }
    flush(&mut evil).await;
    world.on("GOOD", "").await;
    world.until_enqueued(1).await;
    let all = before + each as u64 + 20_000;
    eventually("all are counted", SOON, async || counters.strays.load(Relaxed) == all).await;
    assert!(world.discovery.is_reading());
    assert_eq!(counters.on.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_on_signals_says_so() {
    let logins = r#"authorization { users: [
        { user: all, password: x }
        { user: mute, password: x, permissions: { publish: { allow: [">"], deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] } } }
    ] }"#;
    let server = NatsServer::builder().config(logins).start().await.unwrap();
    let at = |login: &str| NatsOptions::new(format!("nats://{login}:x@127.0.0.1:{}", server.port()));
    let names = Names::new(&CellId::default());
    let all = fleet_core::nats::connect(&at("all"), "test", |_| {}).await.unwrap();
    let options = StreamOptions::default();
    set_up(&jetstream::new(all), &names, &fleet_core::Schema::default(), &options).await.unwrap();
    for (login, reads) in [("all", true), ("mute", false)] {
        let discovery = Discovery::connect(&at(login), &names, options.max_age).await.unwrap();
        let (runs, turns) = (discovery.clone(), Arc::new(AtomicU64::new(0)));
        let turned = Arc::clone(&turns);
        let beat = move || {
            turned.fetch_add(1, Relaxed);
        };
        let running = tokio::spawn(async move { runs.run(std::future::pending(), beat).await });
        // Before the first turns nobody reads.
        eventually("it runs", SOON, async || turns.load(Relaxed) > 10).await;
        eventually(login, SOON, async || discovery.is_reading() == reads).await;
        running.abort();
    }
}
