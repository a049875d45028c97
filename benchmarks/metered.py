"""Runs a command and measures all of it: wall clock, CPU, bytes written, the largest size of its folder.

    python -m benchmarks.metered --out meter.json --folder FOLDER --limit SECONDS -- COMMAND ...

The command runs below a process of its own that adopts whatever outlives its parent (Ray's daemons do), so that the
kernel's accounts of all descendants end up with it when they are reaped. Two counts of bytes exist: ``wchar`` is what
was handed to ``write``, into files as into pipes, and misses files that are written through memory; ``write_bytes`` is
what was made dirty in files, in whole pages, and is 0 on a file system in memory. The report takes ``write_bytes``
unless it is 0: it has no pipes in it and misses no file. Ray's daemon reaps its actors without taking over their
accounts; so the CPU of all processes is also added up as it was last seen of each, and the larger sum counts. The bytes
that Ray's actors write are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""

LOOK_SECONDS = 0.25
"""Pause between two looks at the folder."""

PSS_LOOKS = 6
"""Looks at the processes from one look at their memory to the next, since that is a long one."""

ORPHAN_SECONDS = 20.0
"""How long what outlives the command may take to end by itself."""

APART = "states"
"""Folder whose bytes are counted apart: what waiting or interrupted trials go on from."""


@dataclass
class FolderWatch:
    """How large a folder was at most.

    Attributes:
        folder: The folder; it need not exist yet.
        peak: Bytes of all files at most, without those counted apart.
        peak_apart: Bytes of those counted apart, at most.
        written_apart: Bytes of all files that were ever seen among those.
    """

    folder: Path
    peak: int = 0
    peak_apart: int = 0
    written_apart: int = 0
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def look(self) -> None:
        """Add up the files as they are now."""
        total = apart = 0
        for path, found in _files(self.folder):
            if APART not in path.parts:
                total += found.st_size
                continue
            apart += found.st_size
            if (version := (found.st_ino, found.st_mtime_ns)) not in self._seen:
                self._seen.add(version)
                self.written_apart += found.st_size
        self.peak, self.peak_apart = max(self.peak, total), max(self.peak_apart, apart)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all files below a folder, each once whatever names it has.

    What goes away meanwhile is passed over, as ``Path.rglob`` does not.
    """
    seen: set[int] = set()
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                found = path.lstat()
            except OSError:  # it was there a moment ago
                continue
            if stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
                seen.add(found.st_ino)
                yield path, found


@dataclass
class ProcessWatch:
    """What each process below this one has used of the CPU, as far as it was seen.

    Attributes:
        command: Pid of the command itself.
        seen: Ticks by pid.
        command_rss: Resident memory of the command's own process at most, in bytes.
        trainer_pss: Memory of whatever trains, in bytes at most, what is shared counted once: of all processes below
            the command, divided by its children; of one without children, its own.
    """

    command: int
    seen: dict[int, int] = field(default_factory=dict)
    command_rss: int = 0
    trainer_pss: int = 0
    _looks: int = 0

    def look(self) -> None:
        """Look at all that are there now."""
        below, parents = {os.getpid()}, {}
        for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
            try:
                values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it was there a moment ago
                continue
            # A child has a larger number than its parent, but where numbers began anew.
            if int(values[1]) not in below:
                continue
            below.add(pid)
            parents[pid] = int(values[1])
            self.seen[pid] = int(values[11]) + int(values[12])
            if pid == self.command:
                self.command_rss = max(self.command_rss, int(values[21]) * os.sysconf("SC_PAGE_SIZE"))
        self._looks += 1
        if self._looks % PSS_LOOKS == 0:
            self._weigh(parents)

    def _weigh(self, parents: dict[int, int]) -> None:
        children = sum(parent == self.command for parent in parents.values())
        rest = [_pss(pid) for pid in parents if pid != self.command]
        found = sum(rest) // children if children else _pss(self.command)
        self.trainer_pss = max(self.trainer_pss, found)

    @property
    def seconds(self) -> float:
        """The sum."""
        return sum(self.seen.values()) / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it was there a moment ago
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def written() -> tuple[int, int]:
    """Return ``wchar`` and ``write_bytes`` of this process and of its descendants that were reaped."""
    values = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(values["wchar"]), int(values["write_bytes"])


def children() -> list[int]:
    """Return the pids of this process's children, adopted ones included."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def reap(process: subprocess.Popen[bytes]) -> None:
    """Take leave of every child that has ended, the command included."""
    process.poll()
    for pid in set(children()) - {process.pid}:
        os.waitpid(pid, os.WNOHANG)


def end(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Send a signal to all children that are still there."""
    for pid in children():
        os.kill(pid, sign)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def metered(command: list[str], folder: Path, limit: float) -> dict[str, float | int | bool]:
    """Run a command to its end.

    Args:
        command: The command.
        folder: What it writes to.
        limit: Seconds after which it is killed.

    Returns:
        ``started`` (Unix time), ``began`` (the same on the monotonic clock), ``seconds``, ``cpu_seconds``, ``wchar``,
        ``write_bytes``, ``peak``, ``peak_apart``, ``written_apart`` (all bytes), ``peak_rss`` (bytes of the largest
        process), ``command_rss`` (of the command's own), ``trainer_pss`` (of what trains, a worker with its trial),
        ``code``, ``timed_out``.
    """
    ctypes.CDLL(None, use_errno=True).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    watch, before = FolderWatch(folder), written()
    started, began = time.time(), time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    processes = ProcessWatch(process.pid)
    signal.signal(signal.SIGTERM, lambda *_: end(process, signal.SIGTERM))
    while process.poll() is None and time.monotonic() - began < limit:
        watch.look()
        processes.look()
        reap(process)
        time.sleep(LOOK_SECONDS)
    seconds, timed_out = time.monotonic() - began, process.poll() is None
    _see_off(process, timed_out)
    watch.look()
    usage, after = resource.getrusage(resource.RUSAGE_CHILDREN), written()
    return {
        "started": started,
        "began": began,
        "seconds": seconds,
        "cpu_seconds": max(usage.ru_utime + usage.ru_stime, processes.seconds),
        "wchar": after[0] - before[0],
        "write_bytes": after[1] - before[1],
        "peak": watch.peak,
        "peak_apart": watch.peak_apart,
        "written_apart": watch.written_apart,
        "peak_rss": usage.ru_maxrss * 1024,
        "command_rss": processes.command_rss,
        "trainer_pss": processes.trainer_pss,
        "code": process.wait(),
        "timed_out": timed_out,
    }


def _see_off(process: subprocess.Popen[bytes], timed_out: bool) -> None:
    """Wait until nothing of the command is left, and kill what stays."""
    if timed_out:
        end(process, signal.SIGTERM)
    patience = time.monotonic() + ORPHAN_SECONDS
    while children() or process.poll() is None:
        if time.monotonic() > patience:
            end(process, signal.SIGKILL)
        reap(process)
        time.sleep(0.05)


def main() -> None:
    """Run what the command line says; write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=36_000)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    found = metered(asked.command, asked.folder, asked.limit)
    asked.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
