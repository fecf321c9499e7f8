use proptest::prelude::*;

use super::*;
use crate::message::Refusal;
use crate::schema::Schema;

const T: Micros = 1_735_689_600_000_000;

fn decode(signal: &str, text: &str) -> Result<Vec<(Micros, Vec<f64>)>, String> {
    let schema = Schema::default();
    let signal = schema.signal(schema.find(signal).unwrap());
    let mut out = Samples::new(signal.columns.len());
    match JsonDecoder.decode(signal, text.as_bytes(), &mut out) {
        Ok(()) => Ok(out.iter().map(|(t, v)| (t, v.to_vec())).collect()),
        Err(e) => {
            assert_eq!(e.refusal, if text.is_empty() { Refusal::Empty } else { Refusal::Malformed });
            Err(e.detail)
        }
    }
}

#[test]
fn every_way_to_write_a_sample() {
    for text in [
        r#"{"ts": 1735689600000, "value": 63.2}"#,
        r#" {"value": 63.2, "ts": "2025-01-01T00:00:00Z"} "#,
        r#"{"ts": "2025-01-01T01:00:00.000+01:00", "speed_kmh": 6.32e1}"#,
        r#"[{"ts": 1735689600000.0, "values": [63.2]}]"#,
        "{\"ts\": 1.7356896e12,\r\n\t\"val\\u0075e\": 63.2}",
    ] {
        assert_eq!(decode("speed", text), Ok(vec![(T, vec![63.2])]), "{text}");
    }
    for text in [
        r#"{"ts": 1735689600000, "lat": 52.52, "lon": 13}"#,
        r#"{"ts": 1735689600000, "longitude": 13, "lat": 52.52}"#,
        r#"{"ts": 1735689600000, "values": [52.52, 13]}"#,
    ] {
        assert_eq!(decode("position", text), Ok(vec![(T, vec![52.52, 13.0])]), "{text}");
    }
    let two = decode("brake", r#"[{"ts":1735689600000,"value":-5},{"ts":1735689600001,"value":-4}]"#);
    assert_eq!(two, Ok(vec![(T, vec![-5.0]), (T + 1_000, vec![-4.0])]));
}

#[test]
fn times_keep_their_microseconds() {
    for (ts, micros) in [
        ("1735689600000.123", T + 123),
        ("1735689600000.0002", T),
        ("1735689600000.0008", T + 1),
        ("-1.001", -1_001),
        ("-1", -1_000),
        ("-0.0", 0),
        ("9223372036854775", 9_223_372_036_854_775_000),
        ("\"2025-01-01T00:00:00.123456Z\"", T + 123_456),
        ("\"2025-01-01T00:00:00.1234565Z\"", T + 123_457),
        ("\"2025-01-01T00:00:00.123456499Z\"", T + 123_456),
    ] {
        let text = format!(r#"{{"ts": {ts}, "value": 1}}"#);
        assert_eq!(decode("speed", &text), Ok(vec![(micros, vec![1.0])]), "{ts}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, said) in [
        ("", "the payload is empty"),
        ("  ", "EOF while parsing a value"),
        ("7", "invalid type: integer `7`, expected an object or an array of objects"),
        ("{", "EOF while parsing an object"),
        ("[]", "the array is empty"),
        ("{}", "ts is missing"),
        ("[[]]", "item 0: invalid type: sequence, expected an object"),
        (r#"{"ts": 1}"#, "speed_kmh is missing"),
        (r#"{"value": 1}"#, "ts is missing"),
        (r#"{"ts": 1, "ts": 1, "value": 1}"#, "ts is given twice"),
        (r#"{"ts": 1, "value": 1, "speed_kmh": 1}"#, "speed_kmh is given twice"),
        (r#"{"ts": 1, "value": 1, "values": [1]}"#, "speed_kmh is given twice"),
        (r#"{"ts": 1, "values": [1, 2]}"#, "values: there are 2, the signal has 1 columns"),
        (r#"{"ts": 1, "velocity\n": 1}"#, r#""velocity\n" is no field of speed"#),
        (r#"{"ts": 1, "lat": 1}"#, r#""lat" is no field of speed"#),
        (r#"{"ts": 1, "value": "63"}"#, "speed_kmh: invalid type: string \"63\", expected f64"),
        (r#"{"ts": 1, "value": null}"#, "speed_kmh: invalid type: null, expected f64"),
        (r#"{"ts": 1, "value": 1e999}"#, "speed_kmh: number out of range"),
        (r#"{"ts": 1, "value": NaN}"#, "speed_kmh: expected value"),
        (r#"{"ts": true, "value": 1}"#, "ts: invalid type: boolean `true`, expected milliseconds"),
        (r#"{"ts": "now", "value": 1}"#, r#"ts: "now" is not RFC 3339: "#),
        (r#"{"ts": "1735689600000", "value": 1}"#, r#"ts: "1735689600000" is not RFC 3339: "#),
        (r#"{"ts": 1e30, "value": 1}"#, "ts: 1000000000000000000000000000000 ms is beyond all time"),
        (r#"{"ts": 18446744073709551615, "value": 1}"#, "ts: 9223372036854775807 ms is beyond"),
        (r#"[{"ts": 1, "value": 1}, {"ts": 1}]"#, "item 1: speed_kmh is missing"),
        (r#"{"ts": 1, "value": 1} x"#, "trailing characters"),
        (r#"{"ts": 1, "value": 1,}"#, "trailing comma"),
    ] {
        let error = decode("speed", text).unwrap_err();
        assert!(error.starts_with(said), "{text}: {error}");
    }
    let error = decode("position", r#"{"ts": 1, "lon": 1}"#).unwrap_err();
    assert!(error.starts_with("latitude is missing"), "{error}");
}

#[test]
fn size_and_depth_are_bounded() {
    let items = |n: usize| format!("[{}]", vec![r#"{"ts":1,"value":1}"#; n].join(","));
    assert_eq!(decode("speed", &items(MAX_SAMPLES)).unwrap().len(), MAX_SAMPLES);
    let error = decode("speed", &items(MAX_SAMPLES + 1)).unwrap_err();
    assert!(error.starts_with("item 1024: the array has more than 1024 items"), "{error}");
    let one = r#"{"ts": 1, "value": 1}"#;
    let long = format!("{one}{}", " ".repeat(MAX_PAYLOAD - one.len()));
    assert!(decode("speed", &long).is_ok());
    let error = decode("speed", &format!("{long} ")).unwrap_err();
    assert_eq!(error, "the payload has 65537 bytes; 65536 are possible");
    for deep in ["[", "{\"ts\":["] {
        assert!(decode("speed", &deep.repeat(MAX_PAYLOAD / deep.len())).is_err());
    }
    let long_key = format!(r#"{{"{}": 1}}"#, "k".repeat(60_000));
    assert!(decode("speed", &long_key).unwrap_err().len() < 250);
}

proptest! {
    #[test]
    fn samples_survive_a_round_trip(
        samples in prop::collection::vec((any::<i32>(), any::<f64>(), any::<f64>()), 1..50)
    ) {
        let (mut items, mut expected) = (Vec::new(), Vec::new());
        for (millis, a, b) in samples {
            let millis = i64::from(millis) + 1_735_689_600_000;
            items.push(serde_json::json!({"ts": millis, "latitude": a, "lon": b}));
            expected.push((millis * 1_000, vec![a, b]));
        }
        let text = serde_json::to_string(&items).unwrap();
        prop_assert_eq!(decode("position", &text), Ok(expected));
    }

    #[test]
    fn any_microsecond_survives_as_a_fraction(micros in 0..(1_i64 << 42) * 1_000) {
        let text = format!(r#"{{"ts": {}.{:03}, "value": 0}}"#, micros / 1_000, micros % 1_000);
        prop_assert_eq!(decode("speed", &text), Ok(vec![(micros, vec![0.0])]));
    }

    #[test]
    fn any_text_is_samples_or_an_error(text in r#"[\[\]{}"a-z:,0-9.eE \-]{0,200}"#) {
        let _ = decode("speed", &text);
    }
}
