//! The whole heart with its edges in memory, played from seeds: whatever happens to the workers, the
//! table is that of the samples.

mod aside;
mod edges;
mod play;
mod traffic;

use fleet_core::message::Refusals;
use fleet_core::time::SECOND;

use play::{Fault, Seen, play};

/// How many seeds run with every test; `FLEET_SEEDS` sets another number.
fn seeds(default: u64) -> std::ops::Range<u64> {
    0..std::env::var("FLEET_SEEDS").map_or(default, |n| n.parse().expect("FLEET_SEEDS is a number"))
}

fn complaints(seeds: std::ops::Range<u64>, fault: Fault) -> Vec<String> {
    seeds.filter_map(|seed| play(seed, fault).err()).collect()
}

#[test]
fn the_table_is_that_of_the_samples_whatever_happens() {
    let complaints = complaints(seeds(2_000), Fault::None);
    let first: Vec<_> = complaints.iter().take(5).collect();
    assert!(complaints.is_empty(), "{} seeds failed, among them {first:#?}", complaints.len());
}

#[test]
fn the_runs_see_what_they_are_made_for() {
    let mut all = Seen::default();
    for seed in 0..100 {
        all += play(seed, Fault::None).unwrap();
    }
    for (count, what) in [
        (all.deaths, "dead worker"),
        (all.trips, "second trip"),
        (all.backlog, "message of a backlog"),
        (all.long_offline, "message of a backlog after a long time offline"),
        (all.catch_ups, "catch-up after a slow sink"),
        (all.failures, "lost response"),
        (all.set_aside, "row that is set aside"),
        (all.lost, "claim behind a holder's back"),
        (all.past, "dead sensor that holds nothing back"),
        (all.handed_over, "vehicle left to the next holder"),
        (all.carried, "vehicle that goes on from there"),
        (all.counters.corrections, "correction"),
        (all.counters.duplicates, "duplicate"),
    ] {
        assert!(count >= 50, "{count} × {what}");
    }
    assert_eq!(
        (all.counters.late, all.counters.refused),
        (0, Refusals::default()),
        "nothing is beyond the window"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..50 {
        let (once, again) = (play(seed, Fault::None).unwrap(), play(seed, Fault::None).unwrap());
        assert!(once.batches.len() > 100, "seed {seed}");
        assert_eq!(once.batches, again.batches, "seed {seed}");
    }
}

#[test]
fn acknowledging_before_durable_is_caught() {
    let complaints = complaints(0..40, Fault::DurableTooEarly);
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn not_waiting_for_what_is_set_aside_is_caught() {
    let complaints = complaints(0..200, Fault::AsideInSecret);
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn not_noticing_a_claim_is_caught() {
    let complaints = complaints(0..200, Fault::Unnoticed);
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn letting_go_of_a_signal_that_may_come_back_is_caught() {
    let complaints = complaints(0..200, Fault::PastTooEarly(SECOND));
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn letting_go_of_a_signal_after_a_long_time_offline_is_caught() {
    // No signal is behind the others for so long but in a dead sensor's time, and as a backlog.
    let complaints = complaints(0..200, Fault::PastTooEarly(60 * SECOND));
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn not_replaying_the_window_is_caught() {
    let complaints = complaints(0..40, Fault::NoReplay);
    assert!(complaints.len() > 10, "{complaints:#?}");
}

#[test]
fn leaving_more_to_the_next_holder_than_came_is_caught() {
    let complaints = complaints(0..200, Fault::CarriesTooMuch(2 * SECOND));
    assert!(complaints.len() > 10, "{complaints:#?}");
}
