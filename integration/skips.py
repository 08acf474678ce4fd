#!/usr/bin/env python3
"""Compares the skipped tests of a log with skips.expected, so that a test is not lost without notice.

skips.py [--list] LOG [ENVIRONMENT]

Without ENVIRONMENT it prints how many tests were skipped, by reason. With it (a heading of skips.expected) a skip
that has no row there is an error. --list prints a row for each skip of the log instead.
"""
import argparse
import collections
import fnmatch
import re
import sys
from pathlib import Path

EXPECTED = Path(__file__).resolve().parent / "skips.expected"
# With one test thread the line follows the test's name; the name of another test may follow.
SKIP = re.compile(r"(?:^|\.\.\. )skip: ([\w:]+): (.*?)(?:test [\w:]+ \.\.\. .*)?$", re.MULTILINE)


def skips(text):
    """The skipped tests of a log, each as (name, reason)."""
    return sorted(set(SKIP.findall(text)))


def expected(environment, path=EXPECTED):
    """The rows of an environment: (pattern of the name, pattern of the reason)."""
    rows, name = {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            name = line.strip("[] ")
            rows[name] = []
        elif name is None or ": " not in line:
            sys.exit(f"{path}:{number}: neither [ENVIRONMENT] nor NAME: REASON: {line}")
        else:
            rows[name].append(tuple(line.split(": ", 1)))
    if environment not in rows:
        sys.exit(f"{path}: no environment {environment!r}, only {', '.join(rows)}")
    return rows[environment]


def unexpected(found, rows):
    """The skips without a row."""
    def is_known(skip):
        return any(fnmatch.fnmatchcase(skip[0], row[0]) and fnmatch.fnmatchcase(skip[1], row[1]) for row in rows)

    return [skip for skip in found if not is_known(skip)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("log", type=Path)
    parser.add_argument("environment", nargs="?")
    options = parser.parse_args()
    found = skips(options.log.read_text(errors="replace"))
    if options.list:
        for name, reason in found:
            # Characters that a pattern would not take as they are.
            print(re.sub(r"([\[?*])", r"[\1]", f"{name}: {reason}"))
        return 0
    reasons = collections.Counter(reason for _, reason in found)
    for reason, count in sorted(reasons.items()):
        print(f"skipped: {count} x {reason}")
    if not options.environment:
        return 0
    lost = unexpected(found, expected(options.environment))
    for name, reason in lost:
        print(f"skipped, and not in integration/skips.expected for {options.environment}: {name}: {reason}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
