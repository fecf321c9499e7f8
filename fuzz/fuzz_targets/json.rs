#![no_main]

use fleet_fuzz::{json, schema_of_one};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| json::check(schema_of_one(payload), payload));
