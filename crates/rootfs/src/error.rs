//! Errors of planning.

/// An error of config.json: the message begins with the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A missing field.
    #[error("{field}: missing")]
    Missing {
        /// JSON path of the field.
        field: String,
    },
    /// An invalid value.
    #[error("{field}: {value:?}: {reason}")]
    Invalid {
        /// JSON path of the field.
        field: String,
        /// Its value.
        value: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// A field that needs a mount namespace, without one.
    #[error("{field}: needs a mount namespace in linux.namespaces")]
    NoMountNamespace {
        /// JSON path of the field.
        field: String,
    },
    /// A mount of type cgroup on a host without cgroups.
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
