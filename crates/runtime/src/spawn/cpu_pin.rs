//! Pins the runtime and init to one CPU while they take turns (decision 0015).

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// While this value exists, this process and its children stay on their present CPU. Afterwards the
/// affinity is as before.
#[derive(Debug)]
pub(crate) struct CpuPin {
    before: CpuSet,
}

impl CpuPin {
    /// `None` if it is not allowed, or could not be undone: it is only faster.
    pub(crate) fn stay() -> Option<Self> {
        let before = sched_getaffinity(THIS).ok()?;
        let mut here = CpuSet::new();
        here.set(davit_sys::sched::current_cpu().ok()?).ok()?;
        sched_setaffinity(THIS, &here).ok()?;
        Some(Self { before })
    }
}

impl Drop for CpuPin {
    fn drop(&mut self) {
        // It was allowed before; if the cpuset has changed since, the kernel has moved this process
        // already.
        let _ = sched_setaffinity(THIS, &self.before);
    }
}

/// The calling thread.
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
        let here = CpuPin::stay();
        assert!(here.is_some());
        assert_eq!(processors(), 1);
        drop(here);
        assert_eq!(processors(), before);
    }
}
