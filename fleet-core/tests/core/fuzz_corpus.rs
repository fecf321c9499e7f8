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
}
