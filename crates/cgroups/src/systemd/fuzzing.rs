//! Doors for fuzzing (`make fuzz`).

use std::collections::HashMap;

use davit_dbus::{Reader, Writer};

use super::annotation;

/// A value that is parsed from an annotation is the same after encoding and decoding.
pub(crate) fn annotations(annotations: &HashMap<String, String>) {
    let Ok(properties) = annotation::properties(Some(annotations)) else { return };
    for property in properties {
        let _ = property.to_string();
        let mut writer = Writer::default();
        writer.put(&property.value);
        let values = Reader::new(&writer.bytes, false).values(&property.value.signature());
        assert!(values.as_deref() == Some(&[property.value][..]), "{values:?}");
    }
}
