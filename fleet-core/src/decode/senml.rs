//! Sensor Measurement Lists (SenML, RFC 8428), for devices that speak them already.
//!
//! A pack is an array of records, each with one number. [`json`] and [`cbor`] read them; this module
//! resolves them: base fields apply to their own record and those after it, units become those of
//! the columns, and the records of one time become a sample. `docs/wire-format.md` has the rules.
//!
//! A time below 2^28 s is relative to the receipt, which a decoder does not know: it is refused.

pub mod cbor;
mod fields;
pub mod json;

use std::borrow::Cow;

use super::DecodeError;
use crate::sample::Samples;
use crate::schema::{Column, MAX_COLUMNS, Signal};
use crate::time::{Micros, SECOND, display};
use fields::{Number, NumberField, Record, TextField};

/// How many samples a pack has at most; at least it has one.
pub const MAX_SAMPLES: usize = 64;

/// The longest payload that is looked at, bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The newest version of RFC 8428's data model; also what a pack without `bver` has.
const VERSION: f64 = 10.0;

/// Times from here on are absolute, those below are relative to the receipt (RFC 8428, 4.5.3).
const ABSOLUTE: Micros = (1 << 28) * SECOND;

/// A name's tokens are apart by these: what RFC 8428 allows in names and columns don't have.
const SEPARATORS: [char; 4] = ['-', ':', '.', '/'];

type Convert = fn(f64) -> f64;

/// A value in the column's unit, if `unit` is one that is taken for it.
fn conversion(unit: &str, column: &Column) -> Option<Convert> {
    match (unit, column.unit.as_str()) {
        (unit, own) if unit == own => Some(|value| value),
        ("lat" | "lon", "deg") if column.name.starts_with(unit) => Some(|value| value),
        ("%EL", "%") => Some(|value| value),
        // 3.6 has no exact f64, 18 and 5 have.
        ("m/s", "km/h") => Some(|value| value * 18.0 / 5.0),
        ("K", "Cel") => Some(|value| value - 273.15),
        _ => None,
    }
}

/// A sample some of whose columns may still be to come.
struct Row {
    time: Micros,
    /// A bit per column.
    seen: u16,
    values: [f64; MAX_COLUMNS],
}

const _: () = assert!(MAX_COLUMNS <= u16::BITS as usize);

/// What the records read so far came to.
struct Pack<'a, 'p> {
    signal: &'a Signal,
    name: Cow<'p, str>,
    /// Where the last token of `name` begins.
    tail: usize,
    unit: Option<Cow<'p, str>>,
    time: Micros,
    value: Option<f64>,
    rows: Vec<Row>,
}

impl<'a, 'p> Pack<'a, 'p> {
    fn new(signal: &'a Signal) -> Self {
        Self { signal, name: Cow::default(), tail: 0, unit: None, time: 0, value: None, rows: Vec::new() }
    }

    /// Takes the next record.
    fn add(&mut self, mut record: Record<'p>) -> Result<(), String> {
        if let Some(version) = record.number(NumberField::BaseVersion).map(Number::value)
            && !((1.0..=VERSION).contains(&version) && version.fract() == 0.0)
        {
            return Err(format!("bver: {version} is not 1 to {VERSION}"));
        }
        if let Some(name) = record.take_text(TextField::BaseName) {
            self.tail = name.rfind(SEPARATORS).map_or(0, |at| at + 1);
            self.name = name;
        }
        if let Some(unit) = record.take_text(TextField::BaseUnit) {
            self.unit = Some(unit);
        }
        if let Some(time) = record.number(NumberField::BaseTime) {
            self.time = micros("bt", time)?;
        }
        if let Some(value) = record.number(NumberField::BaseValue) {
            self.value = Some(value.value());
        }
        if !record.measures() {
            return Ok(());
        }
        let value = record.number(NumberField::Value).ok_or("v is missing")?.value();
        let value = self.value.map_or(value, |base| base + value);
        let name = record.take_text(TextField::Name).unwrap_or_default();
        let unit = record.take_text(TextField::Unit);
        let (column, convert) = self.column(&name, unit.as_deref().or(self.unit.as_deref()))?;
        let time = self.absolute(record.number(NumberField::Time))?;
        self.set(time, column, convert(value))
    }

    /// The sum of the base time and a record's time, if that is absolute.
    fn absolute(&self, time: Option<Number>) -> Result<Micros, String> {
        let time = time.map_or(Ok(0), |time| micros("t", time))?;
        let sum = self.time.checked_add(time).ok_or("t: bt + t is beyond all time")?;
        if sum < ABSOLUTE {
            let seconds = sum as f64 / SECOND as f64;
            return Err(format!("t: {seconds} s is relative to the receipt; only absolute times are taken"));
        }
        Ok(sum)
    }

    /// The column that a record is about: the only one whose unit goes with the record's, or else the
    /// one of those that the last token of the name is equal to.
    fn column(&self, name: &str, unit: Option<&str>) -> Result<(usize, Convert), String> {
        let columns = &self.signal.columns;
        let convert = |column: &Column| match unit {
            Some(unit) => conversion(unit, column),
            None => Some((|value| value) as Convert),
        };
        let mut fitting = columns.iter().enumerate().filter_map(|(i, c)| Some((i, convert(c)?)));
        let named = columns.iter().position(|c| self.is_named(name, &c.name));
        match (fitting.next(), fitting.next()) {
            (None, _) => {
                let unit = short(unit.unwrap_or_default());
                let known: Vec<_> = columns.iter().map(|c| format!("{} in {}", c.name, c.unit)).collect();
                Err(format!("u: {unit:?} is no unit of {} ({})", self.signal.name, known.join(", ")))
            }
            (Some((only, convert)), None) => match named {
                Some(other) if other != only => {
                    let (name, unit) = (&columns[other].name, short(unit.unwrap_or_default()));
                    Err(format!("u: {unit:?} is no unit of {name}, which n names"))
                }
                _ => Ok((only, convert)),
            },
            (Some(_), Some(_)) => {
                let found = named.and_then(|at| Some((at, convert(columns.get(at)?)?)));
                found.ok_or_else(|| {
                    let known: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
                    let name = short(&format!("{}{}", short(&self.name), short(name)));
                    format!("n: {name:?} does not end with one of {}", known.join(", "))
                })
            }
        }
    }

    /// Whether the base name and `name` together end with the token `column`.
    fn is_named(&self, name: &str, column: &str) -> bool {
        match name.rfind(SEPARATORS) {
            Some(at) => name.get(at + 1..) == Some(column),
            None => self.name.get(self.tail..).and_then(|tail| column.strip_prefix(tail)) == Some(name),
        }
    }

    /// Puts a value into the first sample of that time that lacks it, so equal times are possible.
    fn set(&mut self, time: Micros, column: usize, value: f64) -> Result<(), String> {
        let bit = 1_u16 << column;
        let open = self.rows.iter().position(|row| row.time == time && row.seen & bit == 0);
        let at = open.unwrap_or(self.rows.len());
        if at == MAX_SAMPLES {
            return Err(format!("the pack has more than {MAX_SAMPLES} samples"));
        }
        if open.is_none() {
            self.rows.push(Row { time, seen: 0, values: [0.0; MAX_COLUMNS] });
        }
        if let Some(row) = self.rows.get_mut(at)
            && let Some(place) = row.values.get_mut(column)
        {
            row.seen |= bit;
            *place = value;
        }
        Ok(())
    }

    /// Appends the samples, in the order in which they began, if all are complete.
    fn finish(self, out: &mut Samples) -> Result<(), String> {
        if self.rows.is_empty() {
            return Err(format!("the pack has no sample; 1 to {MAX_SAMPLES} are possible"));
        }
        let columns = &self.signal.columns;
        for row in &self.rows {
            if let Some(missing) = columns.get(row.seen.trailing_ones() as usize) {
                return Err(format!("{} is missing at {}", missing.name, display(row.time)));
            }
            out.push(row.time, row.values.get(..columns.len()).unwrap_or_default());
        }
        Ok(())
    }
}

fn micros(field: &str, time: Number) -> Result<Micros, String> {
    time.micros().ok_or_else(|| format!("{field}: {} s is beyond all time", time.value()))
}

/// The beginning of a text, for an error.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Refuses what is not looked at.
fn check_length(payload: &[u8]) -> Result<(), DecodeError> {
    match payload.len() {
        0 => Err(DecodeError::empty()),
        len if len > MAX_PAYLOAD => Err(DecodeError::malformed(format_args!(
            "the payload has {len} bytes; {MAX_PAYLOAD} are possible"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
