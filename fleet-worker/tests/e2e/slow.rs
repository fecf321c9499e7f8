//! A consumer that is too slow for its subscription: the client drops messages, and the stream has
//! them.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet_core::ids::Slot;
use fleet_core::nats::{Names, NatsOptions, NatsSource, SourceOptions, StreamOptions, set_up};
use fleet_core::source::{Attach, Source, SourceEvent};
use fleet_core::{CellId, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_consumer_did_not_take_is_caught_up() {
    let nats = NatsServer::start().await.unwrap();
    let (names, schema) = (Names::new(&CellId::default()), Schema::default());
    let options = NatsOptions { subscription_capacity: 4, ..NatsOptions::new(nats.url()) };
    let js = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    set_up(&js, &names, &schema, &StreamOptions::default()).await.unwrap();
    let rounds = SourceOptions { round_interval: Duration::from_millis(200), ..SourceOptions::default() };
    let mut source = NatsSource::connect(&options, &names, &schema, rounds).await.unwrap();
    let vehicle = VehicleId::new("SLOW").unwrap();
    let from = now() - 10_000_000;
    source.attach(vec![Attach { slot: Slot(0), vehicle: vehicle.clone(), from, on_time: from }]);
    while !matches!(source.next().await.unwrap(), SourceEvent::CaughtUp(_)) {}

    // Nobody reads the source while these come.
    let wanted: BTreeSet<Vec<u8>> = (0..200_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    for payload in &wanted {
        js.publish(names.subject(&vehicle, "speed"), payload.clone().into()).await.unwrap().await.unwrap();
    }
    sleep(Duration::from_millis(200)).await;
    let mut found = BTreeSet::new();
    let all = async {
        while found.len() < wanted.len() {
            if let SourceEvent::Message(message) = source.next().await.unwrap() {
                found.insert(message.payload.to_vec());
            }
        }
    };
    let all = timeout(Duration::from_secs(20), all).await;
    assert!(all.is_ok(), "{} of {} messages were delivered", found.len(), wanted.len());
    assert_eq!(found, wanted);
    assert!(source.counters().slow.load(std::sync::atomic::Ordering::Relaxed) > 0, "nothing was dropped");
}
