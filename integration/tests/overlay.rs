//! Mounts of type overlay.

use std::fs;

use integration::config::add_mount;
use integration::*;

/// Directories NAME below the container's, each with a file of its name and the shared file `top`.
fn layers(c: &Container, names: &[&str]) -> Vec<String> {
    let make = |name: &&str| {
        let dir = c.path(name);
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(format!("{dir}/{}", name.replace('/', "-")), "").expect("write");
        fs::write(format!("{dir}/top"), format!("{name}\n")).expect("write");
        dir
    };
    names.iter().map(make).collect()
}

#[test]
fn lower_upper_and_work() {
    spec!();
    let c = Container::sh("cat /mnt/top; echo new >/mnt/top; rm /mnt/b; ls /mnt");
    let lower = layers(&c, &["a", "b"]).join(":");
    for dir in ["up", "work"] {
        fs::create_dir(c.path(dir)).expect("mkdir");
    }
    let (upper, work) = (c.path("up"), c.path("work"));
    let options =
        [format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &options));
    assert_eq!(c.run().ok().out, "a\na\ntop\n");
    assert_eq!(fs::read_to_string(c.path("up/top")).expect("upper"), "new\n");
    assert_eq!(fs::read_to_string(c.path("a/top")).expect("lower"), "a\n");
}

#[test]
fn read_only_without_upper() {
    spec!();
    let c = Container::sh("ls /mnt; touch /mnt/x 2>&1 | grep -c Read-only");
    let lower = layers(&c, &["a", "b", "c"]).join(":");
    let option = format!("lowerdir={lower}");
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "none", &[&option]));
    assert_eq!(c.run().ok().out, "a\nb\nc\ntop\n1\n");
}

#[test]
fn more_lower_layers_than_a_page_of_options_holds() {
    spec!();
    fails_with!("runc", "the option string ends at a page");
    fails_with!("crun", "the option string ends at a page");
    let c = Container::sh("ls /mnt | wc -l; cat /mnt/top");
    let names: Vec<String> = (0..150)
        .map(|n| format!("a-directory-with-a-rather-long-name-as-engines-make-them/{n}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let option = format!("lowerdir={}", layers(&c, &names).join(":"));
    assert!(option.len() > 8192);
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &[&option]));
    assert_eq!(c.run().ok().out, format!("151\n{}\n", names[0]));
}

#[test]
fn names_with_special_characters() {
    davit_only!("other runtimes hand the option string on as it is");
    let c = Container::sh("cat /mnt/top");
    let dir = layers(&c, &["with, comma: and colon"]).remove(0);
    let escaped = dir.replace(':', "\\:").replace(',', "\\,");
    let option = format!("lowerdir={escaped}:{}", layers(&c, &["b"])[0]);
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &[&option]));
    assert_eq!(c.run().ok().out, "with, comma: and colon\n");
}

#[test]
fn a_missing_layer_is_refused() {
    spec!();
    let c = Container::new(&["true"]);
    let option = format!("lowerdir={}:{}", layers(&c, &["a"])[0], c.path("nosuch"));
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &[&option]));
    c.run().refuses(&["mounts[7]", "overlay", "nosuch"]);
}

#[test]
fn flags_apply() {
    spec!();
    let c = Container::sh("grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6");
    let option = format!("lowerdir={}", layers(&c, &["a", "b"]).join(":"));
    let c = c.with(|c| add_mount(c, "/mnt", "overlay", "overlay", &[&option, "nosuid", "nodev"]));
    assert!(c.run().ok().out.contains("nosuid,nodev"));
}
