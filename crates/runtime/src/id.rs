//! The id of a container, which is also the name of its directory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A checked id: `[A-Za-z0-9_+.-]{1,1024}`, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The longest id.
    pub const MAX: usize = 1024;

    /// The id as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = Error;

    fn try_from(id: String) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
        let reason = match id.as_str() {
            "" => "is empty",
            "." | ".." => "names a directory",
            long if long.len() > Self::MAX => "is longer than 1024 bytes",
            other if !other.bytes().all(allowed) => "may only contain letters, digits and _ + . -",
            _ => return Ok(Self(id)),
        };
        let shown: String = id.chars().take(64).collect();
        Err(Error::new(format!("container id {shown:?} {reason}")))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_and_never_paths() {
        for good in ["a", "web-1", "A.b+c_d", "...", &"x".repeat(1024)] {
            assert!(Id::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "é", "a\0", "a\n", &"x".repeat(1025)] {
            assert!(Id::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
