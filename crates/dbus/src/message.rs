//! Messages: a header of fields, and a body of values.

use crate::value::{Reader, Value, Writer};

/// The fixed part of a header.
const FIXED: usize = 16;

/// Maximum length of a message that is accepted; the usual ones have a few kilobytes.
const MAX_MESSAGE: usize = 1 << 24;

/// The type of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    #[default]
    Call = 1,
    /// The answer to a call.
    Return = 2,
    /// The answer to a call that failed.
    Error = 3,
    /// A signal.
    Signal = 4,
}

/// A message. Fields that it does not have are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: Kind,
    /// Its number on the connection.
    pub serial: u32,
    /// The serial of the call that it answers.
    pub reply_to: u32,
    /// Path of the object.
    pub path: String,
    /// Interface of the object.
    pub interface: String,
    /// Name of the method or signal.
    pub member: String,
    /// Name of the error.
    pub error: String,
    /// Name of the receiver on the bus.
    pub destination: String,
    /// The arguments.
    pub body: Vec<Value>,
}

// Header fields by number.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

impl Message {
    /// Encodes the message, little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.put(value));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let mut writer = Writer::default();
        writer.bytes.extend([b'l', self.kind as u8, 0, 1]);
        writer.u32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
        writer.u32(self.serial);
        let text = |number, text: &String, value: fn(String) -> Value| {
            (!text.is_empty()).then(|| (number, value(text.clone())))
        };
        let reply = (self.reply_to != 0).then_some((REPLY_SERIAL, Value::U32(self.reply_to)));
        let fields = [
            text(PATH, &self.path, Value::Path),
            text(INTERFACE, &self.interface, Value::String),
            text(MEMBER, &self.member, Value::String),
            text(ERROR_NAME, &self.error, Value::String),
            reply,
            text(DESTINATION, &self.destination, Value::String),
            text(SIGNATURE, &signature, Value::Signature),
        ];
        let field = |(number, value)| {
            Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))])
        };
        let fields = fields.into_iter().flatten().map(field).collect();
        writer.put(&Value::Array("(yv)".to_owned(), fields));
        writer.pad(8);
        writer.bytes.extend(body.bytes);
        writer.bytes
    }

    /// The length of the message that begins with these bytes: `Some(None)` if more bytes are
    /// needed to know it, `None` if they are not a message.
    #[must_use]
    pub fn length(bytes: &[u8]) -> Option<Option<usize>> {
        let Some(fixed) = bytes.get(..FIXED) else { return Some(None) };
        let mut reader = Reader::new(fixed, big_endian(fixed)?);
        let [_, body, _, fields] = [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
        let header =
            FIXED.checked_add(usize::try_from(fields).ok()?)?.checked_next_multiple_of(8)?;
        let length = header.checked_add(usize::try_from(body).ok()?)?;
        (length <= MAX_MESSAGE).then_some(Some(length))
    }

    /// The type of the message that begins with these bytes.
    #[must_use]
    pub fn kind(bytes: &[u8]) -> Option<Kind> {
        match bytes.get(1)? {
            1 => Some(Kind::Call),
            2 => Some(Kind::Return),
            3 => Some(Kind::Error),
            4 => Some(Kind::Signal),
            _ => None,
        }
    }

    /// Decodes a message that has exactly these bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let big_endian = big_endian(bytes)?;
        let mut reader = Reader::new(bytes, big_endian);
        let (kind, _) = (Self::kind(bytes)?, [reader.byte()?, reader.byte()?]);
        let (_flags, version) = (reader.byte()?, reader.byte()?);
        let (_length, serial) = (reader.u32()?, reader.u32()?);
        let mut message = Self { kind, serial, ..Self::default() };
        let fields = reader.values("a(yv)")?.pop()?;
        let signature = message.take_fields(fields)?;
        reader.pad(8)?;
        let body = bytes.get(reader.at()..)?;
        message.body = Reader::new(body, big_endian).values(&signature)?;
        (version == 1).then_some(message)
    }

    /// Stores the known header fields; returns the signature of the body.
    fn take_fields(&mut self, fields: Value) -> Option<String> {
        let Value::Array(_, fields) = fields else { return None };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(pair) = field else { return None };
            let [Value::Byte(number), Value::Variant(value)] = pair.as_slice() else { return None };
            let place = match *number {
                PATH => &mut self.path,
                INTERFACE => &mut self.interface,
                MEMBER => &mut self.member,
                ERROR_NAME => &mut self.error,
                DESTINATION => &mut self.destination,
                SIGNATURE => &mut signature,
                REPLY_SERIAL => {
                    let Value::U32(serial) = **value else { return None };
                    self.reply_to = serial;
                    continue;
                }
                // The specification says to ignore unknown fields.
                _ => continue,
            };
            *place = value.text()?.to_owned();
        }
        Some(signature)
    }
}

fn big_endian(bytes: &[u8]) -> Option<bool> {
    match bytes.first()? {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first message on every bus, as other implementations send it.
    #[test]
    fn hello_is_encoded_as_by_other_implementations() {
        let hello = Message {
            serial: 1,
            path: "/org/freedesktop/DBus".to_owned(),
            interface: "org.freedesktop.DBus".to_owned(),
            member: "Hello".to_owned(),
            destination: "org.freedesktop.DBus".to_owned(),
            ..Message::default()
        };
        let expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        let bytes = hello.encode();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(Message::length(&bytes), Some(Some(bytes.len())));
        assert_eq!(Message::length(&bytes[..15]), Some(None));
        assert_eq!(Message::decode(&bytes), Some(hello));
    }

    #[test]
    fn a_message_with_a_body_is_decoded() {
        let removed = Message {
            kind: Kind::Signal,
            serial: 9,
            path: "/org/freedesktop/systemd1".to_owned(),
            interface: "org.freedesktop.systemd1.Manager".to_owned(),
            member: "JobRemoved".to_owned(),
            body: vec![Value::U32(7), Value::Path("/job/7".to_owned()), Value::string("done")],
            ..Message::default()
        };
        assert_eq!(Message::decode(&removed.encode()), Some(removed));
    }

    #[test]
    fn invalid_messages_are_refused() {
        assert_eq!(Message::length(b"HTTP/1.1 400 Bad Request"), None);
        assert_eq!(Message::length(b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(Message::decode(b"l\x09\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(Message::decode(b"l\x01\0\x02\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(Message::decode(b""), None);
    }
}
