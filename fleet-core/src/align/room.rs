//! How much room a signal's samples need.

use std::sync::Arc;

use super::interpolator::Interpolator;
use super::ring::bytes_of_sample;
use crate::schema::{Problem, Schema, Signal};
use crate::time::{Micros, SECOND};

/// How much event time of a signal that is sampled every `period` is held for late samples, rows that are not
/// complete yet, and what the method looks at for these.
pub(super) fn time_held(schema: &Schema, method: &dyn Interpolator, period: Micros) -> Micros {
    let (interval, reach) = (schema.interval(), method.reach(schema.interval()));
    let around = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(period);
    let before_late = interval.max(around(reach.after.saturating_add(1)));
    let looked_back = around(reach.before.saturating_add(2)).saturating_add(reach.look_back);
    schema.window().saturating_add(before_late).saturating_add(looked_back)
}

/// What leaves too little room for signals whose sampling period is known.
pub(super) fn check(schema: &Schema, methods: &[Arc<dyn Interpolator>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut bytes = 0_usize;
    for (signal, method) in schema.signals().iter().zip(methods) {
        let Some(period) = signal.sampling_period else { continue };
        let held = time_held(schema, &**method, period);
        let count =
            usize::try_from(held.unsigned_abs().div_ceil(period.unsigned_abs())).unwrap_or(usize::MAX);
        bytes = bytes.saturating_add(count.saturating_mul(bytes_of_sample(signal.columns.len())));
        if count > schema.max_samples() {
            let message = format!("{} are fewer than {}", schema.max_samples(), needs(signal, count, held));
            problems.push(Problem { path: "max_samples".to_owned(), message });
        }
    }
    // Rings grow by a quarter at a time.
    let bytes = bytes.saturating_add(bytes / 4);
    if bytes > schema.max_vehicle_memory() {
        let (limit, bytes) = (schema.max_vehicle_memory(), bytes.div_ceil(1024));
        let message = format!(
            "{limit} bytes are less than the {bytes} KiB that the signals' sampling periods, window and interval need"
        );
        problems.push(Problem { path: "max_vehicle_memory".to_owned(), message });
    }
    problems
}

fn needs(signal: &Signal, count: usize, held: Micros) -> String {
    let period = signal.sampling_period.unwrap_or_default();
    let (name, method) = (&signal.name, &signal.interpolation);
    let (held, period) = (seconds(held), seconds(period));
    format!(
        "the {count} that {held} s of signal {name:?} have, one each {period} s: so much is held for {method:?}, \
         the window and the interval"
    )
}

/// Seconds for people.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn seconds(micros: Micros) -> f64 {
    micros as f64 / SECOND as f64
}
