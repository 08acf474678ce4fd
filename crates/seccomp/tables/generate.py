#!/usr/bin/env python3
"""Writes src/table_data.rs: the system call numbers of every architecture that davit filters.

    tables/generate.py LINUX_RAW_SYS_SRC > src/table_data.rs

LINUX_RAW_SYS_SRC is the `src` directory of the crate linux-raw-sys, which is bindgen's output for the
kernel's own UAPI headers of each architecture (0.12.1 is Linux 6.17); `cargo vendor` or the registry cache
in ~/.cargo has it. `make`-time generation would need those headers on every build machine, so the result is
checked in. The tests compare it with libseccomp's tables where libseccomp is installed.
"""

import pathlib
import re
import sys

# The order of seccomp's Arch enum, and the crate's name of each.
ARCHITECTURES = ["x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "powerpc64", "s390x"]
X32_BIT = 0x40000000
# Arm's private calls lie at 0x0f0001..; they are folded to 0xf001.. so that a number fits 16 bits.
ARM_PRIVATE = 0x0F0000
ARM_FOLDED = 0xF000
ABSENT = 0xFFFF
# Constants of the headers that are no system calls.
NOISE = {"OABI_SYSCALL_BASE", "SYSCALL_BASE", "SYSCALL_MASK", "syscalls", "arch_specific_syscall", "BASE"}
LINE = re.compile(r"^pub const __(ARM_)?NR_([A-Za-z0-9_]+): u32 = (\d+);")


def numbers(source):
    for line in source.read_text().splitlines():
        if found := LINE.match(line):
            _, name, number = found.groups()
            if name not in NOISE:
                yield name, int(number)


def folded(arch, number):
    if arch == "x32":
        number &= ~X32_BIT
    if arch == "arm" and number >= ARM_PRIVATE:
        number = number - ARM_PRIVATE + ARM_FOLDED
    assert number < ABSENT, (arch, number)
    return number


def main():
    source = pathlib.Path(sys.argv[1])
    table = {}
    for column, arch in enumerate(ARCHITECTURES):
        for name, number in numbers(source / arch / "general.rs"):
            row = table.setdefault(name, [ABSENT] * len(ARCHITECTURES))
            row[column] = folded(arch, number)
    print("// Written by tables/generate.py, which says from what; do not edit.")
    print("use super::{ABSENT as N, Row};\n")
    print("/// Every system call by name, in byte order; numbers in the order of `Arch`.")
    print("#[rustfmt::skip]")
    print(f"pub(super) static ROWS: [Row; {len(table)}] = [")
    for name in sorted(table, key=str.encode):
        cells = ", ".join("N" if n == ABSENT else str(n) for n in table[name])
        print(f'    Row {{ name: "{name}", numbers: [{cells}] }},')
    print("];")


main()
