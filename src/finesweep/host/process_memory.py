"""Reads the memory of processes and the kernel's count of out-of-memory kills."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psutil


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


def resident_gb(pid: int) -> float:
    """Return the resident memory of a process and its children in units of 1e9 bytes; 0 once it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in family)) / 1e9
    return 0.0
