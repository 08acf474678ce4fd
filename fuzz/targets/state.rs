//! The files of a state directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| davit_runtime::fuzzing::state(bytes));
