//! SenML in JSON: resolved, printed and parsed again it is the same samples.

use fleet_core::Schema;
use fleet_core::decode::senml::MAX_SAMPLES;
use fleet_core::decode::{AnyDecoder, Decoder, JsonDecoder, SenmlJsonDecoder};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::schema::Signal;
use fleet_core::time::Micros;

/// Asserts what must hold of `payload` as a SenML pack in JSON of each signal.
pub fn check(schema: &Schema, payload: &[u8]) {
    for signal in schema.signals() {
        let mut samples = Samples::new(signal.columns.len());
        let result = SenmlJsonDecoder.decode(signal, payload, &mut samples);
        told_apart(signal, payload, &samples, result.is_ok());
        match result {
            Ok(()) => decoded(signal, &samples),
            Err(error) => {
                let expected = if payload.is_empty() { Refusal::Empty } else { Refusal::Malformed };
                assert_eq!(error.refusal, expected);
                assert!((1..1_000).contains(&error.detail.len()));
                assert!(!error.detail.contains(char::is_control));
            }
        }
    }
}

/// JSON is at most one of plain and SenML, and the default decoder finds out which.
fn told_apart(signal: &Signal, payload: &[u8], samples: &Samples, senml: bool) {
    let mut plain = Samples::new(signal.columns.len());
    let is_plain = JsonDecoder.decode(signal, payload, &mut plain).is_ok();
    assert!(!(senml && is_plain), "both plain JSON and SenML");
    let mut by_any = Samples::new(signal.columns.len());
    let result = AnyDecoder.decode(signal, payload, &mut by_any);
    if is_plain {
        assert_eq!((result, &by_any), (Ok(()), &plain));
    } else if result.is_ok() && payload.trim_ascii_start().first() == Some(&b'[') {
        assert!(senml);
        assert_eq!(&by_any, samples);
    }
    assert_eq!(AnyDecoder.sequence(payload).is_some(), payload.first() == Some(&0xF1) && payload.len() >= 10);
}

fn decoded(signal: &Signal, samples: &Samples) {
    assert!((1..=MAX_SAMPLES).contains(&samples.len()));
    assert!(samples.iter().all(|(time, _)| time >= (1 << 28) * 1_000_000), "a relative time");
    // A sum with a base value, or a conversion, can be beyond all numbers; JSON can't say so.
    if samples.iter().any(|(time, values)| !prints(time) || values.iter().any(|v| !v.is_finite())) {
        return;
    }
    let text = print(signal, samples);
    let mut again = Samples::new(signal.columns.len());
    AnyDecoder.decode(signal, text.as_bytes(), &mut again).expect("what was printed parses");
    assert!(again.iter().eq(samples.iter()), "{text}");
}

/// Whether a time as decimal seconds is told from its neighbours by an `f64`.
fn prints(time: Micros) -> bool {
    time < (1 << 33) * 1_000_000
}

/// With names and without units or base fields.
fn print(signal: &Signal, samples: &Samples) -> String {
    let record = |time: Micros, column: &str, value: f64| {
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        format!(r#"{{"n":"urn:x:{column}","t":{seconds}.{micros:06},"v":{value:?}}}"#)
    };
    let records = samples.iter().flat_map(|(time, values)| {
        let columns = signal.columns.iter().zip(values);
        columns.map(move |(column, &value)| record(time, &column.name, value))
    });
    format!("[{}]", records.collect::<Vec<_>>().join(","))
}
