//! The committed corpora of the fuzz targets that need no other crate, replayed without a fuzzer, and the same assertions for
//! bytes that are close to frames.

use std::fs;
use std::path::Path;

use fleet_core::Schema;
use fleet_core::schema::Signal;
use proptest::prelude::*;

#[cfg(feature = "nats")]
#[path = "../../../fuzz/src/bind_request.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod bind_request;
#[path = "../../../fuzz/src/config.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod config;
#[path = "../../../fuzz/src/frame.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod frame;
#[path = "../../../fuzz/src/json.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod json;
#[cfg(feature = "nats")]
#[path = "../../../fuzz/src/nats_reader.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod nats_reader;
#[path = "../../../fuzz/src/senml_cbor.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod senml_cbor;
#[path = "../../../fuzz/src/senml_json.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod senml_json;
#[cfg(feature = "nats")]
#[path = "../../../fuzz/src/subject.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod subject;

fn replay(target: &str, check: fn(&Schema, &[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let schema = Schema::default();
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        check(&schema, &fs::read(entry.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds >= 5, "{} has only {seeds} seeds", folder.display());
}

#[test]
fn the_corpus_of_frame_holds() {
    replay("frame", frame::check);
}

#[test]
fn the_corpus_of_json_holds() {
    replay("json", json::check);
}

#[test]
fn the_corpus_of_senml_json_holds() {
    replay("senml_json", senml_json::check);
}

#[test]
fn the_corpus_of_senml_cbor_holds() {
    replay("senml_cbor", senml_cbor::check);
}

#[cfg(feature = "nats")]
#[test]
fn the_corpus_of_subject_holds() {
    replay("subject", |_, bytes| subject::check(bytes));
}

#[cfg(feature = "nats")]
#[test]
fn the_corpus_of_bind_request_holds() {
    replay("bind_request", |_, bytes| bind_request::check(bytes));
}

#[cfg(feature = "nats")]
#[test]
fn the_corpus_of_nats_reader_holds() {
    replay("nats_reader", |_, bytes| nats_reader::check(bytes));
}

#[test]
fn the_corpus_of_config_holds() {
    replay("config", |_, bytes| config::check(bytes));
}

/// Bytes with a frame's marker, a count and the length that goes with it, give or take one.
fn nearly_frame() -> impl Strategy<Value = Vec<u8>> {
    let width = |signal: &Signal| -> usize {
        signal.columns.iter().flat_map(|c| &c.wire).map(|w| w.integer.width()).sum()
    };
    let widths: Vec<usize> = Schema::default().signals().iter().map(width).collect();
    (prop::sample::select(widths), 0..70_u8, -1..=1_isize)
        .prop_flat_map(|(width, count, extra)| {
            let len = (8 + usize::from(count) * (2 + width)).saturating_add_signed(extra);
            (Just(count), prop::collection::vec(any::<u8>(), len))
        })
        .prop_map(|(count, rest)| [vec![0xF1, count], rest].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(
        payload in prop_oneof![nearly_frame(), prop::collection::vec(any::<u8>(), 0..80)]
    ) {
        frame::check(&Schema::default(), &payload);
    }

    /// Operations of a server, of which some have lost or gained a byte, in any pieces.
    #[cfg(feature = "nats")]
    #[test]
    fn a_servers_bytes_are_the_same_operations_in_any_pieces(
        cut in any::<[u8; 2]>(),
        stream in prop::collection::vec(nearly_operation(), 0..6),
    ) {
        nats_reader::check(&[&cut[..], &stream.concat()].concat());
    }
}

/// An operation, with one byte of it changed at times.
#[cfg(feature = "nats")]
fn nearly_operation() -> impl Strategy<Value = Vec<u8>> {
    let word = || prop_oneof![Just("a.b".to_owned()), "[!-~]{1,30}"];
    let message =
        (word(), 0..3_u64 << 20, prop::option::of(word()), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(subject, sid, reply, payload)| {
                let reply = reply.map(|reply| reply + " ").unwrap_or_default();
                let line = format!("MSG {subject} {sid} {reply}{}\r\n", payload.len());
                [line.as_bytes(), &payload, b"\r\n"].concat()
            });
    let with_headers = (word(), prop::collection::vec(any::<u8>(), 0..40), 0..40_usize).prop_map(
        |(subject, message, headers)| {
            let line = format!("HMSG {subject} 1 {} {}\r\n", headers.min(message.len()), message.len());
            [line.as_bytes(), &message, b"\r\n"].concat()
        },
    );
    let other = prop::sample::select(vec![
        "PING\r\n",
        "PONG\r\n",
        "+OK\r\n",
        "-ERR 'no'\r\n",
        "INFO {}\r\n",
        "PING\n",
    ]);
    let operation = prop_oneof![message, with_headers, other.prop_map(|text| text.as_bytes().to_vec())];
    (operation, prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut bytes, change)| {
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        },
    )
}
