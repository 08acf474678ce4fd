"""The results of the suites, as rows and as a table."""

import collections
import os
import re
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import skips as skipped  # noqa: E402 (integration/skips.py)

Row = collections.namedtuple("Row", "runtime user suite passed failed skipped seconds reasons failures at_first skips")

KILLED = "was killed at its deadline or crashed"


def rows(plan, results):
    """A row for every line of the plan, also for what never ran."""
    done = {}
    if os.path.exists(f"{results}/done"):
        with open(f"{results}/done") as file:
            for line in file:
                fields = line.rstrip("\n").split("\t")
                if len(fields) != 5:
                    # The guest was ended while it wrote.
                    continue
                runtime, user, suite, code, seconds = fields
                done[runtime, user, suite] = int(code), int(seconds)
    return [row(key, results, done.get(tuple(key))) for key in plan]


def row(key, results, done):
    """What the log of one suite says. A suite that was killed has failed once more."""
    runtime, user, suite = key
    name = f"{runtime}-{user}-{suite}.log"
    text = read(f"{results}/{name}")
    skips = skipped.skips(text)
    totals = re.search(r"^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored", text, re.M)
    passed, failed, ignored = map(int, totals.groups()) if totals else (len(re.findall(r"\.\.\. ok$", text, re.M)), 0, 0)
    reasons = collections.Counter(reason for _, reason in skips)
    if ignored:
        reasons["ignored"] += ignored
    failures = failed_tests(text)
    if totals is None:
        failed += 1
        failures.append("did not run" if done is None else KILLED)
    seconds = done[1] if done else 0
    first = read(f"{results}/first-{name}")
    at_first = (failed_tests(first) or [KILLED]) if first else []
    return Row(runtime, user, suite, passed - len(skips), failed, len(skips) + ignored, seconds, reasons, failures, at_first,
               skips)


def read(path):
    if not os.path.exists(path):
        return ""
    with open(path, errors="replace") as file:
        return file.read()


def failed_tests(text):
    """The names in the list that ends the log of a suite with failures."""
    _, found, names = text.rpartition("\nfailures:\n")
    return sorted(set(re.findall(r"^    (\w[\w:]*)$", names, re.M))) if found else []


def table(all_rows):
    """Lines of Markdown, that read well on a terminal too."""
    width = max([len(row.suite) for row in all_rows] + [5])
    yield f"| {'suite':<{width}} | runtime | user     | passed | failed | skipped | seconds |"
    yield f"|-{'-' * width}-|---------|----------|-------:|-------:|--------:|--------:|"
    for row in all_rows:
        yield (f"| {row.suite:<{width}} | {row.runtime:<7} | {row.user:<8} | {row.passed:>6} | {row.failed:>6} "
               f"| {row.skipped:>7} | {row.seconds:>7} |")


def notes(all_rows):
    """Why tests were skipped, and which have failed."""
    skipped = collections.Counter()
    for row in all_rows:
        for reason, count in row.reasons.items():
            skipped[row.runtime, reason] += count
    for (runtime, reason), count in sorted(skipped.items()):
        yield f"skipped with {runtime}: {count} x {reason}"
    for row in all_rows:
        for name in row.failures:
            yield f"failed with {row.runtime} as {row.user}: {row.suite}::{name}"
        for name in row.at_first:
            yield f"failed the first time with {row.runtime} as {row.user}: {row.suite}::{name}"


def lost(all_rows, strict):
    """What does not count as a pass: skips without a row in integration/skips.expected; if strict, also suites that passed
    only the second time."""
    for row in all_rows:
        if row.runtime != "davit":
            continue
        if strict and row.at_first and not row.failed:
            yield f"passed only the second time: {row.suite} as {row.user}: {', '.join(row.at_first)}"
        for name, reason in skipped.unexpected(row.skips, skipped.expected(f"vm-{row.user}")):
            yield f"skipped, and not in integration/skips.expected for vm-{row.user}: {name}: {reason}"


def vacuous(all_rows):
    """Suites that skip everything prove nothing."""
    return [f"{row.suite} with {row.runtime} as {row.user}" for row in all_rows
            if row.passed + row.failed == 0 and row.runtime == "davit"]
