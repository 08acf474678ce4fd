//! Changes of config.json, generated from one that has most of what the specification knows.

use integration::*;

use crate::trial::Case;

/// What the container tells of itself, one fact a line. Nothing here is the same for no reason:
/// pids, times and inodes are left out; so is what differs everywhere: runc lets the signal 32 be
/// ignored and makes no /dev/core here, crun allows the console and not /dev/net/tun.
const TELL: &str = r#"
echo "ids $(id -u) $(id -g) $(id -G)"
echo "umask $(umask)"; echo "cwd $(pwd)"; echo "hostname $(hostname)"
env | grep -v '^SHLVL=\|^PWD=\|^OLDPWD=' | sed 's/^/env /'
grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk)' /proc/self/status
sed 's/  */ /g; s/^/limit /' /proc/self/limits
echo "oom $(cat /proc/self/oom_score_adj)"
echo "dev $(ls -ln /dev | grep -v ' core ' | sed 's/ [A-Z][a-z][a-z] .[0-9] [0-9:]* / /; s/  */ /g' | tr '\n' ';')"
while read -r _ _ _ root at options rest; do
    case $rest in *' - proc '*|*' - sysfs '*|*' - tmpfs '*|*' - mqueue '*|*' - devpts '*) ;; *) continue ;; esac
    echo "mount $at $options ${rest#*- }"
done </proc/self/mountinfo
for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \
    memory/memory.swappiness pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus \
    devices/devices.list; do
    sed "s:^:$file :" /sys/fs/cgroup/$file | grep -v 'list c 10:200 \|list c 5:1 '
done
for file in /proc/kcore /proc/keys /proc/timer_list; do echo "masked $file $(head -c 1 $file 2>&1 | wc -c)"; done
touch /proc/sys/net/x 2>&1 | sed 's/^/sys /'
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced | sed 's/^/sysctl /'
ls /mnt /root | sed 's/^/ls /'; touch /rw 2>&1
mkdir /tmp/x 2>&1; chown 5 /tmp 2>&1; ls -d /proc/self/task/* | wc -l
exit 7
"#;

/// A config.json of most of what can be said.
pub(crate) fn base(id: &str) -> Value {
    let mut c = config::default(&["/bin/sh", "-c", TELL], &format!("/{id}"));
    let process = &mut c["process"];
    process["env"] = json!(["PATH=/bin", "A=1", "B=two words", "HOME=/root"]);
    process["user"] = json!({ "uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 6] });
    process["oomScoreAdj"] = 100.into();
    process["noNewPrivileges"] = true.into();
    process["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512 },
        { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }
    ]);
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL"]);
    for set in ["bounding", "effective", "permitted", "inheritable"] {
        process["capabilities"][set] = capabilities.clone();
    }
    c["annotations"] = json!({ "org.example.a": "b" });
    config::add_mount(
        &mut c,
        "/mnt",
        "tmpfs",
        "tmpfs",
        &["nosuid", "noexec", "size=1m", "mode=1777"],
    );
    config::add_mount(&mut c, "/root", "bind", "rootfs/etc", &["rbind", "ro"]);
    c["hooks"] = json!({ "poststop": [{ "path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5 }] });
    let linux = &mut c["linux"];
    linux["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
    linux["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2 }
    ]);
    linux["rootfsPropagation"] = "private".into();
    linux["resources"] = json!({
        "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }
        ],
        "memory": { "limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728, "swappiness": 10 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 64 }
    });
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["chown", "fchownat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [] }]
    });
    c
}

/// A change of one member.
struct Change {
    name: &'static str,
    /// The new value of the old one; `None` where it makes no sense there.
    value: fn(&Value) -> Option<Value>,
}

/// `null`, another type, empty, and what is extreme for the type that it has. `@ID@` stands for the
/// container's id: two containers in one cgroup would kill each other.
const CHANGES: [Change; 15] = [
    Change { name: "null", value: |_| Some(Value::Null) },
    Change { name: "another type", value: |old| Some(another_type(old)) },
    Change { name: "{}", value: |old| old.is_object().then(|| json!({})) },
    Change { name: "[]", value: |old| old.is_array().then(|| json!([])) },
    Change { name: "\"\"", value: |old| old.is_string().then(|| json!("")) },
    Change { name: "0", value: |old| old.is_number().then(|| json!(0)) },
    Change { name: "-1", value: |old| old.is_number().then(|| json!(-1)) },
    Change { name: "1", value: |old| old.is_number().then(|| json!(1)) },
    Change { name: "2^32-1", value: |old| old.is_number().then(|| json!(u32::MAX)) },
    Change { name: "2^63-1", value: |old| old.is_number().then(|| json!(i64::MAX)) },
    Change { name: "not", value: |old| old.as_bool().map(|old| json!(!old)) },
    Change { name: "x", value: |old| old.is_string().then(|| json!("x-@ID@")) },
    Change {
        name: "/../x",
        value: |old| old.as_str().filter(|old| old.contains('/')).map(|_| json!("/../x-@ID@")),
    },
    Change {
        name: "reversed",
        value: |old| {
            let old = old.as_array().filter(|old| old.len() > 1)?;
            Some(old.iter().rev().cloned().collect())
        },
    },
    Change {
        name: "doubled",
        value: |old| {
            let old = old.as_array().filter(|old| !old.is_empty())?;
            Some(old.iter().chain(old.first()).cloned().collect())
        },
    },
];

fn another_type(old: &Value) -> Value {
    match old {
        Value::Object(_) => json!([]),
        Value::Array(_) => json!({}),
        Value::Number(_) => json!("1"),
        _ => json!(1),
    }
}

/// Members that the specification knows and the base does not have.
const ADDED: [(&str, &str); 30] = [
    ("/process/consoleSize", r#"{"height":0,"width":0}"#),
    ("/process/terminal", "true"),
    ("/process/apparmorProfile", "\"\""),
    ("/process/selinuxLabel", "\"\""),
    ("/process/user/username", "\"bob\""),
    ("/process/ioPriority", r#"{"class":"IOPRIO_CLASS_BE","priority":4}"#),
    ("/process/scheduler", r#"{"policy":"SCHED_OTHER","nice":3}"#),
    ("/process/commandLine", "\"x\""),
    ("/domainname", "\"example.org\""),
    ("/root/readonly", "true"),
    ("/windows", "{}"),
    ("/solaris", "{}"),
    ("/vm", "{}"),
    ("/unknown", r#"{"a":1}"#),
    ("/linux/mountLabel", "\"\""),
    ("/linux/uidMappings", "[]"),
    ("/linux/personality", r#"{"domain":"LINUX"}"#),
    ("/linux/timeOffsets", "{}"),
    ("/linux/netDevices", "{}"),
    ("/linux/intelRdt", "{}"),
    ("/linux/resources/network", "{}"),
    ("/linux/resources/network", r#"{"classID":0}"#),
    ("/linux/resources/blockIO", "{}"),
    ("/linux/resources/blockIO", r#"{"weight":0,"leafWeight":0}"#),
    ("/linux/resources/hugepageLimits", "[]"),
    ("/linux/resources/rdma", "{}"),
    ("/linux/resources/unified", "{}"),
    ("/linux/resources/memory/disableOOMKiller", "false"),
    ("/linux/resources/memory/useHierarchy", "true"),
    ("/linux/resources/cpu/realtimePeriod", "0"),
];

/// Every change of every member, and every added member.
pub(crate) fn cases() -> Vec<Case> {
    let base = base("ID");
    let mut pointers = Vec::new();
    walk(&base, String::new(), &mut pointers);
    let mut cases = vec![case("as it is".to_owned(), |_| ())];
    for pointer in pointers {
        let old = base.pointer(&pointer).expect("a member").clone();
        let field = name(&pointer);
        let at = pointer.clone();
        cases.push(case(format!("{field} absent"), move |c| remove(c, &at)));
        for change in &CHANGES {
            let Some(new) = (change.value)(&old).filter(|new| *new != old) else { continue };
            let at = pointer.clone();
            cases.push(case(format!("{field}={}", change.name), move |c| {
                *c.pointer_mut(&at).expect("a member") = new.clone();
            }));
        }
    }
    for (pointer, text) in ADDED {
        let value: Value = serde_json::from_str(text).expect("JSON");
        cases.push(case(format!("{}={text}", name(pointer)), move |c| {
            let (owner, member) = pointer.rsplit_once('/').expect("a pointer");
            c.pointer_mut(owner).expect("an owner")[member] = value.clone();
        }));
    }
    cases
}

fn case(name: String, change: impl Fn(&mut Value) + Sync + 'static) -> Case {
    let commands = vec![["run", "ID"].map(str::to_owned).to_vec()];
    // crun takes a member of another type for one that is absent.
    let runc_only = name.ends_with("another type");
    Case { name, change: Box::new(change), runc_only, commands }
}

/// `/mounts/0/options` as `mounts[0].options`.
fn name(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => name.push_str(&format!("[{index}]")),
            Err(_) if name.is_empty() => name.push_str(part),
            Err(_) => name.push_str(&format!(".{part}")),
        }
    }
    name
}

/// Every member; of a list of many alike, the first and the last.
fn walk(value: &Value, at: String, pointers: &mut Vec<String>) {
    let mut enter = |key: String, inner: &Value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers.push(at.clone());
        walk(inner, at, pointers);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, inner)| enter(key.clone(), inner)),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            let ends = [0, items.len().saturating_sub(1)];
            let chosen = items.iter().enumerate().filter(|(index, _)| ends.contains(index));
            chosen.for_each(|(index, inner)| enter(index.to_string(), inner));
        }
        _ => {}
    }
}

fn remove(config: &mut Value, pointer: &str) {
    let (owner, member) = pointer.rsplit_once('/').expect("a pointer");
    match config.pointer_mut(owner).expect("an owner") {
        Value::Object(members) => drop(members.remove(member)),
        Value::Array(items) => drop(items.remove(member.parse().expect("an index"))),
        _ => {}
    }
}
