"""What a test may need of the host and not every host has."""

import os
from pathlib import Path
from typing import Literal

World = Literal["v1", "v2"]

CGROUPS = Path("/sys/fs/cgroup")


def world() -> World:
    """Which cgroups this host has."""
    return "v2" if (CGROUPS / "cgroup.controllers").exists() else "v1"


def has(need: str) -> bool:
    """Is it there? A need is `cgroup NAME` (a controller), `capability NUMBER` or `apparmor PROFILE`."""
    kind, name = need.split(" ", 1)
    match kind:
        case "cgroup":
            lines = Path("/proc/self/cgroup").read_text().splitlines()
            return any(name in line.split(":")[1].split(",") for line in lines)
        case "capability":
            status = Path("/proc/self/status").read_text()
            bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
            return bool(int(bounding.split()[1], 16) >> int(name) & 1)
        case "apparmor":
            profiles = Path("/sys/kernel/security/apparmor/profiles")
            return os.access(profiles, os.R_OK) and f"{name} (" in profiles.read_text()
        case _:
            raise ValueError(f"{need!r}: not a kind of need")
