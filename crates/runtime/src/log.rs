//! Log entries and warnings.
//!
//! A warning does not stop the work, and belongs to the command as a whole: it is stored here until
//! the command knows whether it has failed (`davit` then writes one entry for the failure with its
//! warnings, or one for each).

use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::rfc3339::rfc3339;

/// How an entry is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `time="..." level=warning msg="..."`
    #[default]
    Text,
    /// Plain text: `davit: warning: ...`
    Plain,
    /// One JSON object on a line, with the members `level`, `msg` and `time`.
    Json,
}

/// An entry, with its newline. In JSON it has the members of `more` as well.
#[must_use]
pub fn entry(format: Format, level: &str, message: &str, more: Map<String, Value>) -> String {
    // A message is one line, even if a path has a newline.
    let message = message.replace('\n', " ");
    if format == Format::Plain {
        return format!("davit: {level}: {message}\n");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = rfc3339(now);
    if format == Format::Text {
        return format!("time={time:?} level={level} msg={message:?}\n");
    }
    let mut object = more;
    object.insert("level".to_owned(), level.into());
    object.insert("msg".to_owned(), message.into());
    object.insert("time".to_owned(), time.into());
    format!("{}\n", Value::Object(object))
}

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Stores a warning until [`take_warnings`].
pub fn warn(warning: impl Into<String>) {
    if let Ok(mut warnings) = WARNINGS.lock() {
        warnings.push(warning.into());
    }
}

/// The warnings since the last time, in their order.
#[must_use]
pub fn take_warnings() -> Vec<String> {
    WARNINGS.lock().map(|mut warnings| std::mem::take(&mut *warnings)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        assert_eq!(entry(Format::Plain, "warning", "a\nb", Map::new()), "davit: warning: a b\n");
        let text = entry(Format::Text, "warning", "a\"b\n", Map::new());
        assert!(text.ends_with("level=warning msg=\"a\\\"b \"\n"), "{text}");
        let more = Map::from_iter([("x".to_owned(), 1.into())]);
        let line = entry(Format::Json, "error", "a", more);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&object["x"], &object["level"], &object["msg"]),
            (&1.into(), &"error".into(), &"a".into())
        );
        assert_eq!(line.lines().count(), 1);
    }
}
