//! Poisoned messages of a vehicle with its own login, by TLS, to a worker with its own.

use fleet_core::nats::reader::{Headers, Read, Reader, ReaderOptions};
use fleet_core::nats::{Auth, Key, Names, NatsOptions, StreamOptions, set_up};
use fleet_core::{CellId, Schema};

use super::guarded::Guarded;
use crate::reader::poison::{blocks, gather, publish};
use crate::reader::{SOON, flush, until};
use crate::world::eventually;

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
