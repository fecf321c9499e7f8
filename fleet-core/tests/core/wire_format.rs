//! Frame v1 against `docs/wire-format-vectors.txt`, and what `docs/wire-format.md` says of sizes.

use std::fs;
use std::path::PathBuf;

use fleet_core::decode::frame::{EncodeError, encode, quantise};
use fleet_core::decode::{AnyDecoder, Decoder};
use fleet_core::sample::Samples;
use fleet_core::schema::{RecordsConfig, Signal};
use fleet_core::{Micros, Schema};
use proptest::prelude::*;

use crate::senml::{self, Fractions};

const T: Micros = 1_735_689_600_000_000;

fn docs(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.trim_end_matches('-');
    assert_eq!(hex.len() % 2, 0, "{hex}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn sample(text: &str, into: &mut Samples) {
    let (millis, values) = text.split_once(':').unwrap();
    let values: Vec<f64> = values.split(',').map(|v| v.parse().unwrap()).collect();
    into.push(millis.parse::<Micros>().unwrap() * 1_000, &values);
}

fn signal<'a>(schema: &'a Schema, name: &str) -> &'a Signal {
    schema.signal(schema.find(name).unwrap_or_else(|| panic!("{name} is no signal")))
}

#[test]
fn vectors_decode_and_encode_as_written() {
    let schema = Schema::default();
    let text = docs("wire-format-vectors.txt");
    let (mut frames, mut refused) = (0, 0);
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        assert!(line.len() < 4096, "C reads lines of up to 4095 characters");
        let fields: Vec<&str> = line.split(' ').collect();
        let [word, name, sequence, payload, ref rest @ ..] = fields[..] else { panic!("{line}") };
        let (signal, payload) = (signal(&schema, name), bytes(payload));
        let mut decoded = Samples::new(signal.columns.len());
        let result = AnyDecoder.decode(signal, &payload, &mut decoded);
        if sequence == "-" {
            assert_eq!(result.unwrap_err().refusal.as_str(), word, "{line}");
            refused += 1;
            continue;
        }
        result.unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut expected = Samples::new(signal.columns.len());
        rest.iter().for_each(|text| sample(text, &mut expected));
        assert_eq!(decoded, expected, "{line}");
        let sequence: u16 = sequence.parse().unwrap();
        assert_eq!(AnyDecoder.sequence(&payload), Some(sequence), "{line}");
        let mut encoded = Vec::new();
        let result = encode(signal, sequence, &expected, &mut encoded);
        match word {
            "frame" => assert_eq!((result, encoded), (Ok(()), payload), "{line}"),
            "accept" => assert_ne!(encoded, payload, "{line}"),
            other => panic!("{other} is no word of a vector"),
        }
        frames += 1;
    }
    assert!(frames >= 15 && refused >= 10, "{frames} frames, {refused} refused");
}

#[test]
fn any_decoder_goes_by_the_first_byte() {
    let schema = Schema::default();
    let brake = signal(&schema, "brake");
    for text in
        [r#"{"ts": 1735689600000, "value": -12.5}"#, "\r\n\t [{\"ts\":1735689600000,\"value\":-12.5}]"]
    {
        let mut samples = Samples::new(1);
        AnyDecoder.decode(brake, text.as_bytes(), &mut samples).unwrap();
        assert!(samples.iter().eq([(T, &[-12.5][..])]));
        assert_eq!(AnyDecoder.sequence(text.as_bytes()), None);
    }
    for (payload, said) in [
        (&b"\x00"[..], "first byte 0x00 begins neither a frame (0xf1) nor JSON nor a CBOR array"),
        (b"63.2", "first byte 0x36 begins neither a frame (0xf1) nor JSON nor a CBOR array"),
        (b"", "the payload is empty"),
        (b"\xf1\x01", "a frame's header has 10 bytes, the payload has 2"),
        (b"\xf1\x00\0\0\0\0\0\0\0\0", "count 0 is not 1 to 64"),
        (b"\xf1\x02\0\0\0\0\0\0\0\0", "a frame of 2 samples of brake has 18 bytes, the payload has 10"),
    ] {
        let error = AnyDecoder.decode(brake, payload, &mut Samples::new(1)).unwrap_err();
        assert_eq!(error.detail, said);
    }
}

#[test]
fn what_does_not_fit_a_frame_leaves_no_bytes() {
    let schema = Schema::default();
    let speed = signal(&schema, "speed");
    let encoded = |samples: &[(Micros, f64)]| {
        let mut all = Samples::new(1);
        samples.iter().for_each(|&(time, value)| all.push(time, &[value]));
        let mut out = b"before".to_vec();
        let result = encode(speed, 1, &all, &mut out);
        assert_eq!(result.is_err(), out == b"before");
        result
    };
    assert_eq!(encoded(&[]), Err(EncodeError::Count(0)));
    assert_eq!(encoded(&[(T, 1.0); 64]), Ok(()));
    assert_eq!(encoded(&[(T, 1.0); 65]), Err(EncodeError::Count(65)));
    assert_eq!(encoded(&[(T, 1.0); 300]), Err(EncodeError::Count(300)));
    assert_eq!(encoded(&[(-1, 1.0)]), Err(EncodeError::Base(-1)));
    assert_eq!(encoded(&[(i64::MAX, 1.0)]), Err(EncodeError::Base(i64::MAX)));
    assert_eq!(encoded(&[(T, 1.0), (T + 999, 1.0), (T + 998, 1.0)]), Err(EncodeError::Backwards(2)));
    assert_eq!(encoded(&[(T + 999, 1.0), (T + 65_535_999, 1.0)]), Ok(()));
    assert_eq!(encoded(&[(T + 999, 1.0), (T + 65_536_000, 1.0)]), Err(EncodeError::Gap(1)));
    let error = encoded(&[(T, 1.0), (T, 655.36)]).unwrap_err();
    assert_eq!(error.to_string(), "speed_kmh: 655.36 does not fit into a frame");
    assert!(encoded(&[(T, f64::NAN)]).is_err());
    let error = encode(speed, 1, &Samples::new(2), &mut Vec::new()).unwrap_err();
    assert_eq!(error, EncodeError::Columns { expected: 1, got: 2 });
}

#[test]
fn a_signal_without_wire_formats_cannot_be_framed() {
    let mut config = RecordsConfig::default();
    config.signal[1].columns[0].unit = "mph".to_owned();
    let schema = config.build().unwrap();
    let speed = signal(&schema, "speed");
    let payload = bytes("f10107000092b40794010000b118");
    let error = AnyDecoder.decode(speed, &payload, &mut Samples::new(1)).unwrap_err();
    assert_eq!(error.detail, "speed: column speed_kmh has no wire format");
    let mut samples = Samples::new(1);
    samples.push(T, &[1.0]);
    let error = encode(speed, 1, &samples, &mut Vec::new()).unwrap_err();
    assert_eq!(error, EncodeError::NoWire("speed_kmh".to_owned()));
    assert_eq!(quantise(&speed.columns[0], 1.0), None);
}

/// The rows of the table in `docs/wire-format.md`: what these samples take, as they are encoded.
fn sizes() -> Vec<String> {
    let schema = Schema::default();
    let mut rows = Vec::new();
    for (name, at) in [
        ("position", &[52.520_006_6, 13.404_954][..]),
        ("speed", &[63.21]),
        ("fuel", &[47.5]),
        ("brake", &[85.3]),
    ] {
        for count in [1, 10, 64] {
            let signal = signal(&schema, name);
            let mut samples = Samples::new(at.len());
            (0..count).for_each(|i| samples.push(T + i * 1_000_000, at));
            let mut frame = Vec::new();
            encode(signal, 0, &samples, &mut frame).unwrap();
            let object = |(time, values): (Micros, &[f64])| match *values {
                [lat, lon] => format!(r#"{{"ts":{},"lat":{lat},"lon":{lon}}}"#, time / 1_000),
                _ => format!(r#"{{"ts":{},"value":{}}}"#, time / 1_000, values[0]),
            };
            let objects: Vec<_> = samples.iter().map(object).collect();
            let json = if count == 1 { objects[0].clone() } else { format!("[{}]", objects.join(",")) };
            let mut by_json = Samples::new(at.len());
            AnyDecoder.decode(signal, json.as_bytes(), &mut by_json).unwrap();
            assert_eq!(by_json, samples, "the same samples either way");
            let senml = senml::json(signal, &samples).len();
            let cbor = senml::cbor(signal, &samples, Fractions::Decimal).len();
            let (frame, json) = (frame.len(), json.len());
            let ratio = json as f64 / frame as f64;
            rows.push(format!("| {name} | {count} | {frame} | {json} | {ratio:.1} | {senml} | {cbor} |"));
        }
    }
    rows
}

#[test]
fn the_page_tells_the_sizes_as_they_are() {
    let page = docs("wire-format.md");
    let rows = sizes();
    let missing: Vec<_> = rows.iter().filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/wire-format.md should say\n{}", rows.join("\n"));
}

#[test]
fn the_pages_senml_is_what_it_says() {
    let page = docs("wire-format.md");
    let schema = Schema::default();
    let json = r#"[{"bn":"speed","bt":1735689600,"bu":"km/h","v":63.21},{"t":1.5,"v":63.4}]"#;
    let cbor = "81 A4 21 65 73 70 65 65 64 22 1A 67 74 85 80 23 64 6B 6D 2F 68 02 C4 82 21 19 18 B1";
    let units = r#"[{"bt":1735689600,"u":"lat","v":52.52},{"u":"lon","v":13.405}]"#;
    let names = r#"[{"bn":"urn:dev:vin:WDB9634031L123456:","bt":1735689600,"n":"latitude","v":52.52},{"n":"longitude","v":13.405}]"#;
    for (name, example, payload, expected) in [
        ("speed", json, json.into(), &[(T, &[63.21][..]), (T + 1_500_000, &[63.4])][..]),
        ("speed", cbor, bytes(&cbor.replace(' ', "")), &[(T, &[63.21])]),
        ("position", units, units.into(), &[(T, &[52.52, 13.405])]),
        ("position", names, names.into(), &[(T, &[52.52, 13.405])]),
    ] {
        assert!(page.lines().any(|line| line == example), "docs/wire-format.md lacks {example}");
        let signal = signal(&schema, name);
        let mut samples = Samples::new(signal.columns.len());
        AnyDecoder.decode(signal, &payload, &mut samples).unwrap();
        assert!(samples.iter().eq(expected.iter().copied()), "{example}: {samples:?}");
    }
}

proptest! {
    #[test]
    fn samples_come_back_as_quantised(
        which in 0..4_usize,
        sequence in any::<u16>(),
        start in 0..(1_i64 << 48) * 1_000,
        items in prop::collection::vec((0..=65_535_000_i64, 0.0..=1.0, 0.0..=1.0), 1..=64),
    ) {
        let schema = Schema::default();
        let signal = &schema.signals()[which];
        let (mut samples, mut expected) = (Samples::default(), Samples::default());
        samples.reset(signal.columns.len());
        expected.reset(signal.columns.len());
        // Whole milliseconds apart: two floors could put 65.535 s one too far.
        let mut time = start;
        for (delta, a, b) in items {
            time += delta / 1_000 * 1_000;
            let of_range = |(c, part): (&fleet_core::schema::Column, f64)| c.min + part * (c.max - c.min);
            let values: Vec<f64> = signal.columns.iter().zip([a, b]).map(of_range).collect();
            let on_wire = signal.columns.iter().zip(&values).map(|(c, v)| quantise(c, *v).unwrap());
            expected.push(time.div_euclid(1_000) * 1_000, &on_wire.collect::<Vec<_>>());
            samples.push(time, &values);
        }
        let mut payload = Vec::new();
        encode(signal, sequence, &samples, &mut payload).unwrap();
        let mut decoded = Samples::new(signal.columns.len());
        AnyDecoder.decode(signal, &payload, &mut decoded).unwrap();
        prop_assert_eq!(&decoded, &expected);
        prop_assert_eq!(AnyDecoder.sequence(&payload), Some(sequence));
        for ((_, before), (_, after)) in samples.iter().zip(decoded.iter()) {
            for ((column, a), b) in signal.columns.iter().zip(before).zip(after) {
                let half = column.wire.unwrap().scale() / 2.0;
                prop_assert!((a - b).abs() <= half * 1.000_001, "{} became {}", a, b);
            }
        }
    }
}
