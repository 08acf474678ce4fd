//! The points of the container's lifecycle at which hooks run.

use serde::{Deserialize, Serialize};

/// A point of the container's lifecycle (config.md, "POSIX-platform Hooks").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookPoint {
    /// In the runtime's namespaces, before the root changes; deprecated.
    Prestart,
    /// In the runtime's namespaces, before the root changes.
    CreateRuntime,
    /// In the container's namespaces, before the root changes.
    CreateContainer,
    /// In the container, before the user's program.
    StartContainer,
    /// In the runtime's namespaces, after the user's program was executed.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl HookPoint {
    /// Its name in config.json.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The status in the state that the hook reads (runtime.md, "Lifecycle"). `prestart` hooks once
    /// ran at start, and still expect `created`.
    #[must_use]
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::Prestart | Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}
