//! Answers of rtnetlink(7).
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| davit_namespaces::fuzzing::netlink(datagram));
