//! The objects of config.json in the specification (1.3.0): the members of each, and which of them
//! are required. The members for other platforms are not looked into.

use self::Kind::{List, Map, Object, Value};

/// The kind of a member's value.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A string, number or boolean, or a list of them; or an object with unread members.
    Value,
    /// An object with these members.
    Object(&'static Members),
    /// A list of such objects.
    List(&'static Members),
    /// An object whose members have names of the user's choice.
    Map(&'static Kind),
}

/// An object's members.
pub(crate) struct Members {
    /// The members in the specification.
    pub known: &'static [(&'static str, Kind)],
    /// The REQUIRED ones that oci-spec would read as 0 or false if they are missing.
    pub required: &'static [&'static str],
}

impl Members {
    /// Whether the specification has a member of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|(known, _)| *known == name)
    }
}

const fn members(known: &'static [(&'static str, Kind)]) -> Members {
    Members { known, required: &[] }
}

/// config.json
pub(crate) static CONFIG: Members = members(&[
    ("ociVersion", Value),
    ("process", Object(&PROCESS)),
    ("root", Object(&ROOT)),
    ("hostname", Value),
    ("domainname", Value),
    ("mounts", List(&MOUNT)),
    ("hooks", Object(&HOOKS)),
    ("annotations", Map(&Value)),
    ("linux", Object(&LINUX)),
    ("solaris", Map(&Value)),
    ("windows", Map(&Value)),
    ("vm", Map(&Value)),
    ("zos", Map(&Value)),
    ("freebsd", Map(&Value)),
]);

/// `process`, and the file of `exec --process`
pub(crate) static PROCESS: Members = members(&[
    ("terminal", Value),
    ("consoleSize", Object(&CONSOLE_SIZE)),
    ("user", Object(&USER)),
    ("args", Value),
    ("commandLine", Value),
    ("env", Value),
    ("cwd", Value),
    ("capabilities", Object(&CAPABILITIES)),
    ("rlimits", List(&RLIMIT)),
    ("noNewPrivileges", Value),
    ("apparmorProfile", Value),
    ("oomScoreAdj", Value),
    ("selinuxLabel", Value),
    ("ioPriority", Object(&IO_PRIORITY)),
    ("scheduler", Object(&SCHEDULER)),
    ("execCPUAffinity", Object(&AFFINITY)),
]);

static CONSOLE_SIZE: Members =
    Members { known: &[("height", Value), ("width", Value)], required: &["height", "width"] };

static USER: Members = members(&[
    ("uid", Value),
    ("gid", Value),
    ("umask", Value),
    ("additionalGids", Value),
    ("username", Value),
]);

static CAPABILITIES: Members = members(&[
    ("bounding", Value),
    ("effective", Value),
    ("inheritable", Value),
    ("permitted", Value),
    ("ambient", Value),
]);

static RLIMIT: Members = Members {
    known: &[("type", Value), ("soft", Value), ("hard", Value)],
    required: &["soft", "hard"],
};

static IO_PRIORITY: Members =
    Members { known: &[("class", Value), ("priority", Value)], required: &["class", "priority"] };

static SCHEDULER: Members = members(&[
    ("policy", Value),
    ("nice", Value),
    ("priority", Value),
    ("flags", Value),
    ("runtime", Value),
    ("deadline", Value),
    ("period", Value),
]);

static AFFINITY: Members = members(&[("initial", Value), ("final", Value)]);

static ROOT: Members = members(&[("path", Value), ("readonly", Value)]);

static MOUNT: Members = members(&[
    ("destination", Value),
    ("type", Value),
    ("source", Value),
    ("options", Value),
    ("uidMappings", List(&MAPPING)),
    ("gidMappings", List(&MAPPING)),
]);

static MAPPING: Members = Members {
    known: &[("containerID", Value), ("hostID", Value), ("size", Value)],
    required: &["containerID", "hostID", "size"],
};

static HOOKS: Members = members(&[
    ("prestart", List(&HOOK)),
    ("createRuntime", List(&HOOK)),
    ("createContainer", List(&HOOK)),
    ("startContainer", List(&HOOK)),
    ("poststart", List(&HOOK)),
    ("poststop", List(&HOOK)),
]);

static HOOK: Members =
    members(&[("path", Value), ("args", Value), ("env", Value), ("timeout", Value)]);

static LINUX: Members = members(&[
    ("namespaces", List(&NAMESPACE)),
    ("uidMappings", List(&MAPPING)),
    ("gidMappings", List(&MAPPING)),
    ("timeOffsets", Map(&Object(&TIME_OFFSET))),
    ("devices", List(&DEVICE)),
    ("netDevices", Map(&Object(&NET_DEVICE))),
    ("cgroupsPath", Value),
    ("resources", Object(&RESOURCES)),
    ("intelRdt", Object(&INTEL_RDT)),
    ("memoryPolicy", Object(&MEMORY_POLICY)),
    ("sysctl", Map(&Value)),
    ("seccomp", Object(&SECCOMP)),
    ("rootfsPropagation", Value),
    ("maskedPaths", Value),
    ("readonlyPaths", Value),
    ("mountLabel", Value),
    ("personality", Object(&PERSONALITY)),
]);

static NAMESPACE: Members = members(&[("type", Value), ("path", Value)]);

static TIME_OFFSET: Members = members(&[("secs", Value), ("nanosecs", Value)]);

/// A device node. One that is a FIFO has no numbers.
pub(crate) static DEVICE: Members = Members {
    known: &[
        ("type", Value),
        ("path", Value),
        ("major", Value),
        ("minor", Value),
        ("fileMode", Value),
        ("uid", Value),
        ("gid", Value),
    ],
    required: NUMBERS,
};

const NUMBERS: &[&str] = &["major", "minor"];

static NET_DEVICE: Members = members(&[("name", Value)]);

/// `linux.resources`, and the file of `update --resources`
pub(crate) static RESOURCES: Members = members(&[
    ("devices", List(&DEVICE_RULE)),
    ("memory", Object(&MEMORY)),
    ("cpu", Object(&CPU)),
    ("pids", Object(&PIDS)),
    ("blockIO", Object(&BLOCK_IO)),
    ("hugepageLimits", List(&HUGEPAGE_LIMIT)),
    ("network", Object(&NETWORK)),
    ("rdma", Map(&Object(&RDMA))),
    ("unified", Map(&Value)),
]);

static DEVICE_RULE: Members = Members {
    known: &[
        ("allow", Value),
        ("type", Value),
        ("major", Value),
        ("minor", Value),
        ("access", Value),
    ],
    required: &["allow"],
};

static MEMORY: Members = members(&[
    ("limit", Value),
    ("reservation", Value),
    ("swap", Value),
    ("kernel", Value),
    ("kernelTCP", Value),
    ("swappiness", Value),
    ("disableOOMKiller", Value),
    ("useHierarchy", Value),
    ("checkBeforeUpdate", Value),
]);

static CPU: Members = members(&[
    ("shares", Value),
    ("quota", Value),
    ("burst", Value),
    ("period", Value),
    ("realtimeRuntime", Value),
    ("realtimePeriod", Value),
    ("cpus", Value),
    ("mems", Value),
    ("idle", Value),
]);

static PIDS: Members = members(&[("limit", Value)]);

static BLOCK_IO: Members = members(&[
    ("weight", Value),
    ("leafWeight", Value),
    ("weightDevice", List(&WEIGHT_DEVICE)),
    ("throttleReadBpsDevice", List(&THROTTLE)),
    ("throttleWriteBpsDevice", List(&THROTTLE)),
    ("throttleReadIOPSDevice", List(&THROTTLE)),
    ("throttleWriteIOPSDevice", List(&THROTTLE)),
]);

static WEIGHT_DEVICE: Members = Members {
    known: &[("major", Value), ("minor", Value), ("weight", Value), ("leafWeight", Value)],
    required: NUMBERS,
};

static THROTTLE: Members = Members {
    known: &[("major", Value), ("minor", Value), ("rate", Value)],
    required: &["major", "minor", "rate"],
};

static HUGEPAGE_LIMIT: Members =
    Members { known: &[("pageSize", Value), ("limit", Value)], required: &["pageSize", "limit"] };

static NETWORK: Members = members(&[("classID", Value), ("priorities", List(&PRIORITY))]);

static PRIORITY: Members =
    Members { known: &[("name", Value), ("priority", Value)], required: &["name", "priority"] };

static RDMA: Members = members(&[("hcaHandles", Value), ("hcaObjects", Value)]);

/// `enableCMT` and `enableMBM` are from versions before 1.3.
static INTEL_RDT: Members = members(&[
    ("closID", Value),
    ("schemata", Value),
    ("l3CacheSchema", Value),
    ("memBwSchema", Value),
    ("enableMonitoring", Value),
    ("enableCMT", Value),
    ("enableMBM", Value),
]);

static MEMORY_POLICY: Members = members(&[("mode", Value), ("nodes", Value), ("flags", Value)]);

static SECCOMP: Members = members(&[
    ("defaultAction", Value),
    ("defaultErrnoRet", Value),
    ("architectures", Value),
    ("flags", Value),
    ("listenerPath", Value),
    ("listenerMetadata", Value),
    ("syscalls", List(&SYSCALL)),
]);

static SYSCALL: Members = members(&[
    ("names", Value),
    ("action", Value),
    ("errnoRet", Value),
    ("args", List(&SYSCALL_ARGUMENT)),
]);

static SYSCALL_ARGUMENT: Members =
    members(&[("index", Value), ("value", Value), ("valueTwo", Value), ("op", Value)]);

static PERSONALITY: Members = members(&[("domain", Value), ("flags", Value)]);
