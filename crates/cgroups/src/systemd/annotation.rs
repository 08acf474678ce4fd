//! `org.systemd.property.NAME` annotations: properties of the unit, with values in the text format
//! of GVariant (`uint64 10000000`, `'text'`, `['a', 'b']`), as podman, runc and crun use them.

use std::collections::{BTreeMap, HashMap};

use super::property::Property;
use crate::Error;
use davit_dbus::{Value, split_first_type};

/// The prefix of such annotations.
pub const PREFIX: &str = "org.systemd.property.";

/// Maximum depth of nested values.
const MAX_DEPTH: usize = 16;

/// The properties in annotations, sorted by name.
pub(super) fn properties(
    annotations: Option<&HashMap<String, String>>,
) -> Result<Vec<Property>, Error> {
    let sorted: BTreeMap<_, _> = annotations.into_iter().flatten().collect();
    let ours = sorted.into_iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    ours.map(|(name, text)| property(name, text)).collect()
}

/// The field of a property in config.json.
pub(super) fn field(name: &str) -> String {
    format!("annotations[{:?}]", format!("{PREFIX}{name}"))
}

fn property(name: &str, text: &str) -> Result<Property, Error> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::value(field(name), format!("{name:?} is not the name of a property")));
    }
    let mut parser = Parser { rest: text };
    let value = parser.value(None, MAX_DEPTH);
    // The length of a signature is one byte.
    let fits = |value: &Value| value.signature().len() <= usize::from(u8::MAX);
    let value = value.filter(fits).filter(|_| parser.rest.trim_start().is_empty());
    let Some(value) = value else {
        let reason =
            format!("{text:?} is not a value in GVariant's text form, such as 'text' or uint64 5");
        return Err(Error::value(field(name), reason));
    };
    match name.strip_suffix("Sec") {
        // `TimeoutStopSec` becomes `TimeoutStopUSec`: on the bus times are microseconds.
        Some(stem) if stem.ends_with(|last: char| last.is_ascii_lowercase()) => {
            let Some(value) = microseconds(&value) else {
                return Err(Error::value(
                    field(name),
                    format!("{text:?} is not a number of seconds"),
                ));
            };
            Ok(Property { name: format!("{stem}USec"), value })
        }
        _ => Ok(Property::new(name, value)),
    }
}

fn microseconds(seconds: &Value) -> Option<Value> {
    const SECOND: u64 = 1_000_000;
    let whole = match seconds {
        Value::Byte(n) => u64::from(*n),
        Value::U16(n) => u64::from(*n),
        Value::U32(n) => u64::from(*n),
        Value::U64(n) => *n,
        Value::I16(n) => u64::try_from(*n).ok()?,
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::I64(n) => u64::try_from(*n).ok()?,
        Value::Double(bits) => {
            let seconds = f64::from_bits(*bits);
            let fits = (0.0..1e12).contains(&seconds);
            return fits.then_some(Value::U64((seconds * SECOND as f64) as u64));
        }
        _ => return None,
    };
    whole.checked_mul(SECOND).map(Value::U64)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// A value, of the type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '@' => {
                let (kind, rest) = split_first_type(self.rest.get(1..)?)?;
                self.rest = rest.strip_prefix(char::is_whitespace)?;
                self.value(Some(kind), depth)
            }
            '\'' | '"' => self.string(wanted.unwrap_or("s")),
            '[' => self.array(wanted, depth),
            '(' => self.tuple(wanted, depth),
            '<' => {
                self.rest = self.rest.get(1..)?;
                let value = self.value(None, depth)?;
                self.eat('>')?;
                Some(Value::Variant(Box::new(value)))
            }
            'a'..='z' => self.word(wanted, depth),
            _ => self.number(wanted),
        }
    }

    fn eat(&mut self, mark: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(mark)?;
        Some(())
    }

    /// `true`, `false`, or the name of a type before its value.
    fn word(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let kind = match word {
            "true" | "false" => {
                return matches!(wanted, None | Some("b")).then(|| Value::Bool(word == "true"));
            }
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            _ => return None,
        };
        self.rest = self.rest.strip_prefix(char::is_whitespace)?;
        if wanted.is_some_and(|wanted| wanted != kind) {
            return None;
        }
        self.value(Some(kind), depth)
    }

    fn number(&mut self, wanted: Option<&str>) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || ".+-".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let double =
            |text: &str| text.parse().ok().map(|number: f64| Value::Double(number.to_bits()));
        match (integer(text), wanted) {
            (_, Some("d")) => double(text),
            (None, None) => double(text),
            (Some(number), wanted) => sized(number, wanted.unwrap_or("i")),
            (None, Some(_)) => None,
        }
    }

    fn string(&mut self, kind: &str) -> Option<Value> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    plain @ ('\\' | '\'' | '"') => plain,
                    _ => return None,
                }),
                '\0' => return None,
                end if end == quote => break,
                plain => text.push(plain),
            }
        }
        self.rest = chars.as_str();
        match kind {
            "s" => Some(Value::String(text)),
            "o" => text.starts_with('/').then_some(Value::Path(text)),
            "g" => {
                Some(Value::Signature(text)).filter(|value| value.text().is_some_and(is_signature))
            }
            _ => None,
        }
    }

    /// All elements have one type: by default that of the first.
    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        self.eat('[')?;
        let mut of = match wanted {
            Some(wanted) => Some(wanted.strip_prefix('a')?.to_owned()),
            None => None,
        };
        let mut values = Vec::new();
        while self.eat(']').is_none() {
            if !values.is_empty() {
                self.eat(',')?;
            }
            let value = self.value(of.as_deref(), depth)?;
            if of.as_ref().is_some_and(|of| *of != value.signature()) {
                return None;
            }
            of = Some(value.signature());
            values.push(value);
        }
        Some(Value::Array(of?, values))
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: usize) -> Option<Value> {
        self.eat('(')?;
        let mut kinds = match wanted {
            Some(wanted) => Some(wanted.strip_prefix('(')?.strip_suffix(')')?),
            None => None,
        };
        let mut values = Vec::new();
        while self.eat(')').is_none() {
            if !values.is_empty() {
                self.eat(',')?;
                // A tuple of one element ends with a comma.
                if values.len() == 1 && self.eat(')').is_some() {
                    break;
                }
            }
            let kind = match kinds {
                Some(list) => {
                    let (kind, rest) = split_first_type(list)?;
                    kinds = Some(rest);
                    Some(kind)
                }
                None => None,
            };
            values.push(self.value(kind, depth)?);
        }
        (!values.is_empty() && kinds.is_none_or(str::is_empty)).then_some(Value::Struct(values))
    }
}

fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (digits.get(2..)?, 16),
        [b'0', _, ..] => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    u64::from_str_radix(digits, radix).ok().map(|number| sign * i128::from(number))
}

fn sized(number: i128, kind: &str) -> Option<Value> {
    Some(match kind {
        "y" => Value::Byte(number.try_into().ok()?),
        "n" => Value::I16(number.try_into().ok()?),
        "q" => Value::U16(number.try_into().ok()?),
        "i" => Value::I32(number.try_into().ok()?),
        "u" => Value::U32(number.try_into().ok()?),
        "x" => Value::I64(number.try_into().ok()?),
        "t" => Value::U64(number.try_into().ok()?),
        _ => return None,
    })
}

fn is_signature(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        match split_first_type(rest) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, text: &str) -> Result<String, String> {
        let annotations = HashMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
        match properties(Some(&annotations)) {
            Ok(list) => {
                let [property] = list.as_slice() else { panic!("{list:?}") };
                Ok(format!("{}:{}", property.value.signature(), property))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_engines_write() {
        for (name, text, expected) in [
            ("KillSignal", "15", "i:KillSignal=15"),
            ("TimeoutStopUSec", "uint64 10000000", "t:TimeoutStopUSec=10000000"),
            ("TimeoutStopSec", "uint64 7", "t:TimeoutStopUSec=7000000"),
            ("TimeoutStopSec", "7", "t:TimeoutStopUSec=7000000"),
            ("TimeoutStopSec", "1.5", "t:TimeoutStopUSec=1500000"),
            ("CollectMode", "'inactive-or-failed'", "s:CollectMode=\"inactive-or-failed\""),
            ("Description", r#""it's \"mine\"""#, r#"s:Description="it's \"mine\"""#),
            ("After", "['a.service', 'b.service']", "as:After=[\"a.service\" \"b.service\"]"),
            ("After", "@as []", "as:After=[]"),
            ("Markers", " true ", "b:Markers=true"),
            ("X", "byte 0x1f", "y:X=31"),
            ("X", "int64 -5", "x:X=-5"),
            ("X", "-5", "i:X=-5"),
            ("X", "[uint16 1, 2]", "aq:X=[1 2]"),
            ("X", "('a', uint32 2)", "(su):X=(\"a\" 2)"),
            ("X", "@(st) ('a', 2)", "(st):X=(\"a\" 2)"),
            ("X", "[('/dev/null', 'rw')]", "a(ss):X=[(\"/dev/null\" \"rw\")]"),
            ("X", "<uint32 5>", "v:X=5"),
            ("X", "objectpath '/a'", "o:X=\"/a\""),
        ] {
            assert_eq!(parsed(name, text), Ok(expected.to_owned()), "{name} {text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_with_its_place() {
        for text in [
            "",
            "inactive",
            "'open",
            "uint64",
            "uint64 -1",
            "byte 256",
            "[1, 'a']",
            "[]",
            "(1",
            "1 2",
            "@as [1]",
            "@(st) ('a')",
            "objectpath 'a'",
            "int32 true",
            "'\\x'",
            "4294967296",
            &format!("({}1)", "1,".repeat(300)),
            "((((((((((((((((((((1,),),),),),),),),),),),),),),),),),),),)",
        ] {
            let error = parsed("X", text).unwrap_err();
            assert!(
                error.starts_with("annotations[\"org.systemd.property.X\"]: "),
                "{text}: {error}"
            );
        }
        assert!(parsed("TimeoutStopSec", "'a'").unwrap_err().contains("number of seconds"));
        assert!(parsed("TimeoutStopSec", "-1").unwrap_err().contains("number of seconds"));
        assert!(parsed("a b", "1").unwrap_err().contains("name of a property"));
        assert!(parsed("", "1").unwrap_err().contains("name of a property"));
    }

    #[test]
    fn other_annotations_are_not_read() {
        let annotations = HashMap::from([("org.systemd.propertyX".to_owned(), "(".to_owned())]);
        assert_eq!(properties(Some(&annotations)), Ok(Vec::new()));
        assert_eq!(properties(None), Ok(Vec::new()));
    }
}
