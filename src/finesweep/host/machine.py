"""Finds the cores, memory and GPUs that this process may use, without torch."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ANSWER_SECONDS = 10.0
"""Timeout of ``nvidia-smi`` in seconds; with a broken driver it can hang."""

_DEVICE = re.compile(r"\d+|(GPU|MIG)-\S+")

_MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
"""File names of the memory limit in version 2 and version 1 of control groups."""


@dataclass(frozen=True)
class Machine:
    """Resources that this process may use on one machine.

    Attributes:
        cores: Whole CPU cores, at least 1.
        gpus: GPUs as ``CUDA_VISIBLE_DEVICES`` names them, by index or UUID.
        memory_gb: Main memory in units of 1e9 bytes.
    """

    cores: int
    gpus: tuple[str, ...]
    memory_gb: float

    @classmethod
    def probe(cls, root: Path = Path("/")) -> Machine:
        """Probe this machine; a limit that cannot be read is ignored, nothing is raised.

        Args:
            root: Root of the file system with the control groups' limits.
        """
        return cls(usable_cores(root), visible_gpus(), usable_memory_gb(root))


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    A container sees all cores of its machine, even if its control group has the time of fewer.
    """
    return max(1, int(min([_cores(), *map(_share, _groups(root, "cpu"))])))


def usable_memory_gb(root: Path = Path("/")) -> float:
    """Return the main memory that this process may use, in units of 1e9 bytes."""
    limits = (_amount(_text(group / name)) for group in memory_groups(root) for name in _MEMORY_FILES)
    return min([_physical_bytes(), *limits]) / 1e9


def memory_groups(root: Path = Path("/")) -> list[Path]:
    """Return the folders of the control groups whose limits of memory apply to this process.

    Args:
        root: Root of the file system with the control groups' limits.
    """
    return list(_groups(root, "memory"))


def visible_gpus() -> tuple[str, ...]:
    """Return this machine's GPUs as ``CUDA_VISIBLE_DEVICES`` names them.

    If that variable is set, it decides; else ``nvidia-smi`` is asked.
    """
    if sys.platform == "darwin":
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _listed() if named is None else _named(named)


def _named(devices: str) -> tuple[str, ...]:
    """Split the variable as CUDA does: the list ends at the first entry that is no device, as ``-1``."""
    names = (name.strip() for name in devices.split(","))
    return tuple(itertools.takewhile(_DEVICE.fullmatch, names))


def _listed() -> tuple[str, ...]:
    if (program := shutil.which("nvidia-smi")) is None:
        return ()
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    lines = answer.stdout.decode(errors="replace").split("\n")
    return tuple(index for line in lines if (index := line.strip()).isdecimal())


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def _physical_bytes() -> float:
    return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of its ancestors, whose limits apply too.

    In a container the group's own folder can be missing, because its path is the one that the host sees. The topmost
    folder is then the container's.
    """
    top = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = top / controller if controllers else top
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _share(group: Path) -> float:
    """Return the number of cores whose time a control group has; infinity without a limit."""
    words = _text(group / "cpu.max").split()
    if not words:
        words = [_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = (*map(_amount, words), math.inf, math.inf)[:2]
    return quota / period if quota < math.inf and period < math.inf else math.inf


def _amount(text: str) -> float:
    """Read a limit; infinity for ``max``, ``-1`` or a missing file, which all mean no limit."""
    number = text.strip()
    return float(number) if number.isdecimal() and int(number) > 0 else math.inf


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""
