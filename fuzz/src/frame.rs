//! Frame v1: decoded and encoded again it is the same bytes.

use fleet_core::Schema;
use fleet_core::decode::frame::{EncodeError, HEADER_LEN, MARKER, MAX_SAMPLES, encode, quantise};
use fleet_core::decode::{AnyDecoder, DecodeError, Decoder, FrameDecoder};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::schema::Signal;

/// Asserts what must hold of `payload` as a frame of each signal.
pub fn check(schema: &Schema, payload: &[u8]) {
    for signal in schema.signals() {
        let mut samples = Samples::new(signal.columns.len());
        let result = FrameDecoder.decode(signal, payload, &mut samples);
        assert_eq!(result.is_ok(), is_frame(signal, payload), "{result:?}");
        if payload.first() == Some(&MARKER) {
            let mut by_any = Samples::new(signal.columns.len());
            assert_eq!(AnyDecoder.decode(signal, payload, &mut by_any), result);
            assert_eq!(by_any, samples);
        }
        match result {
            Ok(()) => decoded(signal, payload, &samples),
            Err(error) => refused(payload, &error),
        }
    }
}

/// The layout once more, said in another way.
fn is_frame(signal: &Signal, payload: &[u8]) -> bool {
    let widths: usize = signal.columns.iter().flat_map(|c| &c.wire).map(|w| w.integer.width()).sum();
    let count = payload.get(1).copied().unwrap_or(0).into();
    payload.first() == Some(&MARKER)
        && (1..=MAX_SAMPLES).contains(&count)
        && payload.len() == HEADER_LEN + count * (2 + widths)
}

fn refused(payload: &[u8], error: &DecodeError) {
    let expected = if payload.is_empty() { Refusal::Empty } else { Refusal::Malformed };
    assert_eq!(error.refusal, expected);
    assert!((1..1_000).contains(&error.detail.len()));
}

fn decoded(signal: &Signal, payload: &[u8], samples: &Samples) {
    assert!((1..=MAX_SAMPLES).contains(&samples.len()));
    let times: Vec<_> = samples.iter().map(|(time, _)| time).collect();
    for pair in times.windows(2) {
        let delta = pair[1] - pair[0];
        assert!((0..=65_535_000).contains(&delta) && delta % 1_000 == 0, "{delta} µs");
    }
    for (_, values) in samples.iter() {
        for (column, &value) in signal.columns.iter().zip(values) {
            assert_eq!(quantise(column, value), Some(value), "{}", column.name);
        }
    }
    let sequence = FrameDecoder.sequence(payload).expect("a frame has one");
    let mut again = vec![0xAA];
    let result = encode(signal, sequence, samples, &mut again);
    match canonical(payload) {
        Some(expected) => {
            assert_eq!(result, Ok(()));
            assert_eq!(again[1..], expected);
        }
        None => {
            assert!(matches!(result, Err(EncodeError::Base(_))), "{result:?}");
            assert_eq!(again, [0xAA], "a failed encode leaves nothing behind");
        }
    }
}

/// The frame with its first delta moved into the base, if that has room for it.
fn canonical(payload: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = payload.to_vec();
    let mut base = [0; 8];
    base[..6].copy_from_slice(&payload[4..10]);
    let delta = u16::from_le_bytes([payload[10], payload[11]]);
    let base = (u64::from_le_bytes(base) + u64::from(delta)).to_le_bytes();
    bytes[4..10].copy_from_slice(&base[..6]);
    bytes[10..12].fill(0);
    (base[6..] == [0, 0]).then_some(bytes)
}
