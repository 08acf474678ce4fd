//! Doors for fuzzing (`make fuzz`).

/// A response of rtnetlink(7).
pub fn netlink(datagram: &[u8]) {
    crate::net_devices::fuzz(datagram);
}
