"""Measures what a trial costs beside its training when a sweep has 100, 1,000 and 10,000 of them.

    python -m benchmarks.many_trials
    python -m benchmarks.many_trials --trials 100 1000 10000 --window 60
    python -m benchmarks.many_trials --sampler tpe --pruner asha

The sweeps are the real ones: a worker claims each trial, forks for it, makes the study, draws the parameters, reports
one evaluation, keeps the weights of the best and writes the record. Only the training is left out, and with it the
rehearsal. All trials but the last ones are put in place as if they had run: their claims, records and logs are written.
The windows of trials that do run are then measured in turns, a window of each size after the other.

What reading such a sweep costs is measured on the largest: ``sweep status`` and ``sweep leaderboard`` as a person
types them, with the start of Python; the three leaderboard files; and resuming, which is all that the command and a
worker do from the moment when both have imported what they need until the first new claim.

By default the sampler is random and there is no pruner: what TPE computes from all earlier trials is its own. With TPE,
or a pruner that compares trials, a worker makes the study's trials of all records before its first claim; that is part
of resuming.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import gc
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.figures import Figures, Goal, Spread, Table, number
from benchmarks.report import as_text, goals_table
from benchmarks.untrained import METRIC, fill, prepare

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import Evaluation, Report

SIZES, WINDOW, ROUNDS, LOOKS = (100, 1_000, 10_000), 40, 3, 5
RESUME_GOAL_SECONDS, STATUS_GOAL_SECONDS, FLAT_GOAL = 5.0, 2.0, 1.5


@dataclass(frozen=True)
class Window:
    """Trials that ran one after the other at the end of a sweep.

    Attributes:
        trials: How many trials the sweep had when the window ended, about.
        seconds: Wall clock of one of them.
        cpu_seconds: Processor time of one of them, worker and trial.
        worker_mb: Resident memory of the worker at the end.
    """

    trials: int
    seconds: float
    cpu_seconds: float
    worker_mb: float


@dataclass(frozen=True)
class Many:
    """What sweeps of several sizes came to.

    Attributes:
        windows: All that were measured.
        status_seconds: ``sweep status`` on the largest.
        status_cpu_seconds: Processor time of the same.
        leaderboard_seconds: ``sweep leaderboard`` on the largest.
        files_seconds: Processor time of writing the leaderboard's files once, records known.
        command_seconds: What the command does before it starts a worker, on the largest.
        worker_seconds: What a worker does before its first claim.
        resume_cpu_seconds: Processor time of both.
        look_seconds: Processor time of one look of the command at the folder, of which it takes four a second.
        load: The machine's load average at the end, over a minute.
    """

    windows: Sequence[Window]
    status_seconds: float
    status_cpu_seconds: float
    leaderboard_seconds: float
    files_seconds: float
    command_seconds: float
    worker_seconds: float
    resume_cpu_seconds: float
    look_seconds: float
    load: float

    @property
    def resume_seconds(self) -> float:
        """From the command to the first new claim, imports left out."""
        return self.command_seconds + self.worker_seconds

    def cost(self, trials: int) -> float:
        """Return the median seconds of a trial in sweeps of one size."""
        return statistics.median(window.seconds for window in self.windows if window.trials == trials)

    def cpu_cost(self, trials: int) -> float:
        """Return the median processor time of a trial in sweeps of one size, in seconds."""
        return statistics.median(window.cpu_seconds for window in self.windows if window.trials == trials)

    def held(self, trials: int) -> float:
        """Return the median resident memory of the worker in sweeps of one size, in MB."""
        return statistics.median(window.worker_mb for window in self.windows if window.trials == trials)

    @property
    def growth(self) -> float:
        """Wall clock of a trial of the largest sweep over that of one of the smallest."""
        return self.cost(self.sizes[-1]) / self.cost(self.sizes[0])

    @property
    def cpu_growth(self) -> float:
        """The same of processor time, which a busy machine disturbs less."""
        return self.cpu_cost(self.sizes[-1]) / self.cpu_cost(self.sizes[0])

    @property
    def sizes(self) -> Sequence[int]:
        """Trials of the sweeps, ascending."""
        return sorted({window.trials for window in self.windows})


def _worker(sweep_folder: SweepFolder) -> Any:
    """Open a worker whose trials do all but train."""
    import torch
    from safetensors.torch import save_file

    from finesweep.worker import worker as worker_module
    from finesweep.worker.attempt import Attempt

    class NoModel:
        """Weights that are saved as a model's are."""

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"weight": torch.zeros(8)}

        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.state_dict(), folder / "model.safetensors")

    class NoTraining(Attempt):
        """An attempt that has one evaluation and no step."""

        def _train(self, scratch: Path, report: Any) -> None:
            loss = 1.0 + float(self.context.params["weight_decay"] or 0.0)
            self.watch.add(Evaluation(1, 1.0, 100, {METRIC: loss}, loss))
            self.on_step(self.watch)
            self._reported(report, Report(self.watch.evaluations[0], loss, last=True))
            words = SimpleNamespace(save_pretrained=lambda _: None)
            self._complete(SimpleNamespace(model=NoModel(), processing_class=words, args=SimpleNamespace(to_dict=dict)))

    worker_module.Attempt = NoTraining  # type: ignore[attr-defined]  # in this fork only
    return worker_module.Worker.open(sweep_folder.path, 1)


def _in_fork(action: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Run something in a fork of this process, which has imported everything; return its figures."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        sender.send_bytes(json.dumps(action()).encode())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sender.close()
    try:
        found: dict[str, float] = json.loads(receiver.recv_bytes())
    finally:
        process.join()
        receiver.close()
    return found


def _prepared(folder: Path, trials: int, finished: int, search: Mapping[str, str]) -> SweepFolder:
    """Make a sweep whose first trials have finished."""
    sweep_folder = prepare(folder, trials, **search)
    fill(sweep_folder, finished)
    return sweep_folder


def _window(sweep_folder: SweepFolder, trials: int, count: int) -> Window:
    """Run some trials with one worker that is warm and has read the records."""

    def run() -> dict[str, float]:
        from finesweep.backends.optuna.backend import _ClaimedTrial, sweep_study
        from finesweep.backends.optuna.samplers import draws_of

        worker = _worker(sweep_folder)
        study = sweep_study(worker)
        draws = draws_of(worker)

        def one() -> None:
            claim = worker.claim()
            study.refresh()
            worker.isolated(claim, _ClaimedTrial(worker, claim, study, draws).search)

        one()  # what is read for the first time is no cost of a trial
        began, used = time.perf_counter(), _cpu()
        for _ in range(count):
            one()
        seconds, cpu_seconds = (time.perf_counter() - began) / count, (_cpu() - used) / count
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "worker_mb": _resident_mb()}

    return Window(trials, **_in_fork(run))


def _command(sweep_folder: SweepFolder) -> dict[str, float]:
    """Do what the command does in a folder that is there before it starts the first worker."""
    from finesweep.files.checked_json import refuse_all_but_files
    from finesweep.folder import leftovers
    from finesweep.sweep.open_sweep import OpenSweep

    began, used = time.perf_counter(), _cpu()
    folder = SweepFolder(sweep_folder.path)
    folder.manifest()
    refuse_all_but_files(folder.path, deep=True)
    leftovers.tidy(folder)
    assert OpenSweep.of_run(folder, folder.runs()[0]).nothing_left() is None
    folder.hours_used()
    folder.running()
    seconds, cpu_seconds = time.perf_counter() - began, _cpu() - used
    used = _cpu()
    for _ in range(LOOKS):
        folder.records()
        folder.running()
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "look": (_cpu() - used) / LOOKS}


def _first_claim(sweep_folder: SweepFolder) -> dict[str, float]:
    """Do what a worker does before its first trial, and let go of that."""
    from finesweep.backends.optuna.backend import sweep_study

    began, used = time.perf_counter(), _cpu()
    worker = _worker(sweep_folder)
    study = sweep_study(worker)
    claim = worker.claim()
    study.refresh()
    seconds, cpu_seconds = time.perf_counter() - began, _cpu() - used
    worker.release(claim)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def _files(sweep_folder: SweepFolder) -> dict[str, float]:
    """Write the leaderboard's files as the command does while trials run."""
    from finesweep.sweep.open_sweep import OpenSweep

    folder = SweepFolder(sweep_folder.path)
    sweep, records, used = OpenSweep.of_run(folder, folder.runs()[0]), folder.records(), _cpu()
    sweep.write_leaderboard(records)
    return {"cpu_seconds": _cpu() - used}


def _typed(command: str, sweep_folder: SweepFolder) -> tuple[float, float]:
    """Return the seconds of a command as a person types it, by the clock and of the processor."""
    began, used = time.perf_counter(), _cpu()
    subprocess.run(
        [sys.executable, "-m", "finesweep", command, str(sweep_folder.path)], check=True, capture_output=True
    )
    return time.perf_counter() - began, _cpu() - used


def measure(
    sizes: Sequence[int], window: int, rounds: int, folder: Path, sampler: str = "random", pruner: str = "none"
) -> Many:
    """Measure sweeps of several sizes in an empty folder.

    Args:
        sizes: Trials, ascending.
        window: Trials that are run and measured at a time.
        rounds: How often each size has its turn.
        folder: Where the sweeps are made.
        sampler: What proposes.
        pruner: What compares the trials.
    """
    import torch

    import finesweep.backends.optuna.study
    import finesweep.backends.search_driver
    import finesweep.worker.worker  # noqa: F401  everything is imported before the first fork

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    search = {"sampler": sampler, "pruner": pruner}
    sweeps = {size: _prepared(folder / f"s{size}", 2 * size + rounds * (window + 1), size, search) for size in sizes}
    windows = [_window(sweeps[size], size, window) for _ in range(rounds) for size in sizes]
    largest = sweeps[sizes[-1]]
    command = _in_fork(functools.partial(_command, largest))
    first_claim = _in_fork(functools.partial(_first_claim, largest))
    status, board = (min(_typed(typed, largest) for _ in range(rounds)) for typed in ("status", "leaderboard"))
    found = Many(
        windows=windows,
        status_seconds=status[0],
        status_cpu_seconds=status[1],
        leaderboard_seconds=board[0],
        files_seconds=_in_fork(functools.partial(_files, largest))["cpu_seconds"],
        command_seconds=command["seconds"],
        worker_seconds=first_claim["seconds"],
        resume_cpu_seconds=command["cpu_seconds"] + first_claim["cpu_seconds"],
        look_seconds=command["look"],
        load=os.getloadavg()[0],
    )
    gc.unfreeze()
    return found


def figures(many: Many) -> Figures:
    """Return what was measured as tables and goals (M7)."""
    first, last = f"at {many.sizes[0]:,}", f"at {many.sizes[-1]:,} trials"
    goals = [
        _goal(f"CPU of a trial {last}", first, FLAT_GOAL, "x", many.cpu_growth),
        _goal(f"wall clock of a trial {last}", first, FLAT_GOAL, "x", many.growth),
        _goal(f"resume {last}", "-", RESUME_GOAL_SECONDS, " s", many.resume_seconds),
        _goal(f"sweep status {last}", "-", STATUS_GOAL_SECONDS, " s", many.status_seconds),
    ]
    tables = [_trials_table(many), _reading_table(many, f"Reading a sweep {last}")]
    method = " ".join((__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].split())
    return Figures("Many trials", method, goals, tables, (), dataclasses.asdict(many))


def _goal(what: str, against: str, wanted: float, unit: str, found: float) -> Goal:
    return Goal("M7", what, against, wanted, unit, False, Spread.of([found]))


def _trials_table(many: Many) -> Table:
    rows = [
        [f"{size:,}", *(number(one) for one in (1e3 * many.cost(size), 1e3 * many.cpu_cost(size), many.held(size)))]
        for size in many.sizes
    ]
    return Table("Trials that do not train", ["trials", "ms per trial", "CPU ms per trial", "MB of the worker"], rows)


def _reading_table(many: Many, title: str) -> Table:
    rows = [
        ["resume, to the first claim", number(many.resume_seconds), number(many.resume_cpu_seconds)],
        ["of that in the worker", number(many.worker_seconds), "-"],
        ["sweep status", number(many.status_seconds), number(many.status_cpu_seconds)],
        ["sweep leaderboard", number(many.leaderboard_seconds), "-"],
        ["the leaderboard's files", "-", number(many.files_seconds)],
        ["a look of the command at the folder", "-", number(many.look_seconds)],
    ]
    return Table(title, ["what", "s", "CPU s"], rows)


def _cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a trial costs beside its training, by how many there are.")
    parser.add_argument("--trials", type=int, nargs="+", default=SIZES)
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--pruner", default="none")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = measure(sorted(asked.trials), asked.window, asked.rounds, Path(folder), asked.sampler, asked.pruner)
    found = figures(many)
    print("\n\n".join(as_text(table) for table in (*found.tables, goals_table(found.goals))))  # noqa: T201


if __name__ == "__main__":
    main()
