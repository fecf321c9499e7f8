//! The invariant (docs/interpolation.md): the rows of a vehicle, merged column by column, are a function of
//! its set of samples alone.

use fleet_core::align::Snapshot;
use proptest::prelude::*;

use super::harness::{Op, Rules, Run, Vehicle, rules, run, schema};
use crate::compare::difference;

/// `crashes`: where the state is saved, and how many operations later the worker dies.
fn with_crashes(mut vehicle: Vehicle, run: &Run, crashes: &[(prop::sample::Index, usize)]) -> Vehicle {
    let mut at = 0;
    let mut saved: Option<(i64, Snapshot)> = None;
    let mut crashes: Vec<_> = crashes.iter().map(|(i, lost)| (i.index(run.ops.len()), *lost)).collect();
    crashes.sort_unstable();
    for (save, lost) in crashes {
        let save = save.max(at);
        run.ops[at..save].iter().for_each(|op| drop(vehicle.apply(op)));
        let snapshot = vehicle.aligner.snapshot(&mut vehicle.track);
        let known = saved.take().map_or(i64::MIN, |s| s.0);
        let from = snapshot.resume_at.unwrap_or(known);
        let crash = (save + lost).min(run.ops.len());
        run.ops[save..crash].iter().for_each(|op| drop(vehicle.apply(op)));
        vehicle.resume(&snapshot);
        for op in &run.ops[..crash] {
            if matches!(op, Op::Insert { arrival, .. } if *arrival >= from) {
                vehicle.apply(op);
            }
        }
        saved = Some((from, snapshot));
        at = crash;
    }
    vehicle.all(&run.ops[at..])
}

fn crashes(most: usize) -> impl Strategy<Value = Vec<(prop::sample::Index, usize)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_is_what_all_samples_give(run in run()) {
        let got = Vehicle::new(&run.rules).all(&run.ops);
        prop_assert_eq!(difference(&schema(&run.rules), &got.table, &run.expected()), None);
    }

    #[test]
    fn no_order_no_split_and_no_repetition_changes_a_bit(run in run()) {
        let one_way = Vehicle::new(&run.rules).all(&run.ops);
        let other_way = Vehicle::new(&run.rules).all(&run.in_order());
        prop_assert_eq!(one_way.table, other_way.table);
    }

    #[test]
    fn no_timeout_of_a_signal_changes_a_bit(run in run(), other in rules()) {
        let hasty = Rules { timeouts: other.timeouts, patience: other.patience, ..run.rules.clone() };
        let patient = Rules { timeouts: [None; 3], patience: 3_600, ..run.rules.clone() };
        let [hasty, patient] = [hasty, patient].map(|rules| Vehicle::new(&rules).all(&run.ops).table);
        prop_assert_eq!(hasty, patient);
    }

    #[test]
    fn another_worker_goes_on_where_one_died(run in run(), crashes in crashes(4)) {
        let got = with_crashes(Vehicle::new(&run.rules), &run, &crashes);
        prop_assert_eq!(difference(&schema(&run.rules), &got.table, &run.expected()), None);
    }

    #[test]
    fn methods_of_any_reach_keep_it(run in run(), crashes in crashes(3)) {
        let methods = ["two_by_two", "over_interval", "three_by_one"];
        let run = Run { rules: Rules { methods, ..run.rules }, ops: run.ops };
        let vehicle = || Vehicle::new(&run.rules);
        let in_order = vehicle().all(&run.in_order());
        prop_assert_eq!(&vehicle().all(&run.ops).table, &in_order.table);
        prop_assert_eq!(&with_crashes(vehicle(), &run, &crashes).table, &in_order.table);
    }

    #[test]
    fn more_samples_never_turn_a_value_into_null(run in run(), keep in prop::collection::vec(any::<bool>(), 60)) {
        let all = Vehicle::new(&run.rules).all(&run.ops);
        let kept = run.ops.iter().zip(keep.iter().cycle()).filter(|(_, keep)| **keep);
        let kept: Vec<Op> = kept.map(|(op, _)| op.clone()).collect();
        for (t, row) in &Vehicle::new(&run.rules).all(&kept).table {
            for (c, value) in row.values.iter().enumerate().filter(|(_, value)| value.is_some()) {
                let with_all = all.table.get(t).and_then(|row| row.values[c]);
                prop_assert!(with_all.is_some(), "{t}, column {c} was {value:?}");
            }
        }
    }
}
