//! What a lane says of a vehicle's state, its patience and what it refuses; speeds on a 10 s grid.

mod carry;

use super::*;
use crate::decode::frame::encode;
use crate::schema::RecordsConfig;
use crate::time::{SECOND, YEAR_2000};

const NOW: Micros = 1_735_689_600 * SECOND;

struct Car {
    lane: Lane,
    slot: Slot,
}

/// What it has refused, and how often.
fn refused(car: &Car) -> Vec<(Refusal, u64)> {
    let counted = car.lane.counters().refused;
    Refusal::ALL.map(|refusal| (refusal, counted.of(refusal))).into_iter().filter(|(_, n)| *n > 0).collect()
}

/// Bound at `NOW`, from 100 s before on, and not caught up yet. All signals are waited for for 30 s.
fn car() -> Car {
    car_of(&patient().build().unwrap(), &[])
}

fn patient() -> RecordsConfig {
    let mut config = RecordsConfig::default();
    config.signal.iter_mut().for_each(|signal| signal.signal_timeout = None);
    config
}

fn car_of(schema: &Schema, horizon: &[Option<Micros>]) -> Car {
    let mut lane = Lane::with_built_ins(schema).unwrap();
    let vehicle = VehicleId::new("V1").unwrap();
    let (start, on_time) = (NOW - 100 * SECOND, NOW);
    let horizon = horizon.to_vec();
    let slot = lane.bind(&Binding { vehicle, epoch: 3, start, on_time, floor: None, horizon, carry: None });
    Car { lane, slot }
}

impl Car {
    /// Takes a sample of a signal with one column, taken and arriving so many seconds after `NOW`.
    fn message(&mut self, signal: &str, second: i64, arrival: i64) {
        self.message_as(signal, second, arrival, true);
    }

    fn message_as(&mut self, signal: &str, second: i64, arrival: i64, live: bool) {
        let signal = self.lane.schema.find(signal).unwrap();
        let payload = format!("{{\"ts\":{},\"value\":50}}", (NOW + second * SECOND) / 1_000);
        let (topic, arrival) = (Topic::Signal(signal), NOW + arrival * SECOND);
        let message = Message { slot: self.slot, topic, payload: payload.into(), arrival, live };
        self.lane.messages(&[message]);
    }

    /// Takes a frame of speed with one sample, which arrives at once.
    fn frame(&mut self, counter: u16, second: i64) {
        self.frame_as(counter, second, true);
    }

    fn frame_as(&mut self, counter: u16, second: i64, live: bool) {
        let (speed, arrival) = (self.lane.schema.find("speed").unwrap(), NOW + second * SECOND);
        let mut samples = Samples::new(1);
        samples.push(arrival, &[50.0]);
        let mut payload = Vec::new();
        encode(self.lane.schema.signal(speed), counter, &samples, &mut payload).unwrap();
        let (topic, payload) = (Topic::Signal(speed), payload.into());
        self.lane.messages(&[Message { slot: self.slot, topic, payload, arrival, live }]);
    }

    /// How many rows there are once it is so many seconds after `NOW`.
    fn rows_at(&mut self, second: i64) -> usize {
        self.lane.tick(NOW + second * SECOND);
        self.lane.rows()
    }
}

#[test]
fn a_state_begins_a_margin_before_what_is_held_and_not_before_the_binding() {
    let mut car = car();
    let begins = |car: &mut Car, margin: i64| {
        let state = car.lane.snapshot(car.slot, margin * SECOND).unwrap();
        (state.resume_at - NOW) / SECOND
    };
    assert_eq!(begins(&mut car, 30), -100, "nothing is held");
    car.message("speed", 5, 7);
    car.message("fuel", 3, 9);
    assert_eq!([0, 30, 300].map(|margin| begins(&mut car, margin)), [7, -23, -100]);
}

#[test]
fn what_is_refused_is_not_read_again_and_again() {
    let mut car = car();
    let begins = |car: &mut Car| (car.lane.snapshot(car.slot, 30 * SECOND).unwrap().resume_at - NOW) / SECOND;
    // A clock that was never set.
    let at_2000 = (YEAR_2000 - NOW) / SECOND;
    car.message("speed", at_2000, 50);
    car.message("speed", at_2000 + 1, 40);
    assert_eq!(begins(&mut car), 20);
    car.lane.caught_up(car.slot, NOW + 60 * SECOND);
    car.message("speed", at_2000 + 2, 90);
    assert_eq!(car.lane.snapshots(30 * SECOND).len(), 1, "it is worth saving");
    assert_eq!(begins(&mut car), 60);
    car.message("speed", 70, 91);
    assert_eq!(begins(&mut car), 61, "a sample that is held counts");
}

#[test]
fn a_jump_of_a_frames_counter_is_a_gap_unless_a_catch_up_lies_between() {
    let mut car = car();
    let mut frame = |counter: u16, second: i64| {
        car.frame(counter, second);
        if second == 30 {
            car.lane.caught_up(car.slot, NOW + second * SECOND);
        }
        car.lane.take_gaps().into_iter().map(|(_, from)| (from - NOW) / SECOND).collect::<Vec<_>>()
    };
    assert_eq!(
        [(u16::MAX, 0), (0, 10), (2, 20), (3, 30)].map(|(c, s)| frame(c, s)),
        [vec![], vec![], vec![10], vec![]]
    );
    assert_eq!([(9, 40), (20, 50), (5, 60)].map(|(c, s)| frame(c, s)), [vec![], vec![40], vec![]]);
}

#[test]
fn no_state_is_saved_of_a_vehicle_that_is_being_caught_up() {
    let mut car = car();
    car.message("speed", 5, 7);
    assert_eq!(car.lane.snapshots(0).len(), 0);
    car.lane.caught_up(car.slot, NOW);
    assert_eq!(car.lane.snapshots(0).len(), 1);
    assert_eq!(car.lane.snapshots(0).len(), 0, "nothing came since");
    car.message("speed", 6, 8);
    car.lane.catching_up(car.slot);
    assert_eq!(car.lane.snapshots(0).len(), 0);
}

#[test]
fn patience_does_not_run_during_a_catch_up_and_begins_anew_after_it() {
    let mut car = car();
    car.message("fuel", 8, 8);
    car.message("speed", 5, 9);
    car.message("speed", 15, 15);
    assert_eq!(car.rows_at(200), 0);
    car.lane.caught_up(car.slot, NOW + 200 * SECOND);
    assert_eq!([229, 230].map(|second| car.rows_at(second)), [0, 1]);
    // Given up, fuel is waited for in the next catch-up all the same.
    car.lane.catching_up(car.slot);
    car.message("speed", 25, 231);
    assert_eq!(car.lane.rows(), 1);
    car.lane.caught_up(car.slot, NOW + 240 * SECOND);
    assert_eq!([269, 270].map(|second| car.rows_at(second)), [1, 2]);
}

#[test]
fn what_is_later_than_the_window_is_counted_and_becomes_a_dead_letter() {
    let mut car = car();
    car.message("speed", 40, 40);
    car.message("speed", 10, 41);
    assert_eq!((car.lane.counters().late, car.lane.take_letters().len()), (0, 0), "30 s are allowed");
    car.message("speed", 9, 42);
    let letters = car.lane.take_letters();
    assert_eq!((car.lane.counters().late, letters.len()), (1, 1));
    assert_eq!((letters[0].refusal, letters[0].signal.as_str()), (Refusal::Late, "speed"));
    assert_eq!(letters[0].detail, "1 of its samples came later than the window");
}

#[test]
fn what_finds_no_room_is_counted_and_told_under_a_name_of_its_own() {
    let schema = RecordsConfig { max_samples: 16, ..RecordsConfig::default() }.build().unwrap();
    let mut car = car_of(&schema, &[]);
    (0..60).filter(|s| *s != 40).for_each(|s| car.message("speed", s, s));
    let (first, letters) = (car.lane.counters().overflowed, car.lane.take_letters());
    assert_eq!((first, letters.len()), (59 - 16, 1), "told once");
    car.message("speed", 40, 60);
    let counters = car.lane.counters();
    assert_eq!((counters.overflowed, counters.replayed, counters.duplicates), (first + 1, 0, 0));
    let letter = car.lane.take_letters().pop().unwrap();
    assert_eq!((letter.refusal, letter.signal.as_str()), (Refusal::Capacity, "speed"));
    let said =
        "16 samples, 15 s of the signal, is all there is room for (max_samples 16, max_vehicle_memory 524288";
    assert!(letter.detail.starts_with(said), "{}", letter.detail);
    assert_eq!(refused(&car), [(Refusal::Capacity, 2)]);
}

#[test]
fn what_comes_live_from_before_a_saved_horizon_is_no_replay() {
    let schema = Schema::default();
    for live in [true, false] {
        let mut car = car_of(&schema, &[None, Some(NOW)]);
        car.message_as("speed", -1, 1, live);
        let counters = car.lane.counters();
        assert_eq!((counters.late, counters.replayed), if live { (1, 0) } else { (0, 1) });
        assert_eq!(car.lane.take_letters().len(), usize::from(live));
    }
}

#[test]
fn a_vehicle_that_is_bound_anew_within_a_batch_is_in_it_once() {
    for rows in [Rows::Keep, Rows::Drop] {
        let mut car = car();
        car.message("speed", 5, 7);
        car.message("speed", 15, 17);
        car.lane.finish(car.slot);
        assert_eq!(car.lane.rows(), 1);
        car.lane.unbind(car.slot, rows);
        let vehicle = VehicleId::new("V1").unwrap();
        let (start, on_time) = (NOW - 100 * SECOND, NOW);
        let binding =
            Binding { vehicle, epoch: 4, start, on_time, floor: None, horizon: Vec::new(), carry: None };
        car.slot = car.lane.bind(&binding);
        car.message("speed", 25, 27);
        car.message("speed", 35, 37);
        car.lane.finish(car.slot);
        let batch = car.lane.seal().unwrap();
        match rows {
            Rows::Keep => assert!(
                batch.len() == 2 && batch.vehicles().len() == 1 && batch.vehicles()[0].epoch == 4,
                "{batch:?}"
            ),
            Rows::Drop => {
                assert!(batch.len() == 1 && batch.vehicles().last().unwrap().epoch == 4, "{batch:?}")
            }
        }
    }
}

#[test]
fn in_steady_state_only_a_sealed_batch_allocates() {
    let schema = Schema::default();
    let mut lane = Lane::with_built_ins(&schema).unwrap();
    let mut slots = Vec::new();
    for v in 0..50 {
        let vehicle = VehicleId::new(&format!("V{v}")).unwrap();
        let binding = Binding {
            vehicle,
            epoch: 1,
            start: NOW,
            on_time: NOW,
            floor: None,
            horizon: Vec::new(),
            carry: None,
        };
        let slot = lane.bind(&binding);
        lane.caught_up(slot, NOW);
        slots.push(slot);
    }
    // All repeats after two minutes, so that no later second has more rows than the warm-up had. Fuel
    // is silent for longer than the patience: rows go without it and are corrected.
    let paces = [6, 10, 40, 15];
    let mut allocated = 0;
    for second in 0..1_200 {
        let arrival = NOW + second * SECOND;
        let mut messages = Vec::new();
        for (&slot, (signal, pace)) in
            slots.iter().flat_map(|s| std::iter::repeat(s).zip(schema.indexed().zip(paces)))
        {
            if (second + i64::from(slot.0)) % pace == 0 {
                let mut samples = Samples::new(signal.1.columns.len());
                samples.push(arrival - SECOND / 2, &[10.0, 11.0][..signal.1.columns.len()]);
                let mut payload = Vec::new();
                crate::decode::frame::encode(signal.1, second as u16, &samples, &mut payload).unwrap();
                let (topic, payload) = (Topic::Signal(signal.0), payload.into());
                messages.push(Message { slot, topic, payload, arrival, live: false });
            }
        }
        let work = allocation_counter::measure(|| {
            lane.messages(&messages);
            lane.tick(arrival);
        });
        let warm = second >= 600;
        allocated += if warm { work.count_total } else { 0 };
        lane.seal().unwrap();
    }
    let counters = lane.counters();
    assert!(counters.rows > 5_000 && counters.corrections > 500 && counters.late == 0, "{counters:?}");
    assert_eq!(allocated, 0);
}

/// A worker that was away finds the same as one that was there.
#[test]
fn times_are_judged_by_the_arrival_whenever_a_message_is_taken() {
    let mut car = car();
    // Past and ahead by the arrival, an hour and a week before the lane's time.
    car.lane.tick(NOW + 3_600 * SECOND);
    let week = 7 * 24 * 3_600;
    for (second, arrival) in [(90, 20), (-week - 1, 0), (-week, 1), (61, 1), (60, 0)] {
        car.message("speed", second, arrival);
    }
    let reasons: Vec<_> = car.lane.take_letters().into_iter().map(|letter| letter.refusal).collect();
    assert_eq!(reasons, [Refusal::InFuture, Refusal::TooOld, Refusal::TooOld]);
    assert_eq!(refused(&car), [(Refusal::TooOld, 2), (Refusal::InFuture, 1)]);
}

#[test]
fn what_one_sample_corrects_is_in_one_batch_with_what_it_completes() {
    let mut config = RecordsConfig::default();
    config.signal[2].signal_timeout = Some("0s".to_owned());
    let mut car = car_of(&config.build().unwrap(), &[]);
    car.message("fuel", 5, 5);
    for second in [6, 16, 26, 36, 46] {
        car.message("speed", second, second);
        car.lane.seal().unwrap();
    }
    car.message("fuel", 44, 47);
    let batch = car.lane.seal().unwrap();
    assert_eq!((batch.len(), batch.corrections()), (4, &[true; 4][..]));
    assert!(car.lane.seal().unwrap().is_empty());
}

#[test]
fn no_jump_of_an_earlier_vehicle_is_taken_for_one_of_a_later_one() {
    for again in [false, true] {
        let mut car = car();
        car.frame(1, 0);
        car.frame(9, 1);
        if again {
            car.lane.unbind(car.slot, Rows::Keep);
            let (vehicle, start) = (VehicleId::new("V2").unwrap(), NOW);
            let (floor, horizon) = (None, Vec::new());
            let slot = car.lane.bind(&Binding {
                vehicle,
                epoch: 1,
                start,
                on_time: NOW,
                floor,
                horizon,
                carry: None,
            });
            assert_eq!(slot, car.slot, "it has the same slot");
        }
        assert_eq!(car.lane.take_gaps().len(), usize::from(!again));
    }
}

#[test]
fn vehicles_are_found_by_their_names_for_as_long_as_they_are_bound() {
    let mut lane = Lane::with_built_ins(&Schema::default()).unwrap();
    let id = |n: i32| VehicleId::new(&format!("V{n}")).unwrap();
    let bind = |lane: &mut Lane, n: i32| {
        let (start, floor, horizon) = (NOW, None, Vec::new());
        lane.bind(&Binding { vehicle: id(n), epoch: 1, start, on_time: NOW, floor, horizon, carry: None })
    };
    let slots: Vec<_> = (0..1_000).map(|n| bind(&mut lane, n)).collect();
    (0..1_000).step_by(3).for_each(|n| lane.unbind(slots[n], Rows::Keep));
    let bound: Vec<_> = (0..1_000).filter(|n| n % 3 != 0).collect();
    assert_eq!(lane.slots(), bound.iter().map(|n| slots[*n]).collect::<Vec<_>>());
    assert_eq!(lane.vehicles(), bound.len());
    for (n, slot) in (0..).zip(slots) {
        assert_eq!(lane.find(&id(n)), (n % 3 != 0).then_some(slot));
    }
    // In a slot that another had, or anew.
    let (other, again) = (bind(&mut lane, 2_000), bind(&mut lane, 1));
    assert_eq!((lane.find(&id(2_000)), lane.find(&id(1))), (Some(other), Some(again)));
    assert_eq!((lane.find(&id(0)), lane.vehicles()), (None, bound.len() + 1));
}
