//! mountinfo and other files of /proc.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    davit_cgroups::fuzzing::mountinfo(bytes);
    davit_rootfs::fuzzing::mountinfo(bytes);
    davit_runtime::fuzzing::lines(bytes);
});
