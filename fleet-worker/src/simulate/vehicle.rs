//! A simulated vehicle: smooth functions of time, so that it needs no memory but its seed.

use std::f64::consts::TAU;

use fleet_core::schema::Signal;

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>: small, good enough, and the same everywhere.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in `0.0..1.0`.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly between two values.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// Where the vehicles drive around: latitude and longitude in degrees.
const CITIES: [(f64, f64); 8] = [
    (48.8566, 2.3522),
    (52.5200, 13.4050),
    (48.1372, 11.5755),
    (45.4642, 9.1900),
    (50.0755, 14.4378),
    (52.2297, 21.0122),
    (52.3676, 4.9041),
    (40.4168, -3.7038),
];

const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A car that drives a circle around a city and stops now and then.
#[derive(Debug, Clone)]
pub(super) struct Vehicle {
    centre: (f64, f64),
    radius_m: f64,
    bearing: f64,
    /// Mean speed, m/s. The speed swings between 0 and twice this.
    mean: f64,
    /// Of the swing, per second.
    rate: f64,
    phase: f64,
    fuel: f64,
}

impl Vehicle {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        #[allow(clippy::cast_possible_truncation, reason = "a small index")]
        let centre = CITIES[dice.roll() as usize % CITIES.len()];
        Self {
            centre,
            radius_m: dice.between(2_000.0, 25_000.0),
            bearing: dice.between(0.0, TAU),
            mean: dice.between(8.0, 18.0),
            rate: TAU / dice.between(90.0, 240.0),
            phase: dice.between(0.0, TAU),
            fuel: dice.between(20.0, 100.0),
        }
    }

    /// Metres driven after `t` seconds: the integral of the speed.
    fn driven(&self, t: f64) -> f64 {
        self.mean * (t - ((self.rate * t + self.phase).cos() - self.phase.cos()) / self.rate)
    }

    /// km/h.
    fn speed(&self, t: f64) -> f64 {
        3.6 * self.mean * (1.0 + (self.rate * t + self.phase).sin())
    }

    /// Degrees.
    fn position(&self, t: f64) -> (f64, f64) {
        let around = self.bearing + self.driven(t) / self.radius_m;
        let north = self.radius_m * around.cos() / EARTH_RADIUS_M;
        let east = self.radius_m * around.sin() / (EARTH_RADIUS_M * self.centre.0.to_radians().cos());
        (self.centre.0 + north.to_degrees(), self.centre.1 + east.to_degrees())
    }

    /// Percent: about a percent in three minutes, with the tank's sloshing.
    fn fuel(&self, t: f64) -> f64 {
        (self.fuel - t / 180.0 + 0.4 * (t / 7.0 + self.phase).sin()).clamp(0.5, 100.0)
    }

    /// Degrees Celsius: braking heats, driving cools, both with a lag.
    fn brake(&self, t: f64) -> f64 {
        70.0 - 28.0 * (self.rate * t + self.phase - 0.9).cos()
    }

    /// The values of a signal `t` seconds after the start; of one that is not the scenario's, a slow
    /// swing within its columns' ranges, and round and round where a column wraps. `out` has a value per column.
    pub(super) fn values(&self, signal: &Signal, t: f64, out: &mut [f64]) {
        match (signal.name.as_str(), out) {
            ("position", [latitude, longitude]) => (*latitude, *longitude) = self.position(t),
            ("speed", [speed]) => *speed = self.speed(t),
            ("fuel", [fuel]) => *fuel = self.fuel(t),
            ("brake", [brake]) => *brake = self.brake(t),
            (_, out) => {
                for ((value, column), n) in out.iter_mut().zip(&signal.columns).zip(1_u32..) {
                    let turned = t / (20.0 * f64::from(n)) + self.phase;
                    let share =
                        if column.wraps { (turned / TAU).rem_euclid(1.0) } else { 0.5 + 0.4 * turned.sin() };
                    *value = column.min + (column.max - column.min) * share;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_moves_as_fast_as_the_speed_says() {
        for seed in 0..50 {
            let vehicle = Vehicle::new(seed);
            for step in 0..60 {
                let t = f64::from(step) * 7.0;
                let ((lat, lon), (lat2, lon2)) = (vehicle.position(t), vehicle.position(t + 1.0));
                let north = (lat2 - lat).to_radians() * EARTH_RADIUS_M;
                let east = (lon2 - lon).to_radians() * EARTH_RADIUS_M * lat.to_radians().cos();
                let moved = 3.6 * north.hypot(east);
                let said = (vehicle.speed(t) + vehicle.speed(t + 1.0)) / 2.0;
                assert!((moved - said).abs() < 1.0 + 0.02 * said, "seed {seed}: {moved} against {said} km/h");
                assert!((0.0..=130.0).contains(&said));
                assert!((30.0..=110.0).contains(&vehicle.brake(t)));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_vehicle() {
        assert_eq!(Vehicle::new(7).position(1e3), Vehicle::new(7).position(1e3));
        assert_ne!(Vehicle::new(7).position(1e3), Vehicle::new(8).position(1e3));
    }
}
