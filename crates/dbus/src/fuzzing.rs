//! Doors for fuzzing (`make fuzz`).

use crate::message::Message;

/// Messages, one behind the other, as they come from the socket: decoding and encoding agree.
pub fn messages(mut bytes: &[u8]) {
    while let Some(Some(length)) = Message::length(bytes) {
        let Some((one, rest)) = bytes.split_at_checked(length) else { return };
        bytes = rest;
        let Some(message) = Message::decode(one) else { continue };
        let again = Message::decode(&message.encode());
        assert!(again.as_ref() == Some(&message), "{message:?} becomes {again:?}");
    }
}
