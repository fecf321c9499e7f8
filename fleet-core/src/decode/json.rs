//! Plain JSON, for people and tests.
//!
//! ```json
//! {"ts": 1735689600000, "value": 63.2}
//! {"ts": "2025-01-01T00:00:00Z", "lat": 52.52, "lon": 13.405}
//! [{"ts": 1735689600000, "values": [52.52, 13.405]}, {"ts": 1735689600250.5, "latitude": 52.53, "longitude": 13.4}]
//! ```

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DecodeError, Decoder};
use crate::sample::Samples;
use crate::schema::Signal;
use crate::time::Micros;

/// How many samples a payload has at most; at least it has one.
pub const MAX_SAMPLES: usize = 1024;

/// The longest payload that is looked at, bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Decodes plain JSON: an object for one sample, or an array of 1 to 1024 of them.
///
/// `ts` is milliseconds since 1970 or RFC 3339, rounded to the microsecond. (A fraction of a
/// millisecond is exact until 2109, when an `f64` gets too coarse for it.) The values go by the
/// columns' names, or in their order as an array `values`; the only value of a signal may also be
/// `value`, two columns in degrees whose names begin with `lat` and `lon` also `lat` and `lon`. Each
/// must be there once, and nothing else may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonDecoder;

impl Decoder for JsonDecoder {
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::empty());
        }
        if payload.len() > MAX_PAYLOAD {
            let len = payload.len();
            return Err(DecodeError::malformed(format_args!(
                "the payload has {len} bytes; {MAX_PAYLOAD} are possible"
            )));
        }
        let mut json = serde_json::Deserializer::from_slice(payload);
        let mut reader = Reader { signal, row: vec![None; signal.columns.len()], values: Vec::new(), out };
        let read = reader.deserialize(&mut json).and_then(|()| json.end());
        read.map_err(DecodeError::malformed)
    }

    fn sequence(&self, _payload: &[u8]) -> Option<u16> {
        None
    }
}

/// Reads samples as they come, without a tree of the document.
struct Reader<'a> {
    signal: &'a Signal,
    /// The columns of the sample being read that were seen.
    row: Vec<Option<f64>>,
    values: Vec<f64>,
    out: &'a mut Samples,
}

impl<'de> DeserializeSeed<'de> for &mut Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(Document(self))
    }
}

/// The whole payload.
struct Document<'r, 'a>(&'r mut Reader<'a>);

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.sample(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        while items
            .next_element_seed(Item(&mut *self.0, count))
            .map_err(within(format_args!("item {count}")))?
            .is_some()
        {
            count += 1;
        }
        if count == 0 {
            return Err(A::Error::custom(format_args!(
                "the array is empty; 1 to {MAX_SAMPLES} items are possible"
            )));
        }
        Ok(())
    }
}

/// One element of the array, with its index.
struct Item<'r, 'a>(&'r mut Reader<'a>, usize);

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.1 == MAX_SAMPLES {
            return Err(D::Error::custom(format_args!("the array has more than {MAX_SAMPLES} items")));
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.sample(map)
    }
}

impl Reader<'_> {
    fn sample<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        self.row.fill(None);
        let mut time = None;
        while let Some(key) = map.next_key_seed(KeyOf(self.signal))? {
            match key {
                Key::Time => {
                    let Time(micros) = map.next_value().map_err(within("ts"))?;
                    if time.replace(micros).is_some() {
                        return Err(A::Error::custom("ts is given twice"));
                    }
                }
                Key::Column(column) => {
                    let value = map.next_value().map_err(within(self.name(column)))?;
                    self.set(column, value)?;
                }
                Key::All => {
                    let values: Vec<f64> = map.next_value().map_err(within("values"))?;
                    let (got, expected) = (values.len(), self.row.len());
                    if got != expected {
                        let text = format_args!("values: there are {got}, the signal has {expected} columns");
                        return Err(A::Error::custom(text));
                    }
                    values.into_iter().enumerate().try_for_each(|(i, value)| self.set(i, value))?;
                }
            }
        }
        let time = time.ok_or_else(|| A::Error::custom("ts is missing"))?;
        self.values.clear();
        self.values.extend(self.row.iter().copied().flatten());
        if let Some(missing) = self.row.iter().position(Option::is_none) {
            return Err(A::Error::custom(format_args!("{} is missing", self.name(missing))));
        }
        self.out.push(time, &self.values);
        Ok(())
    }

    fn set<E: Error>(&mut self, column: usize, value: f64) -> Result<(), E> {
        match self.row.get_mut(column).map(|place| place.replace(value)) {
            Some(None) => Ok(()),
            _ => Err(E::custom(format_args!("{} is given twice", self.name(column)))),
        }
    }

    fn name(&self, column: usize) -> &str {
        self.signal.columns.get(column).map_or("", |c| &c.name)
    }
}

/// Puts the place before an error's text. The parser keeps the line and column at its end.
fn within<E: Error>(place: impl fmt::Display) -> impl FnOnce(E) -> E {
    move |error| E::custom(format_args!("{place}: {error}"))
}

enum Key {
    Time,
    Column(usize),
    All,
}

struct KeyOf<'a>(&'a Signal);

impl KeyOf<'_> {
    fn find(&self, key: &str) -> Option<Key> {
        let columns = &self.0.columns;
        if key == "ts" {
            return Some(Key::Time);
        }
        if let Some(column) = columns.iter().position(|c| c.name == key) {
            return Some(Key::Column(column));
        }
        let degrees = columns.len() == 2 && columns.iter().all(|c| c.unit == "deg");
        match key {
            "values" => Some(Key::All),
            "value" if columns.len() == 1 => Some(Key::Column(0)),
            "lat" | "lon" if degrees => columns.iter().position(|c| c.name.starts_with(key)).map(Key::Column),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        self.find(key).ok_or_else(|| {
            let key: String = key.chars().take(80).collect();
            E::custom(format_args!("{key:?} is no field of {}", self.0.name))
        })
    }
}

/// A sample's event time.
struct Time(Micros);

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TimeVisitor).map(Time)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Micros;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("milliseconds since 1970 or RFC 3339")
    }

    fn visit_i64<E: Error>(self, millis: i64) -> Result<Micros, E> {
        millis.checked_mul(1_000).ok_or_else(|| E::custom(format_args!("{millis} ms is beyond all time")))
    }

    fn visit_u64<E: Error>(self, millis: u64) -> Result<Micros, E> {
        self.visit_i64(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, millis: f64) -> Result<Micros, E> {
        // Whole and fraction apart, because their product with 1000 would round once more.
        let whole = millis.is_finite().then_some(millis.trunc() as i64);
        let micros = whole.and_then(|w| w.checked_mul(1_000)).and_then(|w| {
            let fraction = (millis.fract() * 1e3).round();
            w.checked_add(fraction as i64)
        });
        micros.ok_or_else(|| E::custom(format_args!("{millis} ms is beyond all time")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Micros, E> {
        let time: jiff::Timestamp = text.parse().map_err(|e| {
            let text: String = text.chars().take(80).collect();
            E::custom(format_args!("{text:?} is not RFC 3339: {e}"))
        })?;
        let micros = (time.as_nanosecond() + 500).div_euclid(1_000);
        i64::try_from(micros).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests;
