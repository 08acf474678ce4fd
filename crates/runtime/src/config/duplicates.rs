//! Duplicate members of an object. Structs of serde refuse them, but [`serde_json::Value`] keeps
//! the last one, while a program that checked the text before davit may have read the first.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config::json::from_json;
use crate::error::Result;

/// Refuses a text with an object that has a member twice.
///
/// # Errors
/// The path of the object, and the member.
pub(crate) fn refuse(text: &[u8]) -> Result<()> {
    from_json(text).map(|Unique| ())
}

/// Any value.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unique, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let Unique = map.next_value()?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("duplicate field `{twice}`")));
            }
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Unique, A::Error> {
        while let Some(Unique) = list.next_element()? {}
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> std::result::Result<Unique, E> {
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_there_once() {
        for good in ["{}", r#"[1, -1, 1.5, "a", null, true, {"a": {"a": []}}]"#] {
            assert!(refuse(good.as_bytes()).is_ok(), "{good}");
        }
        for (bad, place) in [
            (r#"{"a": 1, "a": 2}"#, "duplicate field `a`"),
            (r#"{"a": 1, "\u0061": 2}"#, "duplicate field `a`"),
            (r#"{"x": [{}, {"b": 1, "b": 2}]}"#, "duplicate field `b`"),
        ] {
            let error = refuse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(place), "{bad}: {error}");
        }
    }
}
