//! Numbered descriptors that one operation opens and a later one uses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::Error;

/// A table of descriptors by slot number; a plan assigns the numbers.
#[derive(Debug, Default)]
pub struct Slots(Vec<Option<OwnedFd>>);

impl Slots {
    /// Stores `fd` in `slot`; a previous descriptor is closed.
    pub fn put(&mut self, slot: u16, fd: OwnedFd) {
        let slot = usize::from(slot);
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        if let Some(entry) = self.0.get_mut(slot) {
            *entry = Some(fd);
        }
    }

    /// Borrows the descriptor in `slot`.
    ///
    /// # Errors
    /// EBADF if the slot is empty.
    pub fn get(&self, slot: u16) -> Result<BorrowedFd<'_>, Error> {
        match self.0.get(usize::from(slot)) {
            Some(Some(fd)) => Ok(fd.as_fd()),
            _ => Err(Error::new("slot", Errno::EBADF)),
        }
    }

    /// Takes the descriptor out of `slot`.
    ///
    /// # Errors
    /// EBADF if the slot is empty.
    pub fn take(&mut self, slot: u16) -> Result<OwnedFd, Error> {
        let fd = self.0.get_mut(usize::from(slot)).and_then(Option::take);
        fd.ok_or(Error::new("slot", Errno::EBADF))
    }

    /// All descriptors with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        let numbered = self.0.iter().enumerate();
        numbered.filter_map(|(slot, fd)| Some((u16::try_from(slot).ok()?, fd.as_ref()?.as_fd())))
    }
}
