"""Measures how many trials per second many workers get through when no trial trains.

    python -m benchmarks.studies.many_workers
    python -m benchmarks.studies.many_workers --sampler tpe

What is left is what claims, proposals and records take. Each worker is the real one in a process of its own, and each
of its trials in a fork of that: it claims the trial, makes the study, draws the parameters, writes them into the claim,
reports one evaluation and writes the record. Only the training is left out, and with it the rehearsal; the workers are
forks of one process that has imported everything. The time is from the start of the first worker to the end of the last
one, and what was left behind is then looked at: each number recorded once, complete in its first attempt, with the
parameters of its claim.

With the random sampler nothing is computed from earlier trials; what TPE computes from them is its own.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.untrained import METRIC, prepare

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import Evaluation, Report, TrialRecord, TrialState

WORKERS, TRIALS = 64, 5_000


@dataclass(frozen=True)
class Measured:
    """What one sweep without training came to.

    Attributes:
        sampler: What proposed.
        workers: Processes at a time.
        trials: The budget.
        seconds: Wall clock.
        lost: What is wrong with what was left behind, a line each; empty if nothing is.
        load: The machine's load average at the end, over a minute.
    """

    sampler: str
    workers: int
    trials: int
    seconds: float
    lost: Sequence[str]
    load: float


def work(folder: Path) -> None:
    """Be one worker, until no trial is left."""
    from finesweep.registry import BACKENDS
    from finesweep.worker.worker import Worker

    class Untrained(Worker):
        """A worker whose trials do nothing but report."""

        def train(self, claim: Any, params: Any, report: Any) -> float:
            loss = float(params["weight_decay"])
            evaluation = Evaluation(1, 1.0, 100, {METRIC: loss}, loss)
            report(Report(evaluation, loss, last=True))
            record = TrialRecord(
                claim.trial,
                claim.attempt,
                TrialState.COMPLETE,
                params,
                time.time(),
                0.0,
                f"logs/trial-{claim.trial:04d}.log",
                socket.gethostname(),
                objective=loss,
                evaluations=(evaluation,),
                run=self.run.number,
            )
            self.sweep_folder.record(record)
            return loss

    worker = Untrained.open(folder, 1)
    BACKENDS.load("optuna")().search(worker)


def measure(workers: int, trials: int, sampler: str, folder: Path) -> Measured:
    """Run one sweep without training in a folder that does not exist yet."""
    import torch

    import finesweep.backends.optuna.study
    import finesweep.backends.search_driver
    import finesweep.worker.worker  # noqa: F401  everything is imported before the first fork

    torch.set_num_threads(1)
    sweep_folder = prepare(folder, trials, sampler)
    gc.collect()
    gc.freeze()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(sweep_folder.path,)) for _ in range(workers)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - began
    gc.unfreeze()
    failed = [f"a worker ended with exit code {process.exitcode}" for process in processes if process.exitcode]
    lost = [*failed, *missing(sweep_folder, trials)]
    return Measured(sampler, workers, trials, seconds, lost, os.getloadavg()[0])


def missing(sweep_folder: SweepFolder, trials: int) -> list[str]:
    """Say what is wrong with what a sweep has left behind: its records, and the parameters in its claims."""
    records = SweepFolder(sweep_folder.path).records()
    found = []
    if [record.trial for record in records] != list(range(trials)):
        found.append(f"{len(records)} of {trials} trials are recorded")
    if again := [record.trial for record in records if record.attempt != 1 or record.state is not TrialState.COMPLETE]:
        found.append(f"{len(again)} trials were tried again or did not complete, the first is {again[0]}")
    if odd := [one.trial for one in records if list(sweep_folder.claims.params(one.trial)) != [one.params]]:
        found.append(f"{len(odd)} trials have other parameters than their claims, the first is {odd[0]}")
    return found


def report(measured: Sequence[Measured]) -> str:
    """Return the figures as a table."""
    rows = ["| sampler | workers | trials | seconds | trials per second | lost |", "|---|---|---|---|---|---|"]
    for one in measured:
        speed = one.trials / one.seconds
        lost = "nothing" if not one.lost else "; ".join(one.lost)
        rows.append(f"| {one.sampler} | {one.workers} | {one.trials:,} | {one.seconds:.0f} | {speed:.1f} | {lost} |")
    load = ", ".join(f"{one.load:.1f}" for one in measured)
    return "\n".join([*rows, "", f"{os.cpu_count()} cores; load average over the last minute of each: {load}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Trials per second of many workers that do not train.")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--sampler", default="random")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(report([measure(asked.workers, asked.trials, asked.sampler, Path(folder) / "untrained")]))  # noqa: T201


if __name__ == "__main__":
    main()
