//! Plain JSON: parsed, printed and parsed again it is the same samples.

use fleet_core::Schema;
use fleet_core::decode::json::MAX_SAMPLES;
use fleet_core::decode::{Decoder, JsonDecoder};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::time::{Micros, display};

/// Asserts what must hold of `payload` as JSON of each signal.
pub fn check(schema: &Schema, payload: &[u8]) {
    for signal in schema.signals() {
        let mut samples = Samples::new(signal.columns.len());
        match JsonDecoder.decode(signal, payload, &mut samples) {
            Ok(()) => assert!((1..=MAX_SAMPLES).contains(&samples.len())),
            Err(error) => {
                let expected = if payload.is_empty() { Refusal::Empty } else { Refusal::Malformed };
                assert_eq!(error.refusal, expected);
                assert!((1..1_000).contains(&error.detail.len()));
                assert!(!error.detail.contains(char::is_control));
                continue;
            }
        }
        assert!(samples.iter().all(|(_, values)| values.iter().all(|v| v.is_finite())));
        for (time, values) in samples.iter() {
            let Some(ts) = print(time) else { continue };
            let text = format!(r#"{{"ts":{ts},"values":{values:?}}}"#);
            let mut again = Samples::new(signal.columns.len());
            JsonDecoder.decode(signal, text.as_bytes(), &mut again).expect("what was printed parses");
            assert!(again.iter().eq([(time, values)]), "{text}");
        }
    }
}

/// As milliseconds where it is whole ones, else as RFC 3339, which ends with the year 9999.
fn print(time: Micros) -> Option<String> {
    if time % 1_000 == 0 {
        return Some((time / 1_000).to_string());
    }
    let text = display(time);
    text.ends_with('Z').then(|| format!("{text:?}"))
}
