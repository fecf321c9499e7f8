use proptest::prelude::*;

use super::*;
use crate::schema::{RecordsConfig, Schema};
use crate::time::{Micros, SECOND};

const T: Micros = 1_735_689_600 * SECOND;

/// 1735689600 as an integer.
const BT: &str = "1a677485 80";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn decode_as(schema: &Schema, name: &str, payload: &[u8]) -> Result<Vec<(Micros, Vec<f64>)>, String> {
    let signal = schema.signal(schema.find(name).unwrap());
    let mut out = Samples::new(signal.columns.len());
    match SenmlCborDecoder.decode(signal, payload, &mut out) {
        Ok(()) => Ok(out.iter().map(|(t, v)| (t, v.to_vec())).collect()),
        Err(e) => Err(e.detail),
    }
}

/// Of a pack in hex, in which `T` stands for the time of 2025.
fn speed(hex: &str) -> Result<Vec<(Micros, Vec<f64>)>, String> {
    decode_as(&Schema::default(), "speed", &bytes(&hex.replace('T', BT)))
}

#[test]
fn the_example_of_the_rfc() {
    // Section 6 with the first record, a voltage, as a current.
    let hex = "87 a7 21 78 1b 75726e3a6465763a6f773a3130653230373361303130383030363a
        22 fb 41d303a15b001062 23 61 41 20 05 00 67 766f6c74616765 01 61 41 02 fb 405e066666666666
        a3 00 67 63757272656e74 06 24 02 fb 3ff3333333333333
        a3 00 67 63757272656e74 06 23 02 fb 3ff4cccccccccccd
        a3 00 67 63757272656e74 06 22 02 fb 3ff6666666666666
        a3 00 67 63757272656e74 06 21 02 f9 3e00
        a3 00 67 63757272656e74 06 20 02 fb 3ff999999999999a
        a2 00 67 63757272656e74 02 fb 3ffb333333333333";
    let mut config = RecordsConfig::default();
    config.signal[1].columns[0].unit = "A".to_owned();
    let at = 1_276_020_076_001_000;
    let expected = [(0, 120.1), (-5, 1.2), (-4, 1.3), (-3, 1.4), (-2, 1.5), (-1, 1.6), (0, 1.7)];
    let expected = expected.map(|(t, value)| (at + t * SECOND, vec![value]));
    assert_eq!(decode_as(&config.build().unwrap(), "speed", &bytes(hex)), Ok(expected.to_vec()));
}

#[test]
fn every_way_to_write_a_sample() {
    for (hex, value) in [
        ("81 a2 06T 02 18 3f", 63.0),
        ("81 a2 06T 02 38 3f", -64.0),
        ("81 a2 06T 02 1bffffffffffffffff", u64::MAX as f64),
        ("81 a2 06T 02 3bffffffffffffffff", -18_446_744_073_709_551_616.0),
        ("81 a2 06T 02 f9 3e00", 1.5),
        ("81 a2 06T 02 f9 0001", 2.0_f64.powi(-24)),
        ("81 a2 06T 02 fa 42800000", 64.0),
        ("81 a2 06T 02 fb 404f9ae147ae147b", 63.21),
        ("81 a2 06T 02 c4 82 21 19 18b1", 63.21),
        ("81 a2 06T 02 c4 9f 21 19 18b1 ff", 63.21),
        ("81 a2 06T 02 d8 04 82 20 05", 0.5),
        ("81 a2 22T 02 05", 5.0),
        ("81 a2 02 05 06T", 5.0),
        ("9f a2 06T 02 05 ff", 5.0),
        ("81 bf 06T 02 05 ff", 5.0),
        ("9f bf 06T 02 05 ff ff", 5.0),
        ("98 01 b8 02 06T 02 05", 5.0),
        // an indefinite text, an extension, an unknown label, and a name as in JSON
        ("81 a3 01 7f 62 6b6d 62 2f68 ff 06T 02 05", 5.0),
        ("81 a3 06T 02 05 61 78 a1 61 79 9f 80 9f ff ff", 5.0),
        ("81 a3 06T 02 05 18 63 f6", 5.0),
        ("81 a2 61 74T 61 76 05", 5.0),
        // the time as double and as decimal fraction
        ("81 a2 06 fb 41d9dd2160000000 02 05", 5.0),
        ("81 a2 06 c4 82 25 1b 00062a99ba0c6000 02 05", 5.0),
    ] {
        let decoded = speed(hex).unwrap_or_else(|e| panic!("{hex}: {e}"));
        let [(time, values)] = &decoded[..] else { panic!("{hex}: {decoded:?}") };
        assert_eq!((*time, values[0].to_bits()), (T, f64::to_bits(value)), "{hex}");
    }
    let nan = speed("81 a2 06T 02 f9 7e00").unwrap();
    assert!(nan[0].1[0].is_nan(), "values are looked at by `check`");
}

#[test]
fn what_is_wrong_is_named() {
    for (hex, said) in [
        ("", "the payload is empty"),
        ("80", "the pack has no sample; 1 to 64 are possible"),
        ("9f ff", "the pack has no sample"),
        ("9f", "end of input bytes"),
        ("9c", "unexpected type"),
        ("a0", "unexpected type map at position 0: expected array"),
        ("81 80", "record 0: unexpected type array at position 1: expected map"),
        ("81 a2 06T 02 05 00", "1 bytes are left over after the pack"),
        ("81 a2 06T", "record 0: end of input bytes"),
        ("82 a2 06T 02 05", "record 1: end of input bytes"),
        ("9b ffffffffffffffff a2 06T 02 05", "record 1: end of input bytes"),
        ("81 bb ffffffffffffffff 06T", "record 0: end of input bytes"),
        ("81 a1 02 7b ffffffffffffffff", "record 0: v: unexpected type string"),
        ("81 a1 00 7b ffffffffffffffff", "record 0: n: end of input bytes"),
        ("81 a1 00 62 ffff", "record 0: n: invalid utf-8"),
        ("81 a1 00 41 00", "record 0: n: unexpected type bytes"),
        ("81 a2 02 05 02 05", "record 0: v is given twice"),
        ("81 a1 02 f6", "record 0: v: unexpected type null"),
        ("81 a1 02 c2 41 05", "record 0: v: unexpected tag 2: only decimal fractions have one"),
        ("81 a1 02 c4 81 00", "record 0: v: decode error: a decimal fraction is an exponent and a mantissa"),
        (
            "81 a1 02 c4 83 00 00 00",
            "record 0: v: decode error: a decimal fraction is an exponent and a mantissa",
        ),
        (
            "81 a1 02 c4 9f 00 ff",
            "record 0: v: decode error: a decimal fraction is an exponent and a mantissa",
        ),
        ("81 a1 02 c4 82 00 f9 3e00", "record 0: v: unexpected type f16"),
        ("81 a1 02 c4 82 00 1b ffffffffffffffff", "record 0: v: 18446744073709551615 overflows target type"),
        ("81 a1 03 62 6f6e", "record 0: vs is no number, and only numbers are taken"),
        ("81 a1 04 f5", "record 0: vb is no number"),
        ("81 a1 08 41 00", "record 0: vd is no number"),
        ("81 a1 62 785f 00", "record 0: \"x_\" is a field that must be understood, and is not"),
        ("81 a1 20 0b", "record 0: bver: 11 is not 1 to 10"),
        ("81 a2 06 05 02 05", "record 0: t: 5 s is relative to the receipt"),
        ("81 a2 06 f9 7e00 02 05", "record 0: t: NaN s is beyond all time"),
        ("81 a1 f5 00", "record 0: a field's label: unexpected type bool"),
        ("81 bf 61 78 ff", "record 0: unexpected type break"),
        ("81 bf 02 ff", "record 0: v: unexpected type break"),
    ] {
        let error = speed(hex).unwrap_err();
        assert!(error.starts_with(said), "{hex}: {error}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let pack = |n: u8| [&[0x98, n][..], &bytes(&"a2 06T 02 05".replace('T', BT)).repeat(n.into())].concat();
    let decode = |payload: &[u8]| decode_as(&Schema::default(), "speed", payload);
    assert_eq!(decode(&pack(64)).unwrap().len(), 64);
    assert_eq!(decode(&pack(65)).unwrap_err(), "record 64: the pack has more than 64 samples");
    assert!(decode(&vec![0x80; 65_537]).unwrap_err().starts_with("the payload has 65537 bytes"));
    for deep in ["81", "9f", "a1", "bf", "c4", "82", "bf 61 78"] {
        let nested = [bytes("81 a1 61 78"), bytes(deep).repeat(20_000)].concat();
        assert!(decode(&nested).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_samples_or_an_error(head in 0x80..=0x9f_u8, rest in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_as(&Schema::default(), "position", &[vec![head], rest].concat());
    }
}
