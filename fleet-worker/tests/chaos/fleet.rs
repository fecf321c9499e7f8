//! The good vehicles: some that are on all the time, and some that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::nats::NatsOptions;
use fleet_worker::config::Config;
use fleet_worker::simulate::{Ledger, Simulation, SimulationOptions, Summary};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::dice::Dice;

/// Vehicles that are on all the time.
pub(crate) const STEADY: usize = 100;

/// Vehicles that come and go, together.
pub(crate) const TRIPS: usize = 20;

type Publishing = JoinHandle<Result<(Ledger, u64), String>>;

/// A fleet that publishes until it is told to stop.
pub(crate) struct Fleet {
    stop: watch::Sender<bool>,
    steady: Publishing,
    trips: Publishing,
    /// Trips begun, all vehicles'.
    pub(crate) begun: Arc<AtomicU64>,
}

/// What was acknowledged.
pub(crate) struct Truth {
    pub(crate) ledgers: [Ledger; 2],
    pub(crate) messages: u64,
    pub(crate) trips: u64,
}

impl Fleet {
    pub(crate) fn start(nats: NatsOptions, config: &Config, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let begun = Arc::new(AtomicU64::new(STEADY as u64));
        let base = SimulationOptions {
            cells: config.cells.clone(),
            schema: config.schema.clone(),
            connections: 4,
            window: 4096,
            seed,
            // No outage of the plan lasts so long.
            grace: Duration::from_secs(300),
            ledger: true,
            ..SimulationOptions::default()
        };
        let steady = SimulationOptions { vehicles: STEADY, prefix: "CAR".to_owned(), ..base.clone() };
        let steady = tokio::spawn({
            let (nats, stopped) = (nats.clone(), stopped.clone());
            async move {
                drive(&nats, steady, stopped).await.map(|summary| (summary.ledger, summary.acknowledged))
            }
        });
        let base = SimulationOptions { vehicles: TRIPS, prefix: "TRIP".to_owned(), connections: 2, ..base };
        let trips = tokio::spawn(come_and_go(nats, base, stopped, Arc::clone(&begun)));
        Self { stop, steady, trips, begun }
    }

    /// Ends all trips; what was acknowledged, once everything is.
    pub(crate) async fn stop(self) -> Result<Truth, String> {
        self.stop.send_replace(true);
        let (steady, messages) = self.steady.await.map_err(|e| e.to_string())??;
        let (trips, more) = self.trips.await.map_err(|e| e.to_string())??;
        let begun = self.begun.load(Ordering::Relaxed);
        Ok(Truth { ledgers: [steady, trips], messages: messages + more, trips: begun })
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A simulation from its connection, which may have to be tried again, to its end.
async fn drive(
    nats: &NatsOptions,
    options: SimulationOptions,
    stopped: watch::Receiver<bool>,
) -> Result<Summary, String> {
    let simulation = loop {
        match Simulation::new(nats, options.clone()).await {
            Ok(simulation) => break simulation,
            Err(error) if error.kind() != fleet_core::ErrorKind::Unavailable => return Err(error.to_string()),
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    };
    let summary = simulation.run(until(stopped)).await.map_err(|e| e.to_string())?;
    match summary.unacknowledged {
        0 => Ok(summary),
        many => Err(format!("{many} messages were never acknowledged")),
    }
}

/// The same vehicles again and again, each time with another trip.
async fn come_and_go(
    nats: NatsOptions,
    options: SimulationOptions,
    stopped: watch::Receiver<bool>,
    begun: Arc<AtomicU64>,
) -> Result<(Ledger, u64), String> {
    let mut dice = Dice::new(options.seed);
    let mut all: Option<Ledger> = None;
    let mut messages = 0;
    while !*stopped.borrow() {
        let duration = Some(Duration::from_millis(dice.within(&(15_000..50_000))));
        let trip = SimulationOptions { seed: dice.roll(), duration, ..options.clone() };
        begun.fetch_add(TRIPS as u64, Ordering::Relaxed);
        let summary = drive(&nats, trip, stopped.clone()).await?;
        messages += summary.acknowledged;
        let ledger = all.get_or_insert_with(|| Ledger::new(summary.ledger.vehicles().to_vec()));
        for vehicle in 0..TRIPS {
            summary.ledger.of(vehicle).for_each(|sample| ledger.add(vehicle, sample));
        }
        let pause = Duration::from_millis(dice.within(&(1_000..20_000)));
        tokio::select! {
            () = sleep(pause) => {}
            () = until(stopped.clone()) => {}
        }
    }
    let mut all = all.unwrap_or_default();
    all.sort();
    Ok((all, messages))
}
