//! Signals with timeouts of their own: a slow one holds nobody back, and its samples correct what went without it.

use super::*;

/// Two signals, of which the second is waited for this long.
fn vehicle_with(timeout: &str) -> Vehicle {
    let mut config = config(&["linear", "linear"]);
    config.signal[1].signal_timeout = Some(timeout.to_owned());
    vehicle_of(&config, &Methods::default())
}

#[test]
fn each_signal_is_waited_for_as_long_as_it_says() {
    let mut v = vehicle_with("5s");
    v.send(1, &[(8, 8.0)]);
    v.send(0, &[(9, 9.0), (12, 12.0)]);
    v.tick(12);
    assert_eq!(v.seen(), [], "5 s after 8 is 13");
    v.tick(13);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])]);
    // The other one is waited for as long as ever.
    v.message(1, &[(19, 19.0), (21, 21.0)], 14);
    assert_eq!(v.seen(), [again(10, &[Some(10.0), Some(10.0)])]);
    v.tick(41);
    assert_eq!(v.seen(), [], "30 s after 12 is 42");
    v.tick(42);
    assert_eq!(v.seen(), [new(20, &[None, Some(20.0)])]);
}

#[test]
fn one_with_a_timeout_of_nothing_is_never_waited_for() {
    let mut v = vehicle_with("0s");
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(8, 8.0), (12, 12.0)]);
    assert_eq!(v.seen(), [new(10, &[Some(10.0), None])], "at once, without a tick");
    assert_eq!(v.track.due(), 39 * SECOND, "no tick is for it");
    v.send(1, &[(13, 13.0)]);
    v.send(1, &[(22, 22.0)]);
    assert_eq!(v.seen(), [again(10, &[Some(10.0), Some(10.0)])], "20 waits for the other one");
    v.send(0, &[(24, 24.0)]);
    assert_eq!(v.seen(), [new(20, &[Some(20.0), Some(20.0)])]);
}

#[test]
fn a_slow_signals_sample_corrects_all_rows_that_went_without_it_at_once_and_each_once() {
    let mut v = vehicle_with("0s");
    v.send(1, &[(5, 5.0)]);
    for t in (5..65).step_by(10) {
        v.send(0, &[(t, t as f64)]);
    }
    assert_eq!(v.seen(), [10, 20, 30, 40, 50].map(|t| new(t, &[Some(t as f64), None])));
    v.send(1, &[(45, 45.0)]);
    assert_eq!(v.seen(), [10, 20, 30, 40].map(|t| again(t, &[Some(t as f64), Some(t as f64)])));
    v.send(1, &[(56, 56.0)]);
    assert_eq!(v.seen(), [again(50, &[Some(50.0), Some(50.0)])], "what is whole already is left alone");
}

#[test]
fn ticks_come_as_early_as_the_shortest_timeout_needs_them() {
    let mut v = vehicle_with("2s");
    v.send(1, &[(9, 9.0)]);
    v.send(0, &[(10, 10.0)]);
    assert_eq!(v.track.due(), 11 * SECOND);
    v.tick(11);
    assert_eq!(v.track.due(), Micros::MAX, "the other one is not silent");
    v.send(1, &[(12, 12.0)]);
    v.tick(12);
    assert_eq!(v.track.due(), 40 * SECOND, "exact after a tick");
}
