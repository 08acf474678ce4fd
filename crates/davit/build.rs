//! Sets DAVIT_COMMIT, the commit that the program is built from.

use std::process::Command;

fn main() {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit = commit.and_then(|output| String::from_utf8(output.stdout).ok());
    let commit = commit.map_or("unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=DAVIT_COMMIT={commit}");
    // cargo does not know the files that the linker reads.
    println!("cargo:rerun-if-changed=../../contrib/link.ld");
    println!("cargo:rerun-if-env-changed=LINK_ORDER");
    if let Ok(order) = std::env::var("LINK_ORDER") {
        println!("cargo:rerun-if-changed={order}");
    }
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    println!("cargo:rerun-if-changed=../../.git/refs/heads");
}
