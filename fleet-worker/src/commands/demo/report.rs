//! The table at the end of the demo.

use std::time::Duration;

use fleet_core::Schema;
use fleet_core::error::Result;
use tokio_postgres::Client;

use super::costs::costs;
use super::phases::{PARTS, Phases};
use super::records::records;
use super::stored::Stored;
use crate::local::Usage;
use crate::simulate::Summary;
use crate::verify::{Latency, Verdict};

/// What there is to say.
pub(super) struct Outcome<'a> {
    pub schema: &'a Schema,
    pub summary: &'a Summary,
    pub verdict: &'a Verdict,
    /// How long a killed worker's vehicles were without one, if it was seen; if there was one.
    pub failover: Option<Option<Duration>>,
    /// What was used in each phase, and how many vehicles the killed worker held.
    pub phases: &'a Phases,
    pub failed_over: u64,
    /// What the parts had used before the first message, and in the end.
    pub before: [(&'static str, Usage); PARTS],
    pub usage: [(&'static str, Usage); PARTS],
    pub stored: &'a Stored,
    /// From publish to the first signal's newest value in `fleet_last`, and to a record with the first two signals.
    pub to_newest: Option<Latency>,
    pub to_record: Option<Latency>,
    pub took: Duration,
    /// Whether it was stopped before its time, maybe before there was anything to store.
    pub interrupted: bool,
}

/// Prints what happened; the answer says whether everything was as it must be.
#[allow(clippy::print_stdout, reason = "the demo's purpose is to be read")]
pub(super) async fn print(client: &Client, outcome: &Outcome<'_>) -> Result<bool> {
    let &Outcome { summary, verdict, failover, took, stored, .. } = outcome;
    let line = |name: &str, value: &dyn std::fmt::Display| println!("{name:<42} {value:>12}");
    println!();
    line("vehicles", &summary.vehicles);
    line("messages published and acknowledged", &summary.acknowledged);
    line("records stored", &verdict.stored);
    line("records expected, computed independently", &verdict.expected);
    line("missing", &verdict.missing);
    line("wrong", &verdict.wrong);
    line("duplicate", &verdict.duplicate);
    line("unexpected", &verdict.unexpected);
    match failover {
        Some(Some(took)) => {
            line("killed worker's vehicles bound again after", &format!("{:.1} s", took.as_secs_f64()))
        }
        Some(None) => line("killed worker's vehicles bound again after", &"not seen"),
        None => {}
    }
    if let Some(latency) = &verdict.latency {
        line("publish to visible row, p50", &format!("{:.2} s", latency.p50));
        line("publish to visible row, p99", &format!("{:.2} s", latency.p99));
    }
    let [first, second] =
        [0, 1].map(|s| outcome.schema.signals().get(s).map_or("", |signal| signal.name.as_str()));
    let seen = [
        (format!("publish to {first} in fleet_last"), outcome.to_newest),
        (format!("publish to {first} and {second} in a record"), outcome.to_record),
    ];
    for (what, latency) in seen.into_iter().filter_map(|(what, latency)| Some((what, latency?))) {
        line(&format!("{what}, p50"), &format!("{:.2} s", latency.p50));
        line(&format!("{what}, p99"), &format!("{:.2} s", latency.p99));
    }
    // PostgreSQL's processes share most of theirs.
    for (part, usage) in outcome.usage.iter().filter(|(part, _)| *part != "PostgreSQL") {
        line(&format!("peak memory of {part}"), &format!("{} MiB", usage.peak_memory >> 20));
    }
    line("in the stream, a message", &format!("{:.0} bytes", stored.bytes_a_message));
    line("in the table, a record", &format!("{:.0} bytes", stored.bytes_a_record));
    line("the whole demo took", &format!("{:.0} s", took.as_secs_f64()));
    for example in &verdict.examples {
        println!("  {example}");
    }
    println!("\n{}", costs(outcome));
    println!("a few records:");
    for record in records(client, outcome.schema).await? {
        println!("  {record}");
    }
    println!();
    let good = verdict.is_good() && (verdict.expected > 0 || outcome.interrupted);
    let said = match good {
        true if verdict.expected == 0 => "stopped before there was anything to store",
        true => "nothing missing, nothing wrong, nothing twice",
        false => "NOT AS IT MUST BE",
    };
    println!("{said}");
    Ok(good)
}
