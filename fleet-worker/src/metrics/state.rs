//! What a program is and in which state: its build, its use of the machine, what of it is ready.

use fleet_core::sink::Availability;

use super::{Metric, MetricKind, labelled, number};
use crate::local::Usage;

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The conditions of `/readyz`, 1 where they are met.
pub fn ready(conditions: &[(String, bool)]) -> Metric {
    let sample = |(condition, met): &(String, bool)| labelled("condition", condition, truth(*met));
    let help = "Whether a condition of being ready is met, as on /readyz.";
    Metric::new("fleet_ready", help, MetricKind::Gauge, conditions.iter().map(sample).collect())
}

/// Whether each sink is there, optional ones included.
pub fn sinks<'a>(sinks: impl IntoIterator<Item = &'a (&'static str, Availability)>) -> Metric {
    let sample =
        |(name, sink): &(&'static str, Availability)| labelled("sink", name, truth(sink.is_available()));
    let help = "Whether the sink took or answered what it was last given or asked.";
    Metric::new("fleet_sink_available", help, MetricKind::Gauge, sinks.into_iter().map(sample).collect())
}

/// How much room a lane has: for vehicles, and for rows that wait for a sink.
pub fn capacity(max_vehicles: usize, max_waiting_rows: usize) -> Vec<Metric> {
    let rows = "Rows that may wait for the sinks at most; beyond, live messages are left to the stream.";
    vec![
        Metric::gauge(
            "fleet_max_vehicles",
            "Vehicles that may be held at most.",
            number(max_vehicles as u64),
        ),
        Metric::gauge("fleet_max_waiting_rows", rows, number(max_waiting_rows as u64)),
    ]
}

/// The build and what the process uses.
pub fn process() -> Vec<Metric> {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("FLEET_COMMIT"))]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    let build = vec![(labels.to_vec(), 1.0)];
    let mut metrics = vec![Metric::new("fleet_build_info", "The build.", MetricKind::Gauge, build)];
    if let Some(Usage { cpu, peak_memory }) = Usage::own() {
        let cpu = vec![(Vec::new(), cpu.as_secs_f64())];
        let seconds = "User and system time that the process has used.";
        metrics.push(Metric::new("process_cpu_seconds_total", seconds, MetricKind::Counter, cpu));
        let peak = "The largest resident set so far.";
        metrics.push(Metric::gauge("process_peak_memory_bytes", peak, number(peak_memory)));
    }
    metrics
}
