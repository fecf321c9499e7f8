//! Payloads that are made to cost much: the work and the memory are still by their length.

use allocation_counter::measure;
use fleet_core::Schema;
use fleet_core::decode::json::MAX_PAYLOAD;
use fleet_core::decode::{
    AnyDecoder, Decoder, FrameDecoder, JsonDecoder, SenmlCborDecoder, SenmlJsonDecoder,
};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::schema::RecordsConfig;
use proptest::prelude::*;

/// The default's signals, and one with as many columns as there can be.
fn schema() -> Schema {
    let mut config = RecordsConfig::default();
    let mut tyres = config.signal[1].clone();
    tyres.name = "tyres".to_owned();
    tyres.columns = (0..16)
        .map(|i| {
            let mut column = config.signal[1].columns[0].clone();
            column.name = format!("tyre_{i}");
            column
        })
        .collect();
    config.signal.push(tyres);
    config.build().unwrap()
}

/// `head`, then `body` again and again up to the longest payload that is looked at.
fn long(head: &[u8], body: &[u8]) -> Vec<u8> {
    let times = (MAX_PAYLOAD - head.len()) / body.len();
    [head, &body.repeat(times)].concat()
}

fn payloads() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (head, body) in [
        // nesting
        ("", "["),
        ("[", "{\"x\":["),
        ("{\"ts\":", "["),
        ("[{\"x\":", "[{\"y\":"),
        // numbers of many digits
        ("{\"ts\":", "9"),
        ("{\"ts\":1,\"value\":1.", "0"),
        ("{\"ts\":1,\"value\":1e", "9"),
        ("[{\"t\":0.", "0123456789"),
        ("[{\"bt\":1e-", "9"),
        // many of the same
        ("{\"ts\":1,\"values\":[1", ",1"),
        ("{", "\"ts\":1,"),
        ("[", "{\"ts\":1,\"value\":1},"),
        ("[", "{},"),
        ("[{\"bt\":1735689600},", "{\"n\":\"tyre_15\",\"v\":1},"),
        ("[{\"bt\":1735689600},", "{\"t\":1,\"n\":\"tyre_0\",\"v\":1},"),
        ("[{\"v\":1,", "\"x\":null,"),
        // long texts, with escapes
        ("{\"ts\":\"", "2025-01-01T00:00:00Z"),
        ("{\"", "\\u00e4"),
        ("[{\"bn\":\"", ":"),
        ("[{\"n\":\"", "\\n"),
        ("[{\"u\":\"", "km/h"),
        ("", " "),
        ("", "\u{fffd}"),
    ] {
        all.push(long(head.as_bytes(), body.as_bytes()));
    }
    for (head, body) in [
        // nesting: arrays, maps and tags, of known, unknown and impossible length
        (&[0x81, 0xA1, 0x61, b'x'][..], &[0x81][..]),
        (&[0x81, 0xA1, 0x61, b'x'], &[0x9F]),
        (&[0x81, 0xA1, 0x61, b'x'], &[0xBF, 0x00]),
        (&[0x81, 0xA1, 0x61, b'x'], &[0xC4]),
        (&[0x81, 0xA1, 0x61, b'x'], &[0x9B, 255, 255, 255, 255, 255, 255, 255, 255]),
        (&[0x81, 0xA1, 0x61, b'x'], &[0xBB, 255, 255, 255, 255, 255, 255, 255, 255]),
        (&[0x81, 0xA1, 0x02], &[0xC4, 0x82]),
        (&[0x81, 0xA1, 0x00, 0x7F], &[0x60]),
        (&[0x81, 0xA1, 0x00, 0x7F], &[0x61, b':']),
        (&[0x81, 0xA1, 0x00, 0x5F], &[0x40]),
        // many of the same
        (&[0x9F], &[0xA0]),
        (&[0x9F, 0xA1, 0x22, 0x1A, 0x67, 0x74, 0x85, 0x80], &[0xA1, 0x02, 0x01]),
        (&[0x9B, 0, 0, 0, 1, 0, 0, 0, 0], &[0xA2, 0x06, 0x1A, 0x67, 0x74, 0x85, 0x80, 0x02, 0x01]),
        (&[0x81, 0xBF], &[0x18, 0x63, 0xF6]),
        // a decimal fraction that is far beyond all numbers
        (&[0x81, 0xA2, 0x06, 0xC4, 0x82, 0x3B, 127, 255, 255, 255, 255, 255, 255, 255, 0x01, 0x02], &[0x01]),
        (&[0xF1, 64], &[0xFF]),
        (&[], &[0xFF]),
    ] {
        all.push(long(head, body));
    }
    all
}

fn decoders() -> [&'static dyn Decoder; 5] {
    [&AnyDecoder, &FrameDecoder, &JsonDecoder, &SenmlJsonDecoder, &SenmlCborDecoder]
}

#[test]
fn work_and_memory_go_by_the_payloads_length() {
    let schema = schema();
    for payload in payloads() {
        assert!(payload.len() <= MAX_PAYLOAD && payload.len() > MAX_PAYLOAD - 32);
        let shown = String::from_utf8_lossy(&payload[..24]).into_owned();
        for (decoder, signal) in
            decoders().into_iter().flat_map(|d| schema.signals().iter().map(move |s| (d, s)))
        {
            let mut samples = Samples::new(signal.columns.len());
            let mut result = Ok(());
            let taken = measure(|| result = decoder.decode(signal, &payload, &mut samples));
            // 16 bytes for a level of nesting or a number, in a vector that grows by doubling.
            let most = 64 * payload.len() as u64;
            assert!(taken.bytes_max <= most, "{shown:?} by {decoder:?} took {} bytes", taken.bytes_max);
            assert!(taken.count_total <= payload.len() as u64, "{shown:?} by {decoder:?}: {taken:?}");
            assert!(samples.len() <= 1_024, "{shown:?} by {decoder:?}");
            if let Err(error) = result {
                assert_eq!(error.refusal, Refusal::Malformed);
                assert!(error.detail.len() < 1_000, "{error}");
            }
        }
    }
}

/// Bytes that begin as one of the formats does, with pieces of all of them in any order.
fn nearly_a_payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            &b"{"[..],
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"ts\":",
            b"\"value\":",
            b"\"lat\":",
            b"\"t\":",
            b"\"bt\":",
            b"\"v\":",
            b"\"u\":\"lon\"",
            b"1735689600000",
            b"1735689600",
            b"1e400",
            b"-0.0",
            b"\"2025-01-01T00:00:00Z\"",
            b"null",
            b"\x81",
            b"\x9f",
            b"\xa2",
            b"\xbf",
            b"\xff",
            b"\xf1\x01",
            b"\x06\x1a\x67\x74\x85\x80",
            b"\x02\x01",
            b"\xc4\x82\x20",
            b"\xf9\x7e\x00",
            b"\0\0\0\0\0\0\0\0",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_samples_or_one_error_of_the_list(payload in nearly_a_payload()) {
        let schema = Schema::default();
        for (decoder, signal) in
            decoders().into_iter().flat_map(|d| schema.signals().iter().map(move |s| (d, s)))
        {
            let mut samples = Samples::new(signal.columns.len());
            match decoder.decode(signal, &payload, &mut samples) {
                Ok(()) => prop_assert!(!samples.is_empty()),
                Err(e) if payload.is_empty() => prop_assert_eq!(e.refusal, Refusal::Empty),
                Err(e) => prop_assert_eq!(e.refusal, Refusal::Malformed),
            }
            // The same bytes give the same.
            let mut again = Samples::new(signal.columns.len());
            let _ = decoder.decode(signal, &payload, &mut again);
            prop_assert_eq!(samples.len(), again.len());
        }
    }
}
