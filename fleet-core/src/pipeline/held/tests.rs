//! When the phases of held vehicles end; a patience of 30 s, an idle timeout of 900 s, 120 s for the first sample.

use bytes::Bytes;

use super::*;
use crate::bind::Binding;
use crate::ids::VehicleId;
use crate::time::SECOND;

const PATIENCE: Micros = 30 * SECOND;
const IDLE: Micros = 900 * SECOND;
const FIRST_SAMPLE: Micros = 120 * SECOND;

/// Server time while the pipeline begins.
const NOW: Micros = 1_735_689_600 * SECOND;

fn held() -> HeldVehicles {
    HeldVehicles::new(PATIENCE, IDLE)
}

impl HeldVehicles {
    /// Takes in a vehicle at so many seconds.
    fn take(&mut self, slot: u32, second: i64, known: bool) -> Ticket {
        self.take_in(Slot(slot), NOW + second * SECOND, second * SECOND, known);
        self.ticket(Slot(slot)).unwrap()
    }

    /// The slots whose time is over at so many seconds.
    fn ended(&mut self, second: i64) -> Vec<u32> {
        self.end(second * SECOND, FIRST_SAMPLE).slots.into_iter().map(|slot| slot.0).collect()
    }

    /// An `on` of it comes at so many seconds.
    fn on(&mut self, slot: u32, second: i64) {
        let arrival = NOW + second * SECOND;
        let on = Message { slot: Slot(slot), topic: Topic::On, payload: Bytes::new(), arrival, live: true };
        assert!(self.hear(&on, second * SECOND));
    }

    fn off(&mut self, slot: u32, second: i64) {
        self.enter(Slot(slot), Phase::Ending { ended_at: NOW, since: second * SECOND });
    }
}

#[test]
fn one_that_is_not_heard_of_for_the_idle_timeout_ends_at_its_last_sign() {
    let mut held = held();
    (0..3).for_each(|slot| _ = held.take(slot, i64::from(slot), true));
    assert_eq!([899, 900].map(|second| held.ended(second)), [vec![], vec![0]]);
    assert_eq!(held.at(Slot(0)).unwrap().phase(), Phase::Settling { ended_at: NOW });
    held.on(1, 500);
    assert_eq!([901, 902, 1_399, 1_400].map(|second| held.ended(second)), [vec![], vec![2], vec![], vec![1]]);
    assert!(held.ended(10_000).is_empty(), "each once");
}

#[test]
fn one_that_is_off_has_its_patience_and_no_longer_than_that() {
    let mut held = held();
    (0..2).for_each(|slot| _ = held.take(slot, 0, true));
    held.off(0, 100);
    held.off(1, 110);
    // Samples that come after the `off` are what it is patient for.
    held.on(0, 129);
    assert_eq!([129, 130, 139].map(|second| held.ended(second)), [vec![], vec![0], vec![]]);
    // On again.
    held.on(1, 139);
    held.enter(Slot(1), Phase::On);
    assert_eq!([140, 1_038, 1_039].map(|second| held.ended(second)), [vec![], vec![], vec![1]]);
}

#[test]
fn one_that_has_missed_something_has_no_end_before_it_is_read_again() {
    let mut held = held();
    held.take(0, 0, true);
    held.off(0, 100);
    held.miss(Slot(0), NOW + 120 * SECOND);
    held.miss(Slot(0), NOW + 110 * SECOND);
    assert!([130, 500].iter().all(|second| held.ended(*second).is_empty()));
    assert_eq!(held.take_missed(), [(Slot(0), NOW + 110 * SECOND)]);
    assert_eq!((held.take_missed(), held.ended(501)), (vec![], vec![0]));
}

#[test]
fn one_without_a_sample_gives_way_the_sooner_where_all_places_are_taken() {
    let mut held = held();
    (0..4).for_each(|slot| _ = held.take(slot, 0, slot == 3));
    assert_eq!(held.without_sample(), 3, "one is known");
    for slot in [0, 1] {
        held.at(Slot(slot)).unwrap().first_sample = FirstSample::AwaitedSince(10 * SECOND);
    }
    let mut end = |second: i64, timeout| held.end(second * SECOND, timeout);
    let none = Ended::default();
    assert_eq!([end(129, FIRST_SAMPLE), end(24, FIRST_SAMPLE / 8)], [none, Ended::default()]);
    // Both at once, once the places are taken; the third is being caught up.
    let both = Ended { slots: vec![Slot(0), Slot(1)], without_sample: 2 };
    assert_eq!([end(25, FIRST_SAMPLE / 8), end(26, FIRST_SAMPLE / 8)], [both, Ended::default()]);
    // Kept for a new trip, one has its time again.
    held.enter(Slot(0), Phase::On);
    let mut end = |second: i64| held.end(second * SECOND, FIRST_SAMPLE).slots;
    assert_eq!([end(144), end(145)], [vec![], vec![Slot(0)]]);
    assert_eq!(held.without_sample(), 3, "it has still sent nothing");
    held.at(Slot(1)).unwrap().first_sample = FirstSample::Seen;
    held.let_go(Slot(0));
    held.ended(146);
    assert_eq!(held.without_sample(), 1);
}

#[test]
fn nothing_of_an_earlier_vehicle_is_taken_for_a_later_one() {
    let mut held = held();
    let first = held.take(7, 0, false);
    held.off(7, 10);
    held.miss(Slot(7), NOW);
    held.enter(Slot(7), Phase::Finishing { ended_at: NOW, batch: None });
    held.let_go(Slot(7));
    assert!(held.get(first).is_none() && held.ticket(Slot(7)).is_none());
    let second = held.take(7, 50, false);
    assert!(held.get(first).is_none() && held.get(second).is_some());
    held.enter(Slot(7), Phase::Finishing { ended_at: NOW, batch: None });
    assert_eq!((held.take_missed(), held.seal(3), held.ended(940)), (vec![], vec![second], vec![]));
    assert_eq!(held.without_sample(), 1, "not twice");
    assert_eq!(held.at(Slot(7)).unwrap().phase(), Phase::Finishing { ended_at: NOW, batch: Some(3) });
}

#[test]
fn one_waits_for_the_next_batch_once_however_often_it_is_on_and_off_before() {
    let mut held = held();
    let ticket = held.take(0, 0, true);
    for _ in 0..1_000 {
        held.enter(Slot(0), Phase::Finishing { ended_at: NOW, batch: None });
        held.enter(Slot(0), Phase::On);
    }
    assert_eq!((held.finishing.len(), held.seal(1)), (1, vec![]), "it is on");
    held.enter(Slot(0), Phase::Finishing { ended_at: NOW, batch: None });
    assert_eq!((held.seal(2), held.waits_for_batch()), (vec![ticket], false));
}

/// The goal of the whole worker is 2 KiB a vehicle; its samples take about 700 bytes more, its name 35.
#[test]
fn what_is_kept_of_a_vehicle_without_samples_is_small() {
    const VEHICLES: u32 = 10_000;
    let mut lane = crate::lane::Lane::with_built_ins(&crate::schema::Schema::default()).unwrap();
    let mut held = held();
    let ids = (0..VEHICLES).map(|n| VehicleId::new(&format!("WVWZZZ1KZ8W{n:06}")).unwrap());
    let (start, on_time, horizon) = (NOW, NOW, Vec::new());
    let binding = Binding {
        vehicle: VehicleId::new("V1").unwrap(),
        epoch: 1,
        start,
        on_time,
        floor: Some(NOW),
        horizon,
        carry: None,
    };
    let bindings: Vec<_> = ids.map(|vehicle| Binding { vehicle, ..binding.clone() }).collect();
    let taken = |work: &mut dyn FnMut(&Binding)| {
        let measured = allocation_counter::measure(|| bindings.iter().for_each(work));
        measured.bytes_current / i64::from(VEHICLES)
    };
    let of_lane = taken(&mut |binding| _ = lane.bind(binding));
    let mut slot = 0;
    let of_held = taken(&mut |_| {
        held.take_in(Slot(slot), NOW, 0, true);
        slot += 1;
    });
    assert!(of_lane <= 520 && of_held <= 100, "{of_lane} and {of_held} bytes");
}
