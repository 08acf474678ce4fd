//! Messages of CRIU, and the marker of an image, which may come from another host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    davit_checkpoint::protocol::fuzz(bytes);
    let _ = davit_checkpoint::image::Image::parse(bytes);
    let _ = davit_checkpoint::mountinfo::parse(bytes);
});
