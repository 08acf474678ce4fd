//! getrandom(2).

use crate::Error;

/// A random number that cannot be predicted.
///
/// # Errors
/// ENOSYS, before Linux 3.17.
pub fn number() -> Result<u64, Error> {
    let mut bytes = [0u8; 8];
    // Not the function of the C library: std has a weak reference to it, and link-time optimisation
    // makes this one weak too, so that a static musl binary lacks the function and calls address 0.
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let count = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
    match count {
        // Up to 256 bytes are returned at once if the generator is seeded (getrandom(2)).
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Error::last("getrandom")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_numbers_differ() {
        assert_ne!(super::number().unwrap(), super::number().unwrap());
    }
}
