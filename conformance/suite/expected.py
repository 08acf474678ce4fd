"""expected.toml: the verdict that we stand for, of each test in each world."""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import host
from suite.host import World
from suite.verdict import Word

WORDS: tuple[Word, ...] = ("pass", "fail", "skip")


@dataclass(frozen=True)
class Expected:
    """The verdict on this host, why it is not "pass", and why it may take more than one try to see it."""

    word: Word
    reason: str
    flaky: str


def read(path: Path, tests: Collection[str], world: World) -> dict[str, Expected]:
    """The file's content for this host; an error if it is not about just these tests, or lacks a reason."""
    entries = tomllib.loads(path.read_text())
    if set(entries) != set(tests):
        raise ValueError(f"{path}: not the tests of the suite: {sorted(set(entries) ^ set(tests))}")
    return {name: _expected(entry, f"{path}: {name}", world) for name, entry in entries.items()}


def _expected(entry: dict[str, Any], where: str, world: World) -> Expected:
    if unknown := set(entry) - {"v1", "v2", "reason", "needs", "flaky"}:
        raise ValueError(f"{where}: {unknown} means nothing")
    if not {entry["v1"], entry["v2"]} <= set(WORDS):
        raise ValueError(f"{where}: a verdict is one of {WORDS}")
    special = {entry["v1"], entry["v2"]} != {"pass"} or "needs" in entry
    if special and not entry.get("reason"):
        raise ValueError(f"{where}: no reason given")
    lacks = "needs" in entry and not host.has(entry["needs"])
    return Expected("fail" if lacks else entry[world], entry.get("reason", ""), entry.get("flaky", ""))
