#![no_main]

use std::sync::LazyLock;

use fleet_core::Schema;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::default);

libfuzzer_sys::fuzz_target!(|payload: &[u8]| fleet_fuzz::senml_json::check(&SCHEMA, payload));
