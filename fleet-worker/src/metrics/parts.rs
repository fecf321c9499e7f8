//! The metrics of several cells and lanes as those of one process.

use fleet_core::CellId;

use super::{Metric, Sample};

/// What is told of each lane, too: how evenly they are at work.
const PER_LANE: [&str; 5] =
    ["fleet_bound", "fleet_messages_total", "fleet_turns_total", "fleet_ready", "fleet_sink_available"];

/// Of these the largest of a cell's lanes counts: what happens once to a cell and every lane of it sees, and how
/// long somebody has waited.
const LARGEST: [&str; 2] = ["fleet_source_stream_losses_total", "fleet_source_catching_up_seconds"];

/// The metrics of parts, by cell and lane; a part without lanes has none. Samples get the label `cell`, those that
/// are told of each lane `lane` too. Of all others a cell's lanes are added up, or the largest counts.
pub fn of_parts(parts: impl IntoIterator<Item = (CellId, Option<usize>, Vec<Metric>)>) -> Vec<Metric> {
    let mut all: Vec<Metric> = Vec::new();
    for (cell, lane, metrics) in parts {
        for mut metric in metrics {
            let lane = lane.filter(|_| PER_LANE.contains(&metric.name.as_str()));
            for (labels, _) in &mut metric.samples {
                labels.push(("cell".to_owned(), cell.to_string()));
                labels.extend(lane.map(|lane| ("lane".to_owned(), lane.to_string())));
            }
            match all.iter_mut().find(|known| known.name == metric.name) {
                Some(known) => metric.samples.into_iter().for_each(|sample| add(known, sample)),
                None => all.push(metric),
            }
        }
    }
    all
}

fn add(metric: &mut Metric, (labels, value): Sample) {
    match metric.samples.iter_mut().find(|(known, _)| *known == labels) {
        Some((_, most)) if LARGEST.contains(&metric.name.as_str()) => *most = most.max(value),
        Some((_, sum)) => *sum += value,
        None => metric.samples.push((labels, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MetricKind, render};
    use super::*;

    #[test]
    fn what_all_lanes_of_a_cell_see_is_counted_once() {
        let part = |count| {
            let metrics = vec![Metric::counter("fleet_source_stream_losses_total", "Losses.", count)];
            (CellId::default(), Some(0), metrics)
        };
        let all = of_parts([part(1), part(2), part(0)]);
        assert!(render(&all).ends_with("fleet_source_stream_losses_total{cell=\"0\"} 2\n"), "{all:?}");
    }

    #[test]
    fn nobody_has_waited_for_as_long_as_several_together() {
        let part = |seconds| {
            let waited = Metric::gauge("fleet_source_catching_up_seconds", "Waited.", seconds);
            (CellId::default(), Some(0), vec![waited])
        };
        let all = of_parts([part(70.0), part(80.0), part(0.0)]);
        assert!(render(&all).ends_with("fleet_source_catching_up_seconds{cell=\"0\"} 80\n"), "{all:?}");
    }

    #[test]
    fn lanes_are_added_up_by_cell_unless_they_are_told_apart() {
        let part = |cell: &str, lane, count| {
            let reason = vec![(vec![("reason".to_owned(), "late".to_owned())], 1.0)];
            let metrics = vec![
                Metric::counter("fleet_rows_total", "Rows.", count),
                Metric::gauge("fleet_bound", "Bound.", 2.0),
                Metric::new("fleet_refused_total", "Refused.", MetricKind::Counter, reason),
            ];
            (CellId::new(cell).unwrap(), lane, metrics)
        };
        let text = render(&of_parts([part("0", Some(0), 5), part("1", Some(1), 7), part("0", Some(2), 1)]));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "fleet_rows_total{cell=\"0\"} 6",
                "fleet_rows_total{cell=\"1\"} 7",
                "fleet_bound{cell=\"0\",lane=\"0\"} 2",
                "fleet_bound{cell=\"1\",lane=\"1\"} 2",
                "fleet_bound{cell=\"0\",lane=\"2\"} 2",
                "fleet_refused_total{reason=\"late\",cell=\"0\"} 2",
                "fleet_refused_total{reason=\"late\",cell=\"1\"} 1",
            ]
        );
    }
}
