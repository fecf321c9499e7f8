//! When a silent signal holds nothing back any more. With a 10 s grid, a window of 30 s and gaps of 60 s the
//! context is 100 s.

use super::{Vehicle, vehicle, vehicle_of};
use crate::align::{Methods, Snapshot};
use crate::time::SECOND;

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

/// When signal 1, whose samples at 5 and 15 s arrived at 1,006 and 1,016 s, holds back no longer while signal 0 goes
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
fn a_signal_that_is_silent_for_two_contexts_holds_back_no_longer() {
    // The context of the mean is 30 + 10 + 2 × 60 s, that of pchip 30 + 10 + 3 × 60 s.
    assert_eq!(released("linear"), 16 + 2 * 100 + 10);
    assert_eq!(released("previous"), 16 + 2 * 100 + 10);
    assert_eq!(released("time_weighted_mean"), 16 + 2 * 160 + 10);
    assert_eq!(released("pchip"), 16 + 2 * 220 + 10);
}

#[test]
fn what_can_still_be_joined_is_held_however_long_nothing_comes() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    // The others' event time stands still, or nearly: one at 65 joins 5.
    for arrival in (10..5_000).step_by(10) {
        v.message(0, &[(95, 1.0)], arrival);
    }
    assert_eq!(v.saved(), (6, None));
    v.message(0, &[(96, 1.0)], 5_000);
    assert_eq!(v.saved(), (10, Some(5 * SECOND + 1)), "one at 66 or later doesn't");
}

#[test]
fn a_vehicle_that_comes_back_waits_for_each_signals_backlog() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    v.goes_on(5, 25);
    // Offline for 400 s; then signal 0 uploads in a moment what it has measured meanwhile.
    (25..425).step_by(10).for_each(|t| drop(v.message(0, &[(t, 1.0)], 426 + t / 100)));
    let saved = v.aligner.snapshot(&mut v.track);
    assert_eq!(saved.resume_at, Some(6 * SECOND));
    v.goes_on(435, 625);
    assert_eq!(v.saved().0, 6, "two contexts after it came back are not over");
    v.goes_on(625, 655);
    assert!(v.saved().0 > 426, "they are now");
}

#[test]
fn a_vehicle_that_sends_rarely_lets_go_after_ten_contexts() {
    let mut v = vehicle(&["linear", "linear"]);
    v.message(1, &[(5, 1.0)], 6);
    for t in (15..1_000).step_by(60) {
        v.message(0, &[(t, 1.0)], t);
        assert_eq!(v.saved().0, 6, "at {t}");
    }
    v.message(0, &[(1_007, 1.0)], 1_007);
    assert!(v.saved().0 > 800);
}

#[test]
fn what_comes_after_it_is_as_if_nothing_had_been_before() {
    // Neither has a pchip's slope a sample beyond the gap, nor does a held value reach so far.
    for method in ["linear", "pchip", "previous", "time_weighted_mean", "nearest"] {
        let mut v = vehicle_of(&super::config(&["linear", method]), &Methods::default());
        (5..65).step_by(10).for_each(|t| drop(v.message(1, &[(t, t as f64)], t + 1)));
        v.goes_on(5, 905);
        let saved = v.aligner.snapshot(&mut v.track);
        assert_eq!(saved.horizon[1], Some(55 * SECOND + 1), "{method}");
        assert_eq!(saved.newest[1], Some(55 * SECOND));
        let again = |v: &mut Vehicle| {
            v.seen();
            (880..960).step_by(7).for_each(|t| drop(v.message(1, &[(t, (t * t % 97) as f64)], t + 1)));
            v.finish();
            let rows = v.seen().into_iter().filter(|row| row.1[1].is_some());
            rows.map(|(ts, values, _)| (ts, values[1])).collect::<std::collections::BTreeMap<_, _>>()
        };
        let kept = again(&mut v);
        // Another worker, which gets of signal 0 what is held again, and nothing of the other.
        v.track = v.aligner.track(saved.floor, &saved.horizon);
        v.goes_on((saved.resume_at.unwrap() / SECOND) - 1, 905);
        assert_eq!(v.aligner.snapshot(&mut v.track).newest[1], Some(55 * SECOND), "it is still known");
        let resumed = again(&mut v);
        assert!(kept.len() > 3, "{method}: {kept:?}");
        assert_eq!(kept, resumed, "{method}");
    }
}
