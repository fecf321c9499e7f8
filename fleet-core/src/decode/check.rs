//! What no sensor can have measured is taken out before it reaches the aligner.

use super::DecodeError;
use crate::ids::SignalIndex;
use crate::message::Refusal;
use crate::sample::Samples;
use crate::schema::{Schema, Signal};
use crate::time::{Micros, SECOND, YEAR_2000, YEAR_2200, display};

/// The reasons of this module, in the order of [`Refused`]'s counts.
const REASONS: [Refusal; 4] = [Refusal::TooOld, Refusal::InFuture, Refusal::NotFinite, Refusal::OutOfRange];

/// What [`check`] took out of a message. Empty when all was good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// The first problem, with the field and the value.
    pub first: Option<DecodeError>,
    counts: [usize; REASONS.len()],
}

impl Refused {
    /// Whether every sample was good.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many samples were taken out; each counts once, by its first problem.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// How many samples were taken out by reason, without the reasons that did not occur.
    pub fn counts(&self) -> impl Iterator<Item = (Refusal, usize)> {
        REASONS.into_iter().zip(self.counts).filter(|&(_, count)| count > 0)
    }

    fn add(&mut self, problem: &Problem<'_>) {
        let refusal = problem.refusal();
        for (_, count) in REASONS.iter().zip(&mut self.counts).filter(|(reason, _)| **reason == refusal) {
            *count += 1;
        }
        if self.first.is_none() {
            self.first = Some(DecodeError::new(refusal, problem));
        }
    }
}

/// Takes out of `samples`, of the schema's signal `index`, those with a time before 2000, beyond
/// 2199 or more than `max_future` ahead of `now` (server time), with a value that isn't finite, or
/// with one outside its column's `min..=max`. The rest stays, in its order.
///
/// Allocates nothing when all are good.
#[inline]
pub fn check(schema: &Schema, index: SignalIndex, samples: &mut Samples, now: Micros) -> Refused {
    let signal = schema.signal(index);
    let is_good = |(time, values)| problem(signal, time, values, now, schema.max_future()).is_none();
    if samples.iter().all(is_good) { Refused::default() } else { refuse(schema, signal, samples, now) }
}

#[cold]
fn refuse(schema: &Schema, signal: &Signal, samples: &mut Samples, now: Micros) -> Refused {
    let mut refused = Refused::default();
    samples.retain(|time, values| {
        let problem = problem(signal, time, values, now, schema.max_future());
        if let Some(problem) = &problem {
            refused.add(problem);
        }
        problem.is_none()
    });
    refused
}

enum Problem<'a> {
    TooOld { time: Micros },
    Ahead { time: Micros, now: Micros, max_future: Micros },
    TooNew { time: Micros },
    NotFinite { column: &'a str, value: f64 },
    OutOfRange { column: &'a str, value: f64, min: f64, max: f64 },
}

impl Problem<'_> {
    fn refusal(&self) -> Refusal {
        match self {
            Self::TooOld { .. } => Refusal::TooOld,
            Self::Ahead { .. } | Self::TooNew { .. } => Refusal::InFuture,
            Self::NotFinite { .. } => Refusal::NotFinite,
            Self::OutOfRange { .. } => Refusal::OutOfRange,
        }
    }
}

impl std::fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::TooOld { time } => write!(f, "ts: {} is before 2000", display(time)),
            Self::TooNew { time } => write!(f, "ts: {} is beyond the year 2199", display(time)),
            Self::Ahead { time, now, max_future } => {
                let (time, now) = (display(time), display(now));
                let limit = max_future as f64 / SECOND as f64;
                write!(f, "ts: {time} is more than {limit} s ahead of the server's {now}")
            }
            Self::NotFinite { column, value } => write!(f, "{column}: {value} is not a finite number"),
            Self::OutOfRange { column, value, min, max } => {
                write!(f, "{column}: {value} is not between {min} and {max}")
            }
        }
    }
}

#[inline(always)]
fn problem<'a>(
    signal: &'a Signal,
    time: Micros,
    values: &[f64],
    now: Micros,
    max_future: Micros,
) -> Option<Problem<'a>> {
    if time < YEAR_2000 {
        return Some(Problem::TooOld { time });
    }
    if time >= YEAR_2200 {
        return Some(Problem::TooNew { time });
    }
    if time > now.saturating_add(max_future) {
        return Some(Problem::Ahead { time, now, max_future });
    }
    signal.columns.iter().zip(values).find_map(|(column, &value)| {
        let (column, min, max) = (column.name.as_str(), column.min, column.max);
        if !value.is_finite() {
            return Some(Problem::NotFinite { column, value });
        }
        (value < min || value > max).then_some(Problem::OutOfRange { column, value, min, max })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MINUTE;

    const NOW: Micros = 1_735_689_600 * SECOND;

    fn speeds(samples: &[(Micros, f64)]) -> Samples {
        let mut out = Samples::new(1);
        samples.iter().for_each(|&(time, value)| out.push(time, &[value]));
        out
    }

    #[test]
    fn the_good_ones_stay_and_the_bad_ones_are_counted() {
        let schema = Schema::default();
        let mut samples = speeds(&[
            (NOW, 50.0),
            (NOW, 512.3),
            (NOW + 1, f64::NAN),
            (NOW + 2, 51.0),
            (0, 52.0),
            (NOW + MINUTE + 1, 53.0),
            (NOW + 3, -0.01),
        ]);
        let refused = check(&schema, schema.find("speed").unwrap(), &mut samples, NOW);
        assert_eq!(samples, speeds(&[(NOW, 50.0), (NOW + 2, 51.0)]));
        assert_eq!(refused.total(), 5);
        let first = refused.first.clone().unwrap();
        assert_eq!(first.refusal, Refusal::OutOfRange);
        assert_eq!(first.detail, "speed_kmh: 512.3 is not between 0 and 400");
        let counts: Vec<_> = refused.counts().collect();
        assert_eq!(
            counts,
            [(Refusal::TooOld, 1), (Refusal::InFuture, 1), (Refusal::NotFinite, 1), (Refusal::OutOfRange, 2)]
        );
    }

    #[test]
    fn limits_are_inclusive() {
        let schema = Schema::default();
        let speed = schema.find("speed").unwrap();
        for (time, value, now) in [
            (NOW, 0.0, NOW),
            (NOW, 400.0, NOW),
            (YEAR_2000, 1.0, NOW),
            (NOW + MINUTE, 1.0, NOW),
            (YEAR_2200 - 1, 1.0, i64::MAX),
        ] {
            let refused = check(&schema, speed, &mut speeds(&[(time, value)]), now);
            assert!(refused.is_empty(), "{refused:?}");
        }
        for (time, value, now, said) in [
            (YEAR_2000 - 1, 1.0, NOW, "ts: 1999-12-31T23:59:59.999999Z is before 2000"),
            (YEAR_2200, 1.0, i64::MAX, "ts: 2200-01-01T00:00:00Z is beyond the year 2199"),
            (
                NOW + MINUTE + SECOND,
                1.0,
                NOW,
                "ts: 2025-01-01T00:01:01Z is more than 60 s ahead of the server's 2025-01-01T00:00:00Z",
            ),
            (i64::MIN, 1.0, NOW, "ts: -9223372036854775808 µs is before 2000"),
            (NOW, f64::NEG_INFINITY, NOW, "speed_kmh: -inf is not a finite number"),
            (NOW, 400.0_f64.next_up(), NOW, "speed_kmh: 400.00000000000006 is not between 0 and 400"),
        ] {
            let refused = check(&schema, speed, &mut speeds(&[(time, value)]), now);
            assert_eq!(refused.first.unwrap().detail, said);
        }
    }

    #[test]
    fn every_column_is_looked_at() {
        let schema = Schema::default();
        let mut samples = Samples::new(2);
        samples.push(NOW, &[0.0, 180.0]);
        samples.push(NOW, &[0.0, 180.1]);
        let refused = check(&schema, schema.find("position").unwrap(), &mut samples, NOW);
        assert_eq!(samples.len(), 1);
        assert_eq!(refused.first.unwrap().detail, "longitude: 180.1 is not between -180 and 180");
    }
}
