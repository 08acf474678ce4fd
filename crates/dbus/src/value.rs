//! Values of D-Bus types, and their encoding in a message.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum depth of nested values: the limit of the specification.
const MAX_DEPTH: usize = 64;

/// Maximum number of values in one message; answers have a few. A byte takes some fifty times its
/// size as a [`Value`].
const MAX_VALUES: usize = 1 << 16;

/// A value of a D-Bus type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`, by its bits, so that values can be compared.
    Double(u64),
    /// `s`
    String(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`: the signature of its elements, and the elements.
    Array(String, Vec<Value>),
    /// `(...)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// The text of a string, an object path or a signature.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            Self::Variant(value) => value.text(),
            _ => None,
        }
    }

    /// The signature of its type.
    #[must_use]
    pub fn signature(&self) -> String {
        let letter = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::String(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(of, _) => return format!("a{of}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                return format!("({fields})");
            }
        };
        letter.to_owned()
    }
}

/// Prints values much as `systemctl show` does.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Self]| {
            for (index, value) in values.iter().enumerate() {
                write!(f, "{}{value}", if index == 0 { "" } else { " " })?;
            }
            Ok(())
        };
        match self {
            Self::U64(u64::MAX) => f.write_str("infinity"),
            Self::Byte(n) => write!(f, "{n}"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::I16(n) => write!(f, "{n}"),
            Self::U16(n) => write!(f, "{n}"),
            Self::I32(n) => write!(f, "{n}"),
            Self::U32(n) => write!(f, "{n}"),
            Self::I64(n) => write!(f, "{n}"),
            Self::U64(n) => write!(f, "{n}"),
            Self::Double(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Self::String(text) | Self::Path(text) | Self::Signature(text) => write!(f, "{text:?}"),
            Self::Variant(value) => value.fmt(f),
            Self::Array(of, bytes) if of == "y" => {
                f.write_str("0x")?;
                // A mask of CPUs or memory nodes: the last byte has the highest numbers.
                bytes.iter().rev().try_for_each(|byte| match byte {
                    Self::Byte(byte) => write!(f, "{byte:02x}"),
                    _ => Ok(()),
                })
            }
            Self::Array(_, values) => {
                f.write_str("[")?;
                list(f, values)?;
                f.write_str("]")
            }
            Self::Struct(values) => {
                f.write_str("(")?;
                list(f, values)?;
                f.write_str(")")
            }
        }
    }
}

/// The boundary on which a type begins, by the first letter of its signature.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Encodes values, little-endian.
#[derive(Debug, Default)]
pub struct Writer {
    /// The bytes so far.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Pads with zeros to a multiple of `boundary`.
    pub fn pad(&mut self, boundary: usize) {
        while !self.bytes.len().is_multiple_of(boundary) {
            self.bytes.push(0);
        }
    }

    /// Appends a `u`.
    pub fn u32(&mut self, number: u32) {
        self.pad(4);
        self.bytes.extend(number.to_le_bytes());
    }

    /// Appends a value.
    pub fn put(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(yes) => self.u32(u32::from(*yes)),
            Value::I16(n) => self.number(&n.to_le_bytes()),
            Value::U16(n) => self.number(&n.to_le_bytes()),
            Value::I32(n) => self.number(&n.to_le_bytes()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.number(&n.to_le_bytes()),
            Value::U64(n) | Value::Double(n) => self.number(&n.to_le_bytes()),
            Value::String(text) | Value::Path(text) => {
                self.u32(length(text.len()));
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Signature(text) => self.signature(text),
            Value::Variant(value) => {
                self.signature(&value.signature());
                self.put(value);
            }
            Value::Struct(fields) => {
                self.pad(8);
                fields.iter().for_each(|field| self.put(field));
            }
            Value::Array(of, values) => self.array(of, values),
        }
    }

    fn number(&mut self, bytes: &[u8]) {
        self.pad(bytes.len());
        self.bytes.extend(bytes);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// The length counts from the first element, after the padding before it.
    fn array(&mut self, of: &str, values: &[Value]) {
        self.u32(0);
        let place = self.bytes.len() - 4;
        self.pad(alignment(of));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.put(value));
        let size = length(self.bytes.len() - start).to_le_bytes();
        if let Some(to) = self.bytes.get_mut(place..place + 4) {
            to.copy_from_slice(&size);
        }
    }
}

fn length(bytes: usize) -> u32 {
    // Messages that are sent have a few kilobytes.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Decodes values. `None` stands for bytes that are not valid in a message.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
    /// How many more values are accepted.
    values_left: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian, values_left: MAX_VALUES }
    }

    /// The position of the next byte.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Skips to a multiple of `boundary`.
    pub fn pad(&mut self, boundary: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(boundary)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// Reads a `y`.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Reads a `u`.
    pub fn u32(&mut self) -> Option<u32> {
        self.number(4).and_then(|number| u32::try_from(number).ok())
    }

    /// Reads values with the types of `signature`.
    pub fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut rest = signature;
        let mut values = Vec::new();
        while !rest.is_empty() {
            values.push(self.value(&mut rest, MAX_DEPTH)?);
        }
        Some(values)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    /// An unsigned number of `size` bytes, aligned to its size.
    fn number(&mut self, size: usize) -> Option<u64> {
        self.pad(size)?;
        let bytes = self.take(size)?;
        let put = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, put),
            false => bytes.iter().rev().fold(0, put),
        })
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let text = self.take(length)?;
        match self.byte()? {
            0 => String::from_utf8(text.to_vec()).ok(),
            _ => None,
        }
    }

    fn short_string(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.string(usize::from(length))
    }

    /// One value of the first type in `signature`, which is removed from it.
    fn value(&mut self, signature: &mut &str, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.values_left = self.values_left.checked_sub(1)?;
        let (kind, rest) = split_first_type(signature)?;
        *signature = rest;
        Some(match kind.as_bytes().first()? {
            b'y' => Value::Byte(self.byte()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(u16::try_from(self.number(2)?).ok()?.cast_signed()),
            b'q' => Value::U16(u16::try_from(self.number(2)?).ok()?),
            b'i' => Value::I32(self.u32()?.cast_signed()),
            b'u' | b'h' => Value::U32(self.u32()?),
            b'x' => Value::I64(self.number(8)?.cast_signed()),
            b't' => Value::U64(self.number(8)?),
            b'd' => Value::Double(self.number(8)?),
            letter @ (b's' | b'o') => {
                let length = usize::try_from(self.u32()?).ok()?;
                let text = self.string(length)?;
                if *letter == b's' { Value::String(text) } else { Value::Path(text) }
            }
            b'g' => Value::Signature(self.short_string()?),
            b'v' => {
                let inner = self.short_string()?;
                let mut rest = inner.as_str();
                let value = self.value(&mut rest, depth)?;
                rest.is_empty().then(|| Value::Variant(Box::new(value)))?
            }
            b'a' => self.array(kind.get(1..)?, depth)?,
            // An entry of a dictionary is a structure of two.
            b'(' | b'{' => {
                self.pad(8)?;
                // There is no empty structure.
                let mut inner =
                    kind.get(1..kind.len().checked_sub(1)?).filter(|inner| !inner.is_empty())?;
                let mut fields = Vec::new();
                while !inner.is_empty() {
                    fields.push(self.value(&mut inner, depth)?);
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }

    fn array(&mut self, of: &str, depth: usize) -> Option<Value> {
        let size = usize::try_from(self.u32()?).ok()?;
        self.pad(alignment(of))?;
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len())?;
        let mut values = Vec::new();
        while self.at < end {
            let mut element = of;
            values.push(self.value(&mut element, depth)?);
        }
        (self.at == end).then(|| Value::Array(of.to_owned(), values))
    }
}

/// Splits a signature after its first complete type.
#[must_use]
pub fn split_first_type(signature: &str) -> Option<(&str, &str)> {
    let mut open = 0_usize;
    for (index, letter) in signature.bytes().enumerate() {
        match letter {
            b'a' => continue,
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            letter if letter.is_ascii_lowercase() => {}
            _ => return None,
        }
        if open == 0 {
            return signature.split_at_checked(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.put(value);
        writer.bytes
    }

    /// Encoded by hand, from the chapter on marshalling of the D-Bus specification.
    #[test]
    fn values_are_encoded_as_the_specification_says() {
        assert_eq!(bytes(&Value::string("foo")), b"\x03\0\0\0foo\0");
        assert_eq!(bytes(&Value::Signature("a(sv)".to_owned())), b"\x05a(sv)\0");
        let numbers = Value::Struct(vec![Value::Byte(1), Value::U16(2), Value::U64(3)]);
        assert_eq!(bytes(&numbers), b"\x01\0\x02\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        // The padding before the first element does not count.
        let array = Value::Array("t".to_owned(), vec![Value::U64(5)]);
        assert_eq!(bytes(&array), b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
        let variant = Value::Variant(Box::new(Value::Bool(true)));
        assert_eq!(bytes(&variant), b"\x01b\0\0\x01\0\0\0");
        assert_eq!(bytes(&Value::Array("s".to_owned(), vec![])), b"\0\0\0\0");
    }

    #[test]
    fn big_endian_values_are_read() {
        let mut reader = Reader::new(b"\0\0\0\x02hi\0\0\0\0\0\x07", true);
        assert_eq!(reader.values("su").unwrap(), [Value::string("hi"), Value::U32(7)]);
    }

    #[test]
    fn invalid_values_are_refused() {
        for (signature, bytes) in [
            ("s", &b"\xff\xff\xff\xff"[..]),
            ("s", b"\x02\0\0\0hix"),
            ("au", b"\x03\0\0\0\x01\0\0\0"),
            ("v", b"\x02uu\0\x01\0\0\0"),
            ("(", b""),
            ("z", b""),
            ("t", b"\x01"),
        ] {
            assert_eq!(Reader::new(bytes, false).values(signature), None, "{signature}");
        }
        let deep = [b"\x01v\0".repeat(100), b"\x01y\0\x01".to_vec()].concat();
        assert_eq!(Reader::new(&deep, false).values("v"), None);
    }

    #[test]
    fn endless_and_huge_arrays_are_refused() {
        // Elements without bytes would never end.
        assert_eq!(Reader::new(b"\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", false).values("a()"), None);
        let bytes = |count: u32| [&count.to_le_bytes()[..], &vec![0; count as usize]].concat();
        assert!(Reader::new(&bytes(1000), false).values("ay").is_some());
        assert_eq!(Reader::new(&bytes(1 << 20), false).values("ay"), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<i32>().prop_map(Value::I32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            any::<u64>().prop_map(Value::Double),
            "[a-z\u{e4}]{0,9}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                (inner, 0..4_usize).prop_map(|(value, count)| {
                    Value::Array(value.signature(), vec![value; count])
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(values in proptest::collection::vec(value(), 0..4)) {
            let mut writer = Writer::default();
            values.iter().for_each(|value| writer.put(value));
            let signature: String = values.iter().map(Value::signature).collect();
            prop_assert_eq!(Reader::new(&writer.bytes, false).values(&signature), Some(values));
        }

        #[test]
        fn garbage_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for signature in ["v", "a{sv}", "a(sa(sv))", "ssg", "uoss"] {
                let _ = Reader::new(&bytes, bytes.len() % 2 == 0).values(signature);
            }
        }
    }
}
