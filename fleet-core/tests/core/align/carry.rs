//! What one holder leaves to the next: with it the rows are those of one that never stopped, and nothing else is
//! taken for it.

use std::sync::Arc;

use fleet_core::Schema;
use fleet_core::align::{Aligner, MAX_CARRY, Methods, Previous, Track};
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::YEAR_2000;
use proptest::prelude::*;

use super::harness::{Draft, Op, Rules, Run, SECOND, Vehicle, draft, rules, run_of, schema};
use crate::compare::difference;

const NOW: i64 = 1_700_000_000;

fn run() -> impl Strategy<Value = Run> {
    let offset = || prop_oneof![3 => Just(0_i64), 1 => 0_i64..600];
    let drafts: BoxedStrategy<Vec<Draft>> = prop::collection::vec(draft(), 1..60).boxed();
    (rules(), drafts, [offset(), offset(), offset()])
        .prop_map(|(rules, drafts, offsets)| run_of(rules, &drafts, NOW, offsets))
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 1..5)
}

/// The run with hand-overs before these operations, at each of which so many messages are read once more.
fn handed_over(run: &Run, cuts: &[prop::sample::Index], again: usize) -> Vehicle {
    let mut vehicle = Vehicle::new(&run.rules);
    let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(run.ops.len())).collect();
    for (n, op) in run.ops.iter().enumerate() {
        if cuts.contains(&n) {
            vehicle.carry_over();
            for op in &run.ops[n.saturating_sub(again)..n] {
                if matches!(op, Op::Insert { .. }) {
                    vehicle.apply(op);
                }
            }
        }
        vehicle.apply(op);
    }
    vehicle.all(&[])
}

fn with_methods(run: Run, methods: [&'static str; 3]) -> Run {
    Run { rules: Rules { methods, ..run.rules }, ops: run.ops }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_row_is_that_of_a_holder_that_never_stopped(run in run(), cuts in cuts()) {
        let uncut = Vehicle::new(&run.rules).all(&run.ops);
        prop_assert_eq!(handed_over(&run, &cuts, 0).rows, uncut.rows);
    }

    #[test]
    fn the_same_with_methods_of_any_reach(run in run(), cuts in cuts()) {
        let run = with_methods(run, ["two_by_two", "over_interval", "three_by_one"]);
        let uncut = Vehicle::new(&run.rules).all(&run.ops);
        prop_assert_eq!(handed_over(&run, &cuts, 0).rows, uncut.rows);
    }

    #[test]
    fn what_is_read_once_more_changes_nothing(run in run(), cuts in cuts(), again in 1_usize..8) {
        let got = handed_over(&run, &cuts, again);
        prop_assert_eq!(difference(&schema(&run.rules), &got.table, &run.expected()), None);
    }

    #[test]
    fn a_carry_is_the_same_after_a_hand_over(run in run()) {
        let mut vehicle = Vehicle::new(&run.rules);
        run.ops.iter().for_each(|op| drop(vehicle.apply(op)));
        let carry = vehicle.aligner.carry(&vehicle.track).unwrap();
        vehicle.carry_over();
        prop_assert_eq!(vehicle.aligner.carry(&vehicle.track), Some(carry));
    }

    #[test]
    fn no_bytes_harm_anything(
        run in run(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
        length in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut vehicle = Vehicle::new(&run.rules);
        run.ops.iter().for_each(|op| drop(vehicle.apply(op)));
        let mut carry = vehicle.aligner.carry(&vehicle.track).unwrap();
        for (at, byte, how) in damage {
            let at = at.index(carry.len());
            match how {
                0 => carry[at] = byte,
                1 => carry.insert(at, byte),
                _ => carry[at] ^= 1 << (byte % 8),
            }
        }
        carry.truncate(length.map_or(carry.len(), |length| length.index(carry.len())));
        go_on(&vehicle.aligner, &carry, &run);
    }

    #[test]
    fn nor_do_bytes_without_sense(bytes in prop::collection::vec(any::<u8>(), 0..300), run in run()) {
        let vehicle = Vehicle::new(&run.rules);
        prop_assert!(vehicle.aligner.resume(&bytes).is_none());
        // Behind what every carry of the aligner begins with.
        let empty = vehicle.aligner.carry(&vehicle.track).unwrap();
        go_on(&vehicle.aligner, &[&empty[..9], &bytes].concat(), &run);
    }
}

/// Takes the samples of a run on what these bytes give, if anything.
fn go_on(aligner: &Aligner, carry: &[u8], run: &Run) {
    let mut track = None;
    let took = allocation_counter::measure(|| track = aligner.resume(carry));
    assert!(took.bytes_max < 3 * MAX_CARRY as u64, "{} bytes", took.bytes_max);
    let Some(mut track) = track else { return };
    let mut rows = 0;
    for op in &run.ops {
        match op {
            Op::Insert { signal, samples, arrival } => {
                let mut of = Samples::new(if *signal == 0 { 2 } else { 1 });
                samples.iter().for_each(|(time, values)| of.push(*time, values));
                let index = SignalIndex(u8::try_from(*signal).unwrap());
                aligner.insert(&mut track, index, &of, *arrival, &mut |_| rows += 1);
            }
            Op::Tick(now) => aligner.tick(&mut track, *now, &mut |_| rows += 1),
            Op::Finish => aligner.finish(&mut track, &mut |_| rows += 1),
        }
    }
    aligner.snapshot(&mut track);
    assert!(rows < 500_000, "{rows} rows");
}

fn aligner_of(schema: &Schema) -> Aligner {
    Aligner::new(schema, &Methods::default()).unwrap()
}

/// Samples of each signal at its own pace, in seconds, for so many seconds.
fn driven(aligner: &Aligner, every: i64, seconds: i64) -> Track {
    let mut track = aligner.track(None, &[]);
    for second in (0..seconds).step_by(usize::try_from(every).unwrap()) {
        for (index, signal) in aligner.schema().indexed() {
            let time = (NOW + second) * SECOND + 137_001 * i64::from(index.0);
            let values = vec![20.0 + second as f64 / 7.0; signal.columns.len()];
            let mut samples = Samples::new(values.len());
            samples.push(time, &values);
            aligner.insert(&mut track, index, &samples, time + SECOND, &mut |_| {});
        }
    }
    aligner.snapshot(&mut track);
    track
}

#[test]
fn it_is_small_at_the_scenarios_pace_and_none_is_long() {
    let aligner = aligner_of(&Schema::default());
    let carry = aligner.carry(&driven(&aligner, 12, 600)).unwrap();
    assert!((300..700).contains(&carry.len()), "{} bytes", carry.len());
    assert_eq!(aligner.carry(&driven(&aligner, 1, 20)).map(|carry| carry.len() > 700), Some(true));
    let wide = RecordsConfig { window: "300s".to_owned(), ..RecordsConfig::default() };
    let aligner = aligner_of(&wide.build().unwrap());
    assert_eq!(aligner.carry(&driven(&aligner, 1, 600)), None);
    assert!(aligner.resume(&vec![1; MAX_CARRY + 1]).is_none());
}

#[test]
fn one_of_another_configuration_is_none() {
    let own = aligner_of(&Schema::default());
    let carry = own.carry(&driven(&own, 12, 60)).unwrap();
    assert_eq!(own.resume(&carry).map(|track| track.samples()), Some(20));
    let change = |what: &dyn Fn(&mut RecordsConfig)| {
        let mut config = RecordsConfig::default();
        what(&mut config);
        aligner_of(&config.build().unwrap()).resume(&carry).is_none()
    };
    assert!(!change(&|_| {}), "the same");
    assert!(!change(&|c| c.patience = "5s".to_owned()), "rows do not hang on how long they waited");
    assert!(!change(&|c| c.signal[1].signal_timeout = Some("0s".to_owned())));
    assert!(change(&|c| c.interval = "5s".to_owned()));
    assert!(change(&|c| c.window = "20s".to_owned()));
    assert!(change(&|c| c.signal.swap(1, 2)));
    assert!(change(&|c| drop(c.signal.pop())));
    assert!(change(&|c| c.signal[1].name = "velocity".to_owned()));
    assert!(change(&|c| c.signal[1].interpolation = "nearest".to_owned()));
    assert!(change(&|c| c.signal[1].max_gap = "30s".to_owned()));
    assert!(change(&|c| c.signal[1].columns[0].name = "mph".to_owned()));
    assert!(change(&|c| c.signal[1].columns[0].max = 200.0));
    // A method of somebody's own that looks at something else under the same name.
    let mut methods = Methods::default();
    methods.register("linear", Arc::new(Previous));
    assert!(Aligner::new(&Schema::default(), &methods).unwrap().resume(&carry).is_none());
    let later = [&[2], &carry[1..]].concat();
    assert!(own.resume(&later).is_none(), "of a newer version");
}

#[test]
fn what_no_track_can_say_is_refused() {
    let aligner = aligner_of(&Schema::default());
    let carry = aligner.carry(&driven(&aligner, 12, 60)).unwrap();
    let with_time = |at: usize, time: i64| {
        let mut carry = carry.clone();
        carry[at..at + 8].copy_from_slice(&time.to_le_bytes());
        aligner.resume(&carry).is_some()
    };
    // Rows to which nothing has led would be missing for ever.
    assert!(!with_time(9, (NOW + 1_000_000) * SECOND), "a frontier after the newest sample");
    assert!(!with_time(9, NOW * SECOND + 1), "beside the grid");
    assert!(!with_time(17, i64::MAX) && !with_time(25, YEAR_2000 - 1), "times that no clock says");
    assert!(with_time(25, NOW * SECOND));
    assert!(aligner.resume(&[&carry[..], &[0]].concat()).is_none(), "more than it says");
}
