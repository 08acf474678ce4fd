//! Numbered places for descriptors that one operation makes and a later one uses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::Error;

/// A table of descriptors by small numbers that a plan gave out.
#[derive(Debug, Default)]
pub struct Slots(Vec<Option<OwnedFd>>);

impl Slots {
    /// Puts `fd` into `slot`; what was there is closed.
    pub fn put(&mut self, slot: u16, fd: OwnedFd) {
        let slot = usize::from(slot);
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some(fd);
        }
    }

    /// Lends the descriptor in `slot`.
    ///
    /// # Errors
    /// EBADF where the slot is empty.
    pub fn get(&self, slot: u16) -> Result<BorrowedFd<'_>, Error> {
        match self.0.get(usize::from(slot)) {
            Some(Some(fd)) => Ok(fd.as_fd()),
            _ => Err(Error::new("slot", Errno::EBADF)),
        }
    }

    /// Takes the descriptor out of `slot`.
    ///
    /// # Errors
    /// EBADF where the slot is empty.
    pub fn take(&mut self, slot: u16) -> Result<OwnedFd, Error> {
        let place = self.0.get_mut(usize::from(slot)).and_then(Option::take);
        place.ok_or(Error::new("slot", Errno::EBADF))
    }

    /// All descriptors with the slots they are in.
    pub fn iter(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        let numbered = self.0.iter().enumerate();
        numbered.filter_map(|(slot, fd)| Some((u16::try_from(slot).ok()?, fd.as_ref()?.as_fd())))
    }
}
