//! Metrics in Prometheus's text format, rendered from a snapshot of plain counters.

mod counters;
mod parts;
mod state;

use std::fmt::Write as _;

pub use counters::{binder, database, discovery, optional_sinks, pipeline, refused, source, upkeep};
pub use parts::of_parts;
pub use state::{capacity, process, ready, sinks};

/// What a metric's value may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Labels and a value.
pub type Sample = (Vec<(String, String)>, f64);

/// A sample with one label.
fn labelled(label: &str, text: &str, value: f64) -> Sample {
    (vec![(label.to_owned(), text.to_owned())], value)
}

/// A metric with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name, `fleet_…`.
    pub name: String,
    /// What it says.
    pub help: String,
    /// What its value may do.
    pub kind: MetricKind,
    /// Labels and value of each sample.
    pub samples: Vec<Sample>,
}

impl Metric {
    /// A counter with one sample and no label.
    pub fn counter(name: &str, help: &str, value: u64) -> Self {
        Self::new(name, help, MetricKind::Counter, vec![(Vec::new(), number(value))])
    }

    /// A gauge with one sample and no label.
    pub fn gauge(name: &str, help: &str, value: f64) -> Self {
        Self::new(name, help, MetricKind::Gauge, vec![(Vec::new(), value)])
    }

    /// Any metric.
    pub fn new(name: &str, help: &str, kind: MetricKind, samples: Vec<Sample>) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), kind, samples }
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus knows only f64")]
pub(crate) fn number(value: u64) -> f64 {
    value as f64
}

/// The text format, version 0.0.4.
pub fn render(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for metric in metrics {
        let Metric { name, help, kind, samples } = metric;
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            text.push_str(name);
            let pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
            if !pairs.is_empty() {
                let _ = write!(text, "{{{}}}", pairs.join(","));
            }
            let _ = writeln!(text, " {}", float(*value));
        }
    }
    text
}

/// The sum of a metric's samples in that format, where it is there; `name` may go on with the first labels,
/// as in `fleet_refused_total{reason="late"`.
pub fn sum(text: &str, name: &str) -> Option<u64> {
    let is_its = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{', ',', '}']))
    };
    let values: Vec<f64> =
        text.lines().filter(is_its).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let sum = values.iter().sum::<f64>() as u64;
    (!values.is_empty()).then_some(sum)
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let labels = vec![("reason".to_owned(), "a\"b\\c\nd".to_owned())];
        let metrics = [
            Metric::counter("fleet_rows_total", "Rows.", 12_345_678_901),
            Metric::new("fleet_x", "a\nb", MetricKind::Gauge, vec![(labels, 0.5), (vec![], f64::INFINITY)]),
        ];
        let expected = "# HELP fleet_rows_total Rows.\n# TYPE fleet_rows_total counter\n\
            fleet_rows_total 12345678901\n# HELP fleet_x a\\nb\n# TYPE fleet_x gauge\n\
            fleet_x{reason=\"a\\\"b\\\\c\\nd\"} 0.5\nfleet_x +Inf\n";
        assert_eq!(render(&metrics), expected);
    }

    #[test]
    fn a_sum_takes_all_samples_of_one_name() {
        let text = "# TYPE fleet_x counter\nfleet_x{a=\"1\"} 2\nfleet_x{a=\"2\",b=\"1\"} 3\nfleet_xy 100\nfleet_z 4\n";
        assert_eq!(
            [sum(text, "fleet_x"), sum(text, "fleet_z"), sum(text, "fleet_")],
            [Some(5), Some(4), None]
        );
        assert_eq!(sum(text, "fleet_x{a=\"2\""), Some(3));
    }
}
