//! An upgrade under running containers, and a rollback: each command of one version on a container
//! of another. `DAVIT_OLD` is the other davit, the last release (`make upgrade-test`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use integration::call::within;
use integration::config::shell_hook;
use integration::runtime::runtime;
use integration::*;

/// A container, the davit that makes it and the one that is called later.
struct Upgrade {
    c: Container,
    maker: String,
    caller: String,
}

/// Both directions; `None` without another davit.
fn versions() -> Option<[(String, String); 2]> {
    let old = std::env::var("DAVIT_OLD").ok().filter(|path| !path.is_empty())?;
    assert!(Path::new(&old).exists(), "DAVIT_OLD={old}");
    let new = runtime().path.to_string_lossy().into_owned();
    Some([(old.clone(), new.clone()), (new, old)])
}

impl Upgrade {
    fn new(c: Container, (maker, caller): &(String, String)) -> Self {
        Self { c, maker: maker.clone(), caller: caller.clone() }
    }

    /// A call of one of the two.
    fn by(&self, davit: &str, words: &[&str]) -> Call {
        let root = self.c.path("state");
        self.c.host(&[&[davit, "--root", &root], words].concat())
    }

    fn make(&self, command: &[&str]) -> Outcome {
        self.c.write();
        let bundle = self.c.bundle();
        let options = ["--bundle", bundle.to_str().expect("utf-8"), &self.c.id];
        self.by(&self.maker, &[command, &options].concat()).done()
    }

    fn call(&self, words: &[&str]) -> Outcome {
        self.by(&self.caller, words).done()
    }

    fn status(&self) -> String {
        let state = self.call(&["state", &self.c.id]).ok().json();
        state["status"].as_str().expect("status").to_owned()
    }

    fn log(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.c.path(&format!("log/{name}")));
        log.map_or(0, |text| text.lines().count())
    }
}

/// A container with all that later commands read: a filter, capabilities, a user, hooks, limits.
fn container() -> Container {
    let c = Container::sleeper().with_log();
    let hook = |name: &str| shell_hook(&format!("echo >>{}", c.path(&format!("log/{name}"))));
    let hooks = json!({ "poststart": [hook("poststart")], "poststop": [hook("poststop")] });
    c.with(|config| {
        config["hooks"] = hooks;
        config["process"]["noNewPrivileges"] = true.into();
        config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
        config::set_capabilities(config, &["CAP_KILL", "CAP_SYS_PTRACE"]);
        config::push(&mut config["process"]["env"], "NAME=a value".into());
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71 }]
        });
        config["linux"]["resources"]["pids"] = json!({ "limit": 40 });
    })
}

fn each_direction(test: impl Fn(&(String, String))) {
    let Some(versions) = versions() else { return };
    for versions in &versions {
        eprintln!("made by {}, called by {}", versions.0, versions.1);
        test(versions);
    }
}

/// Why there is no other version, if so.
fn needs_old() -> Option<&'static str> {
    versions().is_none().then_some("needs DAVIT_OLD: make upgrade-test")
}

#[test]
fn every_command_on_a_running_container() {
    davit_only!("an upgrade of davit");
    skip_if!(needs_old());
    each_direction(|versions| {
        let up = Upgrade::new(container(), versions);
        let id = up.c.id.as_str();
        up.make(&["create"]).ok();
        assert_eq!(up.status(), "created");
        up.call(&["start", id]).ok();
        assert_eq!((up.status().as_str(), up.log("poststart")), ("running", 1));
        let script = "id -u; id -g; echo $NAME; grep -e ^Seccomp: -e ^NoNewPrivs: -e ^CapEff: /proc/self/status
                      mkdir /tmp/x 2>&1";
        let said = up.by(&up.caller, &["exec", id, "sh", "-c", script]).done();
        let own = up.by(&up.maker, &["exec", id, "sh", "-c", script]).done();
        assert_eq!((said.out.as_str(), said.code), (own.out.as_str(), own.code), "{said:#?}");
        for expected in ["7\n8\na value\n", "Seccomp:\t2", "NoNewPrivs:\t1"] {
            assert!(said.out.contains(expected), "{expected}: {said:#?}");
        }
        assert!(!said.out.contains("CapEff:\t0000003fffffffff"), "{said:#?}");
        let list = up.call(&["list"]).ok().out;
        assert!(
            list.lines().any(|line| line.starts_with(id) && line.contains("running")),
            "{list}"
        );
        assert!(up.call(&["ps", id]).ok().out.contains("sleep 0.05"));
        assert!(up.call(&["events", "--stats", id]).ok().out.contains("\"pids\""));
        up.call(&["pause", id]).ok();
        assert_eq!(up.status(), "paused");
        up.call(&["resume", id]).ok();
        up.call(&["update", "--pids-limit", "30", id]).ok();
        let mounts = up.c.path("mounts.json");
        let tmpfs = json!([{ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" }]);
        fs::write(&mounts, tmpfs.to_string()).expect("write");
        up.call(&["mounts", "add", id, &mounts]).ok();
        assert!(up.call(&["exec", id, "cat", "/proc/mounts"]).ok().out.contains(" /mnt tmpfs "));
        up.call(&["mounts", "remove", id, &mounts]).ok();
        up.call(&["kill", id, "TERM"]).ok();
        within(Duration::from_secs(10), || (up.status() == "stopped").then_some(()))
            .expect("stopped");
        up.call(&["delete", id]).ok();
        assert_eq!(up.log("poststop"), 1);
        up.c.assert_nothing_left();
    });
}

#[test]
fn delete_by_force_calls_the_hooks() {
    davit_only!("an upgrade of davit");
    skip_if!(needs_old());
    each_direction(|versions| {
        for make in [&["create"][..], &["run", "--detach"]] {
            let up = Upgrade::new(container(), versions);
            up.make(make).ok();
            up.call(&["delete", "--force", &up.c.id]).ok();
            assert_eq!(up.log("poststop"), 1, "{make:?}");
            up.c.assert_nothing_left();
        }
    });
}

/// The init of `create` tells the failure to another version's `start`.
#[test]
fn a_start_that_fails_says_why() {
    davit_only!("an upgrade of davit");
    skip_if!(needs_old());
    each_direction(|versions| {
        let script = |c: &Path| {
            let path = c.join("no-interpreter");
            fs::write(&path, "#!/missing\n").expect("write");
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("chmod");
        };
        let c = Container::new(&["/no-interpreter"]).with_files(script);
        let up = Upgrade::new(c, versions);
        up.make(&["create"]).ok();
        up.call(&["start", &up.c.id]).refuses(&[
            "exec: \"/no-interpreter\": no such file or directory",
            "its interpreter (#! line or ELF loader) was not found",
        ]);
        assert_eq!(up.status(), "stopped");
        up.call(&["delete", &up.c.id]).ok();
        let c = Container::sleeper().with(|config| {
            config["hooks"]["startContainer"] = json!([shell_hook("echo no luck >&2; exit 3")]);
        });
        let up = Upgrade::new(c, versions);
        up.make(&["create"]).ok();
        up.call(&["start", &up.c.id]).refuses(&["hooks.startContainer[0]", "no luck"]);
        up.c.assert_nothing_left();
    });
}

#[test]
fn a_run_in_the_foreground_is_killed_by_another_version() {
    davit_only!("an upgrade of davit");
    skip_if!(needs_old());
    each_direction(|versions| {
        let up = Upgrade::new(container(), versions);
        up.c.write();
        let bundle = up.c.bundle();
        let words = ["run", "--bundle", bundle.to_str().expect("utf-8"), &up.c.id];
        let running = up.by(&up.maker, &words).spawn();
        within(Duration::from_secs(10), || (up.call(&["state", &up.c.id]).code == 0).then_some(()))
            .expect("a state");
        within(Duration::from_secs(10), || (up.status() == "running").then_some(()))
            .expect("running");
        up.call(&["kill", &up.c.id, "KILL"]).ok();
        running.wait().exits(137);
        assert_eq!(up.log("poststop"), 1);
        up.c.assert_nothing_left();
    });
}
