//! The rules of the resolution, read from JSON. What is CBOR's own has its tests beside it.

use proptest::prelude::*;

use super::json::{SenmlJsonDecoder, is_pack};
use super::*;
use crate::decode::Decoder;
use crate::message::Refusal;
use crate::schema::{RecordsConfig, Schema};

const T: Micros = 1_735_689_600 * SECOND;

type Decoded = Result<Vec<(Micros, Vec<f64>)>, String>;

fn decode_as(schema: &Schema, signal: &str, text: &str) -> Decoded {
    let signal = schema.signal(schema.find(signal).unwrap());
    let mut out = Samples::new(signal.columns.len());
    match SenmlJsonDecoder.decode(signal, text.as_bytes(), &mut out) {
        Ok(()) => Ok(out.iter().map(|(t, v)| (t, v.to_vec())).collect()),
        Err(e) => {
            assert_eq!(e.refusal, if text.is_empty() { Refusal::Empty } else { Refusal::Malformed });
            Err(e.detail)
        }
    }
}

fn decode(signal: &str, text: &str) -> Decoded {
    decode_as(&Schema::default(), signal, text)
}

/// A schema whose signal `name` has these columns (name and unit).
fn schema_of(name: &str, columns: &[(&str, &str)]) -> Schema {
    use std::fmt::Write;
    let mut text = format!("[[signal]]\nname = \"{name}\"\ninterpolation = \"linear\"\ncolumns = [\n");
    for (name, unit) in columns {
        writeln!(text, "{{ name = \"{name}\", unit = \"{unit}\", min = -1000, max = 1000 }},").unwrap();
    }
    toml::from_str::<RecordsConfig>(&format!("{text}]")).unwrap().build().unwrap()
}

#[test]
fn the_examples_of_the_rfc() {
    // 5.1.2 without the voltage, which is another signal's.
    let current = schema_of("current", &[("current_a", "A")]);
    let text = r#"[
        {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"current","v":1.7},
        {"n":"current","t":-5,"v":1.2},
        {"n":"current","t":-4,"v":1.3}]"#;
    let at = 1_276_020_076_001_000;
    let expected = vec![(at, vec![1.7]), (at - 5 * SECOND, vec![1.2]), (at - 4 * SECOND, vec![1.3])];
    assert_eq!(decode_as(&current, "current", text), Ok(expected));

    // 5.1.3: humidity and position of a moving device, matched by unit.
    let columns = [("humidity", "%RH"), ("latitude", "deg"), ("longitude", "deg")];
    let moving = schema_of("weather", &columns);
    let text = r#"[
        {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
        {"u":"lon","v":24.30621},
        {"u":"lat","v":60.07965},
        {"t":60,"v":20.3},
        {"u":"lon","t":60,"v":24.30622},
        {"u":"lat","t":60,"v":60.07965}]"#;
    let at = 1_320_067_464 * SECOND;
    let expected =
        vec![(at, vec![20.0, 60.07965, 24.30621]), (at + 60 * SECOND, vec![20.3, 60.07965, 24.30622])];
    assert_eq!(decode_as(&moving, "weather", text), Ok(expected));

    // 5.1.1 and the first of 5.1.2 have no time, so they are of now, whenever that is.
    let error = decode("brake", r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#).unwrap_err();
    let said = "record 0: t: 0 s is relative to the receipt; only absolute times are taken";
    assert!(error.starts_with(said), "{error}");

    // 5.1.4: other types of values.
    let error = decode("brake", r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"open","vb":false}]"#);
    assert!(error.unwrap_err().starts_with("record 0: vb is no number, and only numbers are taken"));
}

#[test]
fn units_become_those_of_the_columns() {
    for (signal, unit, value, expected) in [
        ("speed", "km/h", "63.21", 63.21),
        ("speed", "m/s", "17.5", 63.0),
        ("speed", "m/s", "0.1", 0.36),
        ("fuel", "%", "47.5", 47.5),
        ("fuel", "%EL", "47.5", 47.5),
        ("brake", "Cel", "85.3", 85.3),
        ("brake", "K", "300", 300.0 - 273.15),
    ] {
        for text in [
            format!(r#"[{{"t":1735689600,"u":"{unit}","v":{value}}}]"#),
            format!(r#"[{{"bt":1735689600,"bu":"{unit}","v":{value}}}]"#),
            format!(r#"[{{"bt":1735689600,"bu":"furlong","u":"{unit}","v":{value}}}]"#),
        ] {
            assert_eq!(decode(signal, &text), Ok(vec![(T, vec![expected])]), "{text}");
        }
    }
    assert_eq!(decode("speed", r#"[{"t":1735689600,"v":1}]"#), Ok(vec![(T, vec![1.0])]));
    for (signal, unit, said) in [
        ("speed", "Cel", "u: \"Cel\" is no unit of speed (speed_kmh in km/h)"),
        ("brake", "lat", "u: \"lat\" is no unit of brake (brake_fluid_temp_c in Cel)"),
        ("position", "m", "u: \"m\" is no unit of position (latitude in deg, longitude in deg)"),
    ] {
        for field in ["u", "bu"] {
            let text = format!(r#"[{{"bt":1735689600,"{field}":"{unit}","n":"x","v":1}}]"#);
            let error = decode(signal, &text).unwrap_err();
            assert!(error.starts_with(&format!("record 0: {said}")), "{error}");
        }
    }
}

#[test]
fn records_find_their_column_by_unit_or_else_by_name() {
    let expected = Ok(vec![(T, vec![52.52, 13.4])]);
    for text in [
        r#"[{"t":1735689600,"u":"lat","v":52.52},{"t":1735689600,"u":"lon","v":13.4}]"#,
        r#"[{"bt":1735689600,"n":"x","u":"lon","v":13.4},{"n":"y","u":"lat","v":52.52}]"#,
        r#"[{"bt":1735689600,"n":"latitude","v":52.52},{"n":"a:longitude","v":13.4}]"#,
        r#"[{"bn":"urn:x:","bt":1735689600,"n":"latitude","v":52.52},{"n":"longitude","v":13.4}]"#,
        r#"[{"bn":"urn:lati","bt":1735689600,"n":"tude","v":52.52},{"bn":"longitude","v":13.4,"u":"deg"}]"#,
        r#"[{"bn":"x/","bt":1735689600,"bu":"lat","v":52.52},{"bn":"y","bu":"lon","n":"-longitude","v":13.4}]"#,
    ] {
        assert_eq!(decode("position", text), expected, "{text}");
    }
    for (text, said) in [
        (r#"[{"t":1735689600,"v":1}]"#, "n: \"\" does not end with one of latitude, longitude"),
        (
            r#"[{"bn":"a:lat","t":1735689600,"n":"x","v":1}]"#,
            "n: \"a:latx\" does not end with one of latitude, longitude",
        ),
        (
            r#"[{"bn":"latitude","t":1735689600,"n":"-","v":1}]"#,
            "n: \"latitude-\" does not end with one of latitude, longitude",
        ),
        (
            r#"[{"t":1735689600,"n":"longitude","u":"lat","v":1}]"#,
            "u: \"lat\" is no unit of longitude, which n names",
        ),
    ] {
        let error = decode("position", text).unwrap_err();
        assert!(error.starts_with(&format!("record 0: {said}")), "{error}");
    }
    let tyres = schema_of("tyres", &[("front", "kPa"), ("rear", "kPa"), ("air", "Cel")]);
    let text = r#"[{"bt":1735689600,"bu":"kPa","n":"rear","v":2},{"n":"front","v":1},{"u":"K","v":273.15}]"#;
    assert_eq!(decode_as(&tyres, "tyres", text), Ok(vec![(T, vec![1.0, 2.0, 0.0])]));
}

#[test]
fn samples_are_complete() {
    let lat = |t: u32| format!(r#"{{"t":{t},"u":"lat","v":1}}"#);
    let lon = |t: u32| format!(r#"{{"t":{t},"u":"lon","v":2}}"#);
    let pack = |records: &[String]| format!("[{}]", records.join(","));
    let (a, b) = (1_735_689_600, 1_735_689_601);
    let both = vec![1.0, 2.0];
    let apart = pack(&[lat(b), lat(a), lon(a), lon(b)]);
    assert_eq!(decode("position", &apart), Ok(vec![(T + SECOND, both.clone()), (T, both.clone())]));
    let twice = pack(&[lat(a), lat(a), lon(a), lon(a)]);
    assert_eq!(decode("position", &twice), Ok(vec![(T, both.clone()), (T, both)]));
    for (records, said) in [
        (&[lat(a), lon(b)][..], "longitude is missing at 2025-01-01T00:00:00Z"),
        (&[lat(a), lon(a), lon(b)], "latitude is missing at 2025-01-01T00:00:01Z"),
        (&[lat(a), lat(a), lon(a)], "longitude is missing at 2025-01-01T00:00:00Z"),
    ] {
        assert_eq!(decode("position", &pack(records)), Err(said.to_owned()));
    }
}

#[test]
fn times_keep_their_microseconds() {
    for (fields, micros) in [
        (r#""t":1735689600.000001"#, T + 1),
        (r#""t":1735689600.999999"#, T + 999_999),
        (r#""t":1735689600.9999996"#, T + SECOND),
        (r#""bt":1735689600.123456,"t":-0.123455"#, T + 1),
        (r#""bt":1.735689600e9,"t":1e-6"#, T + 1),
        (r#""bt":-1,"t":1735689601"#, T),
        (r#""t":268435456"#, ABSOLUTE),
        (r#""t":9223372036854"#, 9_223_372_036_854 * SECOND),
    ] {
        let text = format!(r#"[{{{fields},"v":1}}]"#);
        assert_eq!(decode("speed", &text), Ok(vec![(micros, vec![1.0])]), "{fields}");
    }
    for (fields, said) in [
        (r#""t":268435455.999999"#, "t: 268435455.999999 s is relative to the receipt"),
        (r#""t":-5"#, "t: -5 s is relative to the receipt"),
        (r#""bt":1735689600,"t":-1735689600"#, "t: 0 s is relative to the receipt"),
        (r#""t":1e300"#, "t: 1000000000"),
        (r#""bt":9223372036855"#, "bt: 9223372036855 s is beyond all time"),
        (r#""bt":18446744073709551615"#, "bt: 18446744073709552000 s is beyond all time"),
        (r#""bt":9223372036854,"t":9223372036854"#, "t: bt + t is beyond all time"),
    ] {
        let error = decode("speed", &format!(r#"[{{{fields},"n":"x","v":1}}]"#)).unwrap_err();
        assert!(error.starts_with(&format!("record 0: {said}")), "{error}");
    }
}

#[test]
fn base_fields_hold_from_their_record_on() {
    let text = r#"[
        {"bt":1735689600},
        {"bv":100,"v":1},
        {"bt":1735689700,"bv":-0.5,"v":1,"ext":{"deep":[[null]]},"ut":60,"s":17,"bs":1},
        {"t":1,"v":2}]"#;
    let expected = vec![(T, vec![101.0]), (T + 100 * SECOND, vec![0.5]), (T + 101 * SECOND, vec![1.5])];
    assert_eq!(decode("speed", text), Ok(expected));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, said) in [
        ("", "the payload is empty"),
        ("7", "invalid type: integer `7`, expected an array of SenML records"),
        ("[]", "the pack has no sample; 1 to 64 are possible"),
        ("[{}]", "the pack has no sample"),
        ("[[]]", "record 0: invalid type: sequence, expected an object"),
        (r#"[{"bt":1735689600}]"#, "the pack has no sample"),
        (r#"[{"bt":1735689600},{"n":"x"}]"#, "record 1: v is missing"),
        (r#"[{"t":1735689600,"s":4}]"#, "record 0: v is missing"),
        (r#"[{"bt":1735689600,"bv":4,"u":"km/h"}]"#, "record 0: v is missing"),
        (r#"[{"v":1,"v":2}]"#, "record 0: v is given twice"),
        (r#"[{"n":"a","n":"b"}]"#, "record 0: n is given twice"),
        (r#"[{"v":"63"}]"#, "record 0: v: invalid type: string \"63\", expected a number"),
        (r#"[{"v":null}]"#, "record 0: v: invalid type: null, expected a number"),
        (r#"[{"v":1e999}]"#, "record 0: v: number out of range"),
        (r#"[{"u":1}]"#, "record 0: u: invalid type: integer `1`, expected text"),
        (r#"[{"vs":"on"}]"#, "record 0: vs is no number, and only numbers are taken"),
        (r#"[{"vd":"AA"}]"#, "record 0: vd is no number"),
        (r#"[{"vol_":1}]"#, "record 0: \"vol_\" is a field that must be understood, and is not"),
        (r#"[{"bver":11}]"#, "record 0: bver: 11 is not 1 to 10"),
        (r#"[{"bver":0}]"#, "record 0: bver: 0 is not 1 to 10"),
        (r#"[{"bver":9.5}]"#, "record 0: bver: 9.5 is not 1 to 10"),
        (r#"[{"t":1735689600,"v":1}] x"#, "trailing characters"),
        (r#"[{"t":1735689600,"v":1}"#, "record 1: EOF while parsing a list"),
    ] {
        let error = decode("speed", text).unwrap_err();
        assert!(error.starts_with(said), "{text}: {error}");
    }
    assert!(decode("speed", r#"[{"bver":10,"t":1735689600,"v":1}]"#).is_ok());
}

#[test]
fn size_and_depth_are_bounded() {
    let pack = |n: usize| format!("[{}]", vec![r#"{"t":1735689600,"v":1}"#; n].join(","));
    assert_eq!(decode("speed", &pack(MAX_SAMPLES)).unwrap().len(), MAX_SAMPLES);
    let error = decode("speed", &pack(MAX_SAMPLES + 1)).unwrap_err();
    assert!(error.starts_with("record 64: the pack has more than 64 samples"), "{error}");
    let long = format!("{}{}", pack(1), " ".repeat(MAX_PAYLOAD - pack(1).len()));
    assert!(decode("speed", &long).is_ok());
    let error = decode("speed", &format!("{long} ")).unwrap_err();
    assert_eq!(error, "the payload has 65537 bytes; 65536 are possible");
    for deep in ["[", "[{\"x\":", "{\"v\":["] {
        assert!(decode("speed", &deep.repeat(MAX_PAYLOAD / deep.len())).is_err());
    }
    let long_name = format!(r#"[{{"{}_": 1}}]"#, "k".repeat(60_000));
    assert!(decode("speed", &long_name).unwrap_err().len() < 250);
}

#[test]
fn a_pack_is_known_by_its_first_object() {
    for (text, pack) in [
        (r#" [ {"n":"x"}]"#, true),
        (r#"[{"ext":[{"ts":1}],"bt":1}, 7"#, true),
        (r#"[{"v":1,"#, true),
        (r#"[{"\u0076":1"#, true),
        (r#"[{"vs":"#, true),
        (r#"[{"ts":1,"value":1}]"#, false),
        (r#"[{"v":1,"t":2,"ts":1}]"#, false),
        (r#"[{"value":1}]"#, false),
        (r#"[{},{"v":1}]"#, false),
        (r#"[7,{"v":1}]"#, false),
        (r#"[[{"v":1}]]"#, false),
        (r#"{"v":1}"#, false),
        ("[", false),
        ("", false),
    ] {
        assert_eq!(is_pack(text.as_bytes()), pack, "{text}");
    }
}

#[test]
fn numbers_are_as_exact_as_they_were_written() {
    let decimal = |mantissa, exponent| Number::Decimal { mantissa, exponent };
    for (number, value, micros) in [
        (decimal(6_321, -2), 63.21, Some(63_210_000)),
        (decimal(1_735_689_600_123_456, -6), 1_735_689_600.123_456, Some(T + 123_456)),
        (decimal(15, -7), 15e-7, Some(2)),
        (decimal(-15, -7), -15e-7, Some(-2)),
        (decimal(14, -7), 14e-7, Some(1)),
        (decimal(i64::MIN, -100), i64::MIN as f64 / 1e100, Some(0)),
        (decimal(0, i64::MAX - 6), 0.0, Some(0)),
        (decimal(1, i64::MAX), f64::INFINITY, None),
        (decimal(1, i64::MIN), 0.0, Some(0)),
        (decimal(9, 12), 9e12, Some(9_000_000 * 1_000_000 * SECOND)),
        (decimal(1, 13), 1e13, None),
        (Number::Float(f64::NAN), f64::NAN, None),
    ] {
        assert_eq!(number.value().to_bits(), value.to_bits(), "{number:?}");
        assert_eq!(number.micros(), micros, "{number:?}");
    }
}

proptest! {
    #[test]
    fn any_microsecond_until_2200_survives_as_a_fraction(
        micros in ABSOLUTE..crate::time::YEAR_2200, base in -(1_i64 << 50)..1 << 50
    ) {
        let seconds = |t: i64| {
            let sign = if t < 0 { "-" } else { "" };
            format!("{sign}{}.{:06}", t.abs() / SECOND, t.abs() % SECOND)
        };
        let whole = format!(r#"[{{"t":{},"v":0}}]"#, seconds(micros));
        prop_assert_eq!(decode("speed", &whole), Ok(vec![(micros, vec![0.0])]));
        let split = format!(r#"[{{"bt":{},"t":{},"v":0}}]"#, seconds(base), seconds(micros - base));
        prop_assert_eq!(decode("speed", &split), Ok(vec![(micros, vec![0.0])]));
        let exact = Number::Decimal { mantissa: micros, exponent: -6 };
        prop_assert_eq!(exact.micros(), Some(micros));
    }

    #[test]
    fn any_decimal_is_what_its_text_is(mantissa in any::<i64>(), exponent in -30..30_i64) {
        let text = format!("{mantissa}e{exponent}");
        let number = Number::Decimal { mantissa, exponent };
        prop_assert_eq!(number.value(), text.parse::<f64>().unwrap());
        let value = text.parse::<f64>().unwrap();
        // Where the f64 is fine enough, both ways to microseconds agree.
        if value.abs() < 1e6 && (value * 1e6).fract().abs() < 0.4 {
            prop_assert_eq!(number.micros(), Number::Float(value).micros());
        }
    }

    #[test]
    fn any_text_is_samples_or_an_error(text in r#"\[[\[\]{}"nuvbt:,0-9.eE \-_]{0,200}"#) {
        let _ = decode("position", &text);
        let _ = is_pack(text.as_bytes());
    }
}
