//! The `interval`, `window`, `patience` and `[[signal]]` tables, the same in every program.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Deserialize;

use super::{
    Column, ColumnType, Inner, MAX_COLUMNS, MAX_SIGNALS, Schema, Signal, Wire, WireInteger, parse_size,
};
use crate::time::{MINUTE, Micros, display_duration, parse_duration};

/// One thing that is wrong with a configuration: the key, the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as `signal[2].columns[0].min`.
    pub path: String,
    /// What, with the value.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// How records are made, as written in a configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    /// The grid, such as `"10s"`.
    #[serde(default = "interval")]
    pub interval: String,
    /// How late a sample may come.
    #[serde(default = "thirty_seconds")]
    pub window: String,
    /// How long samples are waited for after an `off`, and how long records wait for any signal at most.
    #[serde(default = "thirty_seconds")]
    pub patience: String,
    /// How far ahead of the server's clock a sample may be.
    #[serde(default = "minute")]
    pub max_future: String,
    /// How old a sample may be when it is stored.
    #[serde(default = "week")]
    pub max_past: String,
    /// How many samples of one signal are held at most.
    #[serde(default = "max_samples")]
    pub max_samples: usize,
    /// How much memory the samples of one vehicle take at most, such as `"512KiB"`; its signals share it.
    #[serde(default = "max_vehicle_memory")]
    pub max_vehicle_memory: String,
    /// The signals; the scenario's four if there is none.
    #[serde(default = "scenario")]
    pub signal: Vec<SignalConfig>,
}

/// One `[[signal]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalConfig {
    /// The last token of its subject.
    pub name: String,
    /// Its numbers.
    pub columns: Vec<ColumnConfig>,
    /// The method's name.
    pub interpolation: String,
    /// The longest gap that is bridged.
    #[serde(default = "minute")]
    pub max_gap: String,
    /// The least time between two of its samples where that is known, such as `"10ms"`.
    #[serde(default)]
    pub sampling_period: Option<String>,
    /// How long records wait for it once it is silent while others go on, if that is less than `patience`.
    #[serde(default)]
    pub signal_timeout: Option<String>,
}

/// One entry of `columns`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// The column's name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The smallest valid value.
    pub min: f64,
    /// The largest valid value.
    pub max: f64,
    /// Whether `max` is `min` again: a heading.
    #[serde(default)]
    pub wraps: bool,
    /// `double` or `real`; by default `double` for degrees of position and `real` for the rest.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// How it travels in a frame; by default by its unit.
    #[serde(default)]
    pub wire: Option<WireConfig>,
}

/// A column's `wire`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireConfig {
    /// `u8`, `i8`, `u16`, `i16`, `u32` or `i32`.
    pub integer: String,
    /// What one count is worth.
    pub scale: f64,
}

fn interval() -> String {
    "10s".to_owned()
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

fn minute() -> String {
    "60s".to_owned()
}

fn week() -> String {
    "7d".to_owned()
}

fn max_samples() -> usize {
    8_192
}

fn max_vehicle_memory() -> String {
    "512KiB".to_owned()
}

fn column(name: &str, unit: &str, min: f64, max: f64) -> ColumnConfig {
    ColumnConfig {
        name: name.to_owned(),
        unit: unit.to_owned(),
        min,
        max,
        wraps: false,
        kind: None,
        wire: None,
    }
}

fn scenario() -> Vec<SignalConfig> {
    let signal = |name: &str, interpolation: &str, timeout: &str, columns: Vec<ColumnConfig>| SignalConfig {
        name: name.to_owned(),
        columns,
        interpolation: interpolation.to_owned(),
        max_gap: minute(),
        sampling_period: None,
        signal_timeout: Some(timeout.to_owned()),
    };
    // Position and speed are waited for, whose next samples come soon; brake for as long as it often pauses. Fuel pauses
    // for longer than anybody waits: its samples correct records.
    vec![
        signal(
            "position",
            "great_circle",
            "15s",
            vec![column("latitude", "deg", -90.0, 90.0), column("longitude", "deg", -180.0, 180.0)],
        ),
        signal("speed", "linear", "20s", vec![column("speed_kmh", "km/h", 0.0, 400.0)]),
        signal("fuel", "linear", "10s", vec![column("fuel_level_pct", "%", 0.0, 100.0)]),
        signal("brake", "linear", "15s", vec![column("brake_fluid_temp_c", "Cel", -60.0, 400.0)]),
    ]
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self {
            interval: interval(),
            window: thirty_seconds(),
            patience: thirty_seconds(),
            max_future: minute(),
            max_past: week(),
            max_samples: max_samples(),
            max_vehicle_memory: max_vehicle_memory(),
            signal: scenario(),
        }
    }
}

impl RecordsConfig {
    /// Checks everything and freezes it.
    ///
    /// # Errors
    /// Every problem at once, never only the first.
    pub fn build(&self) -> Result<Schema, Vec<Problem>> {
        let mut check = Check::default();
        let interval = check.duration("interval", &self.interval, 1_000..=24 * 60 * MINUTE);
        let window = check.duration("window", &self.window, 0..=60 * MINUTE);
        let patience = check.duration("patience", &self.patience, 0..=60 * MINUTE);
        let max_future = check.duration("max_future", &self.max_future, 0..=24 * 60 * MINUTE);
        let max_past = check.duration("max_past", &self.max_past, 0..=OLDEST);
        if let (Some(past), Some(window)) = (max_past, window)
            && past < window
        {
            let (past, window) = (display_duration(past), display_duration(window));
            check.say("max_past", format!("{past} is shorter than the window of {window}"));
        }
        if !(8..=65_536).contains(&self.max_samples) {
            check.say("max_samples", format!("{} is not between 8 and 65536", self.max_samples));
        }
        let max_vehicle_memory = check.memory("max_vehicle_memory", &self.max_vehicle_memory);
        if self.signal.is_empty() || self.signal.len() > MAX_SIGNALS {
            check.say("signal", format!("there are {}; 1 to {MAX_SIGNALS} are possible", self.signal.len()));
        }
        let mut signals = Vec::with_capacity(self.signal.len());
        let mut first_column = 0;
        for (i, config) in self.signal.iter().enumerate() {
            let signal = check.signal(&format!("signal[{i}]"), config, first_column, patience);
            first_column = signal.column_range().end;
            signals.push(signal);
        }
        check.duplicates(&signals);
        let times = (interval, window, patience, max_future, max_past);
        let (Some(interval), Some(window), Some(patience), Some(max_future), Some(max_past)) = times else {
            return Err(check.problems);
        };
        if !check.problems.is_empty() {
            return Err(check.problems);
        }
        let max_samples = self.max_samples;
        let inner = Inner {
            interval,
            window,
            patience,
            max_future,
            max_past,
            max_samples,
            max_vehicle_memory,
            signals,
        };
        Ok(Schema(Arc::new(inner)))
    }
}

/// The longest `max_past`: as long as anything is kept.
const OLDEST: Micros = 100 * 366 * 24 * 60 * MINUTE;

/// Words that a subject, or a column of the tables, already has.
const TAKEN_SIGNALS: [&str; 2] = ["on", "off"];
const TAKEN_COLUMNS: [&str; 21] = [
    "ts",
    "vehicle",
    "vehicle_id",
    "vin",
    "quality",
    "epoch",
    "resume_at",
    "released_at",
    "floor",
    "horizon",
    "newest",
    "carry",
    "sampled_at",
    "sampled",
    "is_on", // and PostgreSQL's own:
    "tableoid",
    "xmin",
    "cmin",
    "xmax",
    "cmax",
    "ctid",
];

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn say(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), message: message.into() });
    }

    /// Nothing if it is wrong, so that nothing else is compared with it.
    fn duration(&mut self, path: &str, text: &str, range: RangeInclusive<Micros>) -> Option<Micros> {
        match parse_duration(text) {
            Ok(micros) if range.contains(&micros) => return Some(micros),
            Ok(_) => {
                let (low, high) = (display_duration(*range.start()), display_duration(*range.end()));
                self.say(path, format!("{text:?} is not between {low} and {high}"));
            }
            Err(why) => self.say(path, format!("{text:?} is not a duration such as \"10s\": {why}")),
        }
        None
    }

    /// Of 64 KiB a schema with the most signals and columns has 15 samples of each.
    fn memory(&mut self, path: &str, text: &str) -> usize {
        match parse_size(text) {
            Ok(bytes) if (64 << 10..=1 << 30).contains(&bytes) => {
                return usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            Ok(_) => self.say(path, format!("{text:?} is not between 64 KiB and 1 GiB")),
            Err(why) => self.say(path, format!("{text:?} {why}")),
        }
        0
    }

    fn name(&mut self, path: &str, name: &str, taken: &[&str]) {
        let mut bytes = name.bytes();
        let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        if !starts
            || name.len() > 48
            || !bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            self.say(path, format!("{name:?} must be a letter and then up to 47 of a-z 0-9 _"));
        } else if taken.contains(&name) {
            self.say(path, format!("{name:?} is taken by fleet itself"));
        }
    }

    fn signal(
        &mut self,
        path: &str,
        config: &SignalConfig,
        first_column: usize,
        patience: Option<Micros>,
    ) -> Signal {
        self.name(&format!("{path}.name"), &config.name, &TAKEN_SIGNALS);
        if config.interpolation.is_empty() {
            self.say(&format!("{path}.interpolation"), "\"\" names no method");
        }
        let gap_path = format!("{path}.max_gap");
        let max_gap = self.duration(&gap_path, &config.max_gap, 1_000..=24 * 60 * MINUTE);
        if config.columns.is_empty() || config.columns.len() > MAX_COLUMNS {
            let count = config.columns.len();
            self.say(
                &format!("{path}.columns"),
                format!("there are {count}; 1 to {MAX_COLUMNS} are possible"),
            );
        }
        let columns = config.columns.iter().enumerate();
        let columns = columns.map(|(i, c)| self.column(&format!("{path}.columns[{i}]"), c)).collect();
        let (name, interpolation) = (config.name.clone(), config.interpolation.clone());
        let max_gap = max_gap.unwrap_or_default();
        let sampling_period = config.sampling_period.as_ref().and_then(|text| {
            self.duration(&format!("{path}.sampling_period"), text, 1_000..=24 * 60 * MINUTE)
        });
        let timeout = config
            .signal_timeout
            .as_ref()
            .and_then(|text| self.duration(&format!("{path}.signal_timeout"), text, 0..=60 * MINUTE));
        let signal_timeout = timeout.into_iter().chain(patience).min().unwrap_or_default();
        Signal { name, columns, interpolation, max_gap, sampling_period, signal_timeout, first_column }
    }

    fn column(&mut self, path: &str, config: &ColumnConfig) -> Column {
        self.name(&format!("{path}.name"), &config.name, &TAKEN_COLUMNS);
        let (min, max) = (config.min, config.max);
        if !(min.is_finite() && max.is_finite() && min < max) {
            self.say(path, format!("min {min} and max {max} must be finite, and min the smaller"));
        } else if config.wraps && !(max - min).is_finite() {
            self.say(
                &format!("{path}.wraps"),
                format!("a turn from {min} to {max} is too long for a number"),
            );
        }
        let kind = match config.kind.as_deref() {
            None if config.unit == "deg" => ColumnType::Double,
            None | Some("real") => ColumnType::Real,
            Some("double") => ColumnType::Double,
            Some(other) => {
                self.say(&format!("{path}.type"), format!("{other:?} is neither \"double\" nor \"real\""));
                ColumnType::Double
            }
        };
        let wire = match &config.wire {
            None => wire_by_unit(&config.unit),
            Some(wire) => self.wire(&format!("{path}.wire"), wire),
        };
        let (name, unit) = (config.name.clone(), config.unit.clone());
        Column { name, unit, min, max, wraps: config.wraps, kind, wire }
    }

    fn wire(&mut self, path: &str, config: &WireConfig) -> Option<Wire> {
        if !(config.scale.is_finite() && config.scale > 0.0) {
            self.say(&format!("{path}.scale"), format!("{} must be finite and above 0", config.scale));
        }
        let integer = match config.integer.as_str() {
            "u8" => WireInteger::U8,
            "i8" => WireInteger::I8,
            "u16" => WireInteger::U16,
            "i16" => WireInteger::I16,
            "u32" => WireInteger::U32,
            "i32" => WireInteger::I32,
            other => {
                self.say(&format!("{path}.integer"), format!("{other:?} is none of u8 i8 u16 i16 u32 i32"));
                return None;
            }
        };
        Some(Wire::new(integer, config.scale))
    }

    fn duplicates(&mut self, signals: &[Signal]) {
        let mut names: Vec<&str> = Vec::new();
        let mut columns: Vec<&str> = Vec::new();
        for (i, signal) in signals.iter().enumerate() {
            if names.contains(&signal.name.as_str()) {
                self.say(&format!("signal[{i}].name"), format!("{:?} is there twice", signal.name));
            }
            names.push(&signal.name);
            for (j, column) in signal.columns.iter().enumerate() {
                if columns.contains(&column.name.as_str()) {
                    let path = format!("signal[{i}].columns[{j}].name");
                    self.say(&path, format!("{:?} is there twice", column.name));
                }
                columns.push(&column.name);
            }
        }
        // The database's views have columns of these names for each signal.
        for name in names {
            for (of_view, says) in [("how", "how"), ("at", "when")] {
                let column = format!("{name}_{of_view}");
                if columns.contains(&column.as_str()) {
                    self.say(
                        "signal",
                        format!("column {column:?} is taken: it says {says} {name:?} came about"),
                    );
                }
            }
        }
    }
}

/// The frame's integers of the default signals' units (docs/wire-format.md).
fn wire_by_unit(unit: &str) -> Option<Wire> {
    let (integer, scale) = match unit {
        "deg" => (WireInteger::I32, 1e-7),
        "km/h" | "%" => (WireInteger::U16, 0.01),
        "Cel" => (WireInteger::I16, 0.1),
        _ => return None,
    };
    Some(Wire::new(integer, scale))
}

#[cfg(test)]
mod tests;
