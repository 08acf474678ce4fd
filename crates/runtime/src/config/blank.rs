//! Types of oci-spec without content, which their own defaults are not: those are the
//! configuration of a container that runs a shell.

use serde::de::value::Error;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Makes a value with all optional fields absent, each text empty and each number 0.
///
/// # Errors
/// The type has a field of another kind.
pub(crate) fn blank<'de, T: Deserialize<'de>>() -> crate::error::Result<T> {
    T::deserialize(Blank).map_err(|error| crate::error::Error::new(error.to_string()))
}

/// A source that contains nothing. It never asks the type of an optional field to read itself:
/// none of that code becomes part of the program.
struct Blank;

impl<'de> Deserializer<'de> for Blank {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(self)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u32(0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields of a struct.
impl<'de> SeqAccess<'de> for Blank {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        seed.deserialize(Blank).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Linux, LinuxCapabilities, Process, Spec};
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;

    fn is<T: Serialize + for<'de> Deserialize<'de>>(expected: Value) {
        assert_eq!(serde_json::to_value(blank::<T>().unwrap()).unwrap(), expected);
    }

    #[test]
    fn nothing_is_in_a_blank() {
        is::<Spec>(json!({ "ociVersion": "" }));
        is::<Process>(json!({ "cwd": "", "user": { "uid": 0, "gid": 0 } }));
        is::<Linux>(json!({}));
        is::<LinuxCapabilities>(json!({}));
    }
}
