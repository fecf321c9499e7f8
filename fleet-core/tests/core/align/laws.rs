//! What each method promises of its values, one law a test.

use fleet_core::reference::Table;
use proptest::prelude::*;

use super::harness::{ANY_COLUMNS, MS, Op, Rules, SECOND, Vehicle, run, schema};
use crate::compare::distance;

/// The rows of one signal's samples in one message: `(ms, values)`.
fn rows(method: &'static str, interval: i64, samples: &[(i64, Vec<f64>)]) -> Table {
    let position = samples.first().is_some_and(|s| s.1.len() == 2);
    let methods =
        [if position { method } else { "linear" }, if position { "linear" } else { method }, "linear"];
    let rules = Rules { interval, methods, ..Rules::default() };
    let samples = samples.iter().map(|(ms, values)| (ms * MS, values.clone())).collect();
    let signal = usize::from(!position);
    Vehicle::new(&rules).all(&[Op::Insert { signal, samples, arrival: 0 }]).table
}

/// The same of a signal with one column: `(ts in ms, value)`.
fn values(method: &'static str, interval: i64, samples: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let samples: Vec<_> = samples.iter().map(|(ms, value)| (*ms, vec![*value])).collect();
    rows(method, interval, &samples).into_iter().map(|(t, row)| (t / MS, row.values[2].unwrap())).collect()
}

/// Samples in order, some close together, some beyond the gap of 60 s, ms.
fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![8 => 1_i64..9_000, 2 => 9_000_i64..90_000, 1 => Just(1_000), 1 => Just(60_000)];
    let start = prop::sample::select(vec![1_700_000_000_000, 0, -86_400_000, -500]);
    (start, prop::collection::vec((step, -1e9..1e9_f64), 1..40)).prop_map(|(start, steps)| {
        let mut time = start;
        steps
            .into_iter()
            .map(|(step, value)| {
                time += step;
                (time, value)
            })
            .collect()
    })
}

fn neighbours(samples: &[(i64, f64)], t: i64) -> ((i64, f64), (i64, f64)) {
    let right = samples.partition_point(|s| s.0 < t);
    (samples[right.saturating_sub(1)], samples[right.min(samples.len() - 1)])
}

fn is_between(value: f64, a: f64, b: f64) -> bool {
    (a.min(b)..=a.max(b)).contains(&value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn linear_is_exact_on_lines_and_pchip_up_to_rounding(
        steps in prop::collection::vec(2_i64..10_000, 2..50),
        (slope, zero) in (-50_i64..50, -1_000_000_i64..1_000_000),
    ) {
        let line = |t: i64| (slope * t + zero) as f64;
        let mut t = -100_000;
        let samples: Vec<_> = steps.iter().map(|step| { t += step; (t, line(t)) }).collect();
        for (t, value) in values("linear", 1, &samples) {
            prop_assert_eq!(value, line(t), "at {}", t);
        }
        for (t, value) in values("pchip", 1, &samples) {
            prop_assert!((value - line(t)).abs() < 1e-6, "{value} at {t} is not {}", line(t));
        }
        for (t, value) in values("time_weighted_mean", 1, &samples) {
            prop_assert!((value - (line(t) - slope as f64 * 500.0)).abs() < 1e-6, "{value} at {t}");
        }
    }

    #[test]
    fn values_lie_between_their_two_neighbours(samples in samples()) {
        for method in ["linear", "pchip", "nearest"] {
            for (t, value) in values(method, 1, &samples) {
                let ((_, a), (_, b)) = neighbours(&samples, t);
                prop_assert!(is_between(value, a, b), "{method}: {value} at {t} is not between {a} and {b}");
            }
        }
    }

    #[test]
    fn a_mean_lies_between_the_least_and_the_most_of_its_interval(samples in samples()) {
        for (t, value) in values("time_weighted_mean", 10, &samples) {
            let first = samples.partition_point(|s| s.0 <= t - 10_000) - 1;
            let last = samples.partition_point(|s| s.0 < t);
            let within = samples[first..=last].iter().map(|s| s.1);
            let (low, high) = (within.clone().fold(f64::INFINITY, f64::min), within.fold(f64::NEG_INFINITY, f64::max));
            prop_assert!(is_between(value, low, high), "{value} at {t} is not between {low} and {high}");
        }
    }

    #[test]
    fn a_sample_on_the_grid_is_kept_to_the_bit(samples in samples()) {
        for method in ANY_COLUMNS.into_iter().filter(|m| *m != "time_weighted_mean") {
            let rows = values(method, 1, &samples);
            for (t, value) in samples.iter().filter(|s| s.0.rem_euclid(1_000) == 0) {
                let row = rows.iter().find(|row| row.0 == *t);
                prop_assert_eq!(row.map(|r| r.1.to_bits()), Some(value.to_bits()), "{} at {}", method, t);
            }
        }
    }

    #[test]
    fn a_constant_stays_the_same_to_the_bit(samples in samples(), value in -1e9..1e9_f64) {
        let samples: Vec<_> = samples.iter().map(|(t, _)| (*t, value)).collect();
        for method in ANY_COLUMNS {
            let other = values(method, 1, &samples).into_iter().find(|row| row.1.to_bits() != value.to_bits());
            prop_assert_eq!(other, None, "{}", method);
        }
    }

    #[test]
    fn the_grid_is_even_and_nothing_lies_outside_of_the_samples(samples in samples()) {
        let ends = samples[0].0..=samples[samples.len() - 1].0;
        for method in ANY_COLUMNS {
            for (t, _) in values(method, 5, &samples) {
                prop_assert_eq!(t.rem_euclid(5_000), 0);
                prop_assert!(ends.contains(&t), "{method}: {t} is outside of {ends:?}");
            }
        }
    }

    #[test]
    fn a_whole_gap_is_null(samples in samples()) {
        for method in ANY_COLUMNS {
            for (t, _) in values(method, 1, &samples) {
                let ((left, _), (right, _)) = neighbours(&samples, t);
                let bridged = right == t || right - left <= 60_000;
                let held = method == "previous" && t - left <= 60_000;
                prop_assert!(bridged || held, "{method}: a value at {t} between {left} and {right}");
            }
        }
    }

    #[test]
    fn between_close_samples_there_is_always_a_value(samples in samples()) {
        for method in ANY_COLUMNS.into_iter().filter(|m| *m != "time_weighted_mean") {
            let rows = values(method, 1, &samples);
            for pair in samples.windows(2).filter(|pair| pair[1].0 - pair[0].0 <= 60_000) {
                let mut instants = (pair[0].0..=pair[1].0).filter(|t| t.rem_euclid(1_000) == 0);
                let missing = instants.find(|t| rows.binary_search_by_key(t, |row| row.0).is_err());
                prop_assert_eq!(missing, None, "{} between {:?}", method, pair);
            }
        }
    }

    #[test]
    fn a_late_sample_changes_exactly_the_rows_that_hang_on_it(run in run(), which in any::<prop::sample::Index>()) {
        let mut ops = run.in_order();
        ops.retain(|op| matches!(op, Op::Insert { .. }));
        let late = ops.remove(which.index(ops.len()));
        let rules = Rules { methods: Rules::default().methods, wraps: false, window: 3_600, ..run.rules };
        let mut vehicle = Vehicle::new(&rules).all(&ops);
        let before = vehicle.table.clone();
        let emitted = vehicle.apply(&late);
        let mut changed: Vec<i64> = vehicle.table.iter().filter(|(t, row)| before.get(t) != Some(row)).map(|r| *r.0).collect();
        changed.sort_unstable();
        prop_assert_eq!(emitted, changed);
    }

    #[test]
    fn no_row_is_emitted_for_nothing(run in run()) {
        // A sample need not change all that it may: `nearest` and a flat `pchip` don't see some.
        let rules = Rules { methods: Rules::default().methods, wraps: false, ..run.rules.clone() };
        let got = Vehicle::new(&rules).all(&run.ops);
        prop_assert_eq!(got.needless, Vec::<i64>::new());
    }

    #[test]
    fn a_heading_turns_the_short_way(from in 0.0..360.0_f64, by in -179.9..179.9_f64) {
        let to = (from + by).rem_euclid(360.0);
        let turned = |value: f64| value - 90.0 * 4.0 * ((value + 90.0) / 360.0).floor();
        let config = |method| {
            let rules = Rules { interval: 1, methods: ["linear", method, "linear"], wraps: true, ..Rules::default() };
            let samples = vec![(0, vec![from / 2.0 - 90.0]), (4 * SECOND, vec![to / 2.0 - 90.0])];
            Vehicle::new(&rules).all(&[Op::Insert { signal: 1, samples, arrival: 0 }]).table
        };
        // The harness' column turns from -90 to 90: half a degree a degree.
        for method in ["linear", "pchip"] {
            for (t, row) in config(method) {
                let got = (row.values[2].unwrap() + 90.0) * 2.0;
                let want = from + by * (t as f64 / 4e6);
                let off = turned(got - want);
                prop_assert!(off.abs().min((off - 360.0).abs()) < 1e-9, "{method}: {got} at {t} is not {want}");
                prop_assert!((0.0..=360.0).contains(&got));
            }
        }
    }

    #[test]
    fn a_position_is_on_the_short_way_at_its_share_of_it(
        (lat, lon) in (-90.0..=90.0_f64, -180.0..=180.0_f64),
        (to_lat, to_lon) in prop_oneof![
            4 => (-90.0..=90.0_f64, -180.0..=180.0_f64),
            1 => (prop::sample::select(vec![-90.0, 90.0, 0.0]), prop::sample::select(vec![-180.0, 180.0, 0.0])),
        ],
        shrink in prop::sample::select(vec![1.0, 1e-3, 1e-7, 1e-12]),
    ) {
        // Near and far; near ones on both sides of the antimeridian too.
        let to = vec![(lat + (to_lat - lat) * shrink).clamp(-90.0, 90.0), lon + (to_lon - lon) * shrink];
        let from = vec![lat, lon];
        let got = rows("great_circle", 10, &[(0, from.clone()), (40_000, to.clone())]);
        let whole = distance(&from, &to);
        for step in 1..4 {
            let row = &got[&(step * 10 * SECOND)];
            let point = [row.values[0].unwrap(), row.values[1].unwrap()];
            prop_assert!((-90.0..=90.0).contains(&point[0]) && (-180.0..=180.0).contains(&point[1]));
            let way = whole * step as f64 / 4.0;
            prop_assert!((distance(&from, &point) - way).abs() < 1e-7, "{point:?}");
            prop_assert!((distance(&point, &to) - (whole - way)).abs() < 1e-7, "{point:?}");
        }
    }

    #[test]
    fn a_clock_that_jumps_loses_only_what_is_later_than_the_window(
        before in 1_usize..30,
        (jump, after) in (-200_i64..200, 1_usize..60),
        method in prop::sample::select(&ANY_COLUMNS[..]),
    ) {
        let rules = Rules { methods: ["linear", method, "linear"], ..Rules::default() };
        let at = |i: usize| 1_700_000_000 + i as i64 + if i < before { 0 } else { jump };
        let mut vehicle = Vehicle::new(&rules);
        let mut newest = i64::MIN;
        let mut taken = fleet_core::reference::Samples::new();
        for i in 0..before + after {
            let (time, value) = (at(i), (i % 7) as f64);
            vehicle.apply(&Op::Insert { signal: 1, samples: vec![(time * SECOND, vec![value])], arrival: 0 });
            if time >= newest.saturating_sub(rules.window) {
                fleet_core::reference::add(&mut taken, time * SECOND, &[value]);
            }
            newest = newest.max(time);
        }
        vehicle.apply(&Op::Finish);
        let schema = schema(&rules);
        let want = fleet_core::reference::table(&schema, &[Default::default(), taken, Default::default()]);
        prop_assert_eq!(crate::compare::difference(&schema, &vehicle.table, &want), None);
    }
}

#[test]
fn a_vehicle_without_samples_has_no_rows_and_one_with_a_single_sample_at_most_its_own() {
    assert!(Vehicle::new(&Rules::default()).all(&[]).table.is_empty());
    for method in ANY_COLUMNS {
        let on_grid = values(method, 10, &[(20_000, 7.5)]);
        let kept = if method == "time_weighted_mean" { vec![] } else { vec![(20_000, 7.5)] };
        assert_eq!(on_grid, kept, "{method}");
        assert_eq!(values(method, 10, &[(20_001, 7.5)]), [], "{method}");
    }
}
