//! SenML in CBOR (`application/senml+cbor`): the same records with integers for the names of fields.

use std::borrow::Cow;

use minicbor::data::{IanaTag, Type};
use minicbor::decode::{Decoder as Reader, Error};

use super::fields::{Field, Number, Record};
use super::{Pack, check_length};
use crate::decode::{DecodeError, Decoder};
use crate::sample::Samples;
use crate::schema::Signal;

/// Decodes SenML packs in CBOR.
///
/// Arrays, maps and texts may have a definite or an indefinite length. Numbers are integers, floats of
/// any width or decimal fractions (tag 4) with 64-bit mantissa.
#[derive(Debug, Clone, Copy, Default)]
pub struct SenmlCborDecoder;

impl Decoder for SenmlCborDecoder {
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError> {
        check_length(payload)?;
        let mut reader = Reader::new(payload);
        let mut pack = Pack::new(signal);
        records(&mut reader, &mut pack).map_err(DecodeError::malformed)?;
        let left = payload.len() - reader.position().min(payload.len());
        if left > 0 {
            return Err(DecodeError::malformed(format_args!("{left} bytes are left over after the pack")));
        }
        pack.finish(out).map_err(DecodeError::malformed)
    }

    fn sequence(&self, _payload: &[u8]) -> Option<u16> {
        None
    }
}

fn records<'p>(reader: &mut Reader<'p>, pack: &mut Pack<'_, 'p>) -> Result<(), String> {
    let mut left = reader.array().map_err(|e| e.to_string())?;
    let mut count = 0;
    while more(reader, &mut left).map_err(|e| e.to_string())? {
        let added = record(reader).and_then(|record| pack.add(record));
        added.map_err(|error| format!("record {count}: {error}"))?;
        count += 1;
    }
    Ok(())
}

/// Whether an array or map goes on, of which `left` elements are to come, or as many as there are
/// before a break.
fn more(reader: &mut Reader<'_>, left: &mut Option<u64>) -> Result<bool, Error> {
    match left {
        Some(left) => {
            let more = *left > 0;
            *left = left.saturating_sub(1);
            Ok(more)
        }
        None if reader.datatype()? == Type::Break => {
            reader.set_position(reader.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn record<'p>(reader: &mut Reader<'p>) -> Result<Record<'p>, String> {
    let mut record = Record::default();
    let mut left = reader.map().map_err(|e| e.to_string())?;
    while more(reader, &mut left).map_err(|e| e.to_string())? {
        let (field, name) = key(reader)?;
        let within = |error: Error| format!("{name}: {error}");
        let set = match field {
            Field::Text(field) => record.set_text(field, text(reader).map_err(within)?),
            Field::Number(field) => record.set_number(field, number(reader).map_err(within)?),
            Field::OtherValue => Err("is no number, and only numbers are taken".to_owned()),
            Field::Unknown => skip(reader).map(Ok).map_err(|e| e.to_string())?,
        };
        set.map_err(|error| format!("{name} {error}"))?;
    }
    Ok(record)
}

/// A label, or the name of an extension. The names of labelled fields are taken too.
fn key(reader: &mut Reader<'_>) -> Result<(Field, &'static str), String> {
    match reader.datatype().map_err(|e| e.to_string())? {
        Type::String | Type::StringIndef => Field::named(&text(reader).map_err(|e| e.to_string())?),
        _ => reader.i64().map(Field::labelled).map_err(|e| format!("a field's label: {e}")),
    }
}

fn text<'p>(reader: &mut Reader<'p>) -> Result<Cow<'p, str>, Error> {
    match reader.datatype()? {
        Type::StringIndef => reader.str_iter()?.collect::<Result<String, _>>().map(Cow::Owned),
        _ => reader.str().map(Cow::Borrowed),
    }
}

fn number(reader: &mut Reader<'_>) -> Result<Number, Error> {
    match reader.datatype()? {
        Type::F16 | Type::F32 | Type::F64 => reader.f64().map(Number::Float),
        Type::Tag => decimal(reader),
        _ => {
            let integer = i128::from(reader.int()?);
            Ok(i64::try_from(integer).map_or(Number::Float(integer as f64), Number::from))
        }
    }
}

/// A decimal fraction: the tag, then exponent and mantissa.
fn decimal(reader: &mut Reader<'_>) -> Result<Number, Error> {
    let tag = reader.tag()?;
    if tag != IanaTag::Decimal {
        return Err(Error::tag_mismatch(tag).with_message("only decimal fractions have one"));
    }
    let mut left = reader.array()?;
    let wrong = || Error::message("a decimal fraction is an exponent and a mantissa");
    let mut part = |reader: &mut Reader<'_>| match more(reader, &mut left)? {
        true => reader.i64(),
        false => Err(wrong()),
    };
    let (exponent, mantissa) = (part(reader)?, part(reader)?);
    match more(reader, &mut left)? {
        true => Err(wrong()),
        false => Ok(Number::Decimal { mantissa, exponent }),
    }
}

/// Passes over a value, however deep, without recursion.
fn skip(reader: &mut Reader<'_>) -> Result<(), Error> {
    match reader.datatype()? {
        Type::Break => Err(Error::type_mismatch(Type::Break)),
        _ => reader.skip(),
    }
}

#[cfg(test)]
mod tests;
