//! Limits of memory on cgroup v2, by what happens to who reaches them.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::limits::{count, directory, limited};
use integration::*;

const MIB: u64 = 1 << 20;

/// Ends the test where these programs are missing.
macro_rules! needs {
    ($($program:expr),*) => {
        skip_if!(fixture::missing(&[$($program),*]))
    };
}

#[test]
fn too_much_memory_is_the_end() {
    spec!();
    pure_v2!();
    let memory = json!({ "memory": { "limit": 20 * MIB, "swap": 20 * MIB } });
    let run = limited("exec tail -c 90000000 /dev/zero", memory).run().exits(137);
    if runtime::runtime().is_davit() {
        assert!(run.err.contains("linux.resources.memory.limit is 20971520 bytes"), "{run:?}");
    }
}

#[test]
fn a_lower_limit_is_felt_at_once() {
    spec!();
    pure_v2!();
    let c = limited(
        "while :; do sleep 0.05; done",
        json!({ "memory": { "limit": 200 * MIB, "swap": 200 * MIB } }),
    );
    c.create().start();
    let hog = ["sh", "-c", "head -c 40000000 /dev/zero | tail -c 40000000 | wc -c"];
    assert_eq!(c.exec(&hog).ok().out, "40000000\n");
    c.call(&["update", "--memory", "20m", "--memory-swap", "20m", &c.id]).done().ok();
    let run = c.exec(&["tail", "-c", "40000000", "/dev/zero"]);
    assert_eq!(run.code, 137, "{run:?}");
    // The kernel may take another one while the first is dying.
    assert!(count(&c, "memory.events", "oom_kill") > 0);
}

/// Above it no process is killed, but memory is reclaimed.
#[test]
fn high_holds_back() {
    spec!();
    pure_v2!();
    let read = "truncate -s 100M /sparse; cat /sparse >/dev/null; echo read; sleep 1000";
    let c = limited(read, json!({ "unified": { "memory.high": (16 * MIB).to_string() } }));
    c.create().start();
    c.until_output("read");
    assert!(count(&c, "memory.events", "high") > 0);
    assert_eq!(count(&c, "memory.events", "oom_kill"), 0);
    let cached = count(&c, "memory.stat", "file");
    assert!(cached < 24 * MIB, "{cached} bytes of 16 MiB");
}

/// Two in a cgroup that is too small for both: what the first has read, and how much of it the
/// second leaves there.
fn left_of_16_mib(outer: &Outer, resources: Value) -> u64 {
    let inside = |script: &str, resources: Value| {
        let c = limited(script, resources);
        let path = format!("/{}/{}", outer.0, c.id);
        c.with(|c| c["linux"]["cgroupsPath"] = path.into())
    };
    let read = |size: &str| {
        format!("truncate -s {size} /sparse; cat /sparse >/dev/null; echo read; sleep 1000")
    };
    let (first, second) =
        (inside(&read("16M"), resources), inside(&read("200M"), json!({ "memory": {} })));
    first.create();
    fs::write(outer.path("memory.max"), (48 * MIB).to_string()).expect("write");
    first.start();
    first.until_output("read");
    let before = count(&first, "memory.stat", "file");
    assert!(before >= 15 * MIB, "{before}");
    second.create().start();
    second.until_output("read");
    count(&first, "memory.stat", "file")
}

/// A cgroup of the test's own.
struct Outer(String);

impl Outer {
    fn new() -> Self {
        let this = Self(unique());
        fs::create_dir(this.path("")).expect("mkdir");
        this
    }

    fn path(&self, file: &str) -> String {
        format!("/sys/fs/cgroup/{}/{file}", self.0)
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        leftovers::sweep(&self.0, Path::new("/nonexistent"));
    }
}

#[test]
fn low_and_min_are_kept() {
    spec!();
    pure_v2!();
    let outer = Outer::new();
    let guarded = (16 * MIB + MIB).to_string();
    let free = left_of_16_mib(&outer, json!({ "memory": { "limit": -1 } }));
    let low = left_of_16_mib(&outer, json!({ "memory": { "reservation": 17 * MIB } }));
    let min = left_of_16_mib(&outer, json!({ "unified": { "memory.min": guarded } }));
    assert!(free < 12 * MIB, "{free} bytes stay by themselves");
    assert!(low >= 15 * MIB && min >= 15 * MIB, "{low}, {min} of 16 MiB");
}

/// A file to swap to, for as long as the test runs.
struct Swap(String);

impl Swap {
    fn on(c: &Container) -> Option<Self> {
        let file = c.path("swap");
        let script =
            "dd if=/dev/zero of=$0 bs=1M count=64 && chmod 600 $0 && mkswap $0 && swapon $0";
        let done = Command::new("sh").args(["-c", script, &file]).output().expect("sh");
        done.status.success().then_some(Self(file))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let off = Command::new("swapoff").arg(&self.0).status();
        assert!(off.is_ok_and(|status| status.success()), "swapoff {}", self.0);
    }
}

#[test]
fn swap_is_memory_too() {
    spec!();
    pure_v2!();
    needs!("mkswap", "swapon", "swapoff");
    // Zeros would not do: the kernel finds huge pages of them, and takes those back (Linux 6.13).
    let hog = "yes | head -c 30000000 | tail -c 30000000 | wc -c";
    let with = |swap: u64| limited(hog, json!({ "memory": { "limit": 16 * MIB, "swap": swap } }));
    let place = Container::new(&["true"]);
    let swap = Swap::on(&place);
    skip_if!(swap.is_none().then_some("the kernel takes no swap file here"));
    assert_eq!(with(60 * MIB).run().ok().out, "30000000\n");
    for swap in [16 * MIB, 20 * MIB] {
        // Whom the kernel kills is its own choice.
        assert_ne!(with(swap).run().out, "30000000\n", "no process was killed");
    }
}

/// Some huge pages, as the kernel has room for them; what there were before comes back.
struct HugePages(String);

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl HugePages {
    fn new(count: u32) -> Option<Self> {
        let before = fs::read_to_string(HUGE_PAGES).ok()?;
        fs::write(HUGE_PAGES, count.to_string()).ok()?;
        let now = fs::read_to_string(HUGE_PAGES).ok()?;
        let this = Self(before);
        (now.trim() == count.to_string()).then_some(this)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        fs::write(HUGE_PAGES, &self.0).expect("write");
    }
}

#[test]
fn huge_pages_are_counted() {
    spec!();
    pure_v2!();
    let pages = HugePages::new(8);
    skip_if!(pages.is_none().then_some("no room for huge pages"));
    let script = "fallocate -l 4M /huge/two && echo two; fallocate -l 2M /huge/one || echo no more";
    let limit = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 * MIB }] });
    let run = |resources: Value| {
        let c = limited(script, resources).with_files(|root| {
            fs::create_dir(root.join("huge")).expect("mkdir");
        });
        c.with(|c| config::add_mount(c, "/huge", "hugetlbfs", "none", &["pagesize=2M"])).run().out
    };
    assert_eq!(run(limit), "two\nno more\n");
    assert_eq!(run(json!({})), "two\n");
}

/// What davit's init and the kernel need to exec a program at all; below it the error says what was
/// too little.
#[test]
fn the_smallest_limit_of_memory() {
    davit_only!("other runtimes need megabytes");
    pure_v2!();
    let true_with = |bytes: u64| {
        let c = Container::new(&["/bin/true"]).with(|c| {
            c["linux"]["resources"]["memory"] = json!({ "limit": bytes, "swap": bytes });
        });
        c.run()
    };
    let fails: Vec<_> = [1024, 512, 256]
        .map(|kilobytes| (kilobytes, true_with(kilobytes << 10)))
        .into_iter()
        .filter(|(_, run)| run.code != 0)
        .collect();
    assert!(fails.is_empty(), "{fails:#?}");
    true_with(4096).refuses(&["linux.resources.memory.limit is too small: 4096 bytes", "262144"]);
}

/// In an event, and not among the figures.
const OOM: &str = "\"type\":\"oom\"";

/// The limit of a cgroup above the container's kills in it as well; `events` says which one it was.
#[test]
fn events_say_whose_limit_it_was() {
    davit_only!("other runtimes do not");
    pure_v2!();
    let outer = Outer::new();
    let hog = "while [ ! -e /go ]; do sleep 0.02; done; tail -c 90000000 /dev/zero; echo over; sleep 1000";
    for above in [true, false] {
        let own = if above { 80 } else { 20 } * MIB;
        let c = limited(hog, json!({ "memory": { "limit": own, "swap": own } }));
        let path = format!("/{}/{}", outer.0, c.id);
        let c = c.with(|c| c["linux"]["cgroupsPath"] = path.clone().into());
        c.create().start();
        fs::write(outer.path("memory.max"), (40 * MIB).to_string()).expect("write");
        let mut watch = c.call(&["events", "--interval", "200ms", &c.id]).spawn();
        watch.until_out("stats");
        fs::write(c.rootfs().join("go"), "").expect("write");
        let out = watch.until_out(OOM);
        let line = out.lines().find(|line| line.contains(OOM)).expect("a line");
        let event: Value = serde_json::from_str(line).expect("an object");
        let expected = match above {
            true => json!({ "cgroup": format!("/{}", outer.0), "limit": 40 * MIB }),
            false => json!({ "cgroup": path, "limit": 20 * MIB }),
        };
        assert_eq!(event["data"], expected, "{event}");
        c.delete().ok();
        watch.wait().exits(0);
        assert!(!directory(&c).exists());
    }
}
