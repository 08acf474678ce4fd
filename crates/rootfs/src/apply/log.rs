//! The messages of a file system about a failure, read from its context (fsopen(2)).

use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use davit_sys::Error;
use nix::unistd::read;

/// The messages of the last context that failed.
#[derive(Debug, Default)]
pub(super) struct Log(RefCell<String>);

impl Log {
    /// Runs `work` with a context, and stores its messages if that fails.
    pub(super) fn watch<T>(
        &self,
        context: BorrowedFd<'_>,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.0.replace(String::new());
        work().inspect_err(|_| {
            let text = messages(context);
            if !text.is_empty() {
                self.0.replace(text);
            }
        })
    }

    /// Stores the option that was refused, for a file system without messages.
    pub(super) fn name(&self, key: &CStr, value: &CStr) {
        self.0.replace(format!("{}={:?}", key.to_string_lossy(), value.to_string_lossy()));
    }

    /// Stores the unknown file system type.
    pub(super) fn unknown_type(&self, fstype: &CStr) {
        self.0.replace(format!("file system type {:?}", fstype.to_string_lossy()));
    }

    /// Stores the flags of a mount that this user may not clear.
    pub(super) fn locked(&self, flags: &[&str]) {
        if !flags.is_empty() {
            let verb = if flags.len() == 1 { "is" } else { "are" };
            self.0
                .replace(format!("{} {verb} locked by the parent user namespace", flags.join(",")));
        }
    }

    pub(super) fn text(&self) -> String {
        self.0.borrow().clone()
    }
}

/// Each read returns one message, such as `e tmpfs: Unknown parameter 'x'`; the letter is its
/// level.
fn messages(context: BorrowedFd<'_>) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(length) = read(context, &mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let text = text.trim();
        if text.is_empty() || all.len() == 4 {
            break;
        }
        all.push(text.split_once(' ').map_or(text, |(_, text)| text).to_owned());
    }
    all.join("; ")
}
