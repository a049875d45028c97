"""Fifty trials leave nothing behind in the processes that outlive them: no memory, no open file, no zombie."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

TRIALS = 50
WARM = 10
"""Trials after which everything has been imported and every cache has been used."""

MB = 1e6
GROWTH_MB = 5
"""A record takes some kilobytes; the rest is how the allocator rounds. A trial's model alone would take more than this
over 50 trials."""

ASKED = (
    *("run", "spec.yaml", "--on", "one.yaml", "--set", f"budget.trials={TRIALS}"),
    *("--set", "space={learning_rate: {low: 5e-4, high: 5e-3, log: true}}", "--set", "fixed={max_steps: 2}"),
)


@dataclass(frozen=True)
class Sample:
    """What a process held at one moment."""

    trials: int
    rss_mb: float
    files: int
    zombies: frozenset[int]


def sample(process: psutil.Process, trials: int) -> Sample | None:
    try:
        with process.oneshot():
            held, files = process.memory_info().rss / MB, process.num_fds()
        zombies = frozenset(child.pid for child in process.children() if is_zombie(child))
        return Sample(trials, held, files, zombies)
    except psutil.Error:
        return None


def is_zombie(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() == psutil.STATUS_ZOMBIE
    return False


def samples_of(project: Any, command: Any) -> dict[str, list[Sample]]:
    """Look at the command and its one worker for as long as they run."""
    seen: dict[str, list[Sample]] = {"command": [], "worker": []}
    processes = {"command": psutil.Process(command.pid)}
    while command.poll() is None:
        time.sleep(0.03)
        if "worker" not in processes and (found := project.workers()):
            processes["worker"] = psutil.Process(found[0])
        trials = len(list((project.results() / "trials").glob("*.json")))
        for name, process in processes.items():
            # When the last trial is done, the command exports the winner.
            if trials < TRIALS and (found := sample(process, trials)):
                seen[name].append(found)
    return seen


@pytest.fixture(scope="module")
def fifty(make_project):
    """Samples of a sweep of fifty trials."""
    project = make_project()
    project.write("one.yaml", "{workers: 1, threads_per_worker: 1}\n")
    command = project.start(*ASKED)
    try:
        seen = samples_of(project, command)
        out, err = command.communicate()
        assert command.returncode == 0, out + err
        assert len(project.ledger()) == TRIALS
    finally:
        command.kill()
    return seen


def between(samples: Sequence[Sample], low: int, high: int) -> list[Sample]:
    return [one for one in samples if low <= one.trials < high]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["command", "worker"])
def test_memory_is_flat(fifty, who, capsys):
    early, late = between(fifty[who], WARM, 2 * WARM), between(fifty[who], TRIALS - WARM, TRIALS)
    before, after = max(one.rss_mb for one in early), max(one.rss_mb for one in late)
    with capsys.disabled():
        print(f"\n{who}: {before:.1f} MB around trial {WARM}, {after:.1f} MB around trial {TRIALS}")  # noqa: T201
    assert after - before < GROWTH_MB


@pytest.mark.slow
@pytest.mark.parametrize("who", ["command", "worker"])
def test_no_file_stays_open(fifty, who):
    early, late = between(fifty[who], WARM, 2 * WARM), between(fifty[who], TRIALS - WARM, TRIALS)
    assert min(len(early), len(late)) >= 5, "too few samples to tell"
    assert statistics.median(one.files for one in late) <= statistics.median(one.files for one in early)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["command", "worker"])
def test_no_zombie_is_left(fifty, who):
    """One that has just ended may be seen once, and is gone when it is looked at a third of a second later."""
    seen = [one.zombies for one in fifty[who]]
    assert [early & late for early, late in zip(seen, seen[10:], strict=False) if early & late] == []
