//! SenML in CBOR: resolved, written and read again it is the same samples.

use fleet_core::Schema;
use fleet_core::decode::senml::MAX_SAMPLES;
use fleet_core::decode::{AnyDecoder, DecodeError, Decoder, SenmlCborDecoder};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::schema::Signal;
use fleet_core::time::Micros;

/// Asserts what must hold of `payload` as a SenML pack in CBOR of each signal.
pub fn check(schema: &Schema, payload: &[u8]) {
    for signal in schema.signals() {
        let (result, samples) = decode(signal, payload);
        if matches!(payload.first(), Some(0x80..=0x9F)) {
            let mut by_any = Samples::new(signal.columns.len());
            assert_eq!(AnyDecoder.decode(signal, payload, &mut by_any), result);
            assert_eq!(bits(&by_any), bits(&samples));
        }
        match result {
            Ok(()) => decoded(signal, payload, &samples),
            Err(error) => {
                let expected = if payload.is_empty() { Refusal::Empty } else { Refusal::Malformed };
                assert_eq!(error.refusal, expected);
                assert!((1..1_000).contains(&error.detail.len()));
                assert!(!error.detail.contains(char::is_control));
            }
        }
    }
}

fn decode(signal: &Signal, payload: &[u8]) -> (Result<(), DecodeError>, Samples) {
    let mut samples = Samples::new(signal.columns.len());
    (SenmlCborDecoder.decode(signal, payload, &mut samples), samples)
}

/// Values may be NaN here, which is not equal to itself.
fn bits(samples: &Samples) -> Vec<(Micros, Vec<u64>)> {
    samples.iter().map(|(time, values)| (time, values.iter().map(|v| v.to_bits()).collect())).collect()
}

fn decoded(signal: &Signal, payload: &[u8], samples: &Samples) {
    assert!(matches!(payload.first(), Some(0x80..=0x9F)), "no array");
    assert!((1..=MAX_SAMPLES).contains(&samples.len()));
    assert!(samples.iter().all(|(time, _)| time >= (1 << 28) * 1_000_000), "a relative time");
    for indefinite in [false, true] {
        let again = write(signal, samples, indefinite);
        let (result, read) = decode(signal, &again);
        assert_eq!(result, Ok(()), "{again:02x?}");
        assert_eq!(bits(&read), bits(samples), "{again:02x?}");
        let (cut, _) = decode(signal, &again[..again.len() - 1]);
        assert!(cut.is_err(), "cut short: {again:02x?}");
        let (longer, _) = decode(signal, &[&again[..], &[0]].concat());
        assert!(longer.is_err(), "bytes left over: {again:02x?}");
    }
}

/// With names, times as decimal fractions of microseconds and values as doubles.
fn write(signal: &Signal, samples: &Samples, indefinite: bool) -> Vec<u8> {
    let count = samples.len() * signal.columns.len();
    let mut out = match indefinite {
        true => vec![0x9F],
        false => vec![0x98, u8::try_from(count).expect("64 samples of two columns")],
    };
    for (time, values) in samples.iter() {
        for (column, value) in signal.columns.iter().zip(values) {
            out.push(if indefinite { 0xBF } else { 0xA3 });
            let len = u8::try_from(column.name.len()).expect("a short name");
            out.extend([0x00, 0x78, len]);
            out.extend(column.name.as_bytes());
            out.extend([0x06, 0xC4, 0x82, 0x25, 0x1B]);
            out.extend(time.to_be_bytes());
            out.extend([0x02, 0xFB]);
            out.extend(value.to_bits().to_be_bytes());
            if indefinite {
                out.push(0xFF);
            }
        }
    }
    if indefinite {
        out.push(0xFF);
    }
    out
}
