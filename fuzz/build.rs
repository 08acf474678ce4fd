//! davit's own modules want to know what they were built from.
fn main() {
    println!("cargo:rustc-env=DAVIT_COMMIT=fuzz");
    println!("cargo:rerun-if-changed=build.rs");
}
