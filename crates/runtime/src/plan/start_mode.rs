//! How a new container gets from "created" to its program.

use std::fmt;

/// How init gets from "created" to the user's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartMode {
    /// `create`: init waits for `start`.
    WaitForStart,
    /// `run`: init stops until the runtime has done its part, for these reasons.
    StopAtCreated(Vec<&'static str>),
    /// `run`: init does not stop. Each message between two processes costs a context switch.
    Immediate,
}

impl fmt::Display for StartMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitForStart => f.write_str("init waits for start"),
            Self::StopAtCreated(reasons) => {
                write!(f, "init stops until the runtime lets it go on: {}", reasons.join(", "))
            }
            Self::Immediate => f.write_str("init goes on to the program without a stop"),
        }
    }
}

/// The features of a container that need the stop at "created". Each is added where it is planned.
#[derive(Clone, Debug, Default)]
pub(super) struct CreatedStop {
    reasons: Vec<&'static str>,
}

impl CreatedStop {
    /// Adds `reason` if it holds.
    pub(super) fn needed_if(&mut self, holds: bool, reason: &'static str) {
        self.reasons.extend(holds.then_some(reason));
    }

    /// The mode of `create`, or of `run`, which starts the container at once.
    pub(super) fn mode(self, start_at_once: bool) -> StartMode {
        match (start_at_once, self.reasons.is_empty()) {
            (false, _) => StartMode::WaitForStart,
            (true, false) => StartMode::StopAtCreated(self.reasons),
            (true, true) => StartMode::Immediate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_run_without_a_reason_does_not_stop() {
        let with = |reason: bool, start_at_once| {
            let mut stop = CreatedStop::default();
            stop.needed_if(reason, "a reason");
            stop.needed_if(false, "not this one");
            stop.mode(start_at_once)
        };
        assert_eq!(with(false, true), StartMode::Immediate);
        assert_eq!(with(true, true), StartMode::StopAtCreated(vec!["a reason"]));
        assert_eq!(with(false, false), StartMode::WaitForStart);
        assert_eq!(with(true, false), StartMode::WaitForStart);
    }
}
