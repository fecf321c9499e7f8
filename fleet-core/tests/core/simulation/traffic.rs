//! What some vehicles send in some minutes: uneven samples, out of order within the window, some twice,
//! some in one message, some as a backlog after a time offline, on several trips, and now and then a sensor that
//! dies, or a vehicle that is offline for as long.

use std::ops::Range;

use fleet_core::schema::{RecordsConfig, Schema};
use fleet_core::time::SECOND;
use fleet_core::{Micros, VehicleId};

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: i64) -> i64 {
        (self.roll() % n.unsigned_abs()).cast_signed()
    }

    pub(super) fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as i64) as usize]
    }
}

pub(super) const START: Micros = 1_700_000_000 * SECOND;

/// How late a sample may come after others of its signal, and 0.5 s more than it does.
const WINDOW: Micros = 3 * SECOND;

pub(super) fn schema(dice: &mut Dice) -> Schema {
    let curve = dice.of(&["linear", "pchip", "nearest", "time_weighted_mean"]);
    let heading = dice.of(&["linear", "pchip"]);
    // As long as `patience` says, never, for less than most pauses, or for longer than some. By dice of their own, so that
    // what is driven does not hang on them.
    let mut dice = Dice(dice.0 ^ 1);
    let mut timeout = || match dice.of(&["", "0s", "500ms", "2s"]) {
        "" => String::new(),
        timeout => format!("signal_timeout = \"{timeout}\""),
    };
    let [position, speed, turned, door] = [timeout(), timeout(), timeout(), timeout()];
    let text = format!(
        r#"
        interval = "1s"
        window = "3s"
        patience = "8s"
        [[signal]]
        name = "position"
        columns = [{{ name = "latitude", unit = "deg", min = -90, max = 90 }}, {{ name = "longitude", unit = "deg", min = -180, max = 180 }}]
        interpolation = "great_circle"
        max_gap = "4s"
        {position}
        [[signal]]
        name = "speed"
        columns = [{{ name = "speed", unit = "km/h", min = 0, max = 400, type = "double" }}]
        interpolation = "{curve}"
        max_gap = "5s"
        {speed}
        [[signal]]
        name = "heading"
        columns = [{{ name = "heading", unit = "deg", min = 0, max = 360, wraps = true }}]
        interpolation = "{heading}"
        max_gap = "5s"
        {turned}
        [[signal]]
        name = "door"
        columns = [{{ name = "door", unit = "1", min = 0, max = 9 }}]
        interpolation = "previous"
        max_gap = "3s"
        {door}
    "#
    );
    toml::from_str::<RecordsConfig>(&text).unwrap().build().unwrap()
}

/// How much later than another a signal's backlog may come after a long time offline.
pub(super) const LATEST: Micros = 30 * SECOND;

/// One sample: its event time and its values.
pub(super) type Sample = (Micros, Vec<f64>);

pub(super) enum What {
    Samples(usize, Vec<Sample>),
    On,
    Off,
}

/// A message on its way: when it is stored, whose, and what.
pub(super) struct Post {
    pub(super) stored: Micros,
    pub(super) vehicle: VehicleId,
    pub(super) what: What,
}

/// A trip's `on` and `off`, server time.
pub(super) type Trip = (Micros, Micros);

/// What happens to a vehicle on a trip, event time.
#[derive(Default)]
struct Mishaps {
    /// Nothing comes of a signal.
    dead: Option<(usize, Range<Micros>)>,
    /// Nothing comes through, and all afterwards: each signal by so much later at most.
    offline: Option<(Range<Micros>, Micros)>,
    /// When that ends if it is long.
    returns: Option<Micros>,
    /// Samples are rare, or it would take too long to play what lasts long.
    rare: Range<Micros>,
}

/// What one vehicle does.
#[derive(Default)]
pub(super) struct Drive {
    /// All that it sends, in the order in which it is stored.
    pub(super) posts: Vec<Post>,
    pub(super) trips: Vec<Trip>,
    /// When it comes back from a long time offline.
    pub(super) returns: Vec<Micros>,
}

/// One vehicle's course. A signal that is silent for longer than `silence` counts as dead.
pub(super) fn drive(dice: &mut Dice, vehicle: &VehicleId, silence: Micros) -> Drive {
    let Drive { mut posts, mut trips, mut returns } = Drive::default();
    let mut on = START + dice.below(5 * SECOND);
    for _ in 0..=dice.below(3) {
        let (end, mishaps) = mishaps(dice, on, silence);
        returns.extend(mishaps.returns);
        let mut last = end;
        for signal in 0..4 {
            let dead = mishaps.dead.as_ref().filter(|(s, _)| *s == signal);
            for (stored, samples) in messages(dice, signal, (on, end), &mishaps) {
                if dead.is_some_and(|(_, time)| time.contains(&samples[0].0)) {
                    continue;
                }
                last = last.max(stored);
                let what = What::Samples(signal, samples);
                posts.push(Post { stored, vehicle: vehicle.clone(), what });
            }
        }
        // `off` overtakes samples, but not by more than patience.
        let off = end.max(last - dice.below(2 * SECOND));
        posts.push(Post { stored: on, vehicle: vehicle.clone(), what: What::On });
        posts.push(Post { stored: off, vehicle: vehicle.clone(), what: What::Off });
        trips.push((on, off));
        // Soon, or so late that the context is over.
        let most = dice.of(&[3, 40]) * SECOND;
        on = last.max(off) + 1 + dice.below(most);
    }
    posts.sort_by_key(|p| p.stored);
    Drive { posts, trips, returns }
}

/// When a trip ends, and what happens until then.
fn mishaps(dice: &mut Dice, on: Micros, silence: Micros) -> (Micros, Mishaps) {
    // From when on, for how long, and how long the trip lasts then.
    let lasting = |dice: &mut Dice, shortest: Micros, rest: Micros| {
        let from = on + 5 * SECOND + dice.below(15 * SECOND);
        let to = from + shortest + dice.below(silence / 2);
        (from..to, from + 15 * SECOND..to - 10 * SECOND, to + dice.below(30 * SECOND) - rest)
    };
    let mut mishaps = Mishaps::default();
    let end = match dice.below(6) {
        // A sensor dies, for the rest of the trip or for long, while the others go on.
        0 | 1 => {
            let (time, rare, end) = lasting(dice, silence * 4 / 5, 10 * SECOND);
            mishaps = Mishaps { dead: Some((dice.below(4) as usize, time)), rare, ..mishaps };
            end
        }
        // The vehicle is offline for about as long.
        2 => {
            let (time, rare, end) = lasting(dice, silence * 3 / 5, 0);
            let returns = Some(time.end);
            return (end, Mishaps { offline: Some((time, LATEST)), returns, rare, ..mishaps });
        }
        _ => on + SECOND + dice.below(40 * SECOND),
    };
    if dice.one_in(3) {
        let from = on + dice.below(end - on);
        mishaps.offline = Some((from..from + dice.below(30 * SECOND), 5 * SECOND));
    }
    (end, mishaps)
}

/// A signal's messages on a trip: when each is stored, and its samples.
fn messages(
    dice: &mut Dice,
    signal: usize,
    (on, end): (Micros, Micros),
    mishaps: &Mishaps,
) -> Vec<(Micros, Vec<Sample>)> {
    let mut messages: Vec<(Micros, Vec<Sample>)> = Vec::new();
    let offline = mishaps.offline.as_ref().map(|(time, later)| (time.start, time.end, dice.below(*later)));
    let mut time = on + dice.below(3 * SECOND);
    while time < end {
        let sample = (time, values(dice, signal));
        let delay = dice.below(WINDOW - SECOND / 2);
        let stored = stored_at(time, delay, offline);
        match messages.last_mut() {
            // Now and then some in one message.
            Some((at, samples)) if time - samples[0].0 < SECOND / 2 && dice.one_in(3) => {
                samples.push(sample);
                *at = stored.max(*at);
            }
            _ => {
                let message = (stored, vec![sample]);
                // Now and then twice.
                messages.extend(std::iter::repeat_n(message, if dice.one_in(10) { 2 } else { 1 }));
            }
        }
        // Often on the grid exactly, now and then a gap that is too long to bridge.
        time += match dice.below(12) {
            _ if mishaps.rare.contains(&time) => 1 + dice.below(12 * SECOND),
            0 => 6_500_000,
            1..=4 => SECOND - time.rem_euclid(SECOND),
            _ => 1 + dice.below(2 * SECOND),
        };
    }
    messages
}

/// What was taken offline comes in a burst afterwards, twenty times as fast, and the rest behind it.
fn stored_at(time: Micros, delay: Micros, offline: Option<(Micros, Micros, Micros)>) -> Micros {
    match offline {
        Some((from, to, shift)) if time >= from => {
            let burst = to + shift + (time - from + delay) / 20;
            if time < to { burst } else { burst.max(time + delay) }
        }
        _ => time + delay,
    }
}

fn values(dice: &mut Dice, signal: usize) -> Vec<f64> {
    let mut number = |from: f64, steps: i64, step: f64| from + dice.below(steps) as f64 * step;
    match signal {
        0 => vec![number(48.0, 1_000, 1e-3), number(11.0, 1_000, 1e-3)],
        1 => vec![number(0.0, 2_000, 0.1)],
        // Exact in binary, so that half a turn is exactly that.
        2 => vec![number(0.0, 1_440, 0.25)],
        _ => vec![number(0.0, 9, 1.0)],
    }
}
