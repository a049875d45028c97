"""Reads the memory of processes, what is left of it, and the kernel's count of out-of-memory kills."""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path

import psutil

from finesweep.host.machine import memory_groups


def oom_kills() -> int:
    """Return the number of processes that the kernel has killed for lack of memory.

    It is the count of this process's control group, or of the whole machine if the group has none.
    """
    for file in (*_cgroup_files(), Path("/proc/vmstat")):
        with contextlib.suppress(OSError):
            if match := re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE):
                return int(match[1])
    return 0


def _cgroup_files() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        own = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        return [root / (own[1] if own else "") / "memory.events", root / "memory" / "memory.oom_control"]
    return []


def available_bytes(root: Path = Path("/")) -> float:
    """Return how much memory is available to new data, in bytes: of the machine, and of this process's control groups.

    Args:
        root: Root of the file system with the control groups' limits.
    """
    return max(0.0, min([float(psutil.virtual_memory().available), *map(_available_in, memory_groups(root))]))


def _available_in(group: Path) -> float:
    """Return how much memory a control group has left; infinity without a limit.

    Its pages of files on a disk do not count as used, because the kernel gives them up. Those of files in memory count.
    """
    files = (("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"))
    for limit, used, prefix in files:
        if (most := _number(group / limit)) is not None and (now := _number(group / used)) is not None:
            return most - now + _page_cache(group, prefix)
    return math.inf


def _page_cache(group: Path, prefix: str) -> int:
    with contextlib.suppress(OSError):
        text = (group / "memory.stat").read_text()
        found = re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", text, re.MULTILINE)
        return sum(map(int, found))
    return 0


def _number(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        text = file.read_text().strip()
        return int(text) if text.isdecimal() else None  # "max" is no limit
    return None


def resident_gb(pid: int) -> float:
    """Return the resident memory of a process and its children in units of 1e9 bytes; 0 once it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in family)) / 1e9
    return 0.0
