//! Frame v1, what the sensor clients send: little-endian integers, 14 bytes for one speed.
//!
//! `docs/wire-format.md` has the layout to the byte, its reasons and test vectors.

use super::{DecodeError, Decoder};
use crate::sample::Samples;
use crate::schema::{Column, MAX_COLUMNS, Signal, WireInteger};
use crate::time::Micros;

/// A frame's first byte. It begins neither JSON nor any text that people write.
pub const MARKER: u8 = 0xF1;

/// How many samples a frame has at most; at least it has one.
pub const MAX_SAMPLES: usize = 64;

/// Bytes before the first sample: marker, count, sequence and base.
pub const HEADER_LEN: usize = 10;

const DELTA_LEN: usize = 2;
const MILLISECOND: Micros = 1_000;
const MAX_BASE: i64 = (1 << 48) - 1;

/// Decodes frames of version 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameDecoder;

struct Header {
    count: usize,
    sequence: u16,
    /// Milliseconds since 1970.
    base: i64,
}

/// The header and the bytes after it, if the marker is there and the header is whole.
fn header(payload: &[u8]) -> Option<(Header, &[u8])> {
    let (head, body) = payload.split_first_chunk::<HEADER_LEN>()?;
    let [MARKER, count, s0, s1, base @ ..] = *head else { return None };
    let [b0, b1, b2, b3, b4, b5] = base;
    let sequence = u16::from_le_bytes([s0, s1]);
    let base = i64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0]);
    Some((Header { count: count.into(), sequence, base }, body))
}

/// Bytes of one sample, if the signal can be framed at all; the column that has no `wire`, if not.
fn item_len(signal: &Signal) -> Result<usize, &str> {
    signal.columns.iter().try_fold(DELTA_LEN, |len, column| {
        let wire = column.wire.ok_or(column.name.as_str())?;
        Ok(len + wire.integer.width())
    })
}

impl Decoder for FrameDecoder {
    #[inline]
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError> {
        let Some((header, body)) = header(payload) else {
            return Err(match payload.first() {
                None => DecodeError::empty(),
                Some(&MARKER) => DecodeError::malformed(format_args!(
                    "a frame's header has {HEADER_LEN} bytes, the payload has {}",
                    payload.len()
                )),
                Some(other) => DecodeError::malformed(format_args!(
                    "first byte 0x{other:02x} is not a frame's 0x{MARKER:02x}"
                )),
            });
        };
        let count = header.count;
        if !(1..=MAX_SAMPLES).contains(&count) {
            return Err(DecodeError::malformed(format_args!("count {count} is not 1 to {MAX_SAMPLES}")));
        }
        let name = &signal.name;
        let item_len = item_len(signal).map_err(|column| {
            DecodeError::malformed(format_args!("{name}: column {column} has no wire format"))
        })?;
        let expected = HEADER_LEN + count * item_len;
        let wrong_length = || {
            DecodeError::malformed(format_args!(
                "a frame of {count} samples of {name} has {expected} bytes, the payload has {}",
                payload.len()
            ))
        };
        if payload.len() != expected {
            return Err(wrong_length());
        }
        let mut values = [0.0; MAX_COLUMNS];
        let values = values.get_mut(..signal.columns.len()).ok_or_else(wrong_length)?;
        let (mut time, mut rest) = (header.base, body);
        for _ in 0..count {
            time += WireInteger::U16.read(&mut rest).ok_or_else(wrong_length)?;
            for (value, column) in values.iter_mut().zip(&signal.columns) {
                let read = column.wire.and_then(|wire| Some(wire.value(wire.integer.read(&mut rest)?)));
                *value = read.ok_or_else(wrong_length)?;
            }
            out.push(time * MILLISECOND, values);
        }
        Ok(())
    }

    fn sequence(&self, payload: &[u8]) -> Option<u16> {
        header(payload).map(|(header, _)| header.sequence)
    }
}

/// Why samples do not fit into a frame.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The signal's schema doesn't say how a column travels.
    #[error("column {0} has no wire format")]
    NoWire(String),
    /// No sample, or more than [`MAX_SAMPLES`].
    #[error("a frame has 1 to {MAX_SAMPLES} samples, these are {0}")]
    Count(usize),
    /// The samples have another number of values than the signal has columns.
    #[error("the samples have {got} values each, the signal has {expected} columns")]
    Columns {
        /// The signal's.
        expected: usize,
        /// The samples'.
        got: usize,
    },
    /// A value is not finite or is beyond the column's integer.
    #[error("{column}: {value} does not fit into a frame")]
    Value {
        /// The column's name.
        column: String,
        /// The value, in the column's unit.
        value: f64,
    },
    /// The first time is before 1970 or beyond 48 bits of milliseconds; microseconds since 1970.
    #[error("first time {0} µs is not within 48 bits of milliseconds")]
    Base(Micros),
    /// A time is before the one of the sample ahead of it.
    #[error("sample {0} is older than the one before it")]
    Backwards(usize),
    /// A time is more than 65,535 ms after the one of the sample ahead of it.
    #[error("sample {0} is more than 65535 ms after the one before it")]
    Gap(usize),
}

/// Appends a frame with `samples` of `signal` to `out`.
///
/// Values are rounded to the nearest count of their column, times down to the millisecond. The
/// first sample's `delta` is always 0. What [`FrameDecoder`] made of a frame gives the same bytes
/// again if the frame's first `delta` was 0.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was. The column's `min` and `max` are not looked at.
pub fn encode(
    signal: &Signal,
    sequence: u16,
    samples: &Samples,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = append(signal, sequence, samples, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append(signal: &Signal, sequence: u16, samples: &Samples, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    item_len(signal).map_err(|column| EncodeError::NoWire(column.to_owned()))?;
    let (expected, got) = (signal.columns.len(), samples.columns());
    if expected != got {
        return Err(EncodeError::Columns { expected, got });
    }
    let count = u8::try_from(samples.len()).unwrap_or(u8::MAX);
    let first = samples.iter().next().map(|(time, _)| time);
    let (Some(first), true) = (first, usize::from(count) <= MAX_SAMPLES) else {
        return Err(EncodeError::Count(samples.len()));
    };
    let base = first.div_euclid(MILLISECOND);
    if !(0..=MAX_BASE).contains(&base) {
        return Err(EncodeError::Base(first));
    }
    out.extend([MARKER, count]);
    out.extend(sequence.to_le_bytes());
    out.extend(base.to_le_bytes().into_iter().take(6));
    let mut previous = first;
    for (i, (time, values)) in samples.iter().enumerate() {
        if time < previous {
            return Err(EncodeError::Backwards(i));
        }
        let delta = time.div_euclid(MILLISECOND) - previous.div_euclid(MILLISECOND);
        let delta = u16::try_from(delta).map_err(|_| EncodeError::Gap(i))?;
        previous = time;
        out.extend(delta.to_le_bytes());
        for (column, &value) in signal.columns.iter().zip(values) {
            let wire = column.wire.ok_or_else(|| EncodeError::NoWire(column.name.clone()))?;
            let refused = || EncodeError::Value { column: column.name.clone(), value };
            wire.integer.write(wire.count(value).ok_or_else(refused)?, out);
        }
    }
    Ok(())
}

/// What `value` is after a frame; `None` if the column can't be framed or the value doesn't fit.
pub fn quantise(column: &Column, value: f64) -> Option<f64> {
    let wire = column.wire?;
    wire.count(value).map(|count| wire.value(count))
}
