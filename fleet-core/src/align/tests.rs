//! The rules of rows one by one, on a 10 s grid with times in seconds.

mod custom;
mod past;
mod room;
mod timeouts;

use super::{Aligner, Inserted, Methods, Track};
use crate::batch::Row;
use crate::ids::SignalIndex;
use crate::sample::Samples;
use crate::schema::{RecordsConfig, SignalConfig};
use crate::time::{Micros, SECOND};

/// `(ts in seconds, values, whether a correction)`; NULL is `None`.
type Seen = (i64, Vec<Option<f64>>, bool);

struct Vehicle {
    aligner: Aligner,
    track: Track,
    rows: Vec<Seen>,
    qualities: Vec<i64>,
}

fn config(methods: &[&str]) -> RecordsConfig {
    let of = RecordsConfig::default().signal.remove(1);
    let signal = methods.iter().enumerate().map(|(i, method)| {
        let mut column = of.columns[0].clone();
        column.name = format!("c{i}");
        let interpolation = (*method).to_owned();
        SignalConfig {
            name: format!("s{i}"),
            columns: vec![column],
            interpolation,
            signal_timeout: None,
            ..of.clone()
        }
    });
    RecordsConfig { signal: signal.collect(), ..RecordsConfig::default() }
}

fn vehicle_of(config: &RecordsConfig, methods: &Methods) -> Vehicle {
    let aligner = Aligner::new(&config.build().unwrap(), methods).unwrap();
    let track = aligner.track(None, &[]);
    Vehicle { aligner, track, rows: Vec::new(), qualities: Vec::new() }
}

fn vehicle(methods: &[&str]) -> Vehicle {
    vehicle_of(&config(methods), &Methods::default())
}

impl Vehicle {
    fn call<R>(&mut self, f: impl FnOnce(&Aligner, &mut Track, &mut dyn FnMut(Row<'_>)) -> R) -> R {
        let (rows, qualities) = (&mut self.rows, &mut self.qualities);
        f(&self.aligner, &mut self.track, &mut |row| {
            let values = row.values.iter().map(|v| Some(*v).filter(|v| !v.is_nan())).collect();
            rows.push((row.ts / SECOND, values, row.correction));
            qualities.push(row.quality);
        })
    }

    /// A message of one signal that arrives at a second of server time.
    fn message(&mut self, signal: u8, samples: &[(i64, f64)], arrival: i64) -> Inserted {
        let mut of = Samples::new(1);
        samples.iter().for_each(|&(time, value)| of.push(time * SECOND, &[value]));
        self.call(|a, t, mut emit| a.insert(t, SignalIndex(signal), &of, arrival * SECOND, &mut emit))
    }

    /// A message that arrives when its last sample was taken.
    fn send(&mut self, signal: u8, samples: &[(i64, f64)]) -> Inserted {
        self.message(signal, samples, samples.last().map_or(0, |s| s.0))
    }

    fn tick(&mut self, now: i64) {
        self.call(|a, t, mut emit| a.tick(t, now * SECOND, &mut emit));
    }

    fn finish(&mut self) {
        self.call(|a, t, mut emit| a.finish(t, &mut emit));
    }

    fn seen(&mut self) -> Vec<Seen> {
        self.qualities.clear();
        std::mem::take(&mut self.rows)
    }
}

fn new(ts: i64, values: &[Option<f64>]) -> Seen {
    (ts, values.to_vec(), false)
}

fn again(ts: i64, values: &[Option<f64>]) -> Seen {
    (ts, values.to_vec(), true)
}

#[test]
fn a_row_is_emitted_once_it_is_complete_for_all_signals() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(0, &[(6, 6.0), (12, 12.0)]);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])], "a signal never heard of is not waited for");
    v.send(1, &[(8, 0.0)]);
    v.send(0, &[(18, 18.0), (24, 24.0)]);
    assert_eq!(v.seen(), [], "the other signal may still say something of 20");
    v.send(1, &[(28, 2.0)]);
    assert_eq!(v.qualities, [0b1010, 0b1010]);
    assert_eq!(
        v.seen(),
        [again(10, &[Some(10.0), Some(0.2)]), new(20, &[Some(20.0), Some(1.2)])],
        "corrections before new rows"
    );
}

#[test]
fn exact_hits_are_stored_as_they_are() {
    let mut v = vehicle(&["linear", "previous"]);
    v.send(0, &[(10, 0.125)]);
    assert_eq!((v.qualities.clone(), v.seen()), (vec![0b01], vec![new(10, &[Some(0.125), None])]));
    v.send(1, &[(10, 3.0)]);
    assert_eq!((v.qualities.clone(), v.seen()), (vec![0b0101], vec![again(10, &[Some(0.125), Some(3.0)])]));
}

#[test]
fn an_exact_hit_of_a_curve_waits_for_no_further_samples() {
    let mut v = vehicle(&["pchip"]);
    v.send(0, &[(5, 5.0), (15, 15.0), (20, 20.0)]);
    assert_eq!(v.seen(), [new(10, &[Some(10.0)]), new(20, &[Some(20.0)])]);
    v.send(0, &[(35, 35.0)]);
    assert_eq!(v.seen(), [], "30 waits for a second sample after it");
    v.send(0, &[(41, 41.0)]);
    assert_eq!(v.seen(), [new(30, &[Some(30.0)])]);
}

#[test]
fn a_gap_is_null_but_one_of_exactly_max_gap_is_bridged() {
    let mut v = vehicle(&["linear"]);
    v.send(0, &[(5, 5.0), (65, 65.0)]);
    assert_eq!(v.seen().len(), 6);
    v.send(0, &[(126, 126.0), (131, 131.0)]);
    assert_eq!(v.seen(), [new(130, &[Some(130.0)])]);
}

#[test]
fn a_held_value_lasts_max_gap_after_its_own_sample_whatever_follows() {
    let mut v = vehicle(&["previous", "linear"]);
    v.send(0, &[(10, 1.0)]);
    for t in (5..95).step_by(10) {
        v.send(1, &[(t, 0.0)]);
    }
    v.send(0, &[(99, 2.0)]);
    v.finish();
    let mut held: Vec<_> = v.seen().into_iter().filter(|r| r.1[0].is_some()).map(|r| r.0).collect();
    held.sort_unstable();
    held.dedup();
    assert_eq!(held, [10, 20, 30, 40, 50, 60, 70]);
}

#[test]
fn records_end_with_the_last_sample_of_any_signal() {
    let mut v = vehicle(&["previous"]);
    v.send(0, &[(8, 1.0), (31, 2.0)]);
    v.finish();
    assert_eq!(v.qualities, [3, 3, 3]);
    assert_eq!(v.seen(), [new(10, &[Some(1.0)]), new(20, &[Some(1.0)]), new(30, &[Some(1.0)])]);
    v.finish();
    assert_eq!(v.seen(), [], "finishing twice says nothing twice");
    v.send(0, &[(40, 4.0)]);
    assert_eq!(v.seen(), [new(40, &[Some(4.0)])], "the track stays usable");
}

#[test]
fn patience_ends_when_others_go_on_and_the_missing_value_comes_later() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    for t in [8, 16, 24] {
        v.send(0, &[(t, t as f64)]);
    }
    v.tick(38);
    assert_eq!(v.seen(), [], "30 s after 9 is 39");
    v.tick(39);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None]), new(20, &[Some(20.0), None])]);
    v.message(1, &[(29, 29.0)], 40);
    assert_eq!(v.seen(), [again(10, &[Some(10.0), Some(10.0)]), again(20, &[Some(20.0), Some(20.0)])]);
}

#[test]
fn once_patience_has_ended_rows_do_not_wait_until_the_signal_is_heard_again() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(8, 8.0), (24, 24.0)]);
    v.tick(39);
    assert_eq!(v.seen().len(), 2);
    v.message(0, &[(34, 34.0)], 40);
    assert_eq!(v.seen(), [new(30, &[Some(30.0), None])]);
    v.message(1, &[(35, 35.0)], 41);
    assert_eq!(v.seen().iter().filter(|row| row.2).count(), 3);
    v.message(0, &[(44, 44.0)], 44);
    v.tick(70);
    assert_eq!(v.seen(), []);
    v.tick(71);
    assert_eq!(v.seen(), [new(40, &[Some(40.0), None])]);
}

#[test]
fn patience_is_not_lost_with_a_vehicle_that_is_silent_as_a_whole() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(9, 9.0)], 14);
    v.send(0, &[(8, 8.0), (14, 14.0)]);
    v.tick(10_000);
    assert_eq!(v.seen(), [], "nobody went on");
    v.finish();
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])]);
}

#[test]
fn patience_begins_anew_after_a_catch_up() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(8, 8.0), (14, 14.0)]);
    v.aligner.touch(&mut v.track, 100 * SECOND);
    v.tick(129);
    assert_eq!(v.seen(), []);
    v.tick(130);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])]);
}

#[test]
fn a_signal_silent_for_longer_than_max_gap_is_not_waited_for() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(8, 8.0), (60, 60.0), (99, 99.0)]);
    let rows: Vec<_> = v.seen().iter().map(|r| r.0).collect();
    assert_eq!(rows, [10, 20, 30, 40, 50], "60 is less than 40 s old and 51 s after its last sample");
    v.send(0, &[(100, 100.0)]);
    let rows: Vec<_> = v.seen().iter().map(|r| r.0).collect();
    assert_eq!(rows, [60, 70, 80, 90, 100], "61 s after it nothing waits any more");
}

#[test]
fn a_signal_silent_for_exactly_max_gap_is_waited_for() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(10, 10.0)]);
    v.seen();
    v.send(0, &[(11, 11.0), (60, 60.0), (100, 100.0)]);
    let rows: Vec<_> = v.seen().iter().map(|r| r.0).collect();
    assert_eq!(rows, [20, 30, 40, 50, 60], "a sample on 70 would join it to 10");
    v.send(1, &[(70, 70.0)]);
    assert_eq!(v.seen().last(), Some(&new(70, &[Some(70.0), Some(70.0)])));
}

#[test]
fn rows_older_than_window_and_interval_wait_for_nobody() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(8, 8.0), (49, 49.0)]);
    assert_eq!(v.seen(), []);
    v.send(0, &[(50, 50.0)]);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])]);
}

#[test]
fn a_jump_over_rows_without_values_stops_where_somebody_is_waited_for() {
    let mut v = vehicle(&["linear", "linear"]);
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(95, 95.0)]);
    assert_eq!(v.seen(), [], "10 to 50 are over, 60 waits");
    v.send(1, &[(61, 61.0)]);
    let seen: Vec<_> = v.seen().iter().map(|r| (r.0, r.2)).collect();
    assert_eq!(seen, [(10, true), (20, true), (30, true), (40, true), (50, true), (60, false)]);
}

#[test]
fn late_samples_are_told_one_by_one_and_change_nothing() {
    let mut v = vehicle(&["linear"]);
    v.send(0, &[(65, 0.0)]);
    let done = v.send(0, &[(34, 9.0), (35, 1.0), (3, 9.0), (70, 2.0)]);
    assert_eq!(done, Inserted { taken: 2, late: vec![0, 2], ..Inserted::default() });
    assert_eq!(v.track.samples(), 3);
    let known = v.send(0, &[(35, 1.0), (95, 1.0), (35, 1.0), (35, 5.0)]);
    let late = vec![3];
    assert_eq!(known, Inserted { taken: 1, duplicates: 2, late, ..Inserted::default() }, "known is not late");
}

#[test]
fn what_is_read_again_after_it_has_left_the_ring_is_not_late() {
    let mut v = vehicle(&["linear"]);
    for t in (5..300).step_by(10) {
        v.message(0, &[(t, t as f64)], 1_000 + t);
    }
    v.aligner.snapshot(&mut v.track);
    v.seen();
    let done = v.message(0, &[(235, 235.0), (245, 245.0)], 1_245);
    assert_eq!(done, Inserted { replayed: 1, duplicates: 1, ..Inserted::default() }, "an audit");
    let done = v.message(0, &[(235, 235.0), (246, 0.0)], 1_300);
    assert_eq!(done, Inserted { late: vec![0, 1], ..Inserted::default() }, "for the first time");
    assert_eq!(v.seen(), []);
}

#[test]
fn duplicates_change_nothing_and_the_larger_of_two_values_counts() {
    for values in [[1.0, 2.0], [2.0, 1.0]] {
        let mut v = vehicle(&["linear"]);
        v.send(0, &[(10, values[0])]);
        let done = v.send(0, &[(10, values[1])]);
        assert_eq!(done, Inserted { duplicates: 1, conflicts: 1, ..Inserted::default() });
        let mut want = vec![new(10, &[Some(values[0])])];
        want.extend((values[1] == 2.0).then(|| again(10, &[Some(2.0)])));
        assert_eq!(v.seen(), want);
        let done = v.send(0, &[(10, 2.0)]);
        assert_eq!(done, Inserted { duplicates: 1, ..Inserted::default() });
        assert_eq!(v.seen(), []);
    }
}

#[test]
fn a_message_corrects_exactly_the_rows_it_changes_and_each_once() {
    let mut v = vehicle(&["linear"]);
    v.send(0, &[(10, 0.0), (20, 0.0), (60, 0.0), (70, 0.0)]);
    assert_eq!(v.seen().len(), 7);
    v.send(0, &[(55, 5.0), (41, 1.0), (42, 2.0)]);
    let seen: Vec<_> = v.seen().iter().map(|r| (r.0, r.2)).collect();
    assert_eq!(seen, [(30, true), (40, true), (50, true)]);
    v.send(0, &[(50, 7.0)]);
    assert_eq!(v.seen(), [again(50, &[Some(7.0)])], "an exact hit on both sides of nothing else");
    let many: Vec<_> = (0..200).map(|i| (61 + i / 25, f64::from(i as i32))).collect();
    v.send(0, &many);
    assert_eq!(v.seen(), [], "between two rows nothing changes");
}

#[test]
fn a_sample_into_a_gap_gives_the_rows_that_it_joins() {
    let mut v = vehicle(&["linear", "previous"]);
    v.message(1, &[(5, 5.0)], 0);
    v.send(0, &[(5, 5.0), (100, 100.0)]);
    v.finish();
    v.seen();
    v.send(0, &[(71, 71.0)]);
    assert_eq!(v.seen(), [80, 90].map(|t| again(t, &[Some(t as f64), None])));
    v.message(1, &[(45, 7.0), (21, 1.0)], 0);
    let held: Vec<_> = v.seen().iter().map(|r| (r.0, r.1[1])).collect();
    let [one, seven] = [Some(1.0), Some(7.0)];
    let rest = [50, 60, 70, 80, 90, 100].map(|t| (t, seven));
    assert_eq!(held, [[(30, one), (40, one)].as_slice(), &rest].concat());
}

#[test]
fn a_sample_years_later_is_reached_in_one_step() {
    let mut config = config(&["linear", "previous"]);
    config.interval = "1ms".to_owned();
    let mut v = vehicle_of(&config, &Methods::default());
    let years = 30 * 365 * 86_400;
    v.message(0, &[(-years, 1.0)], 0);
    v.message(0, &[(years, 2.0)], 1);
    assert_eq!(v.seen(), [new(-years, &[Some(1.0), None]), new(years, &[Some(2.0), None])]);
}

#[test]
fn a_full_ring_gives_its_rows_before_it_forgets() {
    let mut config = config(&["linear", "linear"]);
    config.max_samples = 8;
    let mut v = vehicle_of(&config, &Methods::default());
    v.send(1, &[(9, 0.0)]);
    let done: usize = (5..25).map(|t| v.send(0, &[(t, t as f64)]).overflowed).sum();
    assert_eq!((done, v.track.samples()), (12, 9));
    let done = v.send(0, &[(6, 6.0)]);
    assert_eq!((done.replayed, done.overflowed), (1, 0), "as old as what was dropped");
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])]);
    v.send(1, &[(29, 20.0)]);
    assert_eq!(v.seen(), [again(10, &[None, Some(1.0)]), new(20, &[Some(20.0), Some(11.0)])]);
}

#[test]
fn a_full_ring_gives_the_means_that_look_back_on_what_it_forgets() {
    let mut config = config(&["time_weighted_mean", "linear"]);
    config.max_samples = 8;
    let mut v = vehicle_of(&config, &Methods::default());
    v.send(1, &[(9, 0.0)]);
    (5..=23).step_by(2).for_each(|t| drop(v.send(0, &[(t, t as f64)])));
    assert_eq!(v.seen(), [], "the other signal is waited for");
    v.send(0, &[(25, 25.0)]);
    assert_eq!(v.seen(), [new(20, &[Some(15.0), None])], "before the sample at 9 goes");
}

#[test]
fn a_replay_repeats_rows_as_corrections_and_goes_on_with_new_ones() {
    let mut v = vehicle(&["linear"]);
    for t in (5..300).step_by(10) {
        v.message(0, &[(t, t as f64)], 1_000 + t);
    }
    let saved = v.aligner.snapshot(&mut v.track);
    assert_eq!(saved.floor, Some(290 * SECOND));
    assert_eq!(saved.newest, [Some(295 * SECOND)]);
    // The ring reaches 30 + 10 s back, and one sample further.
    assert_eq!(saved.horizon, [Some(235 * SECOND + 1)]);
    assert_eq!(saved.resume_at, Some(1_245 * SECOND));
    v.track = v.aligner.track(saved.floor, &saved.horizon);
    v.seen();
    assert_eq!(v.aligner.snapshot(&mut v.track).floor, saved.floor, "nothing is known yet");
    assert_eq!(v.message(0, &[(235, 0.0), (245, 245.0)], 1_245).replayed, 1);
    for t in (255..=305).step_by(10) {
        v.message(0, &[(t, t as f64)], 1_000 + t);
    }
    let seen = v.seen();
    assert_eq!(seen.first(), Some(&again(250, &[Some(250.0)])));
    assert_eq!(seen[4..], [again(290, &[Some(290.0)]), new(300, &[Some(300.0)])]);
}

#[test]
fn a_replay_emits_each_row_once() {
    let messages = |v: &mut Vehicle| {
        for t in (5..50).step_by(10) {
            v.message(0, &[(t, t as f64)], t);
            v.message(1, &[(t + 2, t as f64)], t + 2);
        }
    };
    let mut v = vehicle(&["linear", "linear"]);
    messages(&mut v);
    let first = v.seen();
    let saved = v.aligner.snapshot(&mut v.track);
    v.track = v.aligner.track(saved.floor, &saved.horizon);
    messages(&mut v);
    let second: Vec<_> =
        v.seen().into_iter().map(|(ts, values, correction)| (ts, values, !correction)).collect();
    assert_eq!(first, second);
}

#[test]
fn absurd_times_and_foreign_columns_do_no_harm() {
    for methods in [["linear"], ["previous"]] {
        let mut v = vehicle(&methods);
        let mut samples = Samples::new(1);
        for time in [0, Micros::MIN, Micros::MIN + 1, Micros::MAX, Micros::MAX - 1, 5] {
            samples.push(time, &[1.0]);
        }
        v.call(|a, t, mut emit| a.insert(t, SignalIndex(0), &samples, Micros::MAX, &mut emit));
        v.tick(i64::MAX / SECOND);
        v.finish();
        let two = Samples::new(2);
        let done = v.call(|a, t, mut emit| a.insert(t, SignalIndex(0), &two, 0, &mut emit));
        assert_eq!(done, Inserted::default());
        v.call(|a, t, mut emit| a.insert(t, SignalIndex(9), &two, 0, &mut emit));
    }
}

#[test]
fn a_vehicle_of_the_scenario_fits_into_a_kibibyte_however_long_its_trip() {
    let aligner = Aligner::new(&RecordsConfig::default().build().unwrap(), &Methods::default()).unwrap();
    let mut track = aligner.track(None, &[]);
    let (mut rows, mut most) = (0, 0);
    for message in 0..40_000 {
        let signal = SignalIndex(u8::try_from(message % 4).unwrap());
        let values = [1.0; 2];
        let mut samples = Samples::new(aligner.schema().signal(signal).columns.len());
        samples.push(message * 3 * SECOND, &values[..samples.columns()]);
        aligner.insert(&mut track, signal, &samples, message * 3 * SECOND, &mut |_| rows += 1);
        most = most.max(track.memory());
    }
    assert!((11_990..=12_000).contains(&rows), "{rows} rows");
    assert!(most <= 1_024, "{most} bytes");
}
