//! Doors for fuzzing (`make fuzz`).

use std::collections::HashMap;

use crate::systemd::{ANNOTATION, fuzzing as systemd};
use crate::{layout, resctrl};

/// The text of a property's value, as an annotation gives it.
pub fn gvariant(text: &str) {
    let annotations = HashMap::from([(format!("{ANNOTATION}Name"), text.to_owned())]);
    systemd::annotations(&annotations);
}

/// /proc/self/mountinfo.
pub fn mountinfo(bytes: &[u8]) {
    let _ = layout::parse_mountinfo(bytes);
    let _ = resctrl::mountpoint(&String::from_utf8_lossy(bytes));
}
