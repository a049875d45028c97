"""Any number of signals, however fast, at any moment of any command: it ends, leaves nothing, and goes on.

A storm is one to six of SIGINT, SIGTERM and SIGHUP within five seconds. Each run has some of them, at moments that
follow from a seed; then the same command ends in peace. ``FINESWEEP_STORMS=60`` carries out as many runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 45.0
"""How long a command may take to end after the first signal."""

TOGETHER_SECONDS = 1.0
"""Signals within this time of the first may be seen at once, on a busy machine; Python then takes the lowest first."""

LEFT_SECONDS = 15.0
"""How long killed processes may take to be gone."""

MARK = "FINESWEEP_TEST_STORM"
STORMS = 1
RUN = ("run", "spec.yaml", "--on", "plain.yaml", "--set", "budget.trials=2", "--set", "search.sampler=random")
COMMANDS = {
    "optuna": RUN,
    "ray": (*RUN, "--set", "search.backend=ray", "--workers", "2"),
    "plan": ("plan", "spec.yaml", "--on", "plain.yaml"),
    "submit": ("submit", "spec.yaml", "--on", "slurm.yaml", "--dry-run"),
    "validate": ("validate", "spec.yaml", "--on", "plain.yaml"),
}
LENGTHS = {"optuna": 25.0, "ray": 40.0, "plan": 25.0, "submit": 12.0, "validate": 10.0}
"""Seconds in which a storm may begin, about as long as the command takes."""


def seeds(count: int) -> range:
    return range(int(os.environ.get("FINESWEEP_STORMS", count)))


@dataclass
class Storm:
    """One start of a command, and what is sent to it.

    Attributes:
        process: The command.
        mark: What all its processes have in their environment.
        sent: The signals so far.
        together: How many of them may have been seen as the first.
        was_caught: Whether the command had the first one in its own hands when that was sent.
    """

    process: subprocess.Popen[str]
    mark: str
    sent: list[int] = field(default_factory=list)
    together: int = 0
    was_caught: bool = False

    def rage(self, rng: random.Random, begins: float) -> None:
        """Send signals until the command has ended or there are no more."""
        moments = sorted(rng.uniform(0, 5) * rng.choice((1, 1, 0.02)) for _ in range(rng.randint(1, 6)))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(begins)
        began = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            if self.process.poll() is not None:
                return
            self.was_caught = self.was_caught or (not self.sent and catches(self.process.pid))
            self.sent.append(rng.choice(NUMBERS))
            self.together += moment - moments[0] < TOGETHER_SECONDS
            self.process.send_signal(self.sent[-1])

    def end(self, has_winner: Callable[[], bool]) -> str:
        """Wait for the command's end; check its exit code and that nothing is left of it."""
        out, err = self.process.communicate(timeout=SECONDS)
        code, said = self.process.returncode, f"{self.sent} {self.was_caught}\n{out}\n{err}"
        if not self.sent:
            assert code == 0, said
        elif self.was_caught and not has_winner():
            assert code in {128 + one for one in self.sent[: self.together]}, said
        else:  # before it began, or when all was done
            assert code in {0, *(128 + one for one in self.sent), *(-one for one in self.sent)}, said
        assert not self.was_caught or "Traceback" not in said, said
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := processes(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == {}, said
        return f"exit {code} after {[signal.Signals(one).name for one in self.sent]}"


def catches(pid: int) -> bool:
    """Say whether a process has taken SIGTERM into its own hands."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def processes(mark: str) -> dict[int, str]:
    """Return what runs with a mark in its environment: children, grandchildren, and what outlived those."""
    found = {}
    for place in (item for item in Path("/proc").iterdir() if item.name.isdigit()):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.fixture
def begin(project: Project, tmp_path: Path) -> Iterator[Callable[..., Storm]]:
    """Start a command, of which nothing is left after the test."""
    project.write("plain.yaml", "threads_per_worker: 1\n")
    project.write("slurm.yaml", "launcher: slurm\npartition: any\nminutes: 60\n")
    marks = []
    # Sockets of Ray have names of 70 characters in it.
    scratch = Path("/tmp") / f"st-{uuid.uuid4().hex[:6]}"
    scratch.mkdir()

    def start(*command: str) -> Storm:
        marks.append(uuid.uuid4().hex)
        environment = {MARK: marks[-1], "TMPDIR": str(scratch)}
        return Storm(project.start(*command, env=environment, start_new_session=True), marks[-1])

    yield start
    for pid in (pid for mark in marks for pid in processes(mark)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    left = [item.name for item in scratch.iterdir() if not item.name.startswith("torchinductor")]
    assert left == [], f"temporary files are left: {sorted(map(str, scratch.rglob('*')))}"
    shutil.rmtree(scratch)


def has_winner(project: Project) -> bool:
    return (project.results() / "winner/evidence.json").exists()


def note(*lines: str) -> None:
    """Say what was sent and how it ended, to those who carry out many."""
    if file := os.environ.get("FINESWEEP_STORM_LOG"):
        with Path(file).open("a", encoding="utf-8") as log:
            log.write("\n  ".join(lines) + "\n")


def board_is_true(project: Project) -> None:
    """Check that what was begun has its board, and that it says what the records say."""
    if (project.results() / "spec.json").exists():
        assert {row["trial"]: row["state"] for row in project.leaderboard()} == {
            record["trial"]: record["state"] for record in project.records()
        }


@pytest.mark.parametrize(
    ("backend", "seed"),
    [*(("optuna", seed) for seed in seeds(1)), *(("ray", seed) for seed in seeds(1))],
)
def test_a_run_ends_whatever_signals_come_and_goes_on(project, begin, check_invariants, backend, seed):
    rng = random.Random(f"{backend} {seed}")
    ends = []
    for _ in range(STORMS):
        storm = begin(*COMMANDS[backend])
        storm.rage(rng, rng.uniform(0, LENGTHS[backend]))
        ends.append(storm.end(lambda: has_winner(project)))
        board_is_true(project)
    storm = begin(*COMMANDS[backend])
    out, err = storm.process.communicate(timeout=400)
    assert storm.process.returncode == 0, out + err
    storm.end(lambda: True)
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 2
    assert has_winner(project)
    check_invariants(project)
    note(f"{backend} {seed}", *ends)


@pytest.mark.parametrize(
    ("command", "seed"), [(name, seed) for name in ("plan", "submit", "validate") for seed in seeds(1)]
)
def test_what_trains_nothing_ends_too(project, begin, command, seed):
    rng = random.Random(f"{command} {seed}")
    storm = begin(*COMMANDS[command])
    storm.rage(rng, rng.uniform(0, LENGTHS[command]))
    note(f"{command} {seed}", storm.end(lambda: True))
