//! Streams that are read in order: by catch-ups, by `replay`, whatever is stored in them and whatever becomes of
//! the connection.

mod broken;
mod poison;
mod proxy;
mod same;
mod times;

use fleet_core::nats::{Begin, History, Names, NatsOptions, StreamOptions, set_up};
use fleet_core::{CellId, Micros, Schema, VehicleId};
use fleet_worker::local::NatsServer;

/// A server with the streams of cell 0.
async fn server() -> (NatsServer, async_nats::jetstream::Context) {
    let server = NatsServer::start().await.unwrap();
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let names = Names::new(&CellId::default());
    set_up(&js, &names, &Schema::default(), &StreamOptions::default()).await.unwrap();
    (server, js)
}

async fn history(url: &str) -> History {
    let names = Names::new(&CellId::default());
    History::connect(&NatsOptions::new(url), &names, &Schema::default()).await.unwrap()
}

/// Vehicle, signal, payload and when it was stored.
type Told = (String, u8, Vec<u8>, Micros);

/// Everything of all vehicles.
async fn swept(history: &History, begin: Begin) -> Vec<Told> {
    swept_of(history, begin, &[]).await
}

/// Everything of these.
async fn swept_of(history: &History, begin: Begin, vehicles: &[VehicleId]) -> Vec<Told> {
    let mut told = Vec::new();
    let mut sweep = history.sweep(begin, vehicles).await.unwrap();
    while sweep.next(|message| told.push(owned(&message))).await.unwrap() {}
    told
}

fn owned(message: &fleet_core::nats::Told<'_>) -> Told {
    (message.vehicle.to_owned(), message.signal.0, message.payload.to_vec(), message.stored)
}
