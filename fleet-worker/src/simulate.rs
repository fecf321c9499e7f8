//! A fleet of simulated vehicles, or a recording played back.

mod agenda;
mod answer;
mod ledger;
mod links;
mod outbox;
mod publish;
mod recording;
mod sensor;
mod vehicle;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleet_core::{CellId, Schema};

pub use ledger::{Ledger, Sampled};
pub use publish::Simulation;
pub use recording::{Recording, RecordingError};

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulationOptions {
    /// Into which cells, one at least; the vehicles are spread evenly.
    pub cells: Vec<CellId>,
    /// Which signals.
    pub schema: Schema,
    /// How many vehicles; ignored with a recording.
    pub vehicles: usize,
    /// Connections that they publish over; each has one of its own if there are as many.
    pub connections: usize,
    /// Messages that are unacknowledged at most, those that are to be sent again included.
    pub window: usize,
    /// What their names begin with.
    pub prefix: String,
    /// The same seed gives the same vehicles.
    pub seed: u64,
    /// How long they publish; for ever, or until the recording ends, if `None`.
    pub duration: Option<Duration>,
    /// Over how long their starts are spread.
    pub ramp: Duration,
    /// A recording to play back instead.
    pub recording: Option<PathBuf>,
    /// How many times faster than recorded.
    pub speed: f64,
    /// How long acks are waited for at the end, while none comes.
    pub grace: Duration,
    /// Keep what was acknowledged, to compare the table with.
    pub ledger: bool,
}

impl Default for SimulationOptions {
    fn default() -> Self {
        Self {
            cells: vec![CellId::default()],
            schema: Schema::default(),
            vehicles: 100,
            connections: 1,
            window: 1024,
            prefix: "SIM".to_owned(),
            seed: 1,
            duration: None,
            ramp: Duration::from_secs(2),
            recording: None,
            speed: 1.0,
            grace: Duration::from_secs(60),
            ledger: false,
        }
    }
}

/// What a simulation came to.
#[derive(Debug)]
pub struct Summary {
    /// How many vehicles there were.
    pub vehicles: usize,
    /// Messages with samples that were acknowledged.
    pub acknowledged: u64,
    /// Messages with samples that were sent and not acknowledged; they may be stored all the same.
    pub unacknowledged: u64,
    /// Vehicles whose `off` was acknowledged.
    pub switched_off: u64,
    /// Messages that had to be sent again.
    pub retried: u64,
    /// The samples, if they were to be kept; sorted.
    pub ledger: Ledger,
}

/// How far a simulation is, readable while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    published: AtomicU64,
    acknowledged: AtomicU64,
    retried: AtomicU64,
    /// Vehicles whose `off` was acknowledged.
    switched_off: AtomicU64,
    missed: AtomicU64,
    /// Why an ack was missed last.
    error: Mutex<Option<String>>,
}

impl Progress {
    /// Messages sent, repeats not counted.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Messages that JetStream has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Messages that were sent again.
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Messages that were sent and not acknowledged so far.
    pub fn unacknowledged(&self) -> u64 {
        self.published().saturating_sub(self.acknowledged())
    }

    /// Vehicles that are switched off again.
    pub fn switched_off(&self) -> u64 {
        self.switched_off.load(Ordering::Relaxed)
    }

    /// How often an ack was missed, those of `on` and `off` included.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Why an ack was missed last, if one was.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, error: String) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn retry(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows with every ack.
    fn acks(&self) -> u64 {
        self.acknowledged() + self.switched_off()
    }
}
