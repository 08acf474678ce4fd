//! One line of the id map of a user namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of a uid_map or gid_map (user_namespaces(7)). Its display is that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id in the user namespace of the container.
    pub container: u32,
    /// First id in its parent user namespace.
    pub host: u32,
    /// Number of ids.
    pub size: u32,
}

impl IdMapping {
    /// The host id of the id `id` of the container.
    #[must_use]
    pub fn to_host(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container).filter(|offset| *offset < self.size)?;
        self.host.checked_add(offset)
    }

    /// Whether `id` of the host is mapped.
    #[must_use]
    pub fn has_host(&self, id: u32) -> bool {
        id.checked_sub(self.host).is_some_and(|offset| offset < self.size)
    }

    /// The text of a uid_map or gid_map.
    #[must_use]
    pub fn lines(mappings: &[Self]) -> String {
        mappings.iter().map(|mapping| format!("{mapping}\n")).collect()
    }
}

impl fmt::Display for IdMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.container, self.host, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_within_the_range() {
        let mapping = IdMapping { container: 1, host: 100_000, size: 10 };
        assert_eq!((mapping.to_host(0), mapping.to_host(1)), (None, Some(100_000)));
        assert_eq!((mapping.to_host(10), mapping.to_host(11)), (Some(100_009), None));
        assert!(mapping.has_host(100_009) && !mapping.has_host(100_010) && !mapping.has_host(1));
        assert_eq!(IdMapping::lines(&[mapping; 2]), "1 100000 10\n1 100000 10\n");
    }
}
