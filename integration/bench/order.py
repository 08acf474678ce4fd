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
            found.setdefault(symbols[index][2], symbols[index][1])
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
    """The last part of a mangled name is a hash that changes with every build."""
    return re.sub("17h[0-9a-f]{16}E.*", "17h*", name)


sizes = {}
for _, size, name in symbols:
    sizes[pattern(name)] = sizes.get(pattern(name), 0) + size
used = {}
for name, size in found.items():
    used[pattern(name)] = used.get(pattern(name), 0) + size
# A generic function's name stands for all its instances: those of which few are used come last.
precise = [name for name in used if sizes[name] <= 2 * used[name]]
patterns = precise + [name for name in used if name not in set(precise)]
for names in (precise, patterns):
    print(f"{len(names)} names, {sum(sizes[name] for name in names)} bytes", file=sys.stderr)
print("/* What the usual commands execute, in the order of its first use, stands together: fewer pages are")
print("   touched. Made by `make link-order`; names that are no more do no harm. */")
print("SECTIONS\n{\n  .text.usual :\n  {")
for name in patterns:
    print(f"    *(.text.{name} .text.unlikely.{name})")
print("  }\n}\nINSERT BEFORE .text;")
