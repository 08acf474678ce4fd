//! Messages of D-Bus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| davit_dbus::fuzzing::messages(bytes));
