//! The frozen list of signals of a deployment, and the tables that describe it in a configuration.

mod config;
mod size;
mod wire;

use std::sync::Arc;

pub use config::{ColumnConfig, Problem, RecordsConfig, SignalConfig, WireConfig};
pub use size::parse_size;
pub use wire::{Wire, WireInteger};

use crate::ids::SignalIndex;
use crate::time::Micros;

/// A signal's bits in `quality` are two, and the sign bit stays clear: 31 signals fit.
pub const MAX_SIGNALS: usize = 31;

/// How many columns one signal has at most.
pub const MAX_COLUMNS: usize = 16;

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `double precision`, Arrow `Float64`.
    Double,
    /// `real`, Arrow `Float32`.
    Real,
}

/// One measured number of a signal and one column of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The column's name, an SQL identifier in lower case.
    pub name: String,
    /// The unit, as people write it: `deg`, `km/h`, `%`, `Cel`.
    pub unit: String,
    /// The smallest valid value.
    pub min: f64,
    /// The largest valid value.
    pub max: f64,
    /// Whether `max` is `min` again, as with a heading of 0 to 360 degrees.
    pub wraps: bool,
    /// How it is stored.
    pub kind: ColumnType,
    /// How it travels in a frame, where it can.
    pub wire: Option<Wire>,
}

impl Column {
    /// In a column that wraps, the value by whole turns nearest to `near`, of two as near the higher
    /// one; elsewhere the value.
    pub fn unwrapped(&self, value: f64, near: f64) -> f64 {
        if !self.wraps {
            return value;
        }
        let turn = self.max - self.min;
        value - ((value - near) / turn - 0.5).ceil() * turn
    }

    /// In a column that wraps, the value by whole turns between `min` and `max`; elsewhere the value.
    pub fn wrapped(&self, value: f64) -> f64 {
        if !self.wraps || (self.min..=self.max).contains(&value) {
            return value;
        }
        let turned = self.min + (value - self.min).rem_euclid(self.max - self.min);
        turned.min(self.max)
    }
}

/// One measured quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The last token of its subject.
    pub name: String,
    /// Its numbers, one or more.
    pub columns: Vec<Column>,
    /// The name of its interpolation method.
    pub interpolation: String,
    /// The longest gap that is bridged, microseconds of event time.
    pub max_gap: Micros,
    /// The least time between two of its samples where that is known, microseconds: room for its samples is
    /// checked by it.
    pub sampling_period: Option<Micros>,
    /// How long records wait for it once it is silent while others go on, microseconds of server time. With 0 they
    /// never do.
    pub signal_timeout: Micros,
    first_column: usize,
}

impl Signal {
    /// Where this signal's columns lie among all of a record.
    pub fn column_range(&self) -> std::ops::Range<usize> {
        self.first_column..self.first_column + self.columns.len()
    }
}

/// The signals of a deployment with the times that govern their alignment. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema(Arc<Inner>);

#[derive(Debug, PartialEq)]
struct Inner {
    interval: Micros,
    window: Micros,
    patience: Micros,
    max_future: Micros,
    max_past: Micros,
    max_samples: usize,
    max_vehicle_memory: usize,
    signals: Vec<Signal>,
}

impl Schema {
    /// Microseconds between records.
    pub fn interval(&self) -> Micros {
        self.0.interval
    }

    /// How much older than the newest of its signal a sample may be, microseconds of event time.
    pub fn window(&self) -> Micros {
        self.0.window
    }

    /// How long samples are waited for after a vehicle's `off`, microseconds; no [`Signal::signal_timeout`] is longer.
    pub fn patience(&self) -> Micros {
        self.0.patience
    }

    /// How far ahead of the server's clock a sample's time may be, microseconds.
    pub fn max_future(&self) -> Micros {
        self.0.max_future
    }

    /// How much older than its arrival (server time) a sample may be, microseconds.
    pub fn max_past(&self) -> Micros {
        self.0.max_past
    }

    /// How many samples of one signal are held at most.
    pub fn max_samples(&self) -> usize {
        self.0.max_samples
    }

    /// How much memory the samples of one vehicle take at most, bytes.
    pub fn max_vehicle_memory(&self) -> usize {
        self.0.max_vehicle_memory
    }

    /// The signals, in the order of their bits in `quality`.
    pub fn signals(&self) -> &[Signal] {
        &self.0.signals
    }

    /// One signal.
    pub fn signal(&self, index: SignalIndex) -> &Signal {
        &self.0.signals[index.index()]
    }

    /// The signal of that name.
    pub fn find(&self, name: &str) -> Option<SignalIndex> {
        self.0.signals.iter().position(|s| s.name == name).map(index)
    }

    /// Every signal with its index.
    pub fn indexed(&self) -> impl Iterator<Item = (SignalIndex, &Signal)> {
        self.0.signals.iter().enumerate().map(|(i, s)| (index(i), s))
    }

    /// All columns of a record, signal by signal.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.0.signals.iter().flat_map(|s| &s.columns)
    }

    /// How many columns a record has, without time, vehicle and quality.
    pub fn column_count(&self) -> usize {
        self.0.signals.last().map_or(0, |s| s.column_range().end)
    }
}

impl Default for Schema {
    /// The scenario's four signals every 10 s.
    fn default() -> Self {
        #[allow(clippy::unwrap_used, reason = "a constant, checked by a test")]
        RecordsConfig::default().build().unwrap()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "at most MAX_SIGNALS")]
fn index(position: usize) -> SignalIndex {
    SignalIndex(position as u8)
}
