//! What no sensor can have measured is taken out before it reaches the aligner.

use super::{DecodeError, clock};
use crate::ids::SignalIndex;
use crate::message::Refusal;
use crate::sample::Samples;
use crate::schema::{Schema, Signal};
use crate::time::{MINUTE, Micros, SECOND, YEAR_2000, YEAR_2200, display};

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
/// 2199, more than `max_future` ahead of `arrival` or more than `max_past` before it, with a value that
/// isn't finite, or with one outside its column's `min..=max`. The rest stays, in its order.
///
/// `arrival` is when the message was stored (server time) and not when it is looked at, so that a
/// catch-up and a replay decide as live delivery did.
///
/// Allocates nothing when all are good.
#[inline]
pub fn check(schema: &Schema, index: SignalIndex, samples: &mut Samples, arrival: Micros) -> Refused {
    let signal = schema.signal(index);
    let limits = Limits::at(schema, arrival);
    let is_good = |(time, values)| problem(signal, time, values, &limits).is_none();
    if samples.iter().all(is_good) { Refused::default() } else { refuse(signal, samples, &limits) }
}

/// Which times are believed of a message.
struct Limits {
    arrival: Micros,
    max_past: Micros,
    max_future: Micros,
    oldest: Micros,
    newest: Micros,
}

impl Limits {
    #[inline(always)]
    fn at(schema: &Schema, arrival: Micros) -> Self {
        let (max_past, max_future) = (schema.max_past(), schema.max_future());
        let oldest = arrival.saturating_sub(max_past).max(YEAR_2000);
        let newest = arrival.saturating_add(max_future).min(YEAR_2200 - 1);
        Self { arrival, max_past, max_future, oldest, newest }
    }
}

#[cold]
fn refuse(signal: &Signal, samples: &mut Samples, limits: &Limits) -> Refused {
    let mut refused = Refused::default();
    samples.retain(|time, values| {
        let problem = problem(signal, time, values, limits);
        if let Some(problem) = &problem {
            refused.add(problem);
        }
        problem.is_none()
    });
    refused
}

enum Problem<'a> {
    Time { time: Micros, limits: &'a Limits },
    NotFinite { column: &'a str, value: f64 },
    OutOfRange { column: &'a str, value: f64, min: f64, max: f64 },
}

impl Problem<'_> {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Time { time, limits } if *time < limits.oldest => Refusal::TooOld,
            Self::Time { .. } => Refusal::InFuture,
            Self::NotFinite { .. } => Refusal::NotFinite,
            Self::OutOfRange { .. } => Refusal::OutOfRange,
        }
    }
}

impl std::fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Time { time, limits } => write_time(f, time, limits),
            Self::NotFinite { column, value } => write!(f, "{column}: {value} is not a finite number"),
            Self::OutOfRange { column, value, min, max } => {
                write!(f, "{column}: {value} is not between {min} and {max}")
            }
        }
    }
}

/// The time, the limit and, where a clock that is not set explains it, that.
fn write_time(f: &mut std::fmt::Formatter<'_>, time: Micros, limits: &Limits) -> std::fmt::Result {
    let (shown, server) = (display(time), display(limits.arrival));
    if time < YEAR_2000 {
        write!(f, "ts: {shown} is before 2000")?;
    } else if time >= YEAR_2200 {
        write!(f, "ts: {shown} is beyond the year 2199")?;
    } else if time < limits.oldest {
        let limit = Length(limits.max_past);
        write!(f, "ts: {shown} is more than {limit} (max_past) before the server's {server}")?;
    } else {
        let limit = limits.max_future as f64 / SECOND as f64;
        write!(f, "ts: {shown} is more than {limit} s ahead of the server's {server}")?;
    }
    clock::not_set(time, limits.arrival).map_or(Ok(()), |why| write!(f, "; clock not set: {why}"))
}

/// A length of time as people say it.
struct Length(Micros);

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(Micros, &str); 3] = [(24 * 60 * MINUTE, "d"), (60 * MINUTE, "h"), (MINUTE, "min")];
        match UNITS.into_iter().find(|(unit, _)| self.0 > 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} s", self.0 as f64 / SECOND as f64),
        }
    }
}

#[inline(always)]
fn problem<'a>(signal: &'a Signal, time: Micros, values: &[f64], limits: &'a Limits) -> Option<Problem<'a>> {
    if time < limits.oldest || time > limits.newest {
        return Some(Problem::Time { time, limits });
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
    use crate::schema::RecordsConfig;
    use crate::time::parse;

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

    fn schema_with(max_past: &str) -> Schema {
        RecordsConfig { max_past: max_past.to_owned(), ..RecordsConfig::default() }.build().unwrap()
    }

    #[test]
    fn limits_are_inclusive() {
        let schema = schema_with("36600d");
        let speed = schema.find("speed").unwrap();
        for (time, value, now) in [
            (NOW, 0.0, NOW),
            (NOW, 400.0, NOW),
            (YEAR_2000, 1.0, NOW),
            (NOW + MINUTE, 1.0, NOW),
            (YEAR_2200 - 1, 1.0, YEAR_2200),
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
    fn an_old_sample_is_named_with_the_limit() {
        const DAY: Micros = 24 * 60 * MINUTE;
        for (max_past, time, said) in [
            ("7d", NOW - 7 * DAY, None),
            (
                "7d",
                NOW - 7 * DAY - 1,
                Some(
                    "ts: 2024-12-24T23:59:59.999999Z is more than 7 d (max_past) before the server's \
                     2025-01-01T00:00:00Z",
                ),
            ),
            (
                "90s",
                NOW - 100 * SECOND,
                Some(
                    "ts: 2024-12-31T23:58:20Z is more than 90 s (max_past) before the server's \
                     2025-01-01T00:00:00Z",
                ),
            ),
        ] {
            let schema = schema_with(max_past);
            let refused = check(&schema, schema.find("speed").unwrap(), &mut speeds(&[(time, 1.0)]), NOW);
            assert_eq!(refused.first.as_ref().map(|first| first.detail.as_str()), said);
            assert_eq!(refused.counts().collect::<Vec<_>>().is_empty(), said.is_none());
        }
    }

    /// What device makers are told in docs/sensors.md.
    #[test]
    fn a_clock_that_is_not_set_is_refused_by_name() {
        let stored = parse("2026-11-30T06:00:00Z").unwrap();
        for (time, reason, cause) in [
            ("1900-01-01T00:00:07Z", Refusal::TooOld, "it counts from 1900, NTP's zero"),
            ("1970-01-01T00:00:07Z", Refusal::TooOld, "it counts from 1970"),
            ("1980-01-01T00:10:00Z", Refusal::TooOld, "it counts from 1980"),
            ("1980-01-06T00:00:00Z", Refusal::TooOld, "it counts from 1980"),
            ("2000-01-01T00:00:00Z", Refusal::TooOld, "it counts from 2000"),
            ("2000-02-11T07:00:00Z", Refusal::TooOld, "it counts from 2000"),
            ("2007-04-16T06:00:00Z", Refusal::TooOld, "it is 1024 weeks back, a GPS week rollover"),
            ("1987-08-31T06:00:05Z", Refusal::TooOld, "it is 2048 weeks back, two GPS week rollovers"),
            ("2036-02-07T06:28:16Z", Refusal::InFuture, "it shows 2036, NTP's next zero"),
            ("2036-02-07T08:00:00Z", Refusal::InFuture, "it shows 2036, NTP's next zero"),
        ] {
            let schema = Schema::default();
            let mut samples = speeds(&[(parse(time).unwrap(), 50.0), (stored, 51.0)]);
            let refused = check(&schema, schema.find("speed").unwrap(), &mut samples, stored);
            assert_eq!(samples, speeds(&[(stored, 51.0)]), "{time}: the rest of the message is used");
            assert_eq!(refused.counts().collect::<Vec<_>>(), [(reason, 1)], "{time}");
            let detail = refused.first.unwrap().detail;
            assert!(detail.ends_with(&format!("; clock not set: {cause}")), "{time}: {detail}");
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
