#!/usr/bin/env python3
"""Prints a linker script that places the functions which common commands execute next to each other.

order.py BINARY MAP STEPS BUNDLE ROOT, where MAP is what the linker wrote of BINARY, STEPS is steps.c compiled, and
BUNDLE can be run here. See `make link-order`.
"""
import bisect
import re
import subprocess
import sys

binary, map_file, steps, bundle, root = sys.argv[1:6]
# Each function has a section of its own. Its symbols would not do: of functions that are alike one is left, and
# which one that is differs from a build with symbols to one without.
with open(map_file) as file:
    sections = re.findall(r"^ \.text\.(?:unlikely\.)?(\S+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) ", file.read(), re.MULTILINE)
symbols = sorted((int(start, 16), int(size, 16), name) for name, start, size in sections if int(start, 16))
starts = [start for start, _, _ in symbols]
low, high = symbols[0][0], symbols[-1][0] + symbols[-1][1]

# Which program images execute a function, in the order of its first use: "run 0" is the runtime, "run 1" its init.
found = {}


def trace(*arguments):
    command = [steps, f"{low:x}", f"{high:x}", binary, "--root", root, *arguments]
    output = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in output.splitlines():
        fields = re.fullmatch("([0-9]+) ([0-9a-f]+)", line)
        if not fields:
            continue
        place = int(fields[2], 16)
        # Of 16 bytes: the function that begins in them counts too.
        index = bisect.bisect_right(starts, place + 15) - 1
        while index >= 0 and starts[index] + symbols[index][1] > place:
            found.setdefault(symbols[index][2], set()).add(f"{arguments[0]} {fields[1]}")
            index -= 1


def quiet(*arguments):
    subprocess.run([binary, "--root", root, *arguments], stdin=subprocess.DEVNULL, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


trace("run", "--bundle", bundle, "traced")
quiet("create", "--bundle", bundle + "-paused", "traced")
trace("start", "traced")
trace("state", "traced")
trace("list")
trace("exec", "traced", "/bin/true")
trace("kill", "traced", "KILL")
trace("delete", "--force", "traced")

def pattern(name):
    """Hashes in mangled names (of crates; in the older form of all that a function is) differ from build to build,
    and with their lengths what refers to places in the name."""
    name = re.sub(r"\.(llvm\.)?[0-9]+$", "*", name)
    if name.startswith("_R"):
        return re.sub("(Cs|B)[0-9A-Za-z]+_", r"\1*_", name)
    return re.sub("17h[0-9a-f]{16}E.*", "17h*", name)


patterns = {}
for name, images in found.items():
    patterns.setdefault(pattern(name), set()).update(images)
# Each image touches few pages where what it executes stands together. They overlap, so there is a first among
# them: `run` executes most, first what all commands do (`state` is the least), then what init does too.
FIRST = ["run 0", "state 0", "exec 1", "run 1", "start 0", "exec 0"]
order = sorted(patterns, key=lambda name: [image not in patterns[name] for image in FIRST])
print(f"{len(order)} names, {sum(size for _, size, name in symbols if pattern(name) in patterns)} bytes", file=sys.stderr)
# Assembly has sections without a name of their own: every start needs it. `.fini` would be the very
# last, and every end needs it.
print("""SECTIONS
{
  .fini : { KEEP (*(SORT_NONE(.fini))) }
  .text.usual :
  {
    *(.text)""")
for name in order:
    print(f"    *(.text.{name} .text.unlikely.{name})")
print("  }\n}\nINSERT BEFORE .text;")
