//! What some vehicles send in some minutes: uneven samples, out of order within the window, some twice,
//! some in one message, some as a backlog after a time offline, on several trips, and now and then a sensor that dies.

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
    let text = format!(
        r#"
        interval = "1s"
        window = "3s"
        patience = "2s"
        [[signal]]
        name = "position"
        columns = [{{ name = "latitude", unit = "deg", min = -90, max = 90 }}, {{ name = "longitude", unit = "deg", min = -180, max = 180 }}]
        interpolation = "great_circle"
        max_gap = "4s"
        [[signal]]
        name = "speed"
        columns = [{{ name = "speed", unit = "km/h", min = 0, max = 400, type = "double" }}]
        interpolation = "{curve}"
        max_gap = "5s"
        [[signal]]
        name = "heading"
        columns = [{{ name = "heading", unit = "deg", min = 0, max = 360, wraps = true }}]
        interpolation = "{heading}"
        max_gap = "5s"
        [[signal]]
        name = "door"
        columns = [{{ name = "door", unit = "1", min = 0, max = 9 }}]
        interpolation = "previous"
        max_gap = "3s"
    "#
    );
    toml::from_str::<RecordsConfig>(&text).unwrap().build().unwrap()
}

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

/// All that one vehicle sends, in the order in which it is stored, and its trips.
pub(super) fn drive(dice: &mut Dice, vehicle: &VehicleId) -> (Vec<Post>, Vec<Trip>) {
    let (mut posts, mut trips) = (Vec::new(), Vec::new());
    let mut on = START + dice.below(5 * SECOND);
    for _ in 0..=dice.below(3) {
        let mut end = on + SECOND + dice.below(40 * SECOND);
        // A sensor dies, for the rest of the trip or for long, while the others go on.
        let dead = dice.one_in(3).then(|| {
            let from = on + dice.below(15 * SECOND);
            end = from + 45 * SECOND + dice.below(30 * SECOND);
            let signal = dice.below(4) as usize;
            (signal, from..from + 40 * SECOND + dice.below(30 * SECOND))
        });
        let offline = dice.one_in(3).then(|| {
            let from = on + dice.below(end - on);
            (from, from + dice.below(30 * SECOND))
        });
        let mut last = end;
        for signal in 0..4 {
            for (stored, samples) in messages(dice, signal, (on, end), offline) {
                if dead.as_ref().is_some_and(|(s, time)| *s == signal && time.contains(&samples[0].0)) {
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
    (posts, trips)
}

/// A signal's messages on a trip: when each is stored, and its samples.
fn messages(
    dice: &mut Dice,
    signal: usize,
    (on, end): (Micros, Micros),
    offline: Option<(Micros, Micros)>,
) -> Vec<(Micros, Vec<Sample>)> {
    let mut messages: Vec<(Micros, Vec<Sample>)> = Vec::new();
    let backlog_shift = dice.below(5 * SECOND);
    let mut time = on + dice.below(3 * SECOND);
    while time < end {
        let sample = (time, values(dice, signal));
        let delay = dice.below(WINDOW - SECOND / 2);
        let stored = stored_at(time, delay, offline.map(|(from, to)| (from, to, backlog_shift)));
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
