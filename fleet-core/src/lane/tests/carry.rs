//! What a lane takes over from the one that held a vehicle before.

use super::*;

impl Car {
    /// Hands the vehicle over to another lane, so many seconds after `NOW`.
    fn hand_over(&mut self, second: i64) {
        let state = self.lane.hand_over(self.slot, 0, NOW + second * SECOND).unwrap();
        self.next_lane(&state, state.carry.clone());
    }

    fn next_lane(&mut self, state: &VehicleState, carry: Option<Carry>) {
        let binding = Binding {
            vehicle: state.vehicle.clone(),
            epoch: state.epoch + 1,
            start: state.resume_at,
            on_time: NOW,
            floor: state.floor,
            horizon: state.horizon.clone(),
            carry,
        };
        self.lane = Lane::new(&self.lane.schema, Arc::clone(&self.lane.decoder), self.lane.aligner.clone());
        self.slot = self.lane.bind(&binding);
    }

    fn caught_up(&mut self, second: i64) {
        self.lane.caught_up(self.slot, NOW + second * SECOND);
    }
}

#[test]
fn patience_goes_on_as_if_nothing_had_happened() {
    let mut car = car();
    car.caught_up(0);
    car.message("fuel", 8, 8);
    car.message("speed", 5, 9);
    car.message("speed", 15, 15);
    assert_eq!(car.rows_at(37), 0);
    car.hand_over(37);
    assert!(car.lane.is_carried(car.slot));
    assert_eq!(car.rows_at(38), 0, "it is being caught up");
    car.caught_up(38);
    assert!(!car.lane.is_carried(car.slot));
    assert_eq!(car.rows_at(38), 1, "30 s after fuel was heard");
    // What is missed later lets it begin anew.
    car.lane.catching_up(car.slot);
    car.message("speed", 25, 40);
    car.caught_up(50);
    assert_eq!([79, 80].map(|second| car.rows_at(second)), [1, 2]);
}

#[test]
fn a_frame_that_is_lost_in_the_hand_over_is_noticed() {
    let gaps = |car: &mut Car| {
        car.lane.take_gaps().into_iter().map(|(_, from)| (from - NOW) / SECOND).collect::<Vec<_>>()
    };
    let mut car = car();
    car.caught_up(0);
    car.frame(6, 1);
    car.frame(7, 2);
    car.hand_over(2);
    // Read once more from the stream, where 8 isn't.
    car.frame_as(7, 2, false);
    car.frame_as(9, 4, false);
    assert_eq!(gaps(&mut car), [2]);
    car.caught_up(5);
    car.frame(10, 5);
    assert_eq!(gaps(&mut car), [0; 0]);
    car.frame(12, 7);
    assert_eq!(gaps(&mut car), [5]);
}

#[test]
fn its_states_are_those_of_the_lane_before() {
    let mut car = car();
    assert_eq!(car.lane.hand_over(car.slot, 0, NOW), None, "it is being caught up");
    car.caught_up(0);
    (0..10).for_each(|n| car.message("speed", 5 * n, 5 * n));
    car.message("fuel", 44, 46);
    let until = NOW + 46 * SECOND;
    let state = car.lane.hand_over(car.slot, 0, until).unwrap();
    assert_eq!(state.carry.as_ref().map(|carry| carry.until), Some(until));
    assert!(state.floor.is_some() && state.resume_at > NOW - 100 * SECOND);
    car.next_lane(&state, state.carry.clone());
    car.caught_up(47);
    let same = car.lane.hand_over(car.slot, 0, until).unwrap();
    assert_eq!(same, VehicleState { epoch: state.epoch + 1, latest: None, ..state.clone() });
    // Without it everything has to come again.
    car.next_lane(&state, Some(Carry { until, track: vec![1, 2, 3] }));
    assert!(!car.lane.is_carried(car.slot) && car.lane.samples_held(car.slot) == 0);
}
