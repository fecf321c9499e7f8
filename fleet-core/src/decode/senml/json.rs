//! SenML in JSON (`application/senml+json`).
//!
//! ```json
//! [{"bn": "urn:dev:vin:WDB9634031L123456:speed", "bt": 1735689600, "bu": "km/h", "v": 63.21},
//!  {"t": 1, "v": 63.4}]
//! ```

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{Field, Number, Record};
use super::{Pack, check_length};
use crate::decode::{DecodeError, Decoder};
use crate::sample::Samples;
use crate::schema::Signal;

/// Decodes SenML packs in JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct SenmlJsonDecoder;

impl Decoder for SenmlJsonDecoder {
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError> {
        check_length(payload)?;
        let mut json = serde_json::Deserializer::from_slice(payload);
        let mut pack = Pack::new(signal);
        let read = json.deserialize_any(Records(&mut pack)).and_then(|()| json.end());
        read.map_err(DecodeError::malformed)?;
        pack.finish(out).map_err(DecodeError::malformed)
    }

    fn sequence(&self, _payload: &[u8]) -> Option<u16> {
        None
    }
}

/// The whole payload.
struct Records<'r, 'a, 'p>(&'r mut Pack<'a, 'p>);

impl<'de> Visitor<'de> for Records<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of SenML records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        let within = |count, error| A::Error::custom(format_args!("record {count}: {error}"));
        while let Some(RecordOf(record)) =
            items.next_element().map_err(|e: A::Error| within(count, e.to_string()))?
        {
            self.0.add(record).map_err(|e| within(count, e))?;
            count += 1;
        }
        Ok(())
    }
}

/// One element of the array.
struct RecordOf<'de>(Record<'de>);

impl<'de> serde::Deserialize<'de> for RecordOf<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(RecordVisitor).map(Self)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = Record<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record<'de>, A::Error> {
        let mut record = Record::default();
        while let Some(Key(found)) = map.next_key()? {
            let (field, name) = found.map_err(A::Error::custom)?;
            let within = |error: A::Error| A::Error::custom(format_args!("{name}: {error}"));
            let set = match field {
                Field::Text(field) => record.set_text(field, map.next_value_seed(Text).map_err(within)?),
                Field::Number(field) => record.set_number(field, map.next_value().map_err(within)?),
                Field::OtherValue => Err("is no number, and only numbers are taken".to_owned()),
                Field::Unknown => map.next_value().map(|IgnoredAny| Ok(()))?,
            };
            set.map_err(|error| A::Error::custom(format_args!("{name} {error}")))?;
        }
        Ok(record)
    }
}

struct Key(Result<(Field, &'static str), String>);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(Text).map(|key| Self(Field::named(&key)))
    }
}

/// Text, not copied where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'de> serde::Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
        Ok(i64::try_from(number).map_or(Number::Float(number as f64), Number::from))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
        Ok(Number::Float(number))
    }
}

/// Whether JSON is a SenML pack and not plain JSON: an array whose first object has a field of SenML
/// and no `ts`, which every sample of plain JSON has. Reads no further than that object.
pub(in crate::decode) fn is_pack(payload: &[u8]) -> bool {
    let array = payload.trim_ascii_start().starts_with(b"[") && payload.len() <= super::MAX_PAYLOAD;
    let mut found = false;
    if array {
        let mut json = serde_json::Deserializer::from_slice(payload);
        // Whatever is wrong with it, the decoder says better.
        let _ = json.deserialize_seq(First(&mut found));
    }
    found
}

/// The array, then its first object; both only as far as they are needed.
struct First<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for First<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for First<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        items.next_element_seed(First(self.0)).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(IsField(is_field)) = map.next_key()? {
            match is_field {
                Some(is_field) => *self.0 |= is_field,
                None => {
                    *self.0 = false;
                    return Ok(());
                }
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a key is a field of SenML; nothing for `ts`.
struct IsField(Option<bool>);

impl<'de> serde::Deserialize<'de> for IsField {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let key = json.deserialize_str(Text)?;
        let is_field = !matches!(Field::named(&key), Ok((Field::Unknown, _)) | Err(_));
        Ok(Self((key != "ts").then_some(is_field)))
    }
}
