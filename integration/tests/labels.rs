//! SELinux labels and AppArmor profiles: applied where the kernel has the module, for exec as for
//! init, and refused by name where it has not.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::*;

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// A profile that is loaded for a test.
struct Profile(String);

impl Profile {
    /// Loads a profile that allows all but writing below /forbidden; why it cannot, otherwise.
    fn load(c: &Container) -> Result<Self, &'static str> {
        if !has_apparmor() {
            return Err("this kernel has no AppArmor");
        }
        let this = Self(format!("{}-profile", c.id));
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  \
             network,\n  mount,\n  umount,\n  signal,\n  ptrace,\n  unix,\n  deny /forbidden/** w,\n}}\n",
            this.0
        );
        let file = c.path("profile");
        fs::write(&file, text).expect("write");
        match Command::new("apparmor_parser").args(["--replace", "--skip-cache", &file]).output() {
            Err(_) => Err("apparmor_parser is not installed"),
            Ok(run) => {
                assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
                Ok(this)
            }
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = fs::write("/sys/kernel/security/apparmor/.remove", &self.0);
    }
}

const ASK: &str = "cat /proc/self/attr/current; mkdir /forbidden/x 2>/dev/null || echo denied";

#[test]
fn a_profile_confines_init_and_exec() {
    spec!();
    fails_with!("crun", "refuses hybrid hosts");
    let c = Container::sh(&format!("{ASK}; sleep 1000"))
        .with_files(|root| fs::create_dir(root.join("forbidden")).expect("mkdir"));
    let profile = Profile::load(&c);
    skip_if!(profile.as_ref().err());
    let profile = profile.expect("a profile");
    let c = c.with(|c| c["process"]["apparmorProfile"] = profile.0.clone().into());
    let expected = format!("{} (enforce)\ndenied\n", profile.0);
    c.create().start();
    c.until_output("denied");
    assert_eq!(c.output(), expected);
    assert_eq!(c.ask(ASK), expected);
    let free = c.exec_with(&["--apparmor", "unconfined"], &["cat", "/proc/self/attr/current"]);
    assert_eq!(free.ok().out, "unconfined\n");
}

#[test]
fn exec_alone_can_have_a_profile() {
    spec!();
    fails_with!("crun", "refuses hybrid hosts");
    let c = Container::sleeper();
    let profile = Profile::load(&c);
    skip_if!(profile.as_ref().err());
    let profile = profile.expect("a profile");
    c.create().start();
    let run = c.exec_with(&["--apparmor", &profile.0], &["cat", "/proc/self/attr/current"]);
    assert_eq!(run.ok().out, format!("{} (enforce)\n", profile.0));
}

#[test]
fn a_profile_that_is_not_loaded_is_named() {
    davit_only!("its own messages");
    skip_if!((!has_apparmor()).then_some("this kernel has no AppArmor"));
    let c = Container::new(&["true"])
        .with(|c| c["process"]["apparmorProfile"] = "davit-test-nosuch".into());
    c.run().refuses(&["process.apparmorProfile", "davit-test-nosuch", "not loaded"]);
}

#[test]
fn without_the_module_labels_are_refused_by_name() {
    davit_only!("other runtimes ignore some of them");
    type Row = (&'static str, &'static str, bool, fn(&mut Value));
    let rows: [Row; 2] = [
        ("process.apparmorProfile", "AppArmor", has_apparmor(), |c| {
            c["process"]["apparmorProfile"] = "profile".into()
        }),
        ("process.selinuxLabel", "SELinux", has_selinux(), |c| {
            c["process"]["selinuxLabel"] = "system_u:system_r:t:s0".into()
        }),
    ];
    for (field, module, there, edit) in rows {
        if there {
            skip::say("labels::without_the_module", &format!("this kernel has {module}"));
            continue;
        }
        Container::new(&["true"]).with(edit).run().refuses(&[field, module]);
    }
}

#[test]
fn a_mount_label_without_selinux_has_no_effect_which_is_said() {
    davit_only!("crun says nothing, runc refuses it");
    skip_if!(has_selinux().then_some("this kernel has SELinux"));
    let c = Container::sh("echo runs")
        .with(|c| c["linux"]["mountLabel"] = "system_u:object_r:t:s0".into());
    let log = c.path("log");
    let c = c.global(&["--log", &log, "--log-level", "warning"]);
    assert_eq!(c.run().ok().out, "runs\n");
    let log = fs::read_to_string(log).expect("log");
    assert!(log.contains("linux.mountLabel: has no effect"), "{log}");
}

#[test]
fn exec_refuses_them_too() {
    davit_only!("other runtimes ignore some of them");
    let c = Container::sleeper();
    c.create().start();
    for (option, module, there) in
        [("--apparmor", "AppArmor", has_apparmor()), ("--process-label", "SELinux", has_selinux())]
    {
        if !there {
            c.exec_with(&[option, "x"], &["true"]).refuses(&["process.", module]);
        }
        // Empty is not given.
        c.exec_with(&[option, ""], &["true"]).ok();
    }
}

#[test]
fn empty_labels_are_none_and_unconfined_needs_no_module() {
    davit_only!("runc has another view of unconfined");
    let c = Container::new(&["true"]).with(|c| {
        c["process"]["apparmorProfile"] = "".into();
        c["process"]["selinuxLabel"] = "".into();
        c["linux"]["mountLabel"] = "".into();
    });
    c.run().ok();
    c.with(|c| c["process"]["apparmorProfile"] = "unconfined".into()).run().ok();
}

/// podman loads a profile of its own, and names it in config.json without being asked.
#[test]
fn podman_confines() {
    let p = podman!();
    skip_if!((!has_apparmor()).then_some("this kernel has no AppArmor"));
    skip_if!(fixture::missing(&["apparmor_parser"]));
    let own = ["cat", "/proc/self/attr/current"];
    p.sleeper("x", &[]);
    for seen in [p.run(&[], &own), p.exec(&[], "x", &own)] {
        assert!(seen.out.starts_with("containers-default-"), "{seen:?}");
        assert!(seen.out.ends_with(" (enforce)\n"), "{seen:?}");
    }
    let free = p.run(&["--security-opt", "apparmor=unconfined"], &own);
    assert_eq!(free.ok().out, "unconfined\n");
    let nosuch = p.run(&["--security-opt", "apparmor=davit-test-nosuch"], &own).fails();
    assert!(nosuch.err.contains("davit-test-nosuch"), "{nosuch:?}");
}
