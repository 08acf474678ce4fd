//! capset(2), the bounding set and the ambient set, as bit masks (bit n is capability n).

use crate::Error;

/// Three of the capability sets of a process, as masks (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Checked by the kernel.
    pub effective: u64,
    /// May become effective.
    pub permitted: u64,
    /// Inherited through files with capabilities.
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const fn halves(mask: u64) -> [u32; 2] {
    [mask as u32, (mask >> 32) as u32]
}

/// capset(2) of this thread.
///
/// # Errors
/// EPERM for a permitted capability that the thread does not have.
pub fn set(sets: Sets) -> Result<(), Error> {
    let header = Header { version: VERSION_3, pid: 0 };
    let [effective_low, effective_high] = halves(sets.effective);
    let [permitted_low, permitted_high] = halves(sets.permitted);
    let [inheritable_low, inheritable_high] = halves(sets.inheritable);
    let data = [
        Data { effective: effective_low, permitted: permitted_low, inheritable: inheritable_low },
        Data {
            effective: effective_high,
            permitted: permitted_high,
            inheritable: inheritable_high,
        },
    ];
    // SAFETY: version 3 of the header goes with two data structs (capset(2)).
    let ret = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if ret < 0 { Err(Error::last("capset")) } else { Ok(()) }
}

/// capget(2) of this thread.
///
/// # Errors
/// Not documented for the calling thread.
pub fn get() -> Result<Sets, Error> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 of the header goes with two data structs (capset(2)).
    let ret = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if ret < 0 {
        return Err(Error::last("capget"));
    }
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Removes `capability` from the bounding set (prctl(2), `PR_CAPBSET_DROP`).
///
/// # Errors
/// EPERM without CAP_SETPCAP, EINVAL for an unknown one.
pub fn drop_bounding(capability: u32) -> Result<(), Error> {
    // SAFETY: PR_CAPBSET_DROP takes one integer.
    let ret = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) };
    if ret < 0 { Err(Error::last("prctl PR_CAPBSET_DROP")) } else { Ok(()) }
}

/// Empties the ambient set (prctl(2), `PR_CAP_AMBIENT_CLEAR_ALL`).
///
/// # Errors
/// EINVAL before Linux 4.3.
pub fn clear_ambient() -> Result<(), Error> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)
}

/// Adds `capability` to the ambient set; it must be permitted and inheritable.
///
/// # Errors
/// EPERM if it is not.
pub fn raise_ambient(capability: u32) -> Result<(), Error> {
    ambient(libc::PR_CAP_AMBIENT_RAISE, capability)
}

fn ambient(what: libc::c_int, capability: u32) -> Result<(), Error> {
    let (what, capability) = (what as libc::c_ulong, capability as libc::c_ulong);
    // SAFETY: PR_CAP_AMBIENT takes two integers and two zeroes.
    let ret = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what, capability, 0, 0) };
    if ret < 0 { Err(Error::last("prctl PR_CAP_AMBIENT")) } else { Ok(()) }
}
