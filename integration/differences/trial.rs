//! One case with one runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use integration::*;

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Commands whose output is each runtime's own.
const TELLS_OF_ITSELF: [&str; 8] =
    ["state", "list", "--help", "help", "--version", "ps", "features", "--stats"];

/// A runtime that davit is compared with, or davit.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its binary.
    path: PathBuf,
    /// By what it is called.
    prefix: &'static [&'static str],
}

/// What is tried: config.json, and the commands.
pub(crate) struct Case {
    /// What is changed.
    pub(crate) name: String,
    /// Changes config.json.
    pub(crate) change: Box<dyn Fn(&mut Value) + Sync>,
    /// Only beside runc.
    pub(crate) runc_only: bool,
    /// The commands, one after the other; `ID` and `DIR` stand for the container's.
    pub(crate) commands: Vec<Vec<String>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The exit code of each command.
    pub(crate) answers: String,
    /// What they, and the container, wrote to standard output.
    pub(crate) saw: Vec<String>,
    /// The container's id.
    pub(crate) id: String,
}

/// davit.
pub(crate) fn davit() -> Runtime {
    Runtime { name: "davit", path: runtime::runtime().path.clone(), prefix: &[] }
}

/// The others that can run here.
pub(crate) fn others() -> Vec<Runtime> {
    // known.txt is about these versions.
    let is = |path: &PathBuf, version: &str| {
        let said = std::process::Command::new(path).arg("--version").output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(version))
    };
    let runc = podman::installed("runc").filter(|path| is(path, "runc version 1.1."));
    let runc = runc.map(|path| Runtime { name: "runc", path, prefix: &[] });
    // It refuses hybrid hosts, and is shown one without the tree of cgroup v2.
    let crun = podman::installed("crun").filter(|path| is(path, "crun version 1.8."));
    let crun = crun.map(|path| Runtime { name: "crun", path, prefix: &host::PURE_V1 });
    runc.into_iter().chain(crun.filter(|_| host::has_cgroup_v1())).collect()
}

/// Tries the case; again where a signal has ended the runtime, as SIGPIPE does with crun 1.8 now
/// and then.
pub(crate) fn with(case: &Case, other: &Runtime) -> Seen {
    const SIGPIPE: &str = "1013";
    let tries = std::iter::repeat_with(|| attempt(case, other)).take(5);
    let mut last = Seen::default();
    for seen in tries {
        last = seen;
        if !last.answers.contains(SIGPIPE) {
            break;
        }
    }
    last
}

fn attempt(case: &Case, other: &Runtime) -> Seen {
    let id = unique();
    let dir = tempfile::Builder::new().prefix(&format!("{id}-")).tempdir().expect("mkdir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let root = dir.path().join("bundle/rootfs");
    rootfs::make(&root);
    let mut config = crate::configs::base(&id);
    (case.change)(&mut config);
    let config = config.to_string().replace("@ID@", &id);
    fs::write(dir.path().join("bundle/config.json"), config).expect("write");
    let place = dir.path().to_str().expect("utf-8").to_owned();
    let call = |number: usize, words: &[String]| {
        let mut all: Vec<String> = other.prefix.iter().map(|word| (*word).to_owned()).collect();
        all.push(other.path.to_str().expect("utf-8").to_owned());
        all.extend(["--root".to_owned(), format!("{place}/state")]);
        all.extend(words.iter().map(|word| word.replace("ID", &id).replace("DIR", &place)));
        Call::new(&all, &dir.path().join(format!("{number}")))
            .dir(dir.path().join("bundle"))
            .within(DEADLINE)
    };
    let mut seen = Seen { id: id.clone(), ..Seen::default() };
    for (number, words) in case.commands.iter().enumerate() {
        if words == &["wait"] {
            // Until it has ended; the runtime may be asked then.
            call::within(Duration::from_secs(5), || {
                let state = call(100, &["state", "ID"].map(str::to_owned)).done();
                state.out.contains("\"stopped\"").then_some(())
            });
            continue;
        }
        let blank = if number == 0 { "" } else { " " };
        let Some(outcome) = call(number, words).spawn().wait_or_kill() else {
            seen.answers.push_str(&format!("{blank}hangs"));
            break;
        };
        seen.answers.push_str(&format!("{blank}{}", outcome.code));
        let tidy = |line: &str| line.replace(&place, "DIR").replace(&id, "ID");
        // Behind some errors others print their help.
        let failed = outcome.code != 0 && !words.iter().any(|word| word == "run" || word == "exec");
        if failed || TELLS_OF_ITSELF.iter().any(|word| words.iter().any(|own| own == word)) {
            continue;
        }
        seen.saw.extend(outcome.out.lines().map(|line| format!("{number}: {}", tidy(line))));
    }
    call(case.commands.len(), &["delete", "--force", "ID"].map(str::to_owned)).done();
    // crun takes `/../x-ID` for a place beside its hierarchies, and makes plain files there.
    let _ = fs::remove_dir_all(format!("/sys/fs/cgroup/x-{id}"));
    seen
}

/// What is left of a container after `delete --force`, by the kinds of it.
pub(crate) fn left(found: &[String], id: &str) -> Vec<String> {
    let kind = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let mut kinds: Vec<String> = found.iter().filter(|line| line.contains(id)).map(kind).collect();
    kinds.dedup();
    kinds
}
