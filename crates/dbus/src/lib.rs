//! A small blocking client for D-Bus: method calls and the signal that a service sends when a job
//! ends, each with a deadline. It authenticates with EXTERNAL, needs no threads, and speaks with a
//! service through a bus or directly on the service's own socket.
//!
//! ```text
//! address      `unix:path=...`, from DBUS_SESSION_BUS_ADDRESS and the like, to a socket
//! value        typed values, and their bytes in a message
//! message      one message: header fields and a body of values
//! connection   a socket: authentication, method calls, signals
//! ```

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod address;
mod connection;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod value;

pub use address::Address;
pub use connection::{Connection, Error, MAX_SIGNALS, Service, Target};
pub use message::{Kind, Message};
pub use value::{Reader, Value, Writer, split_first_type};
