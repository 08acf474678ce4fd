//! Values of systemd's properties in annotations.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| davit_cgroups::fuzzing::gvariant(text));
