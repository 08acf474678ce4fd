//! Architectures whose system calls davit can filter.

use std::fmt;

use oci_spec::runtime::Arch as OciArch;

/// Bit 30 of a number distinguishes x32 from x86_64, which have the same audit value.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// An architecture with a table of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// x86_64 with 32-bit pointers.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, EABI.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit little endian PowerPC.
    Ppc64le,
    /// 64-bit s390.
    S390x,
}

impl Arch {
    /// Every architecture, in the order of the table's columns.
    pub const ALL: [Self; 8] = [
        Self::X86_64,
        Self::X86,
        Self::X32,
        Self::Aarch64,
        Self::Arm,
        Self::Riscv64,
        Self::Ppc64le,
        Self::S390x,
    ];

    /// The architecture that this program was built for; `None` without a table for it.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else if cfg!(all(target_arch = "arm", target_endian = "little")) {
            Some(Self::Arm)
        } else if cfg!(target_arch = "riscv64") {
            Some(Self::Riscv64)
        } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
            Some(Self::Ppc64le)
        } else if cfg!(target_arch = "s390x") {
            Some(Self::S390x)
        } else {
            None
        }
    }

    /// The name in config.json.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
            Self::Ppc64le => "SCMP_ARCH_PPC64LE",
            Self::S390x => "SCMP_ARCH_S390X",
        }
    }

    /// The value of `seccomp_data.arch` (linux/audit.h, `AUDIT_ARCH_*`).
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Ppc64le => 0xc000_0015,
            Self::S390x => 0x8000_0016,
        }
    }

    /// Whether arguments have 64 bits. x32 has 32-bit pointers, but 64-bit registers.
    pub(crate) const fn wide(self) -> bool {
        !matches!(self, Self::X86 | Self::Arm)
    }

    /// Offset in `seccomp_data` of the low word of argument `index`, which starts at byte 16.
    pub(crate) const fn low_word(self, index: u8) -> u32 {
        16 + 8 * index as u32 + if matches!(self, Self::S390x) { 4 } else { 0 }
    }

    /// Offset in `seccomp_data` of the high word of argument `index`.
    pub(crate) const fn high_word(self, index: u8) -> u32 {
        16 + 8 * index as u32 + if matches!(self, Self::S390x) { 0 } else { 4 }
    }

    /// Whether socket and System V calls can also be made by `socketcall` and `ipc`.
    pub(crate) const fn multiplexes(self) -> bool {
        matches!(self, Self::X86 | Self::Ppc64le | Self::S390x)
    }

    /// Whether a kernel of `host` runs programs of `self`.
    pub(crate) fn runs_on(self, host: Self) -> bool {
        self == host
            || matches!(
                (host, self),
                (Self::X86_64, Self::X86 | Self::X32) | (Self::Aarch64, Self::Arm)
            )
    }

    /// The architecture `name` of config.json, on `host`; `None` without a table for it.
    pub(crate) fn from_oci(name: OciArch, host: Self) -> Option<Self> {
        Some(match name {
            OciArch::ScmpArchNative => host,
            OciArch::ScmpArchX86_64 => Self::X86_64,
            OciArch::ScmpArchX86 => Self::X86,
            OciArch::ScmpArchX32 => Self::X32,
            OciArch::ScmpArchAarch64 => Self::Aarch64,
            OciArch::ScmpArchArm => Self::Arm,
            OciArch::ScmpArchRiscv64 => Self::Riscv64,
            OciArch::ScmpArchPpc64le => Self::Ppc64le,
            OciArch::ScmpArchS390x => Self::S390x,
            _ => return None,
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
