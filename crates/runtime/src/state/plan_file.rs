//! The file `plan` in a container's directory: the operations of init, the configuration that
//! `exec` and `update` need, and the length of the operations. Both parts are bytes here.

/// The two parts of the file.
#[derive(Debug)]
pub(crate) struct PlanFile {
    init_input: Vec<u8>,
    exec_config: Vec<u8>,
}

impl PlanFile {
    /// Its name in the directory, and in messages.
    pub(crate) const NAME: &str = "plan";

    pub(super) fn join(mut bytes: Vec<u8>, exec_config: &[u8]) -> Vec<u8> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes();
        bytes.extend_from_slice(exec_config);
        bytes.extend_from_slice(&length);
        bytes
    }

    pub(crate) fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        let (_, length) = bytes.split_last_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        bytes.truncate(bytes.len() - size_of::<u64>());
        let exec_config = (length <= bytes.len()).then(|| bytes.split_off(length))?;
        Some(Self { init_input: bytes, exec_config })
    }

    /// The input of init, encoded.
    pub(crate) fn init_input(&self) -> &[u8] {
        &self.init_input
    }

    /// The configuration that `exec` and `update` need, encoded.
    pub(crate) fn exec_config(&self) -> &[u8] {
        &self.exec_config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_read_as_they_were_written() {
        let file = PlanFile::parse(PlanFile::join(b"plan".to_vec(), b"{}")).unwrap();
        assert_eq!((file.init_input(), file.exec_config()), (&b"plan"[..], &b"{}"[..]));
        for damaged in [b"".as_slice(), b"x", &[b"x".as_slice(), &2u64.to_le_bytes()].concat()] {
            assert!(PlanFile::parse(damaged.to_vec()).is_none());
        }
    }
}
