//! A fleet whose sensors wander, as batches.

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::time::{Micros, SECOND};
use fleet_core::{Schema, VehicleId};

/// Midnight of 1 February 2026.
pub(crate) const MIDNIGHT: Micros = 1_769_904_000 * SECOND;
/// Instants of a batch, 10 s apart.
pub(crate) const INSTANTS: usize = 10;

pub(crate) fn vin(vehicle: usize) -> VehicleId {
    VehicleId::new(&format!("WVWZZZ1KZ8W{vehicle:06}")).unwrap()
}

pub(crate) struct Fleet {
    builder: BatchBuilder,
    values: Vec<[f64; 5]>,
    dice: u64,
    instant: usize,
}

impl Fleet {
    pub(crate) fn new(schema: &Schema, vehicles: usize) -> Self {
        let of = |v: usize| [48.0 + v as f64 / 1e4, 11.0, 60.0, (v % 100) as f64, 80.0];
        let values = (0..vehicles).map(of).collect();
        Self { builder: BatchBuilder::new(schema), values, dice: 1, instant: 0 }
    }

    /// splitmix64, <https://prng.di.unimi.it/splitmix64.c>; from -1 to 1.
    fn roll(dice: &mut u64) -> f64 {
        *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    /// The next [`INSTANTS`] of all vehicles, instant by instant as they come about.
    pub(crate) fn batch(&mut self) -> Batch {
        let Self { builder, values, dice, instant } = self;
        let keys: Vec<i32> = (0..values.len()).map(|v| builder.vehicle(&vin(v), 1)).collect();
        for n in *instant..*instant + INSTANTS {
            for (v, of) in values.iter_mut().enumerate() {
                of[0] += Self::roll(dice) * 1e-3;
                of[1] += Self::roll(dice) * 1e-3;
                of[2] = (of[2] + Self::roll(dice) * 5.0).clamp(0.0, 200.0);
                // One vehicle in 500 brakes hard for five minutes, at its own time of the day.
                let hot = v % 500 == 7 && n % 4_320 < 30;
                of[4] = if hot { 210.0 } else { (of[4] + Self::roll(dice)).clamp(10.0, 150.0) };
                // Fuel sloshes by tens of percent.
                let fuel = (of[3] + Self::roll(dice) * 20.0).clamp(0.0, 100.0);
                let row = [of[0], of[1], of[2], fuel, of[4]];
                let ts = MIDNIGHT + n as i64 * 10 * SECOND;
                builder.push(keys[v], Row { ts, values: &row, quality: 0b10_10_10_10, correction: false });
            }
        }
        *instant += INSTANTS;
        builder.seal().unwrap()
    }
}
