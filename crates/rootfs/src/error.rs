//! Why a configuration cannot be planned.

/// A fault of config.json: the message begins with the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that must be there is not.
    #[error("{field}: missing")]
    Missing {
        /// JSON path of the field.
        field: String,
    },
    /// A value that cannot be used.
    #[error("{field}: {value:?}: {reason}")]
    Invalid {
        /// JSON path of the field.
        field: String,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something that changes mounts, without a mount namespace to do it in.
    #[error("{field}: needs a mount namespace in linux.namespaces")]
    NoMountNamespace {
        /// JSON path of the field.
        field: String,
    },
    /// A mount of type cgroup where no cgroup hierarchy is known.
    #[error("{field}: no cgroup hierarchy is mounted on this host")]
    NoCgroups {
        /// JSON path of the field.
        field: String,
    },
}

impl Error {
    pub(crate) fn missing(field: impl Into<String>) -> Self {
        Self::Missing { field: field.into() }
    }

    pub(crate) fn invalid(
        field: impl Into<String>,
        value: impl Into<String>,
        reason: &'static str,
    ) -> Self {
        Self::Invalid { field: field.into(), value: value.into(), reason }
    }
}
