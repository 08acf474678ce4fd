//! `run --from`: containers that begin where a checkpoint was made.

use std::fs;

use integration::*;

/// The image of a program that has counted for a while, and how far it had at least.
fn warm() -> (Container, usize) {
    let c = Container::counter();
    c.up();
    let counted = c.counts_beyond(10);
    c.checkpoint(&[]);
    (c, counted)
}

/// `run --from IMAGE OPTIONS...`
fn run_from(c: &Container, image: &str, options: &[&str]) -> Call {
    let options = [&["--from", image], options].concat();
    c.run_call(&options).env("PATH", checkpoint::path())
}

#[test]
fn several_go_on_side_by_side() {
    criu!();
    davit_only!("no other runtime has --from");
    let (first, counted) = warm();
    let all: Vec<Container> = (0..3).map(|_| Container::counter()).collect();
    // At the same time, too.
    let calls: Vec<Running> = all
        .iter()
        .map(|c| {
            run_from(c, &first.image(), &["--detach"]).stdout(std::process::Stdio::null()).spawn()
        })
        .collect();
    for call in calls {
        assert_eq!(call.wait().ok().code, 0);
    }
    for c in &all {
        let now = c.counts_beyond(counted);
        assert!(now < counted + 300, "each from the image: {counted} {now}");
    }
    let different = |of: &dyn Fn(&Container) -> String| {
        let mut values: Vec<String> = all.iter().map(of).collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), all.len(), "{values:?}");
    };
    for kind in ["net", "uts", "ipc", "pid", "mnt"] {
        different(&|c| host::namespace_of(c.pid(), kind));
    }
    different(&|c| fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).expect("cgroup"));
    // One ends, and the others do not notice.
    all[0].delete().ok();
    all[0].assert_nothing_left();
    all[1].counts_beyond(all[1].counted());
    assert_eq!(all[1].exec(&["sh", "-c", "exit 4"]).code, 4);
}

#[test]
fn in_the_foreground_with_the_exit_code() {
    criu!();
    davit_only!("no other runtime has --from");
    let c = Container::sh("while [ ! -e /end ]; do sleep 0.05; done; exit 9");
    c.up();
    c.checkpoint(&[]);
    fs::write(c.rootfs().join("end"), "").expect("write");
    assert_eq!(run_from(&c, &c.image(), &[]).silent().done().code, 9);
    c.assert_nothing_left();
}

#[test]
fn an_image_that_is_none_is_refused() {
    criu!();
    davit_only!("no other runtime has --from");
    let (first, _) = warm();
    let c = Container::counter();
    run_from(&c, &first.path("nowhere"), &["--detach"]).done().refuses(&["nowhere"]);
    fs::remove_file(format!("{}/davit.json", first.image())).expect("rm");
    run_from(&c, &first.image(), &["--detach"]).done().refuses(&["davit.json", "image"]);
    c.assert_nothing_left();
}

/// The image is used by several at once: only logs and figures of CRIU's are written beside it.
#[test]
fn the_image_stays_as_it_is() {
    criu!();
    davit_only!("no other runtime has --from");
    let (first, counted) = warm();
    let files = || {
        let entries = fs::read_dir(first.image()).expect("image").flatten();
        let one = |entry: fs::DirEntry| {
            let (name, meta) = (entry.file_name(), entry.metadata().expect("stat"));
            (name.to_string_lossy().into_owned(), meta.len(), meta.modified().expect("mtime"))
        };
        let is_kept = |file: &(String, u64, std::time::SystemTime)| file.0.ends_with(".img");
        let mut all: Vec<_> = entries.map(one).filter(is_kept).collect();
        all.sort();
        all
    };
    let before = files();
    let c = Container::counter();
    run_from(&c, &first.image(), &["--detach"]).silent().done().exits(0);
    c.counts_beyond(counted);
    assert_eq!(files(), before);
}

#[test]
fn with_a_host_name_of_its_own() {
    criu!();
    davit_only!("no other runtime has --from");
    let (first, counted) = warm();
    for name in ["one", "two"] {
        let c = Container::counter().with(|c| c["hostname"] = name.into());
        run_from(&c, &first.image(), &["--detach"]).silent().done().exits(0);
        c.counts_beyond(counted);
        assert_eq!(c.ask("hostname"), format!("{name}\n"));
    }
}
