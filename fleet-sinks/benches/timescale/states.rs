//! What claims and states cost.

use std::time::Instant;

use fleet_core::bind::{ClaimRequest, LatestRow, Newest, NewestStore, StateStore, VehicleState};
use fleet_core::sample::NewestSamples;
use fleet_core::time::MINUTE;
use fleet_sinks::timescale::{TimescaleNewest, TimescaleStates};

use crate::Bench;
use crate::fleet::{MIDNIGHT, vin};

const VEHICLES: usize = 10_000;

pub(crate) async fn claims_and_saves(bench: &Bench) {
    let states = TimescaleStates::new(bench.connector(), &bench.schema);
    let request = |v| ClaimRequest {
        vehicle: vin(1_000_000 + v),
        on_time: MIDNIGHT,
        started_at: MIDNIGHT,
        told_at: MIDNIGHT,
    };
    let requests: Vec<_> = (0..VEHICLES).map(request).collect();
    for what in ["claim of new vehicles", "claim of known vehicles"] {
        let begun = Instant::now();
        states.claim(&requests, MIDNIGHT, MINUTE).await.unwrap();
        report(what, begun);
    }
    let state = |v| VehicleState {
        vehicle: vin(1_000_000 + v),
        epoch: 2,
        resume_at: MIDNIGHT,
        floor: Some(MIDNIGHT),
        horizon: vec![Some(MIDNIGHT), None, Some(MIDNIGHT), Some(MIDNIGHT)],
        newest: vec![Some(MIDNIGHT); 4],
        released_at: None,
        latest: Some(LatestRow { ts: MIDNIGHT, values: vec![1.0; 5], quality: 0b01_01_01_01 }),
        samples: NewestSamples::default(),
        carry: None,
    };
    let saved: Vec<_> = (0..VEHICLES).map(state).collect();
    for what in ["first save", "save"] {
        let begun = Instant::now();
        states.save(&saved).await.unwrap();
        report(what, begun);
    }
    let shown = TimescaleNewest::new(bench.connector(), &bench.schema);
    for (what, at) in [("first newest samples", 1), ("newest samples", 2), ("the same once more", 2)] {
        let samples = NewestSamples { times: vec![Some(MIDNIGHT + at); 4], values: vec![Some(1.0); 5] };
        let newest = |v| Newest { vehicle: vin(1_000_000 + v), epoch: 2, samples: samples.clone() };
        let newest: Vec<_> = (0..VEHICLES).map(newest).collect();
        let begun = Instant::now();
        shown.show(&newest).await.unwrap();
        report(what, begun);
    }
    bench.client.batch_execute("truncate vehicle_latest, trip, vehicle").await.unwrap();
}

fn report(what: &str, begun: Instant) {
    let micros = begun.elapsed().as_secs_f64() * 1e6 / VEHICLES as f64;
    println!("{what:40} {micros:7.2} µs a vehicle");
}
