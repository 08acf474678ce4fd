"""Where a test runs: a mount and pid namespace of its own, so that nothing of it outlives it but cgroups."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

from suite import verdict
from suite.verdict import Verdict

World = Literal["v1", "v2"]

CGROUPS = Path("/sys/fs/cgroup")
DEADLINE = 120.0

# dash is the first process of the pid namespace and reaps what the runtime leaves to it. crun refuses a hybrid host, so
# every runtime sees one without its v2 tree.
FIRST = """
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
"$@"
exit $?
"""
NAMESPACES = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]

# The cgroups that the suite's tests name by themselves; the others have the container's id in their name.
FIXED_CGROUPS = ("testdir", "cgrouptest")


def run(kit: Path, test: str, runtime: Path, keep: Path | None) -> Verdict:
    """Runs one test of the kit with the runtime; its output and bundles are moved to `keep`, if that is given."""
    work = Path(tempfile.mkdtemp(prefix=f"conformance-{test}-"))
    work.chmod(0o755)  # ids of a user namespace must be able to reach the root
    try:
        return _run(kit, test, _wrapper(work, runtime), work)
    finally:
        _remove_cgroups(_ids(work))
        if keep:
            shutil.copytree(work, keep / test, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(work)


def _run(kit: Path, test: str, wrapper: Path, work: Path) -> Verdict:
    env = {"PATH": os.environ["PATH"], "RUNTIME": str(wrapper), "TMPDIR": str(work), "LC_ALL": "C.UTF-8"}
    words = [*NAMESPACES, "sh", "-c", FIRST, "sh", str(kit / "validation" / test)]
    out, err = work / "stdout", work / "stderr"
    with out.open("w") as stdout, err.open("w") as stderr:
        # The suite looks for its rootfs and runtimetest in the working directory.
        with subprocess.Popen(
            words, cwd=kit, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        ) as child:
            try:
                code = child.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                child.kill()
                return Verdict("fail", f"not done within {DEADLINE:.0f} s")
    text = out.read_text(errors="replace"), err.read_text(errors="replace")
    return verdict.of(*text, code)


def _wrapper(work: Path, runtime: Path) -> Path:
    """The suite calls a runtime by one word; this one has a state directory of the test's own, and keeps a list."""
    wrapper = work / runtime.name
    wrapper.write_text(
        f'#!/bin/sh\necho "$*" >>{work}/calls\nexec {runtime} --root {work}/state "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def _ids(work: Path) -> set[str]:
    calls = work / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return {word for line in lines for word in line.split() if len(word) == 36 and word.count("-") == 4}


def _remove_cgroups(ids: set[str]) -> None:
    """Removes the cgroups of these containers. Their processes died with the pid namespace, or are about to."""
    end = time.monotonic() + 5
    while left := [path for path in _cgroups() if _is_of(path, ids)]:
        for path in left:
            try:
                path.rmdir()
            except OSError:
                time.sleep(0.02)
        if time.monotonic() > end:
            raise RuntimeError(f"cgroups that cannot be removed: {left}")


def _cgroups() -> list[Path]:
    """Every cgroup, children before parents."""
    found = [Path(at) for at, _, _ in os.walk(CGROUPS, topdown=False)]
    return [path for path in found if not path.is_symlink()]


def _is_of(path: Path, ids: set[str]) -> bool:
    below = path.relative_to(CGROUPS).parts
    named = any(id in part for part in below for id in ids)
    return named or any(part in FIXED_CGROUPS for part in below)
