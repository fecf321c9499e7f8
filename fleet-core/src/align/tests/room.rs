//! Fast sensors: what is held of them, and what is said where there is no room.

use super::{Vehicle, config, vehicle_of};
use crate::align::{Inserted, Methods};
use crate::ids::SignalIndex;
use crate::sample::Samples;
use crate::schema::RecordsConfig;
use crate::time::{Micros, SECOND};

impl Vehicle {
    /// Samples of a signal at one pace, µs, each in its message, each arriving at once.
    fn fast(&mut self, signal: u8, from: Micros, until: Micros, pace: usize) -> Inserted {
        let mut sum = Inserted::default();
        let columns = self.aligner.schema().signals()[usize::from(signal)].columns.len();
        let mut samples = Samples::new(columns);
        for time in (from..until).step_by(pace) {
            samples.reset(columns);
            samples.push(time, &[(time % 1_000_003) as f64; 2][..columns]);
            let done =
                self.call(|a, t, mut emit| a.insert(t, SignalIndex(signal), &samples, time, &mut emit));
            sum.taken += done.taken;
            sum.overflowed += done.overflowed;
            sum.short_of_room |= done.short_of_room;
        }
        sum
    }
}

#[test]
fn a_sensor_of_100_hz_has_a_value_in_each_row_by_every_method() {
    for method in ["time_weighted_mean", "pchip", "linear", "previous", "nearest"] {
        let mut v = vehicle_of(&config(&[method, "linear"]), &Methods::default());
        let done = v.fast(0, 1, 120 * SECOND, 10_000);
        assert_eq!((done.taken, done.overflowed, done.short_of_room), (12_000, 0, false));
        let rows: Vec<i64> = v.seen().iter().filter(|row| row.1[0].is_some()).map(|row| row.0).collect();
        let first = if method == "time_weighted_mean" { 20 } else { 10 };
        assert_eq!(rows, (first..120).step_by(10).collect::<Vec<_>>(), "{method}");
        // Window and interval, a second interval for the mean, and room for the next quarter.
        let held = v.aligner.snapshot(&mut v.track).horizon[0].unwrap();
        let needed = if method == "time_weighted_mean" { 50 } else { 40 };
        let back = 120 * SECOND - held;
        assert!((needed * SECOND..(needed + 1) * SECOND).contains(&back), "{method}: {back} µs are held");
    }
}

#[test]
fn a_late_sample_of_a_fast_sensor_changes_the_rows_that_it_changes_in_a_slow_order() {
    for method in ["time_weighted_mean", "pchip"] {
        let lately = |late: bool| {
            let mut v = vehicle_of(&config(&[method]), &Methods::default());
            v.fast(0, 1, 60 * SECOND, 50_000);
            if !late {
                v.message(0, &[(90, 7.0)], 60);
            }
            v.fast(0, 60 * SECOND + 1, 119 * SECOND, 50_000);
            if late {
                v.aligner.snapshot(&mut v.track);
                v.message(0, &[(90, 7.0)], 120);
            }
            v.finish();
            let rows = v.seen().into_iter().filter(|row| row.1[0].is_some());
            rows.map(|(ts, values, _)| (ts, values[0])).collect::<std::collections::BTreeMap<_, _>>()
        };
        let mut at_once = lately(false);
        at_once.retain(|ts, _| *ts >= 80);
        let mut late = lately(true);
        late.retain(|ts, _| *ts >= 80);
        assert_eq!(at_once, late, "{method}");
    }
}

#[test]
fn a_sample_within_the_window_that_finds_no_room_is_neither_late_nor_a_replay() {
    let mut config = config(&["linear"]);
    config.max_samples = 16;
    let mut v = vehicle_of(&config, &Methods::default());
    (0..60).filter(|t| t % 30 != 9).for_each(|t| drop(v.message(0, &[(t, 1.0)], t)));
    let done = v.message(0, &[(39, 2.0)], 60);
    assert_eq!(done, Inserted { overflowed: 1, short_of_room: true, ..Inserted::default() });
    let done = v.message(0, &[(20, 2.0)], 61);
    assert_eq!(done, Inserted { late: vec![0], ..Inserted::default() });
}

#[test]
fn what_finds_no_room_is_told_when_it_begins_and_again_after_it_has_ended() {
    let mut config = config(&["linear"]);
    config.max_samples = 16;
    let mut v = vehicle_of(&config, &Methods::default());
    let told = |v: &mut Vehicle, range: std::ops::Range<i64>, step: usize| {
        let told: Vec<i64> =
            range.step_by(step).filter(|t| v.message(0, &[(*t, 1.0)], *t).short_of_room).collect();
        v.aligner.snapshot(&mut v.track);
        told
    };
    assert_eq!(told(&mut v, 0..100, 1), [16]);
    assert_eq!(told(&mut v, 100..200, 1), [0_i64; 0], "it goes on");
    assert_eq!(told(&mut v, 200..400, 5), [0_i64; 0]);
    assert_eq!(told(&mut v, 400..500, 1).len(), 1, "and again");
}

#[test]
fn one_signal_takes_what_others_leave_and_no_vehicle_more_than_its_memory() {
    let max_vehicle_memory = "256KiB".to_owned();
    let config = RecordsConfig { max_samples: 65_536, max_vehicle_memory, ..RecordsConfig::default() };
    let budget = 256 << 10;
    let mut v = vehicle_of(&config, &Methods::default());
    let fixed = v.track.memory();
    let done = v.fast(1, 1, 30_000, 1);
    assert!(done.overflowed > 10_000 && done.short_of_room);
    let one = v.track.memory() - fixed;
    assert!((budget / 2..budget * 5 / 8 + 1).contains(&one), "{one} bytes are one signal's");
    // Each of the others still gets its part.
    for signal in [0, 2, 3] {
        let before = v.track.memory();
        v.fast(signal, 1, 30_000, 1);
        let part = v.track.memory() - before;
        assert!(part >= budget / 12, "{part} bytes of signal {signal}");
    }
    assert!(v.track.memory() - fixed <= budget, "{} bytes", v.track.memory() - fixed);
}

fn problems(change: impl FnOnce(&mut RecordsConfig)) -> Vec<String> {
    let mut config = RecordsConfig::default();
    config.signal[1].sampling_period = Some("10ms".to_owned());
    config.signal[1].interpolation = "time_weighted_mean".to_owned();
    change(&mut config);
    let problems = Methods::default().resolve(&config.build().unwrap()).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_known_pace_for_which_there_is_no_room_is_refused_with_what_it_needs() {
    assert_eq!(problems(|_| {}), [""; 0]);
    let said = problems(|config| config.max_samples = 512);
    assert_eq!(
        said,
        [
            "max_samples: 512 are fewer than the 5003 that 50.03 s of signal \"speed\" have, one each 0.01 s: so much is \
          held for \"time_weighted_mean\", the window and the interval"
        ]
    );
    assert_eq!(
        problems(|config| config.window = "60m".to_owned()).len(),
        2,
        "neither by number nor by bytes"
    );
    let said = problems(|config| config.max_vehicle_memory = "64KiB".to_owned());
    assert_eq!(
        said,
        [
            "max_vehicle_memory: 65536 bytes are less than the 123 KiB that the signals' sampling periods, window and \
          interval need"
        ]
    );
}

#[test]
fn what_is_asked_for_at_the_start_is_enough() {
    for method in ["time_weighted_mean", "pchip", "linear", "previous", "nearest"] {
        let mut config = config(&[method]);
        config.signal[0].sampling_period = Some("50ms".to_owned());
        let fits = |max_samples: usize| {
            let config = RecordsConfig { max_samples, ..config.clone() };
            Methods::default().resolve(&config.build().unwrap()).is_ok()
        };
        let enough = (8..10_000).find(|&count| fits(count)).unwrap();
        let config = RecordsConfig { max_samples: enough, ..config };
        let mut v = vehicle_of(&config, &Methods::default());
        assert_eq!(v.fast(0, 1, 200 * SECOND, 50_000).overflowed, 0, "{method}: {enough} samples");
        assert!(enough <= 1_010, "{method} asks for {enough}");
    }
}
