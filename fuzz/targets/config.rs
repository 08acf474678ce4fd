//! config.json -> plan.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| davit_runtime::fuzzing::config(text));
