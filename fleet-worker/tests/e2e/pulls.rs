//! Bind requests and `on` signals that are on their way to a program when it ends.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use fleet_core::bind::Binder;
use fleet_core::bind::memory::MemoryStates;
use fleet_core::nats::{
    BindRequest, BinderOptions, Discovery, Names, NatsBinder, NatsOptions, ServerClock, StreamOptions, set_up,
};
use fleet_core::{CellId, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::world::eventually;

/// No request may come back by waiting.
const ACK_WAIT: Duration = Duration::from_secs(3600);

/// Publishes about vehicles, one after the other, as quickly as the server keeps it, until it is told to end.
async fn publish(
    js: jetstream::Context,
    ends: Arc<AtomicBool>,
    message: impl Fn(VehicleId) -> (String, Vec<u8>),
) {
    for group in 0.. {
        let mut acks = Vec::new();
        for number in group * 16..(group + 1) * 16 {
            let (subject, payload) = message(VehicleId::new(&format!("CAR-{number}")).unwrap());
            acks.push(js.publish(subject, payload.into()).await.unwrap().into_future());
        }
        join_all(acks).await.into_iter().for_each(|ack| drop(ack.unwrap()));
        if ends.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_keeps_no_request_that_was_on_its_way() {
    let server = NatsServer::builder().start().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let js = jetstream::new(client);
    let names = Names::new(&CellId::default());
    let streams = StreamOptions { ack_wait: ACK_WAIT, ..StreamOptions::default() };
    set_up(&js, &names, &Schema::default(), &streams).await.unwrap();
    let stream = js.get_stream(names.bind_stream()).await.unwrap();
    let consumer: PullConsumer = stream.get_consumer(Names::WORKERS).await.unwrap();
    let mut options = BinderOptions::new(0);
    options.max_vehicles = 100_000;
    let mut delivered = 0;
    for round in 0..25 {
        let ends = Arc::new(AtomicBool::new(false));
        let to = names.clone();
        let offering = tokio::spawn(publish(js.clone(), Arc::clone(&ends), move |vehicle| {
            let subject = to.bind(&vehicle);
            (subject, BindRequest { on_sequence: 1, on_time: now(), since: None, vehicle }.to_json())
        }));
        let (nats, states) = (NatsOptions::new(server.url()), Arc::new(MemoryStates::new()));
        let clock = ServerClock::default();
        let mut binder = NatsBinder::connect(&nats, &names, states, clock, options.clone()).await.unwrap();
        let enough = sleep(Duration::from_millis(20 + 7 * (round % 10)));
        tokio::pin!(enough);
        loop {
            tokio::select! {
                () = &mut enough => break,
                event = binder.next(100_000) => drop(event.unwrap()),
            }
        }
        binder.shut_down().await.unwrap();
        ends.store(true, Ordering::Relaxed);
        offering.await.unwrap();
        let stored = stream.get_info().await.unwrap().state.messages;
        let found = Cell::new(0);
        eventually(&format!("all {stored} can be had, round {round}"), Duration::from_secs(20), async || {
            let next = consumer.fetch().max_messages(1_000).expires(Duration::from_millis(500));
            let mut requests = next.messages().await.unwrap();
            while let Some(request) = requests.next().await {
                request.unwrap().double_ack().await.unwrap();
                found.set(found.get() + 1);
            }
            found.get() == stored
        })
        .await;
        delivered += stored;
    }
    assert!(delivered > 1_000, "{delivered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_that_ends_answers_every_on_that_was_sent_to_it() {
    let server = NatsServer::builder().start().await.unwrap();
    let js = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let names = Names::new(&CellId::default());
    set_up(&js, &names, &Schema::default(), &StreamOptions::default()).await.unwrap();
    let stream = js.get_stream(names.lifecycle_stream()).await.unwrap();
    for round in 0..15 {
        let nats = NatsOptions::new(server.url());
        let discovery = Discovery::connect(&nats, &names, Duration::from_secs(3600)).await.unwrap();
        let counters = discovery.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move { discovery.run(async { drop(stopped.await) }, || ()).await });
        let (to, ends) = (names.clone(), Arc::new(AtomicBool::new(false)));
        let switching_on = tokio::spawn(publish(js.clone(), Arc::clone(&ends), move |vehicle| {
            (to.subject(&vehicle, "on"), Vec::new())
        }));
        eventually("it reads", Duration::from_secs(20), async || counters.on.load(Ordering::Relaxed) > 0)
            .await;
        sleep(Duration::from_millis(7 * round)).await;
        drop(stop);
        running.await.unwrap().unwrap();
        ends.store(true, Ordering::Relaxed);
        switching_on.await.unwrap();
        let info = stream.consumer_info(Names::DISCOVERY).await.unwrap();
        assert_eq!(info.num_ack_pending, 0, "round {round}, of {}", info.delivered.consumer_sequence);
    }
}
