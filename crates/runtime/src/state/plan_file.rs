//! The file `plan` in a container's directory: parts, one behind the other, and at the end a table
//! that names them (docs/state.md).

use std::ops::Range;

use crate::error::{Error, Result};

/// The last bytes of the file.
const END: &[u8; 8] = b"davit1\0\n";

/// The number of bytes of a name in the table.
const NAME: usize = 8;

/// The number of bytes of an entry of the table: a name and a length.
const ENTRY: usize = NAME + size_of::<u64>();

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The input of init, which only the program that wrote it reads, before the start.
    Init,
    /// The instructions of the system call filters (`struct sock_filter[]`).
    Filter,
    /// The environment of the process, as in /proc/PID/environ.
    Environ,
    /// The configuration that `exec`, `update` and `mounts` need, as JSON.
    Config,
}

impl Part {
    const fn name(self) -> &'static [u8; NAME] {
        match self {
            Self::Init => b"init\0\0\0\0",
            Self::Filter => b"filter\0\0",
            Self::Environ => b"environ\0",
            Self::Config => b"config\0\0",
        }
    }
}

/// The parts that are read after the start, as bytes.
#[derive(Debug, Default)]
pub(crate) struct LaterParts {
    pub(crate) filter: Vec<u8>,
    pub(crate) environ: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct PlanFile {
    bytes: Vec<u8>,
    parts: Vec<([u8; NAME], Range<usize>)>,
}

impl PlanFile {
    /// Its name in the directory, and in messages.
    pub(crate) const NAME: &str = "plan";

    /// The bytes of the file, with the input of init first.
    pub(super) fn join(init: Vec<u8>, later: &LaterParts) -> Vec<u8> {
        let mut bytes = init;
        let mut table = Vec::new();
        let mut list = |part: Part, length: usize| {
            table.extend_from_slice(part.name());
            table.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        };
        list(Part::Init, bytes.len());
        let LaterParts { filter, environ, config } = later;
        for (part, content) in
            [(Part::Filter, filter), (Part::Environ, environ), (Part::Config, config)]
        {
            list(part, content.len());
            bytes.extend_from_slice(content);
        }
        bytes.extend_from_slice(&table);
        let count = u64::try_from(table.len() / ENTRY).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(END);
        bytes
    }

    /// The file with these bytes. Parts with unknown names are ignored.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self> {
        let parts = table(&bytes).ok_or_else(|| Error::new("is damaged"))?;
        Ok(Self { bytes, parts })
    }

    /// A part.
    ///
    /// # Errors
    /// It is missing.
    pub(crate) fn part(&self, part: Part) -> Result<&[u8]> {
        let range = self.parts.iter().find(|(name, _)| name == part.name());
        let content = range.and_then(|(_, range)| self.bytes.get(range.clone()));
        content.ok_or_else(|| Error::new(format!("is damaged: part {part:?} is missing")))
    }
}

/// The names and places of the parts.
fn table(bytes: &[u8]) -> Option<Vec<([u8; NAME], Range<usize>)>> {
    let rest = bytes.strip_suffix(END)?;
    let (rest, count) = rest.split_last_chunk()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let table = rest.len().checked_sub(count.checked_mul(ENTRY)?)?;
    let (content, table) = rest.split_at_checked(table)?;
    let mut parts = Vec::with_capacity(count);
    let mut end = 0usize;
    for entry in table.chunks(ENTRY) {
        let (name, length) = entry.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let start = end;
        end = end.checked_add(length)?;
        parts.push((*name, start..end));
    }
    (end == content.len()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> LaterParts {
        let [filter, environ, config] = [&b"12345678"[..], b"A=1\0", b"{}"].map(<[u8]>::to_vec);
        LaterParts { filter, environ, config }
    }

    #[test]
    fn all_parts_are_read_as_they_were_written() {
        let file = PlanFile::parse(PlanFile::join(b"plan".to_vec(), &parts())).unwrap();
        for (part, expected) in [
            (Part::Init, &b"plan"[..]),
            (Part::Filter, b"12345678"),
            (Part::Environ, b"A=1\0"),
            (Part::Config, b"{}"),
        ] {
            assert_eq!(file.part(part).unwrap(), expected);
        }
        let empty = PlanFile::parse(PlanFile::join(Vec::new(), &LaterParts::default())).unwrap();
        assert_eq!(empty.part(Part::Config).unwrap(), b"");
    }

    /// A later version may add parts.
    #[test]
    fn unknown_parts_are_ignored() {
        let mut bytes = b"newer{}".to_vec();
        for (name, length) in [(b"newer\0\0\0", 5u64), (b"config\0\0", 2)] {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(&2u64.to_le_bytes());
        bytes.extend_from_slice(END);
        let file = PlanFile::parse(bytes).unwrap();
        assert_eq!(file.part(Part::Config).unwrap(), b"{}");
        let error = file.part(Part::Filter).unwrap_err();
        assert_eq!(error.to_string(), "is damaged: part Filter is missing");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let whole = PlanFile::join(b"plan".to_vec(), &parts());
        for length in 0..whole.len() {
            assert!(PlanFile::parse(whole[..length].to_vec()).is_err(), "{length}");
        }
        let table = whole.len() - 80;
        for at in (table..whole.len()).filter(|at| (at - table) % 16 >= NAME) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x80;
            assert!(PlanFile::parse(damaged).is_err(), "{at}");
        }
    }
}
