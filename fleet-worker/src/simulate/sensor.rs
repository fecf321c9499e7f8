//! A simulated sensor: one signal of one vehicle at a pace of its own.

use fleet_core::Micros;
use fleet_core::decode::frame::encode;
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use fleet_core::schema::{MAX_COLUMNS, Signal};
use fleet_core::time::SECOND;

use super::agenda::Due;
use super::vehicle::{Dice, Vehicle};

/// Seconds between messages of the scenario's signals: 20 messages a minute in all.
fn pace(signal: &str) -> f64 {
    match signal {
        "position" => 7.5,
        "speed" => 10.0,
        "brake" => 15.0,
        "fuel" => 30.0,
        _ => 10.0,
    }
}

#[derive(Debug)]
pub(super) struct Sensor {
    pub vehicle: usize,
    pub signal: SignalIndex,
    pub sequence: u16,
    /// What was due while it waited for an ack.
    pub waiting: Option<(Micros, Due)>,
    unacknowledged: u32,
    dice: Dice,
    last: Micros,
}

/// When a sensor sends what it has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// When it goes out: now, or a little later so that the next one may overtake it.
    pub delay: Micros,
    /// When the sensor reads next.
    pub next: Micros,
}

impl Sensor {
    pub(super) fn new(vehicle: usize, signal: SignalIndex, seed: u64) -> Self {
        Self {
            vehicle,
            signal,
            sequence: 0,
            waiting: None,
            unacknowledged: 0,
            dice: Dice::new(seed),
            last: Micros::MIN,
        }
    }

    /// Whether it sends nothing new yet: a message that must be sent again would be stored after what was sent
    /// meanwhile, and be behind the window.
    pub(super) fn waits(&self) -> bool {
        self.unacknowledged > 0
    }

    /// A message of it was sent for the first time.
    pub(super) fn sent(&mut self) {
        self.unacknowledged += 1;
    }

    /// A message of it is acknowledged; gives what waited for that.
    pub(super) fn acknowledged(&mut self) -> Option<(Micros, Due)> {
        self.unacknowledged -= 1;
        self.waiting.take_if(|_| self.unacknowledged == 0)
    }

    /// How long after the vehicle's start the first reading comes.
    pub(super) fn first(&mut self, signal: &Signal) -> Micros {
        seconds(self.dice.between(0.0, pace(&signal.name)))
    }

    /// Reads the vehicle at `now` into `samples`. One message in eight holds an older sample too, one in twenty is
    /// late by up to eight seconds, so that a younger one may overtake it.
    pub(super) fn read(
        &mut self,
        vehicle: &Vehicle,
        signal: &Signal,
        start: Micros,
        now: Micros,
        samples: &mut Samples,
    ) -> Reading {
        samples.reset(signal.columns.len());
        let mut values = [0.0; MAX_COLUMNS];
        let values = &mut values[..signal.columns.len()];
        // Sensors count milliseconds.
        let now = now - now.rem_euclid(1_000);
        let earlier = now - 1_000 * (300 + self.dice.roll().cast_signed().rem_euclid(1_500));
        let times =
            [Some(earlier).filter(|t| *t > self.last && self.dice.roll().is_multiple_of(8)), Some(now)];
        for time in times.into_iter().flatten() {
            #[allow(clippy::cast_precision_loss, reason = "a trip's microseconds are exact")]
            vehicle.values(signal, (time - start) as f64 / SECOND as f64, values);
            samples.push(time, values);
        }
        self.last = now;
        let late = self.dice.roll().is_multiple_of(20);
        let delay = if late { seconds(self.dice.between(0.1, 8.0)) } else { 0 };
        let next = now + seconds(pace(&signal.name) * self.dice.between(0.6, 1.4));
        Reading { delay, next }
    }

    /// Makes the payload a frame of the samples.
    pub(super) fn frame(
        &mut self,
        signal: &Signal,
        samples: &Samples,
        payload: &mut Vec<u8>,
    ) -> Result<(), String> {
        payload.clear();
        encode(signal, self.sequence, samples, payload).map_err(|e| e.to_string())?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "some seconds")]
fn seconds(value: f64) -> Micros {
    (value * 1e6) as Micros
}

#[cfg(test)]
mod tests {
    use fleet_core::Schema;

    use super::*;

    #[test]
    fn a_vehicle_sends_twenty_messages_a_minute() {
        let schema = Schema::default();
        let vehicle = Vehicle::new(3);
        let minutes = 120;
        let mut messages = 0;
        for (index, signal) in schema.indexed() {
            let mut sensor = Sensor::new(0, index, 11);
            let mut now = sensor.first(signal);
            let (mut samples, mut payload) = (Samples::default(), Vec::new());
            while now < minutes * 60 * SECOND {
                let reading = sensor.read(&vehicle, signal, 0, now, &mut samples);
                assert!(sensor.frame(signal, &samples, &mut payload).is_ok());
                assert!(reading.next > now && reading.delay < 8 * SECOND);
                now = reading.next;
                messages += 1;
            }
        }
        let a_minute = f64::from(messages) / 120.0;
        assert!((18.0..=22.0).contains(&a_minute), "{a_minute} messages a minute");
    }
}
