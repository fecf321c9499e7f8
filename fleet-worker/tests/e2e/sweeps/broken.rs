//! What breaks the reading of a stream again and again: passed over if it is a message, never if it is the link.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::jetstream::Context;
use fleet_core::ids::Slot;
use fleet_core::nats::{Begin, Names, NatsOptions, NatsSource, SourceOptions};
use fleet_core::source::{Attach, Source, SourceEvent};
use fleet_core::time::SECOND;
use fleet_core::{CellId, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::NatsServer;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::proxy::{Harm, Proxy};
use super::{history, server, swept};
use crate::alerts::Recording;
use crate::reader::SOON;
use crate::world::{Hand, QUICK, eventually, until_bound};

/// The end of the messages that do harm, on the wire: in base64 it looks otherwise.
const MARK: &[u8] = b"77.125}\r\n";

/// What each vehicle sends, the second one with messages that do harm, of which two come one after the other.
const PAYLOADS: [&str; 7] = ["1}", "77.125}", "2}", "3}", "77.125}", "9977.125}", "4}"];

fn vehicles(count: u32) -> Vec<VehicleId> {
    (0..count).map(|n| VehicleId::new(&format!("V{n}")).unwrap()).collect()
}

async fn publish(js: &Context, vehicles: &[VehicleId]) {
    for payload in PAYLOADS {
        for (n, vehicle) in vehicles.iter().enumerate() {
            if n == 1 || !payload.ends_with("77.125}") {
                let subject = format!("fleet.0.{vehicle}.speed");
                js.publish(subject, payload.into()).await.unwrap().await.unwrap();
            }
        }
    }
}

/// What a source over a link finds of the vehicles, how many messages it passed over, and what the dead letters are.
async fn caught_up(
    server: &NatsServer,
    js: &Context,
    proxy: &Proxy,
    vehicles: &[VehicleId],
) -> (BTreeMap<u32, Vec<String>>, u64, Vec<(String, String)>) {
    publish(js, vehicles).await;
    let names = Names::new(&CellId::default());
    let options = SourceOptions { round_interval: Duration::from_millis(200), ..SourceOptions::default() };
    let nats = NatsOptions::new(proxy.url());
    let mut source = NatsSource::connect(&nats, &names, &Schema::default(), options).await.unwrap();
    let counters = source.counters();
    let from = now() - 10 * SECOND;
    let attach = |(slot, vehicle): (u32, &VehicleId)| Attach {
        slot: Slot(slot),
        vehicle: vehicle.clone(),
        from,
        taken: None,
        on_time: from,
        stored_at: None,
    };
    source.attach((0..).zip(vehicles).map(attach).collect());
    assert_eq!(counters.catching_up.vehicles(), vehicles.len() as u64);
    let (mut found, mut left): (BTreeMap<u32, Vec<String>>, _) = (BTreeMap::new(), vehicles.len());
    let all = async {
        while left > 0 {
            match source.next().await.unwrap() {
                SourceEvent::Message(message) => {
                    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                    found.entry(message.slot.0).or_default().push(payload);
                }
                SourceEvent::CaughtUp(slots) => left -= slots.len(),
                // The stream is younger than what is wanted.
                SourceEvent::Gap { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(timeout(SOON, all).await.is_ok(), "{left} are not caught up; {found:?}");
    assert_eq!((counters.catching_up.vehicles(), counters.catching_up.oldest()), (0, Duration::ZERO));
    source.shut_down().await;
    let letters = letters(server).await;
    (found, counters.unreadable.load(Relaxed), letters)
}

/// Reason and payload of all dead letters.
async fn letters(server: &NatsServer) -> Vec<(String, String)> {
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let mut stream = js.get_stream("DEADLETTER_0").await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let letter = async |sequence| {
        let letter = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(letter.subject.as_str(), "deadletter.0.V1");
        let reason = letter.headers.get("Fleet-Reason").unwrap().as_str().to_owned();
        (reason, String::from_utf8(letter.payload.to_vec()).unwrap())
    };
    futures_util::stream::iter(1..=last).then(letter).collect().await
}

fn harmless() -> Vec<String> {
    PAYLOADS.iter().filter(|payload| !payload.ends_with("77.125}")).map(ToString::to_string).collect()
}

/// Filtered by the server with few vehicles, all of the tail with more.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_understood_are_passed_over_and_become_dead_letters() {
    for count in [3, 20] {
        let (server, js) = server().await;
        let proxy = Proxy::to(server.port(), MARK, Harm::Garble, u32::MAX).await;
        let vehicles = vehicles(count);
        let (found, unreadable, letters) = caught_up(&server, &js, &proxy, &vehicles).await;
        assert!(proxy.done() >= 6, "each message twice, not {} in all", proxy.done());
        assert_eq!(found.len(), vehicles.len());
        for (slot, payloads) in found {
            assert_eq!(payloads, harmless(), "vehicle {slot} of {count}");
        }
        // The same payload twice is one letter.
        let wanted = ["77.125}", "9977.125}"].map(|payload| ("unreadable".to_owned(), payload.to_owned()));
        assert_eq!((unreadable, letters), (3, wanted.to_vec()));
    }
}

/// Were a lost connection a message's fault, this would be passed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_in_the_same_place_costs_no_message() {
    for harm in [Harm::Cut, Harm::Garble] {
        let (server, js) = server().await;
        // Words that are not understood once may be the link's fault, too.
        let times = if harm == Harm::Cut { 7 } else { 1 };
        let proxy = Proxy::to(server.port(), MARK, harm, times).await;
        let vehicles = vehicles(3);
        let (found, unreadable, letters) = caught_up(&server, &js, &proxy, &vehicles).await;
        assert_eq!((proxy.done(), unreadable, letters), (times, 0, vec![]));
        let mut all: Vec<_> = PAYLOADS.map(str::to_owned).into();
        let mut found = found[&1].clone();
        // A round that was given up begins again with what it has read.
        for payloads in [&mut all, &mut found] {
            payloads.sort();
            payloads.dedup();
        }
        assert_eq!(found, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_passes_over_what_is_not_understood() {
    let (server, js) = server().await;
    let vehicles = vehicles(3);
    publish(&js, &vehicles).await;
    let proxy = Proxy::to(server.port(), MARK, Harm::Garble, u32::MAX).await;
    let found = timeout(SOON, swept(&history(&proxy.url()).await, Begin::At(0))).await.unwrap();
    for vehicle in vehicles {
        let of = found.iter().filter(|told| told.0 == vehicle.as_str());
        let payloads: Vec<_> = of.map(|told| String::from_utf8(told.2.clone()).unwrap()).collect();
        assert_eq!(payloads, harmless());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_catch_up_does_not_get_on_is_not_ready_and_says_since_when() {
    let nats = NatsServer::start().await.unwrap();
    let proxy = Proxy::to(nats.port(), MARK, Harm::Cut, u32::MAX).await;
    let url = proxy.url();
    let config = format!("{QUICK}catch_up_timeout = \"1s\"\n[nats]\nurl = {url:?}\n");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let deployment = Deployment::start_on(nats, program, &config, 1).await.unwrap();
    let worker = &deployment.workers[0];
    let ready = async || worker.get("/readyz").await.unwrap_or_default();
    assert_eq!(ready().await, (200, "ok\n".to_owned()));
    let mut recording = Recording::of(&deployment.workers).await;

    let mut hand = Hand::new(&deployment, "STUCK").await;
    let begun = now() - 10 * SECOND;
    hand.drive(begun, 4).await;
    hand.speed(begun + 5 * SECOND, 77.125).await;
    hand.drive(begun + 6 * SECOND, 3).await;
    hand.send("on", "").await;
    let unready = async || ready().await == (503, "not ready: catch-up\n".to_owned());
    eventually("the worker is not ready", SOON, unready).await;
    until_bound(&deployment, 1, SOON).await;
    assert_eq!(worker.metric("fleet_source_catching_up").await, Some(1));
    assert!(worker.metric("fleet_source_catching_up_seconds").await >= Some(1));
    assert_eq!(worker.metric("fleet_source_followed").await, Some(0));
    let said = async || worker.process.logs().contains("a catch-up round failed");
    eventually("the round is given up", SOON, said).await;
    recording.scrape(&deployment.workers).await;
    let alerts = recording.alerts();
    alerts.assert_leads("FleetCatchUpStuck", &[worker.address(), "cell 0"], &worker.process.logs());
    alerts.assert_silent(&["FleetNatsAway", "FleetSinkAway"]);

    proxy.heal();
    eventually("the worker is ready again", SOON, async || ready().await.0 == 200).await;
    assert_eq!(worker.metric("fleet_source_catching_up").await, Some(0));
    assert_eq!(worker.metric("fleet_source_unreadable_total").await, Some(0));
    hand.send("off", "").await;
    deployment.until_released(SOON).await.unwrap();
    hand.assert_exact(&deployment).await;
}
