"""Measures how much training is done after a trial has diverged (M6).

Learning rates at which no training survives are given to the stock call (S) and to finesweep. In both, the same wrapper
around ``Trainer.training_step`` writes down every step's loss, so that neither is asked when it noticed. A trial has
diverged at its first loss that is not finite, or ten times its first loss and twenty times that of a model that knows
nothing; the steps after that one are in vain.

    python -m benchmarks.divergence WATCHED.jsonl stock WORKLOAD.json FOLDER
    python -m benchmarks.divergence WATCHED.jsonl finesweep FOLDER

are the two contenders, each in a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import OURS, environment, spec_of
from benchmarks.figures import Figures, Goal, Spread, Table, shown
from benchmarks.workload import ROOT, Size, Source, Workload, make

TRIALS, EPOCHS = 4, 5
SPACE = {"learning_rate": {"low": 3.0, "high": 10.0}}
GOAL = 0.1
EXPLODED_BY, NAIVE_LOSSES = 10.0, 20.0
LIMIT_SECONDS = 600


def measure(source: Source, size: Size, scratch: Path) -> Figures:
    """Let both train at hopeless learning rates.

    Args:
        source: The texts.
        size: Model and rows.
        scratch: Where everything is written.
    """
    fixed = {"num_train_epochs": float(EPOCHS), "per_device_train_batch_size": 16}
    workload = make(source, dataclasses.replace(size, trials=TRIALS, space=SPACE), scratch, fixed)
    given = workload.write(scratch / "workload.json")
    theirs = _run(scratch / "S.jsonl", ["stock", str(given), str(scratch / "S")], scratch)
    folder = _prepared(workload, scratch)
    ours = _run(scratch / "finesweep.jsonl", ["finesweep", str(folder)], scratch)
    both = {
        "finesweep": in_vain(ours, workload.labels),
        "S: stock call, well written": in_vain(theirs, workload.labels),
    }
    return summed_up(both)


def summed_up(in_vain_by_arm: dict[str, list[tuple[int, int]]]) -> Figures:
    """Turn (steps in all, steps in vain) of each diverged trial of each arm, finesweep first, into figures."""
    ours, theirs = in_vain_by_arm.values()
    found = None
    notes = []
    if ours and theirs:
        theirs_middle = Spread.of([vain for _, vain in theirs]).median
        found = Spread.of([vain / theirs_middle for _, vain in ours])
    else:
        notes.append("not every arm has a trial that diverged")
    rows = [
        [arm, str(len(trials)), *(shown(Spread.of(values)) for values in zip(*trials, strict=True))]
        for arm, trials in in_vain_by_arm.items()
        if trials
    ]
    return Figures(
        "Training after a divergence",
        " ".join((__doc__ or "").split("\n\n")[1].split()),
        [Goal("M6", "steps after a divergence", "S", GOAL, "x", False, found)],
        [Table("Steps of each trial", ["arm", "diverged trials", "steps in all", "steps in vain"], rows)],
        notes,
        {"trials": in_vain_by_arm},
    )


def in_vain(losses: Sequence[Sequence[float]], labels: int) -> list[tuple[int, int]]:
    """Return of each trial that diverged how many steps it made and how many of them came after that.

    Args:
        losses: The loss of every step of every trial.
        labels: Number of labels.
    """
    found = []
    for trial in losses:
        limit = max(EXPLODED_BY * trial[0], NAIVE_LOSSES * math.log(labels))
        bad = next((step for step, loss in enumerate(trial, 1) if not (math.isfinite(loss) and loss <= limit)), None)
        if bad is not None:
            found.append((len(trial), len(trial) - bad))
    return found


def _run(watched: Path, words: Sequence[str], scratch: Path) -> list[list[float]]:
    """Run a contender; return the loss of every step of every trial."""
    command = [sys.executable, "-m", "benchmarks.divergence", str(watched), *words]
    (scratch / "S").mkdir(exist_ok=True)
    given = environment(dataclasses.replace(OURS, threads=1), scratch)
    with watched.with_suffix(".log").open("w") as log:
        subprocess.run(command, cwd=ROOT, env=given, stdout=log, stderr=log, timeout=LIMIT_SECONDS, check=False)
    trials: dict[tuple[int, int], list[float]] = {}
    for line in watched.read_text().splitlines() if watched.is_file() else ():
        pid, trial, loss = json.loads(line)
        trials.setdefault((pid, trial), []).append(loss)
    return list(trials.values())


def _prepared(workload: Workload, scratch: Path) -> Path:
    """Let ``sweep run`` make a folder and try one trial, whose end as diverged makes the command fail."""
    spec = {**spec_of(workload), "budget": {"trials": 1}, "search": {"sampler": "random", "baseline": False}}
    file = scratch / "diverging.yaml"
    file.write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "finesweep", "run", str(file), "--results", str(scratch / "results")]
    given = environment(dataclasses.replace(OURS, threads=1), scratch)
    run = subprocess.run([*command, "--workers", "1"], cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    folder = scratch / "results" / "diverging"
    if not (folder / "trials").is_dir():
        raise RuntimeError(f"sweep run failed: {run.stderr[-2000:]}")
    return folder


def watch(trainer: Any, file: Path, *, forks: bool) -> None:
    """Write down the loss of every step.

    Args:
        trainer: The class of the Trainers that train.
        file: Where the losses go.
        forks: Whether only what forks of this process train counts: the process itself merely rehearses.
    """
    step, mother, trials = trainer.training_step, os.getpid(), [0]

    def training_step(self: Any, *arguments: Any, **named: Any) -> Any:
        loss = step(self, *arguments, **named)
        if self.state.global_step == 0:
            trials[0] += 1
        if not forks or os.getpid() != mother:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([os.getpid(), trials[0], float(loss)]) + "\n")
        return loss

    trainer.training_step = training_step


def run_stock(given: Path, folder: Path) -> None:
    """Be the stock call."""
    from benchmarks.peers.given import suggested
    from benchmarks.peers.stock import trainer_for

    workload = Workload.read(given)
    trainer_for(workload, folder).hyperparameter_search(
        hp_space=lambda trial: suggested(workload, trial),
        compute_objective=lambda metrics: metrics["eval_loss"],
        direction="minimize",
        backend="optuna",
        n_trials=workload.trials,
    )


def run_finesweep(folder: Path) -> None:
    """Be finesweep's worker, on a folder that was prepared."""
    from finesweep.folder.sweep_folder import SweepFolder
    from finesweep.spec.sections import BudgetSpec
    from finesweep.worker.worker import Worker

    sweep_folder = SweepFolder(folder)
    first = sweep_folder.runs()[-1]
    budget = BudgetSpec(trials=1 + TRIALS)
    run = sweep_folder.begin_run(lambda number: dataclasses.replace(first, number=number, budget=budget))
    Worker.open(folder, run.number).work()


def main() -> None:
    """Be one of the contenders."""
    import transformers

    from finesweep.training.trainer import FineTuner

    watched, contender, *words = sys.argv[1:]
    if contender == "stock":
        watch(transformers.Trainer, Path(watched), forks=False)
        run_stock(Path(words[0]), Path(words[1]))
    else:
        watch(FineTuner, Path(watched), forks=True)
        run_finesweep(Path(words[0]))


if __name__ == "__main__":
    main()
