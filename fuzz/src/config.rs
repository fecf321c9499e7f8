//! The records' configuration: what is accepted keeps the limits, what isn't is explained.

use fleet_core::Schema;
use fleet_core::batch::arrow_schema;
use fleet_core::decode::frame::{EncodeError, encode};
use fleet_core::decode::{Decoder, FrameDecoder};
use fleet_core::sample::Samples;
use fleet_core::schema::{MAX_COLUMNS, MAX_SIGNALS, RecordsConfig, Signal};
use fleet_core::time::{MINUTE, SECOND};

/// Where a problem can be.
const KEYS: [&str; 8] = [
    "interval",
    "window",
    "patience",
    "max_future",
    "max_past",
    "max_samples",
    "max_vehicle_memory",
    "signal",
];

/// Asserts what must hold of bytes as TOML.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = toml::from_str::<RecordsConfig>(text) else { return };
    match config.build() {
        Ok(schema) => {
            limited(&schema);
            assert_eq!(config.build().as_ref(), Ok(&schema));
            schema.signals().iter().for_each(framed);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                let key = problem.path.split(['[', '.']).next().unwrap_or_default();
                assert!(KEYS.contains(&key) && !problem.message.is_empty(), "{problem}");
            }
        }
    }
}

fn limited(schema: &Schema) {
    assert!((SECOND / 1_000..=24 * 60 * MINUTE).contains(&schema.interval()));
    assert!((0..=60 * MINUTE).contains(&schema.window()) && (0..=60 * MINUTE).contains(&schema.patience()));
    assert!((0..=24 * 60 * MINUTE).contains(&schema.max_future()));
    assert!(schema.max_past() >= schema.window());
    assert!((8..=65_536).contains(&schema.max_samples()));
    assert!((64 << 10..=1 << 30).contains(&schema.max_vehicle_memory()));
    assert!((1..=MAX_SIGNALS).contains(&schema.signals().len()));
    for signal in schema.signals() {
        assert!((SECOND / 1_000..=24 * 60 * MINUTE).contains(&signal.max_gap));
        assert!((0..=60 * MINUTE).contains(&signal.signal_timeout));
    }
    let mut end = 0;
    for (index, signal) in schema.indexed() {
        assert_eq!(schema.find(&signal.name), Some(index), "a name that is there twice");
        assert_eq!(signal.column_range().start, end, "columns lie side by side");
        end = signal.column_range().end;
        assert!((1..=MAX_COLUMNS).contains(&signal.columns.len()));
        assert!(signal.columns.iter().all(|c| c.min < c.max && c.min.is_finite() && c.max.is_finite()));
    }
    assert_eq!(schema.column_count(), end);
    let arrow = arrow_schema(schema);
    assert_eq!(arrow.fields().len(), end + 3);
    for field in arrow.fields() {
        let name = field.name();
        assert!(arrow.index_of(name).is_ok_and(|at| arrow.field(at) == &**field), "{name} is there twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}

/// The ends of a signal's integers come back from a frame.
fn framed(signal: &Signal) {
    for end in [|range: (i64, i64)| range.0, |range: (i64, i64)| range.1] {
        let value = |c: &fleet_core::schema::Column| Some(c.wire?.value(end(c.wire?.integer.range())));
        let values: Option<Vec<f64>> = signal.columns.iter().map(value).collect();
        let mut samples = Samples::new(signal.columns.len());
        samples.push(SECOND, values.as_deref().unwrap_or(&vec![0.0; signal.columns.len()]));
        let mut frame = Vec::new();
        match encode(signal, 7, &samples, &mut frame) {
            Ok(()) => {
                let mut again = Samples::new(signal.columns.len());
                assert_eq!(FrameDecoder.decode(signal, &frame, &mut again), Ok(()));
                assert_eq!(again, samples);
            }
            Err(EncodeError::NoWire(_)) => assert_eq!(values, None),
            // A scale near the largest number makes values that are infinite.
            Err(EncodeError::Value { value, .. }) => assert!(!value.is_finite(), "{value}"),
            Err(error) => panic!("{error}"),
        }
    }
}
