//! The invariant (DESIGN section 6): the rows of a vehicle, merged column by column, are a function of
//! its set of samples alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::align::{Aligner, At, Interpolator, Methods, Reach, Snapshot, Track, View};
use fleet_core::batch::{Quality, Row};
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use fleet_core::schema::{RecordsConfig, Schema};
use proptest::prelude::*;

use crate::reference::{self, Cell, Method, Table};

const MS: i64 = 1_000;
const SECOND: i64 = 1_000_000;
const METHODS: [Method; 3] = [Method::GreatCircle, Method::Linear, Method::Previous];

/// Times that govern a run, seconds.
#[derive(Debug, Clone)]
struct Times {
    interval: i64,
    window: i64,
    patience: i64,
    max_gap: [i64; 3],
}

fn times() -> impl Strategy<Value = Times> {
    let gap = || prop::sample::select(vec![10, 20, 60]);
    (
        prop::sample::select(vec![1, 5, 10]),
        prop::sample::select(vec![0, 5, 30]),
        prop::sample::select(vec![0, 10, 30]),
        [gap(), gap(), gap()],
    )
        .prop_map(|(interval, window, patience, max_gap)| Times { interval, window, patience, max_gap })
}

fn schema(times: &Times, methods: [&str; 3]) -> Schema {
    let mut config = RecordsConfig {
        interval: format!("{}s", times.interval),
        window: format!("{}s", times.window),
        patience: format!("{}s", times.patience),
        ..RecordsConfig::default()
    };
    config.signal.truncate(3);
    for ((signal, gap), method) in config.signal.iter_mut().zip(times.max_gap).zip(methods) {
        signal.max_gap = format!("{gap}s");
        signal.interpolation = method.to_owned();
    }
    config.build().unwrap()
}

/// One sample as it is made up, before it has a place in time.
#[derive(Debug, Clone)]
struct Draft {
    signal: usize,
    /// After the one before it of its signal, ms; 0 makes two values for one instant.
    step: i64,
    values: [f64; 2],
    /// How much later than in order it is sent, as a share of the window.
    delay: f64,
    /// In one message with the sample sent before it, if that is of the same signal.
    joined: bool,
    /// After it: nothing (mostly), a tick so many ms later, a finish, or an older message again.
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Tick(i64),
    Finish,
    Repeat(usize),
}

fn draft() -> impl Strategy<Value = Draft> {
    let step = prop_oneof![
        8 => 1_i64..15_000,
        4 => (1_i64..8).prop_map(|s| s * 5_000),
        2 => 15_000_i64..130_000,
        1 => Just(0_i64),
        1 => prop::sample::select(vec![10_000, 20_000, 20_001, 60_000, 60_001, 3_600_000, 31_536_000_000]),
    ];
    let then = prop_oneof![
        6 => Just(Then::Nothing),
        3 => (0_i64..60_000).prop_map(Then::Tick),
        1 => Just(Then::Finish),
        2 => any::<usize>().prop_map(Then::Repeat),
    ];
    let values = [-90.0..90.0_f64, -180.0..180.0_f64];
    (0..3_usize, step, values, 0.0..=1.0_f64, any::<bool>(), then).prop_map(
        |(signal, step, values, delay, joined, then)| Draft { signal, step, values, delay, joined, then },
    )
}

#[derive(Debug, Clone)]
enum Op {
    Insert { signal: usize, samples: Vec<(i64, Vec<f64>)>, arrival: i64 },
    Tick(i64),
    Finish,
}

#[derive(Debug, Clone)]
struct Run {
    times: Times,
    ops: Vec<Op>,
}

/// `start`: the event time of the first samples, s. `offsets`: how much later each signal is sent, s.
fn run_of(times: Times, drafts: &[Draft], start: i64, offsets: [i64; 3]) -> Run {
    let mut clock = [start * SECOND; 3];
    let mut sent: Vec<(i64, i64, &Draft)> = Vec::new();
    for draft in drafts {
        let time = clock[draft.signal] + draft.step * MS;
        clock[draft.signal] = time;
        // Whoever is sent earlier by this key is at most a window newer.
        let delay = (draft.delay * (times.window * SECOND) as f64) as i64;
        sent.push((time + delay + offsets[draft.signal] * SECOND, time, draft));
    }
    sent.sort_by_key(|s| s.0);
    let mut ops: Vec<Op> = Vec::new();
    let (mut arrival, mut key) = (1_700_000_000 * SECOND, i64::MIN);
    for (send, time, draft) in sent {
        arrival += (send.saturating_sub(key)).clamp(0, 100 * SECOND);
        key = send;
        let width = if draft.signal == 0 { 2 } else { 1 };
        let sample = (time, draft.values[..width].to_vec());
        match ops.last_mut() {
            Some(Op::Insert { signal, samples, .. }) if draft.joined && *signal == draft.signal => {
                samples.push(sample);
            }
            _ => ops.push(Op::Insert { signal: draft.signal, samples: vec![sample], arrival }),
        }
        match draft.then {
            Then::Nothing => {}
            Then::Tick(later) => ops.push(Op::Tick(arrival + later * MS)),
            Then::Finish => ops.push(Op::Finish),
            Then::Repeat(which) => {
                let older: Vec<_> = ops.iter().filter(|op| matches!(op, Op::Insert { .. })).collect();
                let mut again = older[which % older.len()].clone();
                if let Op::Insert { arrival: at, .. } = &mut again {
                    *at = arrival;
                }
                ops.push(again);
            }
        }
    }
    Run { times, ops }
}

fn run() -> impl Strategy<Value = Run> {
    let offset = || prop_oneof![3 => Just(0_i64), 1 => 0_i64..600];
    let start = prop::sample::select(vec![1_700_000_000, 0, -86_400, -10_000_000_000]);
    (times(), prop::collection::vec(draft(), 1..60), start, [offset(), offset(), offset()])
        .prop_map(|(times, drafts, start, offsets)| run_of(times, &drafts, start, offsets))
}

impl Run {
    fn signals(&self) -> Vec<reference::Signal> {
        let of = |signal: usize| {
            let samples = self.ops.iter().filter_map(move |op| match op {
                Op::Insert { signal: s, samples, .. } if *s == signal => Some(samples.clone()),
                _ => None,
            });
            let max_gap = self.times.max_gap[signal] * SECOND;
            reference::Signal { method: METHODS[signal], max_gap, samples: samples.flatten().collect() }
        };
        (0..3).map(of).collect()
    }

    /// The same samples in order, one a message, one signal after the other.
    fn in_order(&self) -> Vec<Op> {
        let mut sorted: BTreeMap<(usize, i64), Vec<Vec<f64>>> = BTreeMap::new();
        for (s, signal) in self.signals().into_iter().enumerate() {
            for (time, values) in signal.samples {
                sorted.entry((s, time)).or_default().push(values);
            }
        }
        let messages = sorted.into_iter().flat_map(|((signal, time), all)| {
            all.into_iter().map(move |values| (signal, vec![(time, values)]))
        });
        messages.map(|(signal, samples)| Op::Insert { signal, samples, arrival: 0 }).collect()
    }

    fn expected(&self) -> Table {
        reference::table(&self.signals(), self.times.interval * SECOND)
    }
}

/// A vehicle whose rows go into a table as a sink stores them.
struct Vehicle {
    aligner: Aligner,
    track: Track,
    floor: Option<i64>,
    table: Table,
    /// The instants that this track has emitted.
    emitted: BTreeSet<i64>,
    needless: Vec<i64>,
}

impl Vehicle {
    fn new(times: &Times) -> Self {
        Self::with(times, ["great_circle", "linear", "previous"])
    }

    fn with(times: &Times, methods: [&str; 3]) -> Self {
        let mut known = Methods::default();
        known.register("two_by_two", Arc::new(Fingerprint { before: 2, after: 2, looks_back: false }));
        known.register("three_by_one", Arc::new(Fingerprint { before: 3, after: 1, looks_back: false }));
        known.register("over_interval", Arc::new(Fingerprint { before: 1, after: 1, looks_back: true }));
        let aligner = Aligner::new(&schema(times, methods), &known).unwrap();
        let track = aligner.track(None, &[]);
        let (table, emitted) = (Table::new(), BTreeSet::new());
        Self { aligner, track, floor: None, table, emitted, needless: Vec::new() }
    }

    fn apply(&mut self, op: &Op) {
        let (columns, floor) = (self.aligner.schema().clone(), self.floor);
        let (table, emitted, needless) = (&mut self.table, &mut self.emitted, &mut self.needless);
        let mut call: Vec<i64> = Vec::new();
        let mut emit = |row: Row<'_>| {
            call.push(row.ts);
            if !row.correction {
                assert!(!emitted.contains(&row.ts), "{} is not new", row.ts);
                assert!(floor.is_none_or(|floor| row.ts > floor), "{} is not above the floor", row.ts);
            }
            emitted.insert(row.ts);
            let stored = table.entry(row.ts).or_insert_with(|| vec![None; 3]);
            let before = stored.clone();
            for (s, signal) in columns.signals().iter().enumerate() {
                let values = row.values[signal.column_range()].to_vec();
                match Quality::of(row.quality, s) {
                    Quality::Missing => assert!(values.iter().all(|v| v.is_nan())),
                    quality => stored[s] = Some((quality as u8, values)),
                }
            }
            if before == *stored {
                needless.push(row.ts);
            }
        };
        let (aligner, track) = (&self.aligner, &mut self.track);
        match op {
            Op::Tick(now) => aligner.tick(track, *now, &mut emit),
            Op::Finish => aligner.finish(track, &mut emit),
            Op::Insert { signal, samples, arrival } => {
                let mut of = Samples::new(if *signal == 0 { 2 } else { 1 });
                samples.iter().for_each(|(time, values)| of.push(*time, values));
                let index = SignalIndex(u8::try_from(*signal).unwrap());
                aligner.insert(track, index, &of, *arrival, &mut emit);
            }
        }
        let sorted = call.windows(2).all(|w| w[0] < w[1]);
        assert!(sorted, "rows twice or out of order in one call: {call:?}");
    }

    fn resume(&mut self, from: &Snapshot) {
        self.track = self.aligner.track(from.floor, &from.horizon);
        self.floor = from.floor;
        self.emitted.clear();
    }

    fn all(mut self, ops: &[Op]) -> Self {
        ops.iter().chain([&Op::Finish]).for_each(|op| self.apply(op));
        self
    }
}

/// A value that tells every sample in its reach: a change that is not corrected shows.
#[derive(Debug)]
struct Fingerprint {
    before: usize,
    after: usize,
    looks_back: bool,
}

impl Interpolator for Fingerprint {
    fn reach(&self, interval: i64) -> Reach {
        let look_back = if self.looks_back { interval } else { 0 };
        Reach { before: self.before, after: self.after, look_back }
    }

    fn value(&self, samples: View<'_>, at: At, out: &mut [f64]) -> Option<Quality> {
        let from = at.t - if self.looks_back { at.interval } else { 0 };
        let linked = |i: usize| {
            let pair = samples.time(i).zip(samples.time(i + 1));
            pair.is_some_and(|(a, b)| b - a <= at.max_gap)
        };
        let mut first = samples.count_before(from + 1).checked_sub(1)?;
        let mut last = samples.count_before(at.t);
        if last >= samples.len() || !(first..last).all(linked) {
            return None;
        }
        for _ in 1..self.before {
            first -= usize::from(first > 0 && linked(first - 1));
        }
        for _ in 1..self.after {
            last += usize::from(linked(last));
        }
        out.fill(0.0);
        for i in first..=last {
            let sample = samples.get(i)?;
            for (column, out) in out.iter_mut().enumerate() {
                *out = *out * 0.7 + sample.value(column) + (sample.time - at.t) as f64 / 1e6;
            }
        }
        Some(Quality::Interpolated)
    }

    fn keeps_hits(&self) -> bool {
        !self.looks_back
    }
}

/// The same instants and cells; values up to rounding, positions by the distance between them.
fn same(got: &Table, want: &Table) -> Result<(), TestCaseError> {
    let instants = |table: &Table| table.keys().copied().collect::<Vec<_>>();
    prop_assert_eq!(instants(got), instants(want));
    for (t, row) in got {
        for (s, (got, want)) in row.iter().zip(&want[t]).enumerate() {
            prop_assert!(cells_match(s, got, want), "{t}, signal {s}: {got:?} is not {want:?}");
        }
    }
    Ok(())
}

fn cells_match(signal: usize, got: &Cell, want: &Cell) -> bool {
    match (got, want) {
        (None, None) => true,
        (Some((how, got)), Some((wanted, want))) if how == wanted => match METHODS[signal] {
            Method::GreatCircle => reference::distance(got, want) < 1e-7,
            _ => got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9),
        },
        _ => false,
    }
}

/// `crashes`: where the state is saved, and how many operations later the worker dies.
fn with_crashes(mut vehicle: Vehicle, run: &Run, crashes: &[(prop::sample::Index, usize)]) -> Vehicle {
    let mut at = 0;
    let mut saved: Option<(i64, Snapshot)> = None;
    let mut crashes: Vec<_> = crashes.iter().map(|(i, lost)| (i.index(run.ops.len()), *lost)).collect();
    crashes.sort_unstable();
    for (save, lost) in crashes {
        let save = save.max(at);
        run.ops[at..save].iter().for_each(|op| vehicle.apply(op));
        let snapshot = vehicle.aligner.snapshot(&vehicle.track);
        let known = saved.take().map_or(i64::MIN, |s| s.0);
        let from = snapshot.resume_at.unwrap_or(known);
        let crash = (save + lost).min(run.ops.len());
        run.ops[save..crash].iter().for_each(|op| vehicle.apply(op));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_is_what_all_samples_give(run in run()) {
        let got = Vehicle::new(&run.times).all(&run.ops);
        same(&got.table, &run.expected())?;
    }

    #[test]
    fn the_way_samples_come_changes_no_bit(run in run()) {
        let one_way = Vehicle::new(&run.times).all(&run.ops);
        let other_way = Vehicle::new(&run.times).all(&run.in_order());
        prop_assert_eq!(one_way.table, other_way.table);
    }

    #[test]
    fn another_worker_goes_on_where_one_died(
        run in run(),
        crashes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20), 1..4),
    ) {
        let got = with_crashes(Vehicle::new(&run.times), &run, &crashes);
        same(&got.table, &run.expected())?;
    }

    #[test]
    fn methods_of_any_reach_keep_the_invariant(
        run in run(),
        crashes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20), 0..3),
    ) {
        let vehicle = || Vehicle::with(&run.times, ["two_by_two", "over_interval", "three_by_one"]);
        let in_order = vehicle().all(&run.in_order());
        prop_assert_eq!(&vehicle().all(&run.ops).table, &in_order.table);
        prop_assert_eq!(&with_crashes(vehicle(), &run, &crashes).table, &in_order.table);
    }

    #[test]
    fn no_row_is_emitted_for_nothing(run in run()) {
        let got = Vehicle::new(&run.times).all(&run.ops);
        prop_assert_eq!(got.needless, Vec::<i64>::new());
    }

    #[test]
    fn more_samples_never_turn_a_value_into_null(run in run(), keep in prop::collection::vec(any::<bool>(), 60)) {
        let all = Vehicle::new(&run.times).all(&run.ops);
        let kept = run.ops.iter().zip(keep.iter().cycle()).filter(|(_, keep)| **keep);
        let kept: Vec<Op> = kept.map(|(op, _)| op.clone()).collect();
        let fewer = Vehicle::new(&run.times).all(&kept);
        for (t, row) in &fewer.table {
            for (s, cell) in row.iter().enumerate().filter(|(_, cell)| cell.is_some()) {
                let with_all = all.table.get(t).and_then(|row| row[s].as_ref());
                prop_assert!(with_all.is_some(), "{t}, signal {s} was {cell:?}");
            }
        }
    }

    #[test]
    fn a_line_comes_out_as_a_line_and_nothing_beyond_its_ends(
        steps in prop::collection::vec(1_i64..10_000, 2..50),
        (slope, zero) in (-50_i64..50, -1_000_000_i64..1_000_000),
        noise in prop::collection::vec(-1e9..1e9_f64, 50),
    ) {
        let times = Times { interval: 1, window: 30, patience: 30, max_gap: [60; 3] };
        let at = steps.iter().scan(-100_000, |t, step| { *t += step; Some(*t) }).collect::<Vec<i64>>();
        let line = |t: i64| (slope * t + zero) as f64;
        let feed = |value: &dyn Fn(usize) -> f64| {
            let samples = at.iter().enumerate().map(|(i, t)| (t * MS, vec![value(i)])).collect();
            Vehicle::new(&times).all(&[Op::Insert { signal: 1, samples, arrival: 0 }])
        };
        for (t, row) in feed(&|i| line(at[i])).table {
            prop_assert_eq!(row[1].as_ref().unwrap().1[0], line(t / MS), "at {}", t);
        }
        for (t, row) in feed(&|i| noise[i]).table {
            let right = at.partition_point(|&time| time * MS < t);
            let (a, b) = (noise[right.saturating_sub(1)], noise[right]);
            let value = row[1].as_ref().unwrap().1[0];
            prop_assert!((a.min(b)..=a.max(b)).contains(&value), "{value} is not between {a} and {b}");
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
        let to = [(lat + (to_lat - lat) * shrink).clamp(-90.0, 90.0), lon + (to_lon - lon) * shrink];
        let times = Times { interval: 10, window: 30, patience: 30, max_gap: [60; 3] };
        let samples = vec![(0, vec![lat, lon]), (40 * SECOND, to.to_vec())];
        let got = Vehicle::new(&times).all(&[Op::Insert { signal: 0, samples, arrival: 0 }]).table;
        let whole = reference::distance(&[lat, lon], &to);
        for step in 1..4 {
            let point = &got[&(step * 10 * SECOND)][0].as_ref().unwrap().1;
            prop_assert!((-90.0..=90.0).contains(&point[0]) && (-180.0..=180.0).contains(&point[1]));
            let way = whole * step as f64 / 4.0;
            prop_assert!((reference::distance(&[lat, lon], point) - way).abs() < 1e-7, "{point:?}");
            prop_assert!((reference::distance(point, &to) - (whole - way)).abs() < 1e-7, "{point:?}");
        }
    }
}
