#!/usr/bin/env python3
"""Writes contrib/link-order.ld: what the usual commands execute, to stand together in the binary.

order.py BINARY STEPS BUNDLE ROOT, where BINARY has its symbols, STEPS is steps.c compiled, and BUNDLE can be
run here. See `make link-order`.
"""
import bisect
import re
import subprocess
import sys

binary, steps, bundle, root = sys.argv[1:5]
symbols = []
for line in subprocess.run(["nm", "-S", binary], capture_output=True, text=True, check=True).stdout.splitlines():
    fields = line.split()
    if len(fields) == 4 and fields[2] in "tTwW":
        symbols.append((int(fields[0], 16), int(fields[1], 16), fields[3]))
symbols.sort()
starts = [start for start, _, _ in symbols]
low, high = symbols[0][0], symbols[-1][0] + symbols[-1][1]

# Who executes a function, in the order of its first use.
found = {}


def trace(*arguments):
    command = [steps, f"{low:x}", f"{high:x}", binary, "--root", root, *arguments]
    output = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in output.splitlines():
        if not re.fullmatch("[0-9a-f]+", line):
            continue
        place = int(line, 16)
        # Of 16 bytes: the function that begins in them counts too.
        index = bisect.bisect_right(starts, place + 15) - 1
        while index >= 0 and starts[index] + symbols[index][1] > place:
            found.setdefault(symbols[index][2], set()).add(arguments[0])
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
for name, commands in found.items():
    patterns.setdefault(pattern(name), set()).update(commands)
# What all commands execute comes first, and what only one does last.
order = sorted(patterns, key=lambda name: -len(patterns[name]))
print(f"{len(order)} names, {sum(size for _, size, name in symbols if pattern(name) in patterns)} bytes", file=sys.stderr)
print("/* What the usual commands execute, stands together, and first what most of them do: fewer pages are")
print("   touched. So does what assembly brings, in sections without a name of their own: it is what every start needs.")
print("   The arena comes last, so that all small variables share a page with its beginning.")
print("   Made by `make link-order`; names that are no more do no harm. */")
print("SECTIONS\n{\n  .text.usual :\n  {\n    *(.text)")
for name in order:
    print(f"    *(.text.{name} .text.unlikely.{name})")
print("  }\n}\nINSERT BEFORE .text;")
print("SECTIONS\n{\n  .bss.arena (NOLOAD) : { *(.bss._RNvCs*_5davit5ARENA) }\n}\nINSERT AFTER .bss;")
