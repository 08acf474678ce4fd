//! Strings for the kernel as text: a record has them as config.json has.

use std::ffi::CString;

use serde::{Deserialize, Deserializer, Serializer, de, ser};

pub(super) fn serialize<S: Serializer>(string: &CString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(string.to_str().map_err(ser::Error::custom)?)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<CString, D::Error> {
    CString::new(String::deserialize(from)?).map_err(de::Error::custom)
}

/// The same for lists.
pub(super) mod list {
    use super::{CString, Deserialize, Deserializer, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(list: &[CString], to: S) -> Result<S::Ok, S::Error> {
        let texts: Result<Vec<&str>, _> = list.iter().map(|string| string.to_str()).collect();
        to.collect_seq(texts.map_err(ser::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<CString>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(de::Error::custom)
    }
}
