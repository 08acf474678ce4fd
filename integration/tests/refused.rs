//! Fields of the spec that davit does not apply yet are refused by name, never ignored.

use integration::*;

#[test]
fn fields_that_are_not_applied_are_named() {
    davit_only!("other runtimes apply or ignore them");
    type Row = (&'static str, fn(&mut Value));
    let rows: &[Row] = &[("linux.personality.flags", |c| {
        c["linux"]["personality"] = json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] })
    })];
    for (field, edit) in rows {
        let run = Container::new(&["true"]).with(edit).run();
        assert_ne!(run.code, 0, "{field} is ignored in silence");
        run.refuses(&[field]);
    }
}

#[test]
fn the_systemd_driver_needs_systemd() {
    davit_only!("its own messages");
    skip_if!(std::path::Path::new("/run/systemd/private").exists().then_some("systemd is here"));
    for options in [
        vec!["--systemd-cgroup"],
        vec!["--cgroup-manager", "systemd"],
        vec!["--cgroup-manager=systemd"],
    ] {
        let c = Container::new(&["true"]).global(&options);
        c.run().refuses(&["systemd: no systemd manager answers", "/run/systemd/private"]);
    }
}

#[test]
fn paths_of_systemd_need_its_driver() {
    davit_only!("other runtimes make a directory of that name");
    let c = Container::new(&["true"])
        .with(|c| c["linux"]["cgroupsPath"] = "system.slice:davit:x".into());
    c.run().refuses(&["linux.cgroupsPath", "systemd"]);
    let c = Container::new(&["true"]).global(&["--cgroup-manager", "bogus"]);
    c.run().refuses(&["cgroup-manager", "bogus"]);
}

#[test]
fn unknown_fields_are_ignored_but_explained() {
    spec!();
    let c = Container::sh("echo fine").with(|c| {
        c["org.example"] = json!({ "a": 1 });
        c["linux"]["rootfsPropogation"] = "shared".into();
        c["process"]["user"]["shoe"] = 46.into();
    });
    assert_eq!(
        c.run().warns(&["org.example", "rootfsPropagation", "process.user.shoe"]).out,
        "fine\n"
    );
    if runtime::runtime().is_davit() {
        let explain = c.call(&["explain", &c.path("bundle")]).done().exits(0);
        for field in ["org.example", "linux.rootfsPropogation", "process.user.shoe"] {
            assert!(explain.out.contains(field), "{field}: {explain:#?}");
        }
    }
}
