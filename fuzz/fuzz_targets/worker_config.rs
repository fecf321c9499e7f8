#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleet_fuzz::worker_config::check(bytes));
