//! Made-up runs of a vehicle: samples in some order, in some messages, with ticks and repeats between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::align::{Aligner, Methods, Snapshot, Track};
use fleet_core::batch::{Quality, Record, Row};
use fleet_core::ids::SignalIndex;
use fleet_core::reference::{self, Table};
use fleet_core::sample::Samples;
use fleet_core::schema::{RecordsConfig, Schema};
use proptest::prelude::*;

use super::fingerprint::Fingerprint;

pub(super) const MS: i64 = 1_000;
pub(super) const SECOND: i64 = 1_000_000;

/// What governs a run of three signals, the first with two columns; times in seconds.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) interval: i64,
    pub(super) window: i64,
    pub(super) patience: i64,
    /// Each signal's own `signal_timeout`, where it is not `patience`.
    pub(super) timeouts: [Option<i64>; 3],
    pub(super) max_gap: [i64; 3],
    pub(super) methods: [&'static str; 3],
    /// Whether the columns of the last two signals wrap.
    pub(super) wraps: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let methods = ["great_circle", "linear", "previous"];
        let timeouts = [None; 3];
        Self { interval: 1, window: 30, patience: 30, timeouts, max_gap: [60; 3], methods, wraps: false }
    }
}

/// Every method but `great_circle` can have any number of columns.
pub(super) const ANY_COLUMNS: [&str; 5] = ["linear", "previous", "nearest", "pchip", "time_weighted_mean"];

pub(super) fn rules() -> impl Strategy<Value = Rules> {
    let gap = || prop::sample::select(vec![2, 10, 20, 60]);
    let of_two = prop_oneof![Just("great_circle"), prop::sample::select(&ANY_COLUMNS[..])];
    let of_one = || prop::sample::select(&ANY_COLUMNS[..]);
    let timeout = || prop::sample::select(vec![None, Some(0), Some(1), Some(4), Some(40)]);
    (
        prop::sample::select(vec![1, 5, 10]),
        prop::sample::select(vec![0, 5, 30]),
        prop::sample::select(vec![0, 10, 30]),
        [timeout(), timeout(), timeout()],
        [gap(), gap(), gap()],
        (of_two, of_one(), of_one()).prop_map(|(a, b, c)| [a, b, c]),
        any::<bool>(),
    )
        .prop_map(|(interval, window, patience, timeouts, max_gap, methods, wraps)| Rules {
            interval,
            window,
            patience,
            timeouts,
            max_gap,
            methods,
            wraps,
        })
}

/// The schema of the rules, all columns `double` and of -90 to 90 but the longitude.
pub(super) fn schema(rules: &Rules) -> Schema {
    let mut config = RecordsConfig {
        interval: format!("{}s", rules.interval),
        window: format!("{}s", rules.window),
        patience: format!("{}s", rules.patience),
        ..RecordsConfig::default()
    };
    config.signal.truncate(3);
    for (signal, (gap, method)) in config.signal.iter_mut().zip(rules.max_gap.iter().zip(rules.methods)) {
        signal.max_gap = format!("{gap}s");
        signal.interpolation = method.to_owned();
        let column = &mut signal.columns[0];
        (column.min, column.max) = (-90.0, 90.0);
        column.wraps = rules.wraps && signal.name != "position";
        column.kind = Some("double".to_owned());
    }
    for (signal, timeout) in config.signal.iter_mut().zip(rules.timeouts) {
        signal.signal_timeout = timeout.map(|timeout| format!("{timeout}s"));
    }
    config.build().unwrap()
}

/// One sample as it is made up, before it has a place in time.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    signal: usize,
    /// After the one before it of its signal, ms; 0 makes two values for one instant.
    step: i64,
    /// And so many microseconds, which the next one doesn't have.
    micros: i64,
    values: [f64; 2],
    /// How much later than in order it is sent, as a share of the window.
    delay: f64,
    /// In one message with the sample sent before it, if that is of the same signal.
    joined: bool,
    /// After it: nothing (mostly), a tick so many ms later, a finish, or an older message again.
    then: Then,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Nothing,
    Tick(i64),
    Finish,
    Repeat(usize),
}

pub(super) fn draft() -> impl Strategy<Value = Draft> {
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
    let micros = prop_oneof![2 => Just(0_i64), 1 => 0_i64..1_000];
    (0..3_usize, step, micros, values, 0.0..=1.0_f64, any::<bool>(), then).prop_map(
        |(signal, step, micros, values, delay, joined, then)| Draft {
            signal,
            step,
            micros,
            values,
            delay,
            joined,
            then,
        },
    )
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Insert { signal: usize, samples: Vec<(i64, Vec<f64>)>, arrival: i64 },
    Tick(i64),
    Finish,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) rules: Rules,
    pub(super) ops: Vec<Op>,
}

/// `start`: the event time of the first samples, s. `offsets`: how much later each signal is sent, s.
pub(super) fn run_of(rules: Rules, drafts: &[Draft], start: i64, offsets: [i64; 3]) -> Run {
    let mut clock = [start * SECOND; 3];
    let mut sent: Vec<(i64, i64, &Draft)> = Vec::new();
    for draft in drafts {
        clock[draft.signal] += draft.step * MS;
        let time = clock[draft.signal] + draft.micros;
        // Whoever is sent earlier by this key is at most a window newer.
        let delay = (draft.delay * (rules.window * SECOND) as f64) as i64;
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
    Run { rules, ops }
}

pub(super) fn run() -> impl Strategy<Value = Run> {
    let offset = || prop_oneof![3 => Just(0_i64), 1 => 0_i64..600];
    let start = prop::sample::select(vec![1_700_000_000, 0, -86_400, -10_000_000_000]);
    (rules(), prop::collection::vec(draft(), 1..60), start, [offset(), offset(), offset()])
        .prop_map(|(rules, drafts, start, offsets)| run_of(rules, &drafts, start, offsets))
}

impl Run {
    /// Every sample with its signal.
    pub(super) fn samples(&self) -> impl Iterator<Item = (usize, &(i64, Vec<f64>))> {
        self.ops.iter().flat_map(|op| match op {
            Op::Insert { signal, samples, .. } => samples.iter().map(|s| (*signal, s)).collect(),
            _ => Vec::new(),
        })
    }

    /// The same samples in order, one a message, one signal after the other.
    pub(super) fn in_order(&self) -> Vec<Op> {
        let mut sorted: BTreeMap<(usize, i64), Vec<Vec<f64>>> = BTreeMap::new();
        for (signal, (time, values)) in self.samples() {
            sorted.entry((signal, *time)).or_default().push(values.clone());
        }
        let messages = sorted.into_iter().flat_map(|((signal, time), all)| {
            all.into_iter().map(move |values| (signal, vec![(time, values)]))
        });
        messages.map(|(signal, samples)| Op::Insert { signal, samples, arrival: 0 }).collect()
    }

    pub(super) fn expected(&self) -> Table {
        let mut samples = vec![reference::Samples::new(); 3];
        for (signal, (time, values)) in self.samples() {
            reference::add(&mut samples[signal], *time, values);
        }
        reference::table(&schema(&self.rules), &samples)
    }
}

/// A vehicle whose rows go into a table as a sink stores them.
pub(super) struct Vehicle {
    pub(super) aligner: Aligner,
    pub(super) track: Track,
    floor: Option<i64>,
    pub(super) table: Table,
    /// The instants that this track has emitted.
    emitted: BTreeSet<i64>,
    pub(super) needless: Vec<i64>,
    /// Every row in the order in which they were emitted, to the bit: instant, values, quality, correction.
    pub(super) rows: Vec<(i64, Vec<u64>, i64, bool)>,
}

impl Vehicle {
    pub(super) fn new(rules: &Rules) -> Self {
        let mut known = Methods::default();
        known.register("two_by_two", Arc::new(Fingerprint { before: 2, after: 2, looks_back: false }));
        known.register("three_by_one", Arc::new(Fingerprint { before: 3, after: 1, looks_back: false }));
        known.register("over_interval", Arc::new(Fingerprint { before: 1, after: 1, looks_back: true }));
        let aligner = Aligner::new(&schema(rules), &known).unwrap();
        let track = aligner.track(None, &[]);
        let (table, emitted) = (Table::new(), BTreeSet::new());
        Self { aligner, track, floor: None, table, emitted, needless: Vec::new(), rows: Vec::new() }
    }

    /// Does it and gives the instants of the rows that it emitted.
    pub(super) fn apply(&mut self, op: &Op) -> Vec<i64> {
        let (columns, floor) = (self.aligner.schema().clone(), self.floor);
        let (table, emitted, needless) = (&mut self.table, &mut self.emitted, &mut self.needless);
        let (mut call, rows): (Vec<i64>, _) = (Vec::new(), &mut self.rows);
        let mut emit = |row: Row<'_>| {
            call.push(row.ts);
            let bits = row.values.iter().map(|value| value.to_bits()).collect();
            rows.push((row.ts, bits, row.quality, row.correction));
            if !row.correction {
                assert!(!emitted.contains(&row.ts), "{} is not new", row.ts);
                assert!(floor.is_none_or(|floor| row.ts > floor), "{} is not above the floor", row.ts);
            }
            emitted.insert(row.ts);
            for (s, signal) in columns.signals().iter().enumerate() {
                let mut values = row.values[signal.column_range()].iter();
                assert!(Quality::of(row.quality, s) != Quality::Missing || values.all(|v| v.is_nan()));
            }
            let stored = table.entry(row.ts).or_insert_with(|| Record::empty(&columns));
            let before = stored.clone();
            stored.merge(&columns, &row);
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
        call
    }

    pub(super) fn resume(&mut self, from: &Snapshot) {
        self.track = self.aligner.track(from.floor, &from.horizon);
        self.floor = from.floor;
        self.emitted.clear();
    }

    /// Goes on as the next holder that has nothing but what this one leaves it.
    pub(super) fn carry_over(&mut self) {
        let carry = self.aligner.carry(&self.track).unwrap();
        self.track = self.aligner.resume(&carry).unwrap();
    }

    pub(super) fn all(mut self, ops: &[Op]) -> Self {
        ops.iter().chain([&Op::Finish]).for_each(|op| drop(self.apply(op)));
        self
    }
}
