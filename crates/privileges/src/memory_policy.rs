//! `linux.memoryPolicy` (set_mempolicy(2)).

use std::fmt;

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};
use serde::{Deserialize, Serialize};

use crate::{Error, ranges};

/// Arguments of set_mempolicy(2), in the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*`
    pub mode: u32,
    /// `MPOL_F_*`
    pub flags: u32,
    /// The nodes, as a mask.
    pub nodes: Vec<u64>,
}

/// Maximum number of nodes of all architectures (`CONFIG_NODES_SHIFT`).
const MAX_NODES: usize = 1024;

/// The modes and their numbers (linux/mempolicy.h).
pub const MODES: [(MemoryPolicyModeType, u32); 7] = [
    (MemoryPolicyModeType::MpolDefault, 0),
    (MemoryPolicyModeType::MpolPreferred, 1),
    (MemoryPolicyModeType::MpolBind, 2),
    (MemoryPolicyModeType::MpolInterleave, 3),
    (MemoryPolicyModeType::MpolLocal, 4),
    (MemoryPolicyModeType::MpolPreferredMany, 5),
    (MemoryPolicyModeType::MpolWeightedInterleave, 6),
];

/// The flags and their bits (linux/mempolicy.h).
pub const FLAGS: [(MemoryPolicyFlagType, u32); 3] = [
    (MemoryPolicyFlagType::MpolFNumaBalancing, NUMA_BALANCING),
    (MemoryPolicyFlagType::MpolFRelativeNodes, RELATIVE_NODES),
    (MemoryPolicyFlagType::MpolFStaticNodes, STATIC_NODES),
];

const NUMA_BALANCING: u32 = 1 << 13;
const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

impl MemoryPolicy {
    /// Refuses fields that the kernel refuses on all hosts, or ignores.
    pub(crate) fn of(spec: &LinuxMemoryPolicy) -> Result<Self, Error> {
        let wrong = |field: &'static str, reason: String| Error::MemoryPolicy { field, reason };
        let mode = spec.mode();
        let number =
            MODES.iter().find(|(known, _)| *known == mode).map_or(0, |(_, number)| *number);
        let text = spec.nodes().as_deref().unwrap_or_default();
        let nodes = ranges::parse(text, MAX_NODES).map_err(|reason| wrong("nodes", reason))?;
        let flags = spec.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag));
        use MemoryPolicyModeType as Mode;
        match (mode, nodes.is_empty()) {
            (Mode::MpolDefault | Mode::MpolLocal, false) => {
                return Err(wrong("nodes", format!("{text:?}: {mode} has no nodes")));
            }
            (Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred, true) if flags != 0 => {
                return Err(wrong("flags", format!("{mode} without nodes has no flags")));
            }
            (Mode::MpolDefault | Mode::MpolLocal | Mode::MpolPreferred, _) => {}
            (_, true) => return Err(wrong("nodes", format!("is empty: {mode} needs nodes"))),
            (_, false) => {}
        }
        if flags & STATIC_NODES != 0 && flags & RELATIVE_NODES != 0 {
            let reason = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
            return Err(wrong("flags", reason.to_owned()));
        }
        let balances = matches!(mode, Mode::MpolBind | Mode::MpolPreferredMany);
        if flags & NUMA_BALANCING != 0 && !balances {
            let reason = format!("MPOL_F_NUMA_BALANCING is not for {mode}");
            return Err(wrong("flags", reason));
        }
        Ok(Self { mode: number, flags, nodes })
    }
}

fn bit(flag: MemoryPolicyFlagType) -> u32 {
    FLAGS.iter().find(|(known, _)| *known == flag).map_or(0, |(_, bit)| *bit)
}

impl fmt::Display for MemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = MODES.iter().find(|(_, number)| *number == self.mode);
        f.write_str(&mode.map(|(mode, _)| mode.to_string()).unwrap_or_default())?;
        for (flag, bit) in FLAGS {
            if self.flags & bit != 0 {
                write!(f, "|{flag}")?;
            }
        }
        match self.nodes.is_empty() {
            true => Ok(()),
            false => write!(f, " nodes {}", ranges::List(&self.nodes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(mode: &str, nodes: &str, flags: &[&str]) -> Result<String, String> {
        let flags: Vec<String> = flags.iter().map(|flag| format!("MPOL_F_{flag}")).collect();
        let spec = json!({ "mode": format!("MPOL_{mode}"), "nodes": nodes, "flags": flags });
        let planned = MemoryPolicy::of(&serde_json::from_value(spec).unwrap());
        planned.map(|policy| policy.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_mode_with_what_it_has() {
        for (mode, nodes, flags, listing) in [
            ("DEFAULT", "", &[][..], "MPOL_DEFAULT"),
            ("LOCAL", "", &[], "MPOL_LOCAL"),
            ("PREFERRED", "", &[], "MPOL_PREFERRED"),
            ("PREFERRED", "1", &["STATIC_NODES"], "MPOL_PREFERRED|MPOL_F_STATIC_NODES nodes 1"),
            ("BIND", "0-3,7", &["NUMA_BALANCING"], "MPOL_BIND|MPOL_F_NUMA_BALANCING nodes 0-3,7"),
            ("INTERLEAVE", "0", &[], "MPOL_INTERLEAVE nodes 0"),
            ("PREFERRED_MANY", "1023", &[], "MPOL_PREFERRED_MANY nodes 1023"),
            (
                "WEIGHTED_INTERLEAVE",
                "0,1",
                &["RELATIVE_NODES"],
                "MPOL_WEIGHTED_INTERLEAVE|MPOL_F_RELATIVE_NODES nodes 0-1",
            ),
        ] {
            assert_eq!(planned(mode, nodes, flags).unwrap(), listing);
        }
    }

    #[test]
    fn what_no_kernel_takes_is_named() {
        for (mode, nodes, flags, error) in [
            ("DEFAULT", "0", &[][..], r#"nodes: "0": MPOL_DEFAULT has no nodes"#),
            ("LOCAL", "0", &[], r#"nodes: "0": MPOL_LOCAL has no nodes"#),
            ("DEFAULT", "", &["STATIC_NODES"], "flags: MPOL_DEFAULT without nodes"),
            ("PREFERRED", "", &["RELATIVE_NODES"], "flags: MPOL_PREFERRED without nodes"),
            ("BIND", "", &[], "nodes: is empty: MPOL_BIND needs nodes"),
            ("INTERLEAVE", "", &[], "nodes: is empty"),
            ("BIND", "x", &[], r#"nodes: "x": "x" is neither"#),
            ("BIND", "1024", &[], r#"nodes: "1024": 1024 is above 1023"#),
            ("BIND", "0", &["STATIC_NODES", "RELATIVE_NODES"], "flags: MPOL_F_STATIC_NODES and"),
            ("INTERLEAVE", "0", &["NUMA_BALANCING"], "flags: MPOL_F_NUMA_BALANCING is not for"),
        ] {
            let said = planned(mode, nodes, flags).unwrap_err();
            assert!(said.starts_with(&format!("linux.memoryPolicy.{error}")), "{said}");
        }
    }
}
