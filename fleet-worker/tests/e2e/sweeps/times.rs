//! From a time on, on a server that was restarted: a consumer with several subjects that is to begin at a time misses
//! what was stored before that.

use async_nats::jetstream;
use fleet_core::nats::{Begin, Names, StreamOptions, set_up};
use fleet_core::{CellId, Micros, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;

use super::{history, swept, swept_of};

/// A few hundred messages between two restarts.
const MESSAGES: usize = 300;

fn vehicles(count: usize) -> Vec<VehicleId> {
    (0..count).map(|n| VehicleId::new(&format!("CAR-{n}")).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_from_a_time_on_is_read_however_often_the_server_was_restarted() {
    let mut server = NatsServer::builder().jetstream("sync_interval: always").start().await.unwrap();
    let names = Names::new(&CellId::default());
    // When each message was about to be published, by the server's clock.
    let mut published: Vec<Micros> = Vec::new();
    for round in 0..4 {
        let js = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        set_up(&js, &names, &Schema::default(), &StreamOptions::default()).await.unwrap();
        for n in 0..MESSAGES {
            published.push(now());
            let subject = format!("fleet.0.CAR-{}.speed", n % 20);
            js.publish(subject, "1".into()).await.unwrap().await.unwrap();
        }
        if round % 2 == 0 {
            server.kill().await;
        } else {
            server.stop().await.unwrap();
        }
        server.start_again().await.unwrap();
        let history = history(&server.url()).await;
        for place in (0..published.len()).step_by(MESSAGES / 3) {
            for cars in [0, 5] {
                let all = published.len() - place;
                // Of every 20 messages, from that place on.
                let expected =
                    if cars == 0 { all } else { (place..published.len()).filter(|n| n % 20 < cars).count() };
                let found = swept_of(&history, Begin::At(published[place]), &vehicles(cars)).await;
                assert_eq!(found.len(), expected, "round {round}, {place}, {cars} vehicles");
            }
        }
    }
    // Before all, and after all.
    let history = history(&server.url()).await;
    assert_eq!(swept(&history, Begin::At(published[0] - 1)).await.len(), published.len());
    assert_eq!(swept(&history, Begin::At(now())).await.len(), 0);
}
