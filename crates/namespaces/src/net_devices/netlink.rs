//! The requests of rtnetlink(7) for moving network devices between namespaces.

use std::os::fd::{AsRawFd, OwnedFd};

use davit_sys::{Error, OsContext};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Maximum length of a response of the kernel (netlink(7), `NLMSG_GOODSIZE` and its dumps).
const BUFFER: usize = 64 << 10;
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

/// Flags of an address that are configured, as opposed to its state (linux/if_addr.h).
const CONFIGURED_FLAGS: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// Attributes of an address that are restored: not the label, which contains the device's name.
const RESTORED_ATTRIBUTES: [u16; 4] =
    [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, IFA_RT_PRIORITY];
const IFA_RT_PRIORITY: u16 = 9;

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawAddress {
    pub(super) device: u32,
    pub(super) family: u8,
    pub(super) prefix: u8,
    pub(super) scope: u8,
    pub(super) flags: u32,
    pub(super) attributes: Vec<(u16, Vec<u8>)>,
}

/// A netlink socket of this process's network namespace.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkRoute);
        socket(AddressFamily::Netlink, kind, flags, protocol).syscall("socket").map(Self)
    }

    /// All devices: index and name.
    pub(super) fn devices(&self) -> Result<Vec<(i32, String)>, Error> {
        let answers = self.ask("RTM_GETLINK", libc::RTM_GETLINK, libc::NLM_F_DUMP, &link(0, 0))?;
        Ok(answers.iter().filter_map(|answer| parse_device(answer)).collect())
    }

    /// All addresses of all devices.
    pub(super) fn addresses(&self) -> Result<Vec<RawAddress>, Error> {
        let any = [0; ADDRESS_HEADER];
        let answers = self.ask("RTM_GETADDR", libc::RTM_GETADDR, libc::NLM_F_DUMP, &any)?;
        Ok(answers.iter().filter_map(|answer| parse_address(answer)).collect())
    }

    /// Moves a device into the network namespace of process `pid`, with a new name.
    pub(super) fn move_to(&self, device: i32, pid: i32, name: &str) -> Result<(), Error> {
        let mut body = link(device, 0);
        attribute(&mut body, libc::IFLA_NET_NS_PID, &pid.to_ne_bytes());
        attribute(&mut body, libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        self.change("RTM_NEWLINK", libc::RTM_NEWLINK, 0, &body)
    }

    pub(super) fn add_address(&self, device: u32, address: &RawAddress) -> Result<(), Error> {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(device.to_ne_bytes());
        attribute(&mut body, libc::IFA_FLAGS, &address.flags.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.change("RTM_NEWADDR", libc::RTM_NEWADDR, flags, &body)
    }

    pub(super) fn set_up(&self, device: i32) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        self.change("RTM_NEWLINK", libc::RTM_NEWLINK, 0, &link(device, up))
    }

    fn change(&self, call: &'static str, kind: u16, flags: i32, body: &[u8]) -> Result<(), Error> {
        self.ask(call, kind, flags | libc::NLM_F_ACK, body).map(drop)
    }

    /// Sends a request, and returns the bodies of its answers up to the one that ends them.
    fn ask(
        &self,
        call: &'static str,
        kind: u16,
        flags: i32,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        // The sequence number and our port: one request at a time, on a socket of its own.
        request.extend([0; 8]);
        request.extend(body);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty()).syscall(call)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                received => received.syscall(call)?,
            };
            for (kind, body) in messages(buffer.get(..length).unwrap_or_default()) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => {
                        let code = body.get(..4).and_then(|code| code.try_into().ok());
                        return match code.map_or(-libc::EIO, i32::from_ne_bytes) {
                            0 => Ok(answers),
                            code => Err(Error::new(call, Errno::from_raw(-code))),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

/// `struct ifinfomsg`, with these flags to be set.
fn link(device: i32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(device.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

fn parse_device(answer: &[u8]) -> Option<(i32, String)> {
    let name = attributes(answer.get(LINK_HEADER..)?)
        .find(|(kind, _)| *kind == libc::IFLA_IFNAME)
        .map(|(_, name)| name.strip_suffix(&[0]).unwrap_or(name))?;
    let index = i32::from_ne_bytes(answer.get(4..8)?.try_into().ok()?);
    Some((index, String::from_utf8_lossy(name).into_owned()))
}

fn parse_address(answer: &[u8]) -> Option<RawAddress> {
    let (header, rest) = answer.split_at_checked(ADDRESS_HEADER)?;
    let [family, prefix, flags, scope, device @ ..] = header else { return None };
    let all: Vec<_> = attributes(rest).collect();
    // The attribute has all flags, the header those of the first byte.
    let wide = all.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
    let wide = wide.and_then(|(_, flags)| Some(u32::from_ne_bytes((*flags).try_into().ok()?)));
    Some(RawAddress {
        device: u32::from_ne_bytes(device.try_into().ok()?),
        family: *family,
        prefix: *prefix,
        scope: *scope,
        flags: wide.unwrap_or_else(|| u32::from(*flags)),
        attributes: all.into_iter().map(|(kind, value)| (kind, value.to_vec())).collect(),
    })
}

impl RawAddress {
    /// Whether it is meant to last and to be seen by others; and then what of it is its own.
    pub(super) fn lasting(mut self) -> Option<Self> {
        let lasts = self.flags & libc::IFA_F_PERMANENT != 0;
        self.flags &= CONFIGURED_FLAGS;
        self.attributes.retain(|(kind, _)| RESTORED_ATTRIBUTES.contains(kind));
        (lasts && self.scope == libc::RT_SCOPE_UNIVERSE).then_some(self)
    }
}

/// Appends an attribute, padded to four bytes (rtnetlink(7), `struct rtattr`).
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(bytes, |bytes| {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        Some((usize::from(length), kind, 4))
    })
}

/// The kinds and bodies of the messages in one datagram.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    parts(bytes, |bytes| {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        Some((usize::try_from(length).ok()?, kind, HEADER))
    })
}

/// Reads a header: the length of the whole, the kind, and the length of the header itself.
type Header = fn(&[u8]) -> Option<(usize, u16, usize)>;

/// Splits what says its own length.
fn parts(mut rest: &[u8], header: Header) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind, start) = header(rest)?;
        let body = rest.get(start..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// A datagram of the kernel's, read as each kind of answer.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(datagram: &[u8]) {
    for (_, body) in messages(datagram) {
        let _ = parse_device(body);
        let _ = parse_address(body).and_then(RawAddress::lasting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 4, &1500u32.to_ne_bytes());
        assert_eq!(body.len(), 12 + 8);
        let read: Vec<_> = attributes(&body).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (4, &1500u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn broken_lengths_end_the_list() {
        for bytes in [&[][..], &[3, 0], &[3, 0, 1, 0], &[0, 0, 1, 0], &[9, 0, 1, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn every_network_namespace_has_a_loopback_device() {
        let devices = Socket::open().unwrap().devices().unwrap();
        assert!(devices.iter().any(|(_, name)| name == "lo"), "{devices:?}");
    }

    #[test]
    fn addresses_that_last_keep_what_is_their_own() {
        let mut answer = vec![2, 24, 0, 0, 7, 0, 0, 0];
        attribute(&mut answer, libc::IFA_LOCAL, &[10, 0, 0, 1]);
        attribute(&mut answer, libc::IFA_LABEL, b"eth0\0");
        attribute(&mut answer, libc::IFA_FLAGS, &0x280u32.to_ne_bytes());
        let address = parse_address(&answer).unwrap();
        assert_eq!((address.device, address.prefix), (u32::from_ne_bytes([7, 0, 0, 0]), 24));
        let kept = address.clone().lasting().unwrap();
        assert_eq!(kept.flags, libc::IFA_F_NOPREFIXROUTE);
        assert_eq!(kept.attributes, [(libc::IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!(RawAddress { scope: 253, ..address.clone() }.lasting(), None);
        assert_eq!(RawAddress { flags: 0, ..address }.lasting(), None);
    }
}
