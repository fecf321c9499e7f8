//! Ordinary messages come as a client library's ordered consumer gives them.

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use fleet_core::Schema;
use fleet_core::nats::Begin;
use futures_util::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::time::timeout;

use super::{Told, history, owned, server, swept};
use crate::reader::SOON;

/// Messages of some vehicles; every seventh is removed again.
async fn fill(js: &Context, messages: usize) {
    let signals: Vec<_> = Schema::default().signals().iter().map(|signal| signal.name.clone()).collect();
    let one = (0..40_usize, 0..signals.len(), prop::collection::vec(any::<u8>(), 0..120));
    let all =
        prop::collection::vec(one, messages).new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let mut acks = Vec::new();
    for (n, (vehicle, signal, payload)) in all.into_iter().enumerate() {
        let subject = format!("fleet.0.V{vehicle}.{}", signals[signal]);
        acks.push(js.publish(subject, payload.into()).await.unwrap());
        if n % 500 == 499 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    let stream = js.get_stream("TELEMETRY_0").await.unwrap();
    for sequence in (1..messages as u64 / 10).step_by(7) {
        stream.delete_message(sequence).await.unwrap();
    }
}

/// All signals' messages by the library.
async fn theirs(js: &Context, schema: &Schema) -> Vec<Told> {
    let stream = js.get_stream("TELEMETRY_0").await.unwrap();
    let mut messages =
        stream.create_consumer(OrderedConfig::default()).await.unwrap().messages().await.unwrap();
    let mut told = Vec::new();
    loop {
        let message = timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
        let info = message.info().unwrap();
        let stored = i64::try_from(info.published.unix_timestamp_nanos() / 1_000).unwrap();
        let tokens: Vec<_> = message.subject.split('.').collect();
        if let [_, _, vehicle, last] = tokens[..] {
            told.push((vehicle.to_owned(), schema.find(last).unwrap().0, message.payload.to_vec(), stored));
        }
        if info.pending == 0 {
            return told;
        }
    }
}

fn assert_same(found: &[Told], wanted: &[Told]) {
    assert_eq!(found.len(), wanted.len());
    let first = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    assert_eq!(first, None, "{:?} for {:?}", first.map(|n| &found[n]), first.map(|n| &wanted[n]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_gives_what_an_ordered_consumer_gives_also_across_restarts_of_the_server() {
    let (mut server, js) = server().await;
    fill(&js, 30_000).await;
    let wanted = theirs(&js, &Schema::default()).await;
    let history = history(&server.url()).await;
    assert_same(&swept(&history, Begin::At(0)).await, &wanted);
    let consumers = js.get_stream("TELEMETRY_0").await.unwrap().cached_info().state.consumer_count;
    assert!(consumers <= 1, "{consumers} consumers are left, of which one is the library's");

    // What lies between, by time and by sequence.
    let from = wanted[10_000].3;
    let later: Vec<_> = wanted.iter().filter(|told| told.3 >= from).cloned().collect();
    assert_same(&swept(&history, Begin::At(from)).await, &later);
    let end = history.sweep(Begin::At(0), &[]).await.unwrap().end();
    assert_same(&swept(&history, Begin::After(end)).await, &[]);

    let (mut found, mut restarts) = (Vec::new(), 0);
    let mut sweep = history.sweep(Begin::At(0), &[]).await.unwrap();
    while timeout(SOON, sweep.next(|told| found.push(owned(&told)))).await.unwrap().unwrap() {
        // Its consumers are gone with it, and what it has not sent yet.
        if found.len() > 8_000 * (restarts + 1) && restarts < 2 {
            restarts += 1;
            server.stop().await.unwrap();
            server.start_again().await.unwrap();
        }
    }
    assert_eq!(restarts, 2);
    assert_same(&found, &wanted);
}
