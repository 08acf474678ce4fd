//! Sets DAVIT_COMMIT, the commit that the program is built from: that of the environment, for a
//! source that is no repository (docs/install.md, "For distributions"), or git's.

use std::process::Command;

fn main() {
    let given = std::env::var("DAVIT_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=DAVIT_COMMIT={}", commit.trim());
    println!("cargo:rerun-if-env-changed=DAVIT_COMMIT");
    // cargo does not know the files that the linker reads.
    println!("cargo:rerun-if-changed=../../contrib/link.ld");
    println!("cargo:rerun-if-changed=../../contrib/link-order.ld");
    // In a work tree of its own these are not below .git.
    let paths = git(&["rev-parse", "--git-path", "HEAD", "--git-path", "refs/heads"]);
    for path in paths.unwrap_or_default().lines() {
        println!("cargo:rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}
