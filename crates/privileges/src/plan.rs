//! Planning: `process` of config.json -> operations.

use std::collections::HashSet;
use std::ffi::CString;

use oci_spec::runtime::{
    LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, Process, User,
};

use crate::capability::{self, Names};
use crate::io_priority::IoPriority;
use crate::label::{self, SecurityModules};
use crate::memory_policy::MemoryPolicy;
use crate::scheduler::Scheduler;
use crate::{Error, Op, rlimit};

/// The facts of the host and of the runtime's privileges that planning needs.
#[derive(Clone, Debug)]
pub struct Host {
    /// Capabilities that can be granted: the runtime's permitted ones, or all of the kernel if the
    /// container has a user namespace of its own.
    pub grantable: u64,
    /// Whether setgroups(2) works in the container's user namespace.
    pub setgroups: bool,
    /// Whether the caller's supplementary groups are kept, regardless of config.json.
    pub keep_groups: bool,
    /// The security modules; only read if [`SecurityModules::are_used_by`] the process.
    pub security: SecurityModules,
    /// Name of the new session keyring; `None` to keep the caller's.
    pub keyring: Option<String>,
}

/// The operations, and the position of a seccomp filter among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The operations in order.
    pub ops: Vec<Op>,
    /// Index of the operation before which the filter is installed: at the end with no_new_privs;
    /// otherwise before CAP_SYS_ADMIN is lost, which the kernel requires then.
    pub seccomp_before: usize,
    /// Capabilities that cannot be granted: the specification requires a warning, and no error.
    pub warnings: Vec<String>,
}

/// Plans the confinement of `process` (config.md, "process"; `linux.personality`,
/// `linux.memoryPolicy`).
///
/// # Errors
/// A field that cannot be applied.
pub fn plan(
    process: &Process,
    personality: Option<&LinuxPersonality>,
    memory_policy: Option<&LinuxMemoryPolicy>,
    host: &Host,
) -> Result<Plan, Error> {
    let mut ops = Vec::new();
    if let Some(name) = &host.keyring {
        let name = CString::new(name.as_str()).map_err(|_| Error::Nul("id"))?;
        let keyring = Op::JoinSessionKeyring(name);
        ops.extend(label::around_keyring(process, host.security, keyring)?);
    }
    ops.extend(label::plan(process, host.security)?);
    ops.extend(domain(personality)?);
    ops.extend(user_mask(process.user())?);
    ops.extend(rlimits(process)?);
    // After the limits, which may allow it, and before the capabilities are lost.
    ops.extend(process.scheduler().as_ref().map(Scheduler::of).transpose()?.map(Op::Scheduler));
    ops.extend(process.io_priority().as_ref().map(IoPriority::of).transpose()?.map(Op::IoPriority));
    ops.extend(memory_policy.map(MemoryPolicy::of).transpose()?.map(Op::MemoryPolicy));
    let (ids, groups) = identity(process.user(), host)?;
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if process.user().uid() != 0 {
        ops.push(Op::ChownStandardStreams(process.user().uid()));
    }
    if no_new_privileges {
        ops.push(Op::NoNewPrivileges);
    }
    let mut sets = Sets::of(process, host.grantable);
    if host.keep_groups && process.user().additional_gids().iter().flatten().next().is_some() {
        let warning = "process.user.additionalGids: not set: the caller's groups are kept";
        sets.warnings.push(warning.to_owned());
    }
    ops.push(Op::Bounding(sets.bounding));
    let leaves_root = process.user().uid() != 0;
    if leaves_root {
        ops.push(Op::KeepCapabilities);
    }
    ops.extend(groups);
    ops.push(ids);
    if leaves_root {
        // The change of uid clears the effective set (capabilities(7)).
        ops.push(Op::RaiseEffective);
    }
    let before_capabilities = ops.len();
    ops.push(Op::Capabilities {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
        ambient: sets.ambient,
    });
    let seccomp_before = if no_new_privileges { ops.len() } else { before_capabilities };
    Ok(Plan { ops, seccomp_before, warnings: sets.warnings })
}

fn domain(personality: Option<&LinuxPersonality>) -> Result<Option<Op>, Error> {
    let Some(personality) = personality else { return Ok(None) };
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::PersonalityFlag(flag.clone()));
    }
    const PER_LINUX: u64 = 0;
    const PER_LINUX32: u64 = 8;
    Ok(Some(Op::Personality(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    })))
}

/// The default umask, as in runc and crun: the container does not inherit the caller's.
const DEFAULT_UMASK: u32 = 0o022;

fn user_mask(user: &User) -> Result<Option<Op>, Error> {
    match user.umask() {
        Some(mask) if mask > 0o777 => Err(Error::Umask(mask)),
        mask => Ok(Some(Op::Umask(mask.unwrap_or(DEFAULT_UMASK)))),
    }
}

fn rlimits(process: &Process) -> Result<Vec<Op>, Error> {
    let mut seen = HashSet::new();
    let limits = process.rlimits().iter().flatten().enumerate();
    limits
        .map(|(index, limit)| {
            let (name, resource) = (limit.typ().to_string(), rlimit::number(limit.typ()));
            let (soft, hard) = (limit.soft(), limit.hard());
            if !seen.insert(resource) {
                return Err(Error::DuplicateRlimit { index, name });
            }
            if soft > hard {
                return Err(Error::SoftAboveHard { index, name, soft, hard });
            }
            Ok(Op::Rlimit { index, name, resource, soft, hard })
        })
        .collect()
}

fn identity(user: &User, host: &Host) -> Result<(Op, Option<Op>), Error> {
    let valid = |field: &str, id: u32| match id {
        u32::MAX => Err(Error::Id { field: field.to_owned(), id }),
        id => Ok(id),
    };
    let ids = Op::Ids {
        uid: valid("process.user.uid", user.uid())?,
        gid: valid("process.user.gid", user.gid())?,
    };
    let groups: Vec<u32> = user.additional_gids().iter().flatten().copied().collect();
    for (index, group) in groups.iter().enumerate() {
        valid(&format!("process.user.additionalGids[{index}]"), *group)?;
    }
    if host.keep_groups {
        return Ok((ids, None));
    }
    // Engines list the primary group too, which need not be set.
    let more = groups.iter().any(|group| *group != user.gid());
    match (host.setgroups, more) {
        (true, _) => Ok((ids, Some(Op::Groups(groups)))),
        (false, false) => Ok((ids, None)),
        (false, true) => Err(Error::GroupsDenied),
    }
}

/// The five sets as masks, reduced to what can be granted.
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    warnings: Vec<String>,
}

impl Sets {
    /// Without the `capabilities` object the process has none.
    fn of(process: &Process, grantable: u64) -> Self {
        let spec = process.capabilities().as_ref();
        let mask = |set: Option<&_>| capability::mask(set);
        let bounding = mask(spec.and_then(|sets| sets.bounding().as_ref()));
        let permitted = mask(spec.and_then(|sets| sets.permitted().as_ref()));
        let effective = mask(spec.and_then(|sets| sets.effective().as_ref()));
        let inheritable = mask(spec.and_then(|sets| sets.inheritable().as_ref()));
        let ambient = mask(spec.and_then(|sets| sets.ambient().as_ref()));
        let mut warnings = Vec::new();
        let mut warn = |sets: &str, lost: u64, why: &str| {
            if lost != 0 {
                warnings.push(format!("process.capabilities{sets}: {} {why}", Names(lost)));
            }
        };
        // Once, even if it is in several sets.
        let all = bounding | permitted | effective | inheritable | ambient;
        warn("", all & !grantable, "cannot be granted here");
        let possible = permitted & grantable;
        warn(".effective", effective & grantable & !permitted, "is not permitted");
        // For root execve(2) grants the permitted capabilities without ambient ones
        // (capabilities(7)), so nothing is lost if an engine, such as buildah, requests ambient
        // capabilities without inheritable ones.
        let lossless = if process.user().uid() == 0 { possible } else { 0 };
        let raised = possible & inheritable;
        let lost = ambient & grantable & !(raised | lossless);
        warn(".ambient", lost, "is not permitted and inheritable");
        let (bounding, permitted, inheritable) =
            (bounding & grantable, possible, inheritable & grantable);
        let (effective, ambient) = (effective & possible, ambient & raised);
        Self { bounding, effective, permitted, inheritable, ambient, warnings }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOST: Host = Host {
        grantable: capability::ALL,
        setgroups: true,
        keep_groups: false,
        security: SecurityModules { apparmor: false, selinux: false },
        keyring: None,
    };

    fn process(extra: serde_json::Value) -> Process {
        let mut process = json!({ "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["x"] });
        for (key, value) in extra.as_object().unwrap() {
            process[key] = value.clone();
        }
        serde_json::from_value(process).unwrap()
    }

    fn planned(extra: serde_json::Value) -> Result<Plan, Error> {
        plan(&process(extra), None, None, &HOST)
    }

    fn listing(plan: &Plan) -> Vec<String> {
        plan.ops.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_user_keeps_what_the_last_steps_need() {
        let plan = planned(json!({
            "user": { "uid": 1000, "gid": 100, "additionalGids": [5, 6], "umask": 0o77 },
            "noNewPrivileges": true,
            "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
        }))
        .unwrap();
        insta::assert_snapshot!(listing(&plan).join("\n"), @r"
        process.user.umask 0077
        chown standard streams to uid 1000
        process.noNewPrivileges
        process.capabilities.bounding KILL
        keep capabilities across the change of uid
        process.user.additionalGids [5, 6]
        process.user.uid 1000, gid 100
        make permitted capabilities effective
        process.capabilities effective none; permitted KILL; inheritable none; ambient none
        ");
        assert_eq!(plan.seccomp_before, plan.ops.len());
    }

    #[test]
    fn without_no_new_privs_the_filter_comes_before_sys_admin_goes() {
        let plan = planned(json!({})).unwrap();
        assert!(matches!(plan.ops[plan.seccomp_before], Op::Capabilities { permitted: 0, .. }));
    }

    #[test]
    fn without_capabilities_nothing_is_granted() {
        let plan = planned(json!({})).unwrap();
        assert!(plan.ops.contains(&Op::Bounding(0)));
        assert_eq!(
            plan.ops.last(),
            Some(&Op::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 })
        );
    }

    #[test]
    fn what_cannot_be_granted_is_a_warning() {
        let host = Host { grantable: 1, ..HOST };
        let wanted = json!({ "capabilities": {
            "permitted": ["CAP_CHOWN", "CAP_BPF"], "effective": ["CAP_CHOWN"],
            "ambient": ["CAP_CHOWN"],
        } });
        let of = |user: u32| {
            let mut wanted = wanted.clone();
            wanted["user"] = json!({ "uid": user, "gid": 0 });
            plan(&process(wanted), None, None, &host).unwrap().warnings
        };
        let permitted = "process.capabilities: BPF cannot be granted here";
        let ambient = "process.capabilities.ambient: CHOWN is not permitted and inheritable";
        assert_eq!(of(1000), [permitted, ambient]);
        // Root's programs need none.
        assert_eq!(of(0), [permitted]);
    }

    #[test]
    fn bad_fields_are_named() {
        let limit = |soft: u64| json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": 2 });
        for (extra, expected) in [
            (json!({ "rlimits": [limit(1), limit(1)] }), "process.rlimits[1].type: RLIMIT_NOFILE"),
            (json!({ "rlimits": [limit(3)] }), "process.rlimits[0]: RLIMIT_NOFILE: soft limit 3"),
            (json!({ "user": { "uid": u32::MAX, "gid": 0 } }), "process.user.uid: 4294967295"),
            (
                json!({ "user": { "uid": 0, "gid": 0, "additionalGids": [1, u32::MAX] } }),
                "process.user.additionalGids[1]: 4294967295",
            ),
            (json!({ "user": { "uid": 0, "gid": 0, "umask": 0o1000 } }), "process.user.umask"),
        ] {
            let error = planned(extra).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn groups_that_cannot_be_set_are_refused_and_none_are_left_alone() {
        let host = Host { setgroups: false, ..HOST };
        assert!(plan(&process(json!({})), None, None, &host).is_ok());
        let groups = json!({ "user": { "uid": 0, "gid": 0, "additionalGids": [5] } });
        let groups = process(groups);
        assert_eq!(plan(&groups, None, None, &host), Err(Error::GroupsDenied));
        let own = process(json!({ "user": { "uid": 0, "gid": 7, "additionalGids": [7] } }));
        let own = plan(&own, None, None, &host).unwrap();
        assert!(!own.ops.iter().any(|op| matches!(op, Op::Groups(_))), "{own:?}");
        let keep = Host { keep_groups: true, ..host };
        let plan = plan(&groups, None, None, &keep).unwrap();
        assert!(!plan.ops.iter().any(|op| matches!(op, Op::Groups(_))), "{plan:?}");
        assert_eq!(plan.warnings.len(), 1, "{plan:?}");
    }
}
