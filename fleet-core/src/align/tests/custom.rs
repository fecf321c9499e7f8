//! Methods as users may write them: with a longer reach, without hits, looking back in time.

use std::sync::Arc;

use super::{again, config, new, vehicle_of};
use crate::align::{At, Interpolator, Methods, Reach, View};
use crate::batch::Quality;
use crate::time::{Micros, SECOND};

/// Holds a value, but only from 25 s after its sample on.
#[derive(Debug)]
struct HeldLater;

impl Interpolator for HeldLater {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 1, after: 0, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let last = samples.get(samples.count_before(at.t).checked_sub(1)?)?;
        out[0] = last.value(0);
        (25 * SECOND..=at.max_gap).contains(&(at.t - last.time)).then_some(Quality::Held)
    }
}

#[test]
fn a_method_may_have_no_value_close_to_a_sample() {
    let mut methods = Methods::default();
    methods.register("held_later", Arc::new(HeldLater));
    let mut v = vehicle_of(&config(&["held_later"]), &methods);
    v.send(0, &[(5, 5.0), (99, 99.0)]);
    let rows: Vec<_> = v.seen().iter().map(|r| r.0).collect();
    assert_eq!(rows, [30, 40, 50, 60]);
}

/// Looks so many samples back and needs one after; the value is how many were there.
#[derive(Debug)]
struct Back(usize);

impl Interpolator for Back {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: self.0, after: 1, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        samples.bracket(at)?;
        let mut first = samples.count_before(at.t) - 1;
        out[0] = 1.0;
        for _ in 1..self.0 {
            let left = first.checked_sub(1).and_then(|i| samples.time(i));
            if left.is_none_or(|left| samples.time(first).is_some_and(|t| t - left > at.max_gap)) {
                break;
            }
            first -= 1;
            out[0] += 1.0;
        }
        Some(Quality::Interpolated)
    }
}

/// What a track with that horizon, µs, says of samples at 65, 75 and 85.
fn values(back: usize, horizon: Option<Micros>) -> Vec<(i64, Vec<Option<f64>>, bool)> {
    let mut methods = Methods::default();
    methods.register("back", Arc::new(Back(back)));
    let mut v = vehicle_of(&config(&["back"]), &methods);
    v.track = v.aligner.track(None, &[horizon]);
    v.send(0, &[(65, 0.0), (75, 0.0), (85, 0.0)]);
    v.seen()
}

#[test]
fn no_value_comes_from_samples_whose_neighbours_are_forgotten() {
    let (one, two) = (new(70, &[Some(1.0)]), new(80, &[Some(2.0)]));
    assert_eq!(values(2, None), [one.clone(), two.clone()]);
    assert_eq!(values(2, Some(5 * SECOND + 1)), std::slice::from_ref(&two), "one at 5 may be missing");
    assert_eq!(values(2, Some(5 * SECOND)), [one, two], "a gap cuts off what was before 5");
}

#[test]
fn a_gap_that_a_replay_may_still_bridge_cuts_off_nothing() {
    // One at 5 would link 65 to one at 0, which may be forgotten; 80 reaches no further than to 5.
    assert_eq!(values(3, Some(1)), [new(80, &[Some(2.0)])]);
    assert_eq!(values(3, Some(5 * SECOND + 1)), [], "and now the one at 5 may be");
}

/// The middle between the samples around the interval that ends at the instant; never a hit.
#[derive(Debug)]
struct OverInterval;

impl Interpolator for OverInterval {
    fn reach(&self, interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: interval }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let first = samples.count_before(at.t - at.interval + 1).checked_sub(1)?;
        let last = samples.get(samples.count_before(at.t))?;
        out[0] = f64::midpoint(samples.get(first)?.value(0), last.value(0));
        Some(Quality::Interpolated)
    }

    fn keeps_hits(&self) -> bool {
        false
    }
}

#[test]
fn a_method_may_look_back_in_time_and_do_without_hits() {
    let mut methods = Methods::default();
    methods.register("mean", Arc::new(OverInterval));
    let mut v = vehicle_of(&config(&["mean"]), &methods);
    v.send(0, &[(9, 9.0), (15, 15.0), (20, 20.0)]);
    assert_eq!(v.seen(), [new(20, &[Some(14.5)])]);
    v.send(0, &[(31, 31.0), (40, 40.0)]);
    assert_eq!(v.seen(), [new(30, &[Some(25.5)]), new(40, &[Some(30.0)])]);
    v.send(0, &[(21, 21.0)]);
    let rows: Vec<_> = v.seen().iter().map(|r| r.0).collect();
    assert_eq!(rows, [30, 40], "20 is over, and 40 looks back to 30, between 21 and 31");
    v.send(0, &[(35, 35.0)]);
    assert_eq!(v.seen(), [again(40, &[Some(30.5)])]);
}
