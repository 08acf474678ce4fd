//! Addresses of D-Bus servers.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The address of a unix socket (unix(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl Address {
    /// The first unix socket of an address list (`unix:path=/run/bus,guid=12;...`).
    #[must_use]
    pub fn parse(list: &str) -> Option<Self> {
        list.split(';').find_map(|address| {
            let mut keys =
                address.strip_prefix("unix:")?.split(',').filter_map(|key| key.split_once('='));
            keys.find_map(|(key, value)| match key {
                "path" => Some(Self::Path(unescape(value)?.into())),
                "abstract" => unescape(value).map(Self::Abstract),
                _ => None,
            })
        })
    }
}

/// Decodes escapes such as `%20`.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_addresses_are_refused() {
        for address in ["", "unix:", "unix:path", "tcp:path=/x", "unix:path=%zz", "unix:path=%4"] {
            assert_eq!(Address::parse(address), None, "{address}");
        }
    }

    #[test]
    fn the_first_unix_socket_of_a_list_is_taken() {
        let path = Address::parse("tcp:host=a;unix:path=/tmp/bus%20a,guid=12").unwrap();
        assert_eq!(path.to_string(), "/tmp/bus a");
        assert_eq!(Address::parse("unix:abstract=/tmp/x").unwrap().to_string(), "@/tmp/x");
    }
}
