//! fleet-core's counters under their names as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use fleet_core::message::Refusal;
use fleet_core::nats::{BinderCounters, DiscoveryCounters, SourceCounters};
use fleet_core::pipeline::Counters;
use fleet_core::sink::Cursor;
use fleet_sinks::timescale::SinkCounters;

use super::{Metric, MetricKind, Sample, labelled, number};
use crate::commands::UpkeepCounters;

fn counter(name: &str, help: &str, value: &AtomicU64) -> Metric {
    Metric::counter(name, help, value.load(Ordering::Relaxed))
}

/// The metrics of sinks that hold nothing back, by name; none if there is none.
pub fn optional_sinks(cursors: &[(&str, Cursor)]) -> Vec<Metric> {
    if cursors.is_empty() {
        return Vec::new();
    }
    let samples = |value: fn(&Cursor) -> usize| {
        let sample = |(name, cursor): &(&str, Cursor)| {
            (vec![("sink".to_owned(), (*name).to_owned())], number(value(cursor) as u64))
        };
        cursors.iter().map(sample).collect()
    };
    let waiting = "Rows that wait for an optional sink.";
    let missed = "Rows that an optional sink was too far behind to get.";
    let rejected = "Rows that an optional sink would not take; they are dead letters.";
    vec![
        Metric::new(
            "fleet_optional_rejected_rows_total",
            rejected,
            MetricKind::Counter,
            samples(Cursor::rejected),
        ),
        Metric::new("fleet_optional_waiting_rows", waiting, MetricKind::Gauge, samples(Cursor::waiting)),
        Metric::new("fleet_optional_missed_rows_total", missed, MetricKind::Counter, samples(Cursor::missed)),
    ]
}

/// The metrics of the database's sink.
pub fn database(counters: &SinkCounters) -> Vec<Metric> {
    let help = "Rows of days that have left the database: only the archive has them.";
    vec![counter("fleet_archived_only_rows_total", help, &counters.retired)]
}

/// The metrics of the database's maintenance.
pub fn upkeep(counters: &UpkeepCounters) -> Vec<Metric> {
    let UpkeepCounters { minutes, dropped, failures, jobs, retired, unarchived } = counters;
    let in_trouble = "Jobs of the database server that fail or don't run.";
    let lacking = "Old days that stay in the database because the archive lacks something of them.";
    vec![
        counter("fleet_upkeep_rolled_up_total", "Minutes whose roll-up was made by this process.", minutes),
        counter("fleet_upkeep_dropped_total", "Chunks and partitions dropped for their age.", dropped),
        counter("fleet_upkeep_failures_total", "Failed runs of the database's maintenance.", failures),
        Metric::gauge("fleet_upkeep_jobs_in_trouble", in_trouble, number(jobs.load(Ordering::Relaxed))),
        counter("fleet_upkeep_retired_total", "Days that left the database for the archive.", retired),
        Metric::gauge("fleet_upkeep_unarchived", lacking, number(unarchived.load(Ordering::Relaxed))),
    ]
}

/// The metrics of a pipeline and its lane.
pub fn pipeline(counters: &Counters) -> Vec<Metric> {
    let c = counters;
    let lane = c.lane();
    let sink_seconds = number(c.sink_micros.load(Ordering::Relaxed)) / 1e6;
    vec![
        Metric::gauge("fleet_bound", "Vehicles held now.", number(c.bound.load(Ordering::Relaxed))),
        counter("fleet_bindings_total", "Bindings made.", &c.bindings),
        counter(
            "fleet_bindings_carried_total",
            "Bindings that went on where the last holder stopped.",
            &c.carried,
        ),
        counter("fleet_bindings_lost_total", "Bindings that were taken or could not be held.", &c.lost),
        counter("fleet_released_total", "Vehicles given back for good.", &c.released),
        counter(
            "fleet_without_sample_total",
            "Vehicles that gave way because they never sent a sample.",
            &c.without_sample,
        ),
        counter("fleet_catch_ups_total", "Catch-ups of vehicles.", &c.catch_ups),
        counter(
            "fleet_catch_ups_unreachable_total",
            "Catch-ups whose beginning the stream no longer held.",
            &c.unreachable,
        ),
        Metric::gauge(
            "fleet_waiting_rows",
            "Rows emitted that wait for the sinks to take them.",
            number(c.waiting_rows.load(Ordering::Relaxed)),
        ),
        counter("fleet_durable_rows_total", "Rows made durable.", &c.durable_rows),
        counter("fleet_durable_batches_total", "Batches made durable.", &c.durable_batches),
        Metric::new(
            "fleet_sink_seconds_total",
            "Seconds that the sink was at work.",
            MetricKind::Counter,
            vec![(Vec::new(), sink_seconds)],
        ),
        counter("fleet_turns_total", "How often the loop has turned.", &c.turns),
        Metric::counter("fleet_messages_total", "Messages with samples.", lane.messages),
        Metric::counter("fleet_samples_total", "Samples decoded.", lane.samples),
        Metric::counter("fleet_late_samples_total", "Samples older than the window.", lane.late),
        Metric::counter("fleet_duplicate_samples_total", "Samples known already.", lane.duplicates),
        Metric::counter(
            "fleet_replayed_samples_total",
            "Samples read again after they had been forgotten, and not taken.",
            lane.replayed,
        ),
        Metric::counter(
            "fleet_overflowed_samples_total",
            "Samples that fell out of a full ring.",
            lane.overflowed,
        ),
        Metric::counter("fleet_rows_total", "Rows emitted, corrections included.", lane.rows),
        Metric::counter("fleet_corrections_total", "Rows emitted again.", lane.corrections),
        Metric::counter("fleet_batches_total", "Batches sealed.", lane.batches),
        Metric::counter("fleet_sequence_gaps_total", "Jumps of a frame's counter.", lane.sequence_gaps),
    ]
}

/// What a pipeline and its source have refused, with a series for each reason from the start.
pub fn refused(pipeline: &Counters, source: &SourceCounters) -> Metric {
    let lane = pipeline.lane().refused;
    let samples = Refusal::ALL.map(|reason| {
        let count = lane.of(reason) + pipeline.refused.of(reason) + source.refused.of(reason);
        labelled("reason", reason.as_str(), number(count))
    });
    let help = "Messages, samples or rows refused, by reason.";
    Metric::new("fleet_refused_total", help, MetricKind::Counter, samples.to_vec())
}

/// Counts by a label.
fn by(label: &str) -> impl Fn((&str, u64)) -> Sample {
    move |(name, count)| labelled(label, name, number(count))
}

/// The metrics of a binder.
pub fn binder(counters: &BinderCounters) -> Vec<Metric> {
    let c = counters;
    vec![
        counter("fleet_claims_failed_total", "Bind requests that went back to the queue.", &c.claims_failed),
        counter("fleet_saves_failed_total", "States that the database refused.", &c.saves_failed),
    ]
}

/// The metrics of a source.
pub fn source(counters: &SourceCounters) -> Vec<Metric> {
    let c = counters;
    vec![
        counter("fleet_source_live_total", "Messages that came live.", &c.live),
        counter("fleet_source_caught_up_total", "Messages read from the stream.", &c.caught_up),
        counter("fleet_source_rounds_total", "Catch-up rounds.", &c.rounds),
        counter("fleet_source_reconnects_total", "Times the connection was made again.", &c.reconnects),
        counter(
            "fleet_source_overflowed_total",
            "Live messages left to the stream while their vehicle was caught up.",
            &c.overflowed,
        ),
        counter(
            "fleet_source_stream_losses_total",
            "Times the telemetry stream was made anew or lost its end.",
            &c.stream_losses,
        ),
        counter(
            "fleet_source_unreadable_total",
            "Stored messages that can't be read and were passed over.",
            &c.unreadable,
        ),
        Metric::gauge(
            "fleet_source_followed",
            "Vehicles held whose live messages are taken as they come: connected, and not being caught up.",
            number(c.followed.load(Ordering::Relaxed)),
        ),
        Metric::gauge(
            "fleet_source_catching_up",
            "Vehicles that are being caught up.",
            number(c.catching_up.vehicles()),
        ),
        Metric::gauge(
            "fleet_source_catching_up_seconds",
            "How long the one of them has waited that has waited longest.",
            c.catching_up.oldest().as_secs_f64(),
        ),
        Metric::new(
            "fleet_source_dead_letters_total",
            "What became of dead letters.",
            MetricKind::Counter,
            c.dead_letters.by_outcome().map(by("outcome")).to_vec(),
        ),
        Metric::new(
            "fleet_source_not_stored_total",
            "Messages of ours that NATS did not store, by reason.",
            MetricKind::Counter,
            c.storing.failures().map(by("reason")).to_vec(),
        ),
    ]
}

/// The metrics of Vehicle Discovery.
pub fn discovery(counters: &DiscoveryCounters) -> Vec<Metric> {
    let c = counters;
    vec![
        counter("fleet_discovery_on_total", "On signals read, repeats included.", &c.on),
        counter("fleet_discovery_enqueued_total", "Bind requests made.", &c.enqueued),
        counter("fleet_discovery_already_total", "On signals of active vehicles.", &c.already),
        counter("fleet_discovery_off_total", "On signals of trips whose samples are gone.", &c.off),
        counter("fleet_discovery_refused_total", "On signals that do not parse.", &c.refused),
        counter(
            "fleet_discovery_since_refused_total",
            "Signals whose `since` is not believed.",
            &c.since_refused,
        ),
        counter("fleet_discovery_failed_total", "On signals that could not be dealt with yet.", &c.failed),
        counter("fleet_discovery_strays_total", "Messages on odd subjects.", &c.strays),
        Metric::new(
            "fleet_discovery_vehicles",
            "Active vehicles, as on /bindings: those that wait for a worker, and those that one holds.",
            MetricKind::Gauge,
            [("waiting", &c.waiting), ("bound", &c.bound)]
                .map(|(state, count)| labelled("state", state, number(count.load(Ordering::Relaxed))))
                .to_vec(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_counters_end_in_total() {
        let mut all = pipeline(&Counters::default());
        all.extend(source(&SourceCounters::default()));
        all.extend(binder(&BinderCounters::default()));
        all.extend(discovery(&DiscoveryCounters::default()));
        all.extend(database(&SinkCounters::default()));
        all.extend(upkeep(&UpkeepCounters::default()));
        all.push(refused(&Counters::default(), &SourceCounters::default()));
        all.extend(super::super::process());
        all.extend(super::super::capacity(1, 1));
        let mut names: Vec<_> = all.iter().map(|m| m.name.clone()).collect();
        for metric in &all {
            assert!(metric.name.starts_with("fleet_") || metric.name.starts_with("process_"));
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"), "{metric:?}");
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_counter_has_its_series_from_the_start() {
        let (pipeline, source) = (Counters::default(), SourceCounters::default());
        let text = super::super::render(&[refused(&pipeline, &source)]);
        for reason in Refusal::ALL {
            assert!(
                text.contains(&format!("fleet_refused_total{{reason=\"{}\"}} 0\n", reason.as_str())),
                "{text}"
            );
        }
        let all = [super::pipeline(&pipeline), super::source(&source)].concat();
        assert!(all.iter().all(|metric| !metric.samples.is_empty()), "{all:?}");
        pipeline.refused.add(Refusal::Row);
        source.refused.add(Refusal::UnknownSignal);
        let text = super::super::render(&[refused(&pipeline, &source)]);
        assert!(
            text.contains("{reason=\"row\"} 1\n") && text.contains("{reason=\"unknown_signal\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn values_arrive() {
        let counters = SourceCounters::default();
        counters.live.fetch_add(7, Ordering::Relaxed);
        assert!(super::super::render(&source(&counters)).contains("\nfleet_source_live_total 7\n"));
    }
}
