"""Measures how much faster a sweep gets with two workers than with one, on the same machine and the same trials.

    python -m benchmarks.studies.two_workers

Whole sweeps take turns, each in a folder of its own: one worker with all cores, one worker with one thread, two
workers with one thread each. With the sampler ``random`` and no pruner a trial has the same parameters in every
sweep, so quality can be compared as well as speed. With one thread per worker a trial's objective is the same to the
last bit, whichever worker runs it. Sums over two threads are rounded otherwise, and training carries that on; how far
is printed.

``search`` is the time from the first claim to the last record, of which the trials per minute follow; ``whole`` is the
whole command with start-up, rehearsal, and the winner's proof.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.host.python_process import THREAD_COUNTS
from finesweep.trial import TrialRecord, TrialState

SPEC = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
ALL_CORES, ONE_THREAD, TWO = "1 worker, all cores", "1 worker, 1 thread", "2 workers"
SETUPS = {
    ALL_CORES: "{workers: 1}",
    ONE_THREAD: "{workers: 1, threads_per_worker: 1}",
    TWO: "{workers: 2, threads_per_worker: 1}",
}
"""Launch profiles by name."""


@dataclass(frozen=True)
class Sweep:
    """One whole sweep.

    Attributes:
        whole: Seconds of the command.
        search: Seconds from the first claim to the last record.
        cpu: Seconds of CPU of the command and all its processes.
        records: How its trials ended.
    """

    whole: float
    search: float
    cpu: float
    records: Sequence[TrialRecord]

    @property
    def trials_per_minute(self) -> float:
        """Trials per minute of the search."""
        return 60 * len(self.records) / self.search


def carry_out(profile: str, trials: int, scratch: Path) -> Sweep:
    """Run a sweep in a new folder.

    Args:
        profile: The launch profile, YAML.
        trials: The budget.
        scratch: Where it may write.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "profile.yaml").write_text(profile, encoding="utf-8")
    command = [sys.executable, "-m", "finesweep", "run", str(SPEC), "--results", str(folder)]
    command += ["--on", str(folder / "profile.yaml")]
    for setting in ("search.sampler=random", "search.pruner=none", f"budget.trials={trials}"):
        command += ["--set", setting]
    # A number of threads that the caller's shell prescribes would be the same for all.
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_COUNTS}
    cpu, began = _children_cpu(), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    whole, cpu = time.monotonic() - began, _children_cpu() - cpu
    sweep_folder = SweepFolder(folder / "quickstart")
    records = sweep_folder.records()
    claimed = min(sweep_folder.claims.holder(record.trial, 1).started for record in records)
    ended = max(record.started + record.seconds for record in records)
    return Sweep(whole, ended - claimed, cpu, records)


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def measure(repetitions: int, trials: int) -> dict[str, list[Sweep]]:
    """Run sweeps of every set-up in turns."""
    sweeps: dict[str, list[Sweep]] = {name: [] for name in SETUPS}
    with tempfile.TemporaryDirectory(prefix="throughput-") as scratch:
        for _ in range(repetitions):
            for name, profile in SETUPS.items():
                sweeps[name].append(carry_out(profile, trials, Path(scratch)))
    return sweeps


def gains(sweeps: dict[str, list[Sweep]]) -> list[float]:
    """Return for each repetition how many times the trials per minute of the best single worker two workers reach."""
    ones = zip(*(found for name, found in sweeps.items() if name != TWO), strict=True)
    return [
        two.trials_per_minute / max(one.trials_per_minute for one in alone)
        for two, alone in zip(sweeps[TWO], ones, strict=True)
    ]


def differences(sweeps: dict[str, list[Sweep]]) -> list[str]:
    """Name every trial that is not what it is in another sweep: its parameters, or on one thread its objective."""
    first, found = sweeps[TWO][0].records, []
    for name, others in sweeps.items():
        for other in others:
            pairs = zip(first, other.records, strict=True)
            found += [f"{name}: trial {one.trial}" for one, two in pairs if not _are_alike(one, two, name)]
    return found


def _are_alike(one: TrialRecord, two: TrialRecord, setup: str) -> bool:
    complete = one.state is two.state is TrialState.COMPLETE
    return complete and one.params == two.params and (one.objective == two.objective or setup == ALL_CORES)


def rounding(sweeps: dict[str, list[Sweep]]) -> float:
    """Return the largest relative difference between a trial's objective on all cores and on one."""
    pairs = zip(sweeps[TWO][0].records, sweeps[ALL_CORES][0].records, strict=True)
    found = [(one.objective, two.objective) for one, two in pairs]
    return max((abs(one - two) / abs(one) for one, two in found if one and two), default=0.0)


def report(sweeps: dict[str, list[Sweep]]) -> str:
    """Return what was measured as a table, with the quality beside it."""
    lines = [
        f"{'':20}{'trials/min':>12}{'search s':>10}{'whole s':>10}{'CPU s':>8}{'best objective':>16}  each search s"
    ]
    for name, found in sweeps.items():
        middle = [statistics.median(getattr(one, part) for one in found) for part in _COLUMNS]
        best = min(record.objective for record in found[0].records if record.objective is not None)
        each = " ".join(f"{one.search:.1f}" for one in found)
        lines.append(
            f"{name:20}{middle[0]:12.1f}{middle[1]:10.1f}{middle[2]:10.1f}{middle[3]:8.1f}{best:16.6f}  {each}"
        )
    gained = gains(sweeps)
    each = ", ".join(f"{gain:.2f}" for gain in gained)
    lines.append(f"two workers against the best single one: {statistics.median(gained):.2f} times the trials ({each})")
    unlike = differences(sweeps)
    alike = f"NOT equal: {', '.join(unlike)}" if unlike else "equal by number"
    lines.append(f"parameters, and objectives on one thread: {alike}")
    lines.append(f"objectives on all cores: up to {100 * rounding(sweeps):.2g} % off by rounding")
    return "\n".join(lines)


_COLUMNS = ("trials_per_minute", "search", "whole", "cpu")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3, help="sweeps of each set-up")
    parser.add_argument("--trials", type=int, default=12, help="trials per sweep")
    asked = parser.parse_args()
    before = os.getloadavg()[0]
    print(report(measure(asked.repetitions, asked.trials)))  # noqa: T201
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")  # noqa: T201


if __name__ == "__main__":
    main()
