//! SenML as a device would write it, and that every format gives the same samples.

use fleet_core::decode::frame::encode;
use fleet_core::decode::{AnyDecoder, Decoder};
use fleet_core::sample::Samples;
use fleet_core::schema::{Column, Signal};
use fleet_core::time::{SECOND, YEAR_2200};
use fleet_core::{Micros, Schema};
use minicbor::data::IanaTag;
use proptest::prelude::*;

/// How a pack in CBOR has its fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fractions {
    /// As decimal fractions, which are shorter here.
    Decimal,
    /// As doubles.
    Double,
}

/// A record's fields but the base ones: seconds after the base time, unit and value.
struct Record<'a> {
    after: Micros,
    unit: Option<&'a str>,
    column: &'a Column,
    value: f64,
}

/// The base time and the records of a pack: positions by their units, all else by a base unit.
fn records<'a>(signal: &'a Signal, samples: &'a Samples) -> (Micros, Vec<Record<'a>>) {
    let base = samples.iter().next().unwrap().0;
    let of_sample = |(time, values): (Micros, &'a [f64])| {
        signal.columns.iter().zip(values).map(move |(column, &value)| Record {
            after: time - base,
            unit: (signal.columns.len() > 1).then_some(&column.name[..3]),
            column,
            value,
        })
    };
    (base, samples.iter().flat_map(of_sample).collect())
}

/// Seconds as decimal text without zeros at its end.
fn seconds(micros: Micros) -> String {
    let text = format!("{}.{:06}", micros / SECOND, micros % SECOND);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A pack in JSON.
pub(crate) fn json(signal: &Signal, samples: &Samples) -> String {
    let (base, records) = records(signal, samples);
    let mut out = format!(r#"[{{"bn":"{}","bt":{},"#, signal.name, seconds(base));
    for (i, record) in records.iter().enumerate() {
        let (unit, column) = (record.unit, record.column);
        match unit {
            Some(unit) => out.push_str(&format!(r#""u":"{unit}","#)),
            None if i == 0 => out.push_str(&format!(r#""bu":"{}","#, column.unit)),
            None => {}
        }
        if record.after != 0 {
            out.push_str(&format!(r#""t":{},"#, seconds(record.after)));
        }
        let end = if i + 1 == records.len() { "]" } else { ",{" };
        out.push_str(&format!(r#""v":{}}}{end}"#, record.value));
    }
    out
}

type Encoder = minicbor::Encoder<Vec<u8>>;

/// A pack in CBOR.
pub(crate) fn cbor(signal: &Signal, samples: &Samples, fractions: Fractions) -> Vec<u8> {
    let (base, records) = records(signal, samples);
    let mut out = minicbor::Encoder::new(Vec::new());
    out.array(records.len() as u64).unwrap();
    for (i, record) in records.iter().enumerate() {
        let (unit, column) = (record.unit, record.column);
        let first = if i > 0 { 0 } else { 2 + u64::from(unit.is_none()) };
        let fields = 1 + first + u64::from(unit.is_some()) + u64::from(record.after != 0);
        out.map(fields).unwrap();
        if i == 0 {
            out.i8(-2).unwrap().str(&signal.name).unwrap();
            time(out.i8(-3).unwrap(), base, fractions);
            if unit.is_none() {
                out.i8(-4).unwrap().str(&column.unit).unwrap();
            }
        }
        if let Some(unit) = unit {
            out.u8(1).unwrap().str(unit).unwrap();
        }
        if record.after != 0 {
            time(out.u8(6).unwrap(), record.after, fractions);
        }
        let wire = column.wire.unwrap();
        let digits = (-wire.scale().log10()).round() as i8;
        let mantissa = wire.count(record.value).unwrap();
        number(out.u8(2).unwrap(), mantissa, -digits, record.value, fractions);
    }
    out.into_writer()
}

fn time(out: &mut Encoder, time: Micros, fractions: Fractions) {
    if time % SECOND == 0 {
        out.i64(time / SECOND).unwrap();
    } else {
        number(out, time, -6, time as f64 / SECOND as f64, fractions);
    }
}

fn number(out: &mut Encoder, mantissa: i64, exponent: i8, value: f64, fractions: Fractions) {
    match fractions {
        Fractions::Double => out.f64(value).unwrap(),
        Fractions::Decimal => {
            out.tag(IanaTag::Decimal).unwrap().array(2).unwrap().i8(exponent).unwrap().i64(mantissa).unwrap()
        }
    };
}

fn plain_json(samples: &Samples) -> String {
    let items =
        samples.iter().map(|(time, values)| format!(r#"{{"ts":{},"values":{values:?}}}"#, time / 1_000));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

#[test]
fn a_pack_needs_no_name_where_its_unit_tells() {
    let schema = Schema::default();
    let position = schema.signal(schema.find("position").unwrap());
    let text = r#"[{"bt":1735689600,"u":"lat","v":52.52},{"u":"lon","v":13.405}]"#;
    let mut samples = Samples::new(2);
    AnyDecoder.decode(position, text.as_bytes(), &mut samples).unwrap();
    assert!(samples.iter().eq([(1_735_689_600 * SECOND, &[52.52, 13.405][..])]));
    assert_eq!(AnyDecoder.sequence(text.as_bytes()), None);
    let error = AnyDecoder.decode(position, b"\x81\xa1\x06\x05", &mut Samples::new(2)).unwrap_err();
    assert_eq!(error.detail, "record 0: v is missing");
    assert_eq!(AnyDecoder.sequence(b"\x81\xa1\x06\x05"), None);
}

proptest! {
    /// Counts of a frame are decimals, and each format has them as it writes decimals.
    #[test]
    fn every_format_gives_the_same_samples(
        which in 0..4_usize,
        start in (1_i64 << 28) * 1_000..YEAR_2200 / 1_000 - 64 * 65_535,
        items in prop::collection::vec((0..=65_535_i64, any::<i64>(), any::<i64>()), 1..=64),
    ) {
        let schema = Schema::default();
        let signal = &schema.signals()[which];
        let mut samples = Samples::new(signal.columns.len());
        let mut millis = start;
        for (delta, a, b) in items {
            millis += delta;
            let value = |(column, seed): (&Column, i64)| {
                let wire = column.wire.unwrap();
                let (min, max) = wire.integer.range();
                wire.value(min + seed.rem_euclid(max - min + 1))
            };
            let values: Vec<_> = signal.columns.iter().zip([a, b]).map(value).collect();
            samples.push(millis * 1_000, &values);
        }
        let mut frame = Vec::new();
        encode(signal, 1, &samples, &mut frame).unwrap();
        for (format, payload) in [
            ("frame", frame),
            ("JSON", plain_json(&samples).into_bytes()),
            ("SenML JSON", json(signal, &samples).into_bytes()),
            ("SenML CBOR, decimals", cbor(signal, &samples, Fractions::Decimal)),
            ("SenML CBOR, doubles", cbor(signal, &samples, Fractions::Double)),
        ] {
            let mut decoded = Samples::new(signal.columns.len());
            let result = AnyDecoder.decode(signal, &payload, &mut decoded);
            prop_assert_eq!(result, Ok(()), "{}", format);
            let bits = |samples: &Samples| -> Vec<(Micros, Vec<u64>)> {
                samples.iter().map(|(t, v)| (t, v.iter().map(|v| v.to_bits()).collect())).collect()
            };
            prop_assert_eq!(bits(&decoded), bits(&samples), "{}", format);
        }
    }
}
