//! When a silent signal holds nothing back any more. With a 10 s grid, a window of 30 s and gaps of 60 s the
//! context is 100 s.

use std::collections::BTreeMap;

use super::{Vehicle, vehicle, vehicle_of};
use crate::align::aligner::{PAUSE, SILENCE};
use crate::align::{Methods, Snapshot};
use crate::time::SECOND;

/// After so many seconds of silence a signal of a vehicle with linear signals holds back no longer …
const SILENT: i64 = SILENCE * 100;

/// … if the vehicle never paused for longer than so many.
const AWAY: i64 = PAUSE * 100;

impl Vehicle {
    /// One of signal 0 each 10 s from a second on, each arriving a second later.
    fn goes_on(&mut self, from: i64, until: i64) {
        (from..until).step_by(10).for_each(|t| drop(self.message(0, &[(t, t as f64)], t + 1)));
    }

    fn saved(&mut self) -> (i64, Option<i64>) {
        let Snapshot { resume_at, horizon, .. } = self.aligner.snapshot(&mut self.track);
        (resume_at.unwrap() / SECOND, horizon[1])
    }
}

/// When signal 1, whose samples at 5 and 15 s arrived at 6 and 16 s, holds back no longer while signal 0 goes
/// on each 10 s at the same pace.
fn released(method: &str) -> i64 {
    let mut v = vehicle(&["linear", method]);
    v.message(1, &[(5, 1.0)], 6);
    v.message(1, &[(15, 1.0)], 16);
    for t in (5..).step_by(10) {
        v.goes_on(t, t + 10);
        let (resume_at, horizon) = v.saved();
        if resume_at > 16 {
            assert_eq!(horizon, Some(15 * SECOND + 1), "no sample that is held comes again");
            return t + 1;
        }
        assert!(horizon.is_none_or(|horizon| horizon <= 15 * SECOND), "{horizon:?} while it is held");
    }
    unreachable!()
}

#[test]
fn a_signal_that_is_silent_for_long_holds_back_no_longer() {
    // The context of the mean is 30 + 10 + 2 × 60 s, that of pchip 30 + 10 + 3 × 60 s.
    assert_eq!(released("linear"), 16 + SILENCE * 100 + 10);
    assert_eq!(released("previous"), 16 + SILENCE * 100 + 10);
    assert_eq!(released("time_weighted_mean"), 16 + SILENCE * 160 + 10);
    assert_eq!(released("pchip"), 16 + SILENCE * 220 + 10);
}

#[test]
fn a_sensor_that_is_cut_off_alone_for_a_quarter_of_an_hour_is_waited_for() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    v.goes_on(5, 5 + 15 * 60);
    assert_eq!(v.saved(), (6, None));
}

#[test]
fn what_can_still_be_joined_is_held_however_long_nothing_comes() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    // The others' event time stands still, or nearly: one at 65 joins 5.
    for arrival in (10..5 * SILENT).step_by(10) {
        v.message(0, &[(95, 1.0)], arrival);
    }
    assert_eq!(v.saved(), (6, None));
    v.message(0, &[(96, 1.0)], 5 * SILENT);
    assert_eq!(v.saved(), (10, Some(5 * SECOND + 1)), "one at 66 or later doesn't");
}

#[test]
fn a_vehicle_that_comes_back_waits_for_each_signals_backlog() {
    for offline in [AWAY + 10, SILENT - 10, SILENT + 10, 4 * SILENT] {
        let mut v = vehicle(&["linear", "linear"]);
        v.message(1, &[(5, 1.0)], 6);
        v.goes_on(5, 25);
        // Then signal 0 uploads in a moment what it has measured meanwhile.
        let back = 16 + offline;
        (25..back).step_by(10).for_each(|t| drop(v.message(0, &[(t, 1.0)], back)));
        assert_eq!(v.saved().0, 6, "at once after {offline} s");
        v.goes_on(back + 9, back + SILENT);
        assert_eq!(v.saved().0, 6, "after {offline} s and the silence since the return");
        v.goes_on(back + SILENT, back + SILENT + 10);
        assert!(v.saved().0 > back, "after {offline} s and more than the silence since the return");
    }
}

#[test]
fn a_backlog_after_hours_is_joined_whoever_holds_the_vehicle_by_then() {
    let back = 4 * SILENT;
    let live = (0..2).flat_map(|signal| (5..25).step_by(10).map(move |t| (signal, t, t + 1)));
    // Each uploads its time offline in some seconds, signal 1 a minute after signal 0.
    let uploaded = |signal: u8, t| (signal, t, back + 60 * i64::from(signal) + t / 400);
    let offline = (0..2).flat_map(|signal| (25..back).step_by(10).map(move |t| uploaded(signal, t)));
    let mut messages: Vec<(u8, i64, i64)> = live.chain(offline).collect();
    messages.sort_by_key(|message| message.2);
    let tell = |v: &mut Vehicle, messages: &[(u8, i64, i64)]| {
        messages.iter().for_each(|&(signal, t, arrival)| drop(v.message(signal, &[(t, t as f64)], arrival)));
    };
    // A value replaces, NULL never erases.
    let table = |v: &mut Vehicle| {
        v.finish();
        let mut merged = BTreeMap::<i64, Vec<Option<f64>>>::new();
        for (ts, values, _) in v.seen() {
            let row = merged.entry(ts).or_insert_with(|| vec![None; 2]);
            row.iter_mut().zip(values).for_each(|(held, value)| *held = value.or(*held));
        }
        merged
    };
    let mut v = vehicle(&["linear", "linear"]);
    tell(&mut v, &messages);
    let whole = table(&mut v);
    assert_eq!(whole[&20], [Some(20.0), Some(20.0)], "from 15 s before to 25 s of the backlog");
    let uploads = 4 + messages.iter().filter(|message| message.0 == 0).count() - 2;
    for told in [4, 5, 20, uploads - 1, uploads, uploads + 1, uploads + 5, messages.len() - 1] {
        let mut v = vehicle(&["linear", "linear"]);
        tell(&mut v, &messages[..told]);
        let saved = v.aligner.snapshot(&mut v.track);
        // The next one begins with what came from `resume_at` on.
        v.track = v.aligner.track(saved.floor, &saved.horizon);
        let resume_at = saved.resume_at.unwrap() / SECOND;
        tell(&mut v, &messages[messages.partition_point(|message| message.2 < resume_at)..]);
        let got = table(&mut v);
        let wrong: Vec<_> = got.iter().filter(|(ts, row)| whole.get(ts) != Some(row)).collect();
        assert!(wrong.is_empty() && got.len() == whole.len(), "saved after {told} messages: {wrong:?}");
    }
}

#[test]
fn the_silence_goes_on_through_pauses_that_are_not_too_long() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    for t in (6..=6 + SILENT).step_by(AWAY as usize) {
        v.message(0, &[(t, 1.0)], t);
        assert_eq!(v.saved().0, 6, "at {t}");
    }
    v.message(0, &[(6 + SILENT + 1, 1.0)], 6 + SILENT + 1);
    assert!(v.saved().0 > 6);
}

#[test]
fn the_silence_begins_anew_with_each_longer_pause() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    for t in (6..6 + 9 * SILENT).step_by(AWAY as usize + 1) {
        v.message(0, &[(t, 1.0)], t);
        assert_eq!(v.saved().0, 6, "at {t}");
    }
}

#[test]
fn what_comes_after_it_is_as_if_nothing_had_been_before() {
    // Neither has a pchip's slope a sample beyond the gap, nor does a held value reach so far.
    for method in ["linear", "pchip", "previous", "time_weighted_mean", "nearest"] {
        let mut v = vehicle_of(&super::config(&["linear", method]), &Methods::default());
        (5..65).step_by(10).for_each(|t| drop(v.message(1, &[(t, t as f64)], t + 1)));
        // Longer than the silence of pchip, whose context is the longest of them.
        let end = 105 + SILENCE * 220;
        v.goes_on(5, end);
        let saved = v.aligner.snapshot(&mut v.track);
        assert_eq!(saved.horizon[1], Some(55 * SECOND + 1), "{method}");
        assert_eq!(saved.newest[1], Some(55 * SECOND));
        let again = |v: &mut Vehicle| {
            v.seen();
            (end - 25..end + 55)
                .step_by(7)
                .for_each(|t| drop(v.message(1, &[(t, (t * t % 97) as f64)], t + 1)));
            v.finish();
            let rows = v.seen().into_iter().filter(|row| row.1[1].is_some());
            rows.map(|(ts, values, _)| (ts, values[1])).collect::<BTreeMap<_, _>>()
        };
        let kept = again(&mut v);
        // Another worker, which gets of signal 0 what is held again, and nothing of the other.
        v.track = v.aligner.track(saved.floor, &saved.horizon);
        v.goes_on((saved.resume_at.unwrap() / SECOND) - 1, end);
        assert_eq!(v.aligner.snapshot(&mut v.track).newest[1], Some(55 * SECOND), "it is still known");
        let resumed = again(&mut v);
        assert!(kept.len() > 3, "{method}: {kept:?}");
        assert_eq!(kept, resumed, "{method}");
    }
}
