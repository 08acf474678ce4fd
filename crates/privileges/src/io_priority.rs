//! `process.ioPriority` (ioprio_set(2)).

use std::fmt;

use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Arguments of ioprio_set(2), in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*`
    pub class: u8,
    /// 0, the highest, to 7.
    pub priority: u8,
}

impl IoPriority {
    /// Refuses priorities above 7: the kernel would take their higher bits for hints.
    pub(crate) fn of(spec: &LinuxIOPriority) -> Result<Self, Error> {
        let class = match spec.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        match u8::try_from(spec.priority()) {
            Ok(priority @ 0..=7) => Ok(Self { class, priority }),
            _ => Err(Error::IoPriority(spec.priority())),
        }
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            1 => "IOPRIO_CLASS_RT",
            2 => "IOPRIO_CLASS_BE",
            _ => "IOPRIO_CLASS_IDLE",
        };
        write!(f, "{class} priority {}", self.priority)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(class: &str, priority: i64) -> Result<IoPriority, Error> {
        let spec = json!({ "class": class, "priority": priority });
        IoPriority::of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn classes_have_their_numbers() {
        for (name, class) in
            [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)]
        {
            let priority = planned(name, 7).unwrap();
            assert_eq!(priority, IoPriority { class, priority: 7 });
            assert_eq!(priority.to_string(), format!("{name} priority 7"));
        }
    }

    #[test]
    fn there_are_eight_priorities() {
        for priority in [-1, 8, 256, i64::MAX] {
            assert_eq!(
                planned("IOPRIO_CLASS_BE", priority).unwrap_err().to_string(),
                format!("process.ioPriority.priority: {priority} is not within 0..=7")
            );
        }
    }
}
