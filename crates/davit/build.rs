//! Tells the program which commit it was built from.

use std::process::Command;

fn main() {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit = commit.and_then(|output| String::from_utf8(output.stdout).ok());
    let commit = commit.map_or("unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=DAVIT_COMMIT={commit}");
    // cargo does not know that the linker reads it.
    println!("cargo:rerun-if-changed=../../contrib/link-order.ld");
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    println!("cargo:rerun-if-changed=../../.git/refs/heads");
}
