//! `restore` where something is missing or is not what it was: it is refused, names it, and leaves
//! nothing behind.

use std::fs;
use std::path::Path;

use integration::config::add_mount;
use integration::*;

/// A checkpoint of a container that is gone.
fn saved(c: Container) -> Container {
    c.up();
    c.counts_beyond(3);
    c.checkpoint(&[]);
    c.assert_nothing_left();
    c
}

/// Is refused with these texts, and leaves nothing.
#[track_caller]
fn is_refused(c: &Container, image: &str, texts: &[&str]) {
    c.restore_call(image, &["--detach"]).done().refuses(texts);
    c.assert_nothing_left();
}

#[test]
fn a_mount_whose_source_is_gone_is_named() {
    criu!();
    let c = Container::counter();
    let source = c.path("data");
    fs::create_dir(&source).expect("mkdir");
    let c = saved(c.with(|c| add_mount(c, "/mnt", "bind", &source, &["rbind"])));
    fs::remove_dir(&source).expect("rmdir");
    is_refused(&c, &c.image(), &[&source, "mounts[7]"]);
    fs::create_dir(&source).expect("mkdir");
    c.restore(&[]).counts_beyond(3);
}

#[test]
fn a_mount_that_config_json_does_not_have_any_more_is_named() {
    criu!();
    let c = Container::counter();
    let source = c.path("data");
    fs::create_dir(&source).expect("mkdir");
    let mut c = saved(c.with(|c| add_mount(c, "/mnt", "bind", &source, &["rbind"])));
    config::drop_mount(&mut c.config, "/mnt");
    is_refused(&c, &c.image(), &["/mnt"]);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    criu!();
    let c = Container::counter();
    is_refused(&c, &c.path("nowhere"), &[&c.path("nowhere")]);
    is_refused(&c, &c.path("bundle/config.json"), &["config.json"]);
    fs::create_dir(c.path("empty")).expect("mkdir");
    is_refused(&c, &c.path("empty"), &[&c.path("empty")]);
}

/// The files of an image, by name.
fn files(image: &str) -> Vec<String> {
    let entries = fs::read_dir(image).expect("image").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whatever CRIU makes of it, nothing is left behind.
#[test]
fn an_image_without_one_of_its_files() {
    criu!();
    let c = saved(Container::counter());
    for name in files(&c.image()) {
        let file = Path::new(&c.image()).join(&name);
        let bytes = fs::read(&file).expect("read");
        fs::remove_file(&file).expect("rm");
        let restored = c.restore_call(&c.image(), &["--detach"]).silent().done();
        if restored.code == 0 {
            c.delete().ok();
        }
        c.assert_nothing_left();
        fs::write(&file, bytes).expect("write");
    }
    c.restore(&[]).counts_beyond(3);
}

#[test]
fn an_image_whose_files_end_too_early() {
    criu!();
    davit_only!("runc and CRIU wait for ever for the rest of a file of pages");
    let c = saved(Container::counter());
    for name in files(&c.image()).iter().filter(|name| name.ends_with(".img")) {
        let file = Path::new(&c.image()).join(name);
        let bytes = fs::read(&file).expect("read");
        if bytes.is_empty() {
            continue;
        }
        fs::write(&file, &bytes[..bytes.len() / 2]).expect("write");
        is_refused(&c, &c.image(), &[name, "bytes"]);
        fs::write(&file, bytes).expect("write");
    }
    c.restore(&[]).counts_beyond(3);
}

#[test]
fn a_root_that_lacks_the_program() {
    criu!();
    let c = saved(Container::counter());
    let (program, away) = (c.rootfs().join("bin/busybox"), c.path("busybox"));
    fs::rename(&program, &away).expect("mv");
    is_refused(&c, &c.image(), &["busybox"]);
    fs::copy(&away, &program).expect("cp");
    fs::write(&program, "another").expect("write");
    is_refused(&c, &c.image(), &["busybox"]);
    fs::remove_file(&program).expect("rm");
    fs::rename(&away, &program).expect("mv");
    c.restore(&[]).counts_beyond(3);
}

/// An image may come from elsewhere: what stands in it is checked as config.json is.
#[test]
fn a_marker_that_is_damaged_or_lies_is_refused() {
    criu!();
    davit_only!("the marker is davit's");
    let c = saved(Container::counter());
    let marker = Path::new(&c.image()).join("davit.json");
    let text = fs::read(&marker).expect("a marker");
    let whole: Value = serde_json::from_slice(&text).expect("JSON");
    let refused = |text: &[u8]| {
        fs::write(&marker, text).expect("write");
        is_refused(&c, &c.image(), &["davit.json"]);
    };
    refused(b"");
    refused(b"{}");
    refused(&text[..text.len() / 2]);
    refused(&[0xff; 300]);
    let mount = |mountpoint: &str, destination: &str| json!([{ "mountpoint": mountpoint, "destination": destination, "kind": "bind" }]);
    let edits = [
        ("format", json!(99)),
        ("mounts", mount("/../../etc", "/etc")),
        ("mounts", mount("/etc", "../etc")),
        ("mounts", mount("", "")),
        ("streams", json!([{ "link": "x", "key": "extRootNetNS" }])),
        ("streams", json!([{ "link": "x", "key": "../../dev/sda" }])),
    ];
    for (member, value) in edits {
        let mut lie = whole.clone();
        lie[member] = value;
        refused(lie.to_string().as_bytes());
    }
    fs::remove_file(&marker).expect("rm");
    is_refused(&c, &c.image(), &["davit.json"]);
    fs::write(&marker, text).expect("write");
    c.restore(&[]).counts_beyond(3);
}
