"""Measures how many trials per second many workers get through when no trial trains.

    python benchmarks/storage.py
    python benchmarks/storage.py --storage postgresql://127.0.0.1:15432/optuna

What is left is what claims, study and records take. Each worker is the real one in a process of its own, and each of
its trials in a fork of that: it claims the trial, opens the study, draws the parameters, reports one evaluation, writes
the record, and tells the study. Only the training is left out, and with it the rehearsal; the workers are forks of one
process that has imported everything. The time is from the start of the first worker to the end of the last one, and
what was left behind is then looked at: each number recorded once, complete in its first attempt, and in the study as in
its record.

The sampler is random and there is no pruner: what a sampler such as TPE computes from all earlier trials is no cost of
the storage.
"""

from __future__ import annotations

import argparse
import dataclasses
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

from finesweep.atomic import write_json
from finesweep.manifest import Manifest, Run
from finesweep.profile import Profile
from finesweep.run_dir import RunDir, make_folders
from finesweep.shared_folder import new_token
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation, TrialRecord, TrialState

WORKERS, TRIALS = 64, 5_000
METRIC = "eval_loss"
SPEC: dict[str, Any] = {
    "model": {"name": "none"},
    "data": {"train": "none.csv"},
    "objective": {"metric": METRIC, "direction": "minimize"},
    "search": {"sampler": "random", "pruner": "none", "baseline": False},
    "space": {
        "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "weight_decay": {"low": 0.0, "high": 0.3},
        "num_train_epochs": {"low": 2, "high": 5},
        "lr_scheduler_type": {"choices": ["linear", "constant"]},
    },
}


@dataclass(frozen=True)
class Measured:
    """What one sweep without training came to.

    Attributes:
        storage: What held the study, for a person.
        workers: Processes at a time.
        trials: The budget.
        seconds: Wall clock.
        lost: What is wrong with what was left behind, a line each; empty if nothing is.
        load: The machine's load average at the end, over a minute.
    """

    storage: str
    workers: int
    trials: int
    seconds: float
    lost: Sequence[str]
    load: float


def prepare(folder: Path, trials: int, storage: str | None) -> RunDir:
    """Make a sweep's folder as ``sweep run`` does, without rows and model."""
    spec = SweepSpec.model_validate({**SPEC, "name": folder.name, "base": Path()}, strict=False)
    values = spec.model_dump(mode="json", exclude={"name", "base", "budget", "stop"})
    source = {"place": "none.csv", "digest": "0", "revision": None}
    data = {"sources": {"train": source}, "rows": {"train": 1}, "labels": None, "text_pair": False}
    model = {"name": "none", "path": None, "revision": None, "digest": "0", "max_tokens": 1, "from_scratch": False}
    run_dir = make_folders(folder)
    manifest = Manifest(folder.name, values, data, model, [], time.time())
    write_json(run_dir.spec_file, dataclasses.asdict(manifest))
    profile = Profile(storage=storage, workers=1, threads_per_worker=1, gpus_per_trial=0).model_dump()
    token, began = new_token(profile), time.time()
    run_dir.begin_run(
        lambda number: Run(
            number, {"trials": trials}, {}, profile, {}, socket.gethostname(), os.getpid(), began, token=token
        )
    )
    return run_dir


def work(folder: Path) -> None:
    """Be one worker, until no trial is left."""
    from finesweep.registry import BACKENDS
    from finesweep.worker import Worker

    class Untrained(Worker):
        """A worker whose trials do nothing but report."""

        def train(self, claim: Any, params: Any, report: Any) -> float:
            loss = float(params["weight_decay"])
            evaluation = Evaluation(1, 1.0, 100, {METRIC: loss}, loss)
            report(evaluation, loss, True, None)
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
            self.run_dir.record(record)
            return loss

    [run] = RunDir(folder).runs()
    worker = Untrained.open(folder, 1, token=run.token)
    BACKENDS.load("optuna")().search(worker)


def measure(workers: int, trials: int, storage: str | None, folder: Path) -> Measured:
    """Run one sweep without training in a folder that does not exist yet."""
    import torch

    import finesweep.backends.driver
    import finesweep.backends.study
    import finesweep.worker  # noqa: F401  everything is imported before the first fork

    torch.set_num_threads(1)
    run_dir = prepare(folder, trials, storage)
    gc.collect()
    gc.freeze()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(run_dir.path,)) for _ in range(workers)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - began
    gc.unfreeze()
    failed = [f"a worker ended with exit code {process.exitcode}" for process in processes if process.exitcode]
    lost = [*failed, *missing(run_dir, trials, storage)]
    shown = "a journal file" if storage is None else "PostgreSQL"
    return Measured(shown, workers, trials, seconds, lost, os.getloadavg()[0])


def missing(run_dir: RunDir, trials: int, storage: str | None) -> list[str]:
    """Say what is wrong with what a sweep has left behind: records, and the study as another process reads it."""
    import optuna

    from finesweep.backends.study import SharedStudy

    records = RunDir(run_dir.path).records()
    found = []
    if [record.trial for record in records] != list(range(trials)):
        found.append(f"{len(records)} of {trials} trials are recorded")
    if again := [record.trial for record in records if record.attempt != 1 or record.state is not TrialState.COMPLETE]:
        found.append(f"{len(again)} trials were tried again or did not complete, the first is {again[0]}")
    spec = run_dir.manifest().spec_for(run_dir.runs()[0])
    shared = SharedStudy(run_dir, spec, lambda evaluation: evaluation.examples, storage)
    store = shared.source.open()
    studied = optuna.load_study(study_name=shared.name, storage=store).get_trials(deepcopy=False)
    store.close()
    told = sorted((trial.user_attrs["number"], trial.state.name, trial.value) for trial in studied)
    if told != [(record.trial, "COMPLETE", record.objective) for record in records]:
        found.append(f"the study's {len(studied)} trials are not those of the {len(records)} records")
    if [trial.number for trial in studied] != list(range(len(studied))):
        found.append("the study has numbered two trials alike")
    return found


def report(measured: Sequence[Measured]) -> str:
    """Return the figures as a table."""
    rows = ["| study in | workers | trials | seconds | trials per second | lost |", "|---|---|---|---|---|---|"]
    for one in measured:
        speed = one.trials / one.seconds
        lost = "nothing" if not one.lost else "; ".join(one.lost)
        rows.append(f"| {one.storage} | {one.workers} | {one.trials:,} | {one.seconds:.0f} | {speed:.1f} | {lost} |")
    load = ", ".join(f"{one.load:.1f}" for one in measured)
    return "\n".join([*rows, "", f"{os.cpu_count()} cores; load average over the last minute of each: {load}"])


def main() -> None:
    """Measure a journal file, or the database that is named."""
    parser = argparse.ArgumentParser(description="Trials per second of many workers that do not train.")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--storage", help="postgresql://host:port/database; a journal file if left out")
    asked = parser.parse_args()
    if asked.storage is not None:
        from finesweep.backends.database import check
        from finesweep.storage_url import checked

        check(checked(asked.storage))
    with tempfile.TemporaryDirectory() as folder:
        print(report([measure(asked.workers, asked.trials, asked.storage, Path(folder) / "untrained")]))  # noqa: T201


if __name__ == "__main__":
    main()
