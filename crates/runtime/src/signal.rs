//! Signals by name and number, strictly.

use nix::sys::signal::Signal;

use crate::error::{Error, Result};
use crate::nearest::nearest;

/// The highest real-time signal of Linux.
const LAST: i32 = 64;

/// The number of a signal given as `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-1`; `0`
/// is no signal, and only checks whether one could be sent (kill(2)).
///
/// # Errors
/// Anything else.
pub fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| {
        let error = Error::new(format!("unknown signal {text:?}"));
        let upper = text.to_ascii_uppercase();
        match nearest(upper.strip_prefix("SIG").unwrap_or(&upper), names()) {
            Some(name) => error.hint(format!("did you mean {name:?}?")),
            None => error,
        }
    })
}

/// The names of the signals that are not of real time, for a shell to offer: `TERM`.
pub fn names() -> impl Iterator<Item = &'static str> {
    Signal::iterator().map(|signal| signal.as_str().trim_start_matches("SIG"))
}

fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (0..=LAST).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    match bare {
        "IOT" => return Some(libc::SIGABRT),
        "CLD" => return Some(libc::SIGCHLD),
        "POLL" => return Some(libc::SIGIO),
        _ => {}
    }
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|offset| 34 + offset).filter(|number| *number <= LAST);
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|offset| LAST - offset).filter(|number| *number >= 34);
    }
    format!("SIG{bare}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    match rest.strip_prefix(sign) {
        None => rest.is_empty().then_some(0),
        Some(digits) if digits.is_empty() || digits.len() > 2 => None,
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("IO", 29),
            ("POLL", 29),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_signal() {
        for text in
            ["", "65", "9x", "-1", "4294967305", " 9", "+9", "NOPE", "SIG", "RTMIN+31", "RTMIN+"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("SIGSIGTERM").is_err());
    }

    #[test]
    fn a_mistyped_name_gets_the_nearest_one() {
        let advice = |text| parse(text).unwrap_err().advice().map(str::to_owned);
        assert_eq!(advice("SIGTREM").unwrap(), "did you mean \"TERM\"?");
        assert_eq!(advice("kil").unwrap(), "did you mean \"KILL\"?");
        assert_eq!(advice("65"), None);
    }
}
