#![no_main]

use fleet_fuzz::{senml_cbor, schema_of_one};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| senml_cbor::check(schema_of_one(payload), payload));
