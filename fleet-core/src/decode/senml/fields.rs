//! The fields of one SenML record as they were written, before anything is resolved.

use std::borrow::Cow;

use super::short;
use crate::time::{Micros, SECOND};

/// A field that holds text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextField {
    BaseName,
    BaseUnit,
    Name,
    Unit,
}

/// A field that holds a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberField {
    BaseVersion,
    BaseTime,
    BaseValue,
    BaseSum,
    Value,
    Sum,
    Time,
    UpdateTime,
}

/// What a key of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Text(TextField),
    Number(NumberField),
    /// A value of another type than number.
    OtherValue,
    /// An extension that may be passed over.
    Unknown,
}

/// Every field of RFC 8428 by its name in JSON and its label in CBOR (tables 1, 2 and 4).
const FIELDS: [(&str, i64, Field); 15] = [
    ("bver", -1, Field::Number(NumberField::BaseVersion)),
    ("bn", -2, Field::Text(TextField::BaseName)),
    ("bt", -3, Field::Number(NumberField::BaseTime)),
    ("bu", -4, Field::Text(TextField::BaseUnit)),
    ("bv", -5, Field::Number(NumberField::BaseValue)),
    ("bs", -6, Field::Number(NumberField::BaseSum)),
    ("n", 0, Field::Text(TextField::Name)),
    ("u", 1, Field::Text(TextField::Unit)),
    ("v", 2, Field::Number(NumberField::Value)),
    ("vs", 3, Field::OtherValue),
    ("vb", 4, Field::OtherValue),
    ("s", 5, Field::Number(NumberField::Sum)),
    ("t", 6, Field::Number(NumberField::Time)),
    ("ut", 7, Field::Number(NumberField::UpdateTime)),
    ("vd", 8, Field::OtherValue),
];

impl Field {
    /// The field of a name, with the name. One that is unknown and ends with `_` is an error: it
    /// changes what the others mean.
    pub(super) fn named(name: &str) -> Result<(Self, &'static str), String> {
        match FIELDS.iter().find(|(known, _, _)| *known == name) {
            Some(&(name, _, field)) => Ok((field, name)),
            None if name.ends_with('_') => {
                let name = short(name);
                Err(format!("{name:?} is a field that must be understood, and is not"))
            }
            None => Ok((Self::Unknown, "")),
        }
    }

    /// The field of a CBOR label, with its name.
    pub(super) fn labelled(label: i64) -> (Self, &'static str) {
        let found = FIELDS.iter().find(|(_, known, _)| *known == label);
        found.map_or((Self::Unknown, ""), |&(name, _, field)| (field, name))
    }
}

/// A number, as exact as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// `mantissa × 10^exponent`.
    Decimal { mantissa: i64, exponent: i64 },
    /// An `f64` or what was widened to one.
    Float(f64),
}

impl From<i64> for Number {
    fn from(mantissa: i64) -> Self {
        Self::Decimal { mantissa, exponent: 0 }
    }
}

impl Number {
    /// The nearest `f64`.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Float(value) => value,
            Self::Decimal { mantissa, exponent: 0 } => mantissa as f64,
            // The parser rounds once; a product with a power of ten would round twice.
            Self::Decimal { mantissa, exponent } => {
                format!("{mantissa}e{exponent}").parse().unwrap_or(f64::NAN)
            }
        }
    }

    /// So many seconds as microseconds, to the nearest; `None` if they do not fit.
    pub(super) fn micros(self) -> Option<Micros> {
        match self {
            Self::Float(seconds) => {
                // Whole and fraction apart, because their product with 10^6 would round once more.
                let whole = seconds.is_finite().then_some(seconds.trunc() as i64)?;
                let fraction = (seconds.fract() * 1e6).round();
                whole.checked_mul(SECOND)?.checked_add(fraction as i64)
            }
            Self::Decimal { mantissa: 0, .. } => Some(0),
            Self::Decimal { mantissa, exponent } => {
                let (mantissa, shift) = (i128::from(mantissa), exponent.checked_add(6)?);
                let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|n| 10_i128.checked_pow(n));
                let micros = match (shift, power) {
                    (0.., power) => mantissa.checked_mul(power?)?,
                    (_, Some(power)) => {
                        (mantissa + mantissa.signum() * (power / 2)).checked_div(power).unwrap_or(0)
                    }
                    (_, None) => 0,
                };
                i64::try_from(micros).ok()
            }
        }
    }
}

/// One record's known fields.
#[derive(Debug, Default)]
pub(super) struct Record<'p> {
    texts: [Option<Cow<'p, str>>; 4],
    numbers: [Option<Number>; 8],
}

impl<'p> Record<'p> {
    /// Takes a field's text; an error if it has one already.
    pub(super) fn set_text(&mut self, field: TextField, text: Cow<'p, str>) -> Result<(), String> {
        once(&mut self.texts[field as usize], text)
    }

    /// Takes a field's number; an error if it has one already.
    pub(super) fn set_number(&mut self, field: NumberField, number: Number) -> Result<(), String> {
        once(&mut self.numbers[field as usize], number)
    }

    pub(super) fn take_text(&mut self, field: TextField) -> Option<Cow<'p, str>> {
        self.texts[field as usize].take()
    }

    pub(super) fn number(&self, field: NumberField) -> Option<Number> {
        self.numbers[field as usize]
    }

    /// Whether there is more than base fields, so also a value.
    pub(super) fn measures(&self) -> bool {
        use NumberField::{Sum, Time, UpdateTime, Value};
        let text = |field: TextField| self.texts[field as usize].is_some();
        text(TextField::Name)
            || text(TextField::Unit)
            || [Value, Sum, Time, UpdateTime].into_iter().any(|field| self.number(field).is_some())
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("is given twice".to_owned()),
    }
}
