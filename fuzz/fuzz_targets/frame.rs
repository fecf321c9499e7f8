#![no_main]

use fleet_fuzz::{frame, schema_of_one};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| frame::check(schema_of_one(payload), payload));
