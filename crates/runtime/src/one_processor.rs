//! One processor for two processes that take turns (decision 0015).

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// While this is there, this process stays on the processor where it is, and so does what it makes. Afterwards it may run
/// where it could before.
#[derive(Debug)]
pub(crate) struct OneProcessor {
    before: CpuSet,
}

impl OneProcessor {
    /// Nothing where it is not allowed, or cannot be taken back: it would only have been faster.
    pub(crate) fn stay() -> Option<Self> {
        let before = sched_getaffinity(THIS).ok()?;
        let mut here = CpuSet::new();
        here.set(sys::sched::processor().ok()?).ok()?;
        sched_setaffinity(THIS, &here).ok()?;
        Some(Self { before })
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // It was allowed a moment ago, and if the cpuset has changed since, the kernel has moved this process already.
        let _ = sched_setaffinity(THIS, &self.before);
    }
}

/// This thread, to the kernel.
const THIS: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    fn processors() -> usize {
        let allowed = sched_getaffinity(THIS).unwrap();
        (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap()).count()
    }

    #[test]
    fn it_may_run_where_it_could_before() {
        let before = processors();
        let here = OneProcessor::stay();
        assert!(here.is_some());
        assert_eq!(processors(), 1);
        drop(here);
        assert_eq!(processors(), before);
    }
}
