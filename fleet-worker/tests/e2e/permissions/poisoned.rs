//! Poisoned messages of a vehicle with its own login, by TLS, to a worker with its own.

use async_nats::jetstream;
use fleet_core::nats::reader::{Headers, Read, Reader, ReaderOptions};
use fleet_core::nats::{Auth, Key, Names, NatsOptions, StreamOptions, set_up};
use fleet_core::{CellId, Schema};
use fleet_worker::clock::now;

use super::guarded::Guarded;
use super::job::{Job, until_active};
use crate::poisoned::{say, vehicles};
use crate::reader::poison::{blocks, gather, publish};
use crate::reader::{SOON, flush, until};
use crate::world::{Hand, eventually};

async fn log_in(guarded: &Guarded, seed: String, name: &str) -> Reader {
    let mut nats = NatsOptions::new(guarded.url());
    (nats.auth, nats.ca_file) = (Auth::Nkey(Key::Given(seed)), Some(guarded.ca.file()));
    Reader::connect(ReaderOptions::new(nats, name)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_vehicle_is_read_live_and_got_directly() {
    let guarded = Guarded::start(&["EVIL"]).await;
    let js = guarded.operator().await;
    let (names, schema) = (Names::new(&CellId::default()), Schema::default());
    let small = StreamOptions { max_bytes: 1 << 28, ..StreamOptions::default() };
    set_up(&js, &names, &schema, &small).await.unwrap();
    let mut worker = log_in(&guarded, guarded.seed("WORKER_0_A"), "fleet-live-0").await;
    let sid = worker.subscribe("fleet.0.EVIL.*").unwrap();
    flush(&mut worker).await;
    let mut evil = log_in(&guarded, guarded.vehicle_seed("EVIL"), "EVIL").await;
    let published = publish(&mut evil, "fleet.0.EVIL.speed");
    flush(&mut evil).await;
    let found = gather(&mut worker, published.len(), |message| message.sid == sid).await;
    // Between accounts the server writes a header of its own, and takes one of two bytes for a part of the payload.
    for payload in published.keys().filter(|payload| !payload.is_empty()) {
        assert_eq!(
            found.keys().filter(|found| found.ends_with(payload)).count(),
            1,
            "{}",
            payload.escape_ascii()
        );
    }

    // The stream takes messages of up to 4 KiB.
    let small = blocks().iter().filter(|(_, block)| block.len() < 4_000).count() as u64 + 1;
    let stored = async || js.get_stream("TELEMETRY_0").await.unwrap().cached_info().state.messages == small;
    eventually("the small ones are stored", SOON, stored).await;
    let inbox = "_INBOX.fleet-live-0.get";
    worker.subscribe(inbox).unwrap();
    worker.publish("$JS.API.DIRECT.GET.TELEMETRY_0.fleet.0.EVIL.speed", Some(inbox), b"").unwrap();
    let answer = |read: Read<'_>| match read {
        Read::Message(message) => message.headers.and_then(Headers::stored).map(|stored| stored.sequence),
        Read::Event(event) => panic!("{event:?}"),
    };
    assert_eq!(until(&mut worker, "an answer", answer).await, small);
}

/// As in one account, with programs that have no more than they need.
#[tokio::test(flavor = "multi_thread")]
async fn poisoned_trips_begin_and_end_with_the_shipped_logins() {
    // Between accounts the server takes a header of one or two bytes for a part of the payload, which is no `on`'s.
    let vehicles: Vec<_> = vehicles().into_iter().filter(|(_, block)| block.len() > 2).collect();
    let ids: Vec<&str> = ["GOOD"].into_iter().chain(vehicles.iter().map(|(id, _)| id.as_str())).collect();
    let mut job = Job::start(&ids).await;
    let discovery = job.program("discover", "DISCOVERY_0_A").await;
    let worker = job.program("run", "WORKER_0_A").await;
    let (mut hands, mut evil) = (Vec::new(), Vec::new());
    for id in &ids {
        hands.push(Hand::on(jetstream::new(job.guarded.vehicle(id).await.0), id));
    }
    hands[0].send("on", "").await;
    for (id, block) in &vehicles {
        let mut reader = log_in(&job.guarded, job.guarded.vehicle_seed(id), id).await;
        say(&mut reader, id, "on", block).await;
        evil.push(reader);
    }
    until_active(&discovery, ids.len() as u64).await;
    let begun = now() - 6_000_000;
    for hand in &mut hands {
        hand.drive(begun, 4).await;
    }
    for ((id, block), reader) in vehicles.iter().zip(&mut evil) {
        say(reader, id, "off", block).await;
    }
    hands[0].send("off", "").await;
    until_active(&discovery, 0).await;
    job.assert_exact(&hands).await;
    for program in [&discovery, &worker] {
        assert!(!program.process.logs().contains("refuses"), "{}", program.process.logs());
    }
}
