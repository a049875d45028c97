"""Measures the fixed cost per trial: everything from a trial's claim to its record but training and evaluating.

    python benchmarks/fixed_cost.py

Two processes take turns, a few trials each, so that whatever else the machine does hits both alike:

* stock: ``Trainer.hyperparameter_search(backend="optuna")`` over a plain Trainer with a ``model_init``, all trials in
  one process. ``stock, no saving`` is the same with ``save_strategy="no"``; as it comes, it writes a checkpoint at the
  end of each trial.
* finesweep: its worker, with a process per trial. A trial lasts from the call that claims it until its record is
  written, its process is gone, and the worker could claim the next one.

Both train the same small model on the same tokens, a few optimizer steps and one evaluation per trial. The time in the
steps (from ``on_step_begin`` to ``on_step_end``: forward, backward, optimizer) and in the evaluation's loop is taken by
the same two wrappers in both, and subtracted; what is left is the fixed cost. CPU time is treated alike; a child's is
added to its worker's. The first trials of both, in which libraries are still being imported, are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEC = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
CHANGES = (
    "search.pruner=none",
    "budget.trials=1",
    "space={learning_rate: {low: 1e-4, high: 3e-3, log: true}}",
    "fixed.per_device_train_batch_size=16",
)
STEPS = 2
CONTENDERS = ("stock", "stock-unsaved", "finesweep")
NAMES = {"stock": "stock", "stock-unsaved": "stock, no saving", "finesweep": "finesweep"}


@dataclass(frozen=True)
class Cost:
    """What one trial took.

    Attributes:
        seconds: Wall clock, all of it.
        cpu: Seconds of CPU, all of them.
        step_seconds: Wall clock of the optimizer steps and the evaluation.
        step_cpu: CPU of the same.
    """

    seconds: float
    cpu: float
    step_seconds: float
    step_cpu: float

    @property
    def fixed(self) -> float:
        """Wall clock without the steps."""
        return self.seconds - self.step_seconds

    @property
    def fixed_cpu(self) -> float:
        """CPU without the steps."""
        return self.cpu - self.step_cpu


@dataclass
class Stopwatch:
    """Adds up the time that this process spends in training steps and in evaluations."""

    seconds: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a stretch."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End the stretch."""
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def install(self) -> None:
        """Wrap what a Trainer calls around each step and each evaluation, in every Trainer of this process."""
        import transformers
        from transformers.trainer_callback import CallbackHandler

        begin, end = CallbackHandler.on_step_begin, CallbackHandler.on_step_end
        evaluation_loop = transformers.Trainer.evaluation_loop

        def on_step_begin(handler: Any, *arguments: Any) -> Any:
            control = begin(handler, *arguments)
            self.start()
            return control

        def on_step_end(handler: Any, *arguments: Any) -> Any:
            self.stop()
            return end(handler, *arguments)

        @functools.wraps(evaluation_loop)
        def evaluating(*arguments: Any, **named: Any) -> Any:
            self.start()
            try:
                return evaluation_loop(*arguments, **named)
            finally:
                self.stop()

        CallbackHandler.on_step_begin, CallbackHandler.on_step_end = on_step_begin, on_step_end
        transformers.Trainer.evaluation_loop = evaluating


def all_cpu() -> float:
    """Return the CPU seconds of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def prepare(folder: Path, steps: int) -> Path:
    """Let ``sweep run`` make a sweep's folder: rows, tokens, model, one trial."""
    settings = [word for setting in (*CHANGES, f"fixed.max_steps={steps}") for word in ("--set", setting)]
    command = [sys.executable, "-m", "finesweep", "run", str(SPEC), *settings, "--results", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "quickstart"


class Turns:
    """The contender's side: how many trials to run next comes in on a line, their costs go out on one."""

    def __init__(self) -> None:
        # What libraries print must not end up between the answers.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def __iter__(self) -> Iterator[int]:
        for line in sys.stdin:
            yield int(line)

    def answer(self, costs: Sequence[Cost]) -> None:
        """Say what the trials of this turn took."""
        print(json.dumps([dataclasses.asdict(cost) for cost in costs]), file=self._answers, flush=True)


def run_stock(folder: Path, steps: int, *, saves: bool) -> None:
    """Run stock searches, one for each turn, and answer with what each trial took."""
    turns, watch, costs = Turns(), Stopwatch(), []
    watch.install()
    trainer = stock_trainer(folder, steps, saves=saves)
    train = trainer.train

    def training(*arguments: Any, **named: Any) -> Any:
        costs.append((time.perf_counter(), all_cpu(), watch.seconds, watch.cpu))
        return train(*arguments, **named)

    trainer.train = training
    for count in turns:
        costs.clear()
        trainer.hyperparameter_search(
            hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)},
            compute_objective=lambda metrics: metrics["eval_loss"],
            n_trials=count,
            direction="minimize",
            backend="optuna",
        )
        costs.append((time.perf_counter(), all_cpu(), watch.seconds, watch.cpu))
        turns.answer([Cost(*(b - a for a, b in zip(*pair, strict=True))) for pair in itertools.pairwise(costs)])


def stock_trainer(folder: Path, steps: int, *, saves: bool) -> Any:
    """Return what a user of the stock call writes."""
    import datasets
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = folder / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    config = transformers.AutoConfig.from_pretrained(model)
    rows = {split: datasets.load_from_disk(str(folder / "data/tokens-64" / split)) for split in ("train", "validation")}
    saving = {} if saves else {"save_strategy": "no"}
    return transformers.Trainer(
        model_init=lambda: transformers.AutoModelForSequenceClassification.from_config(config),
        args=transformers.TrainingArguments(
            output_dir=str(folder / "stock"),
            max_steps=steps,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            eval_strategy="steps",
            eval_steps=steps,
            disable_tqdm=True,
            **saving,
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda prediction: {
            "accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))
        },
    )


def run_finesweep(folder: Path) -> None:
    """Run a worker that claims as many trials as each turn says, and answer with what each of them took."""
    from finesweep.claims import Claim
    from finesweep.run_dir import RunDir
    from finesweep.worker import Worker

    run_dir = RunDir(folder)
    first = run_dir.runs()[-1]
    run = run_dir.begin_run(lambda number: dataclasses.replace(first, number=number, budget={"trials": 9_999}))
    turns, watch = Turns(), Stopwatch()

    class TimedWorker(Worker):
        def claim(self) -> Claim | None:
            """Claim, once it is this contender's turn."""
            if not waiting:
                if costs:
                    turns.answer(costs)
                    costs.clear()
                waiting.extend(range(next(asked, 0)))
            if not waiting:
                return None
            waiting.pop()
            self.began = time.perf_counter(), all_cpu()
            return super().claim()

        def isolated(self, claim: Claim, body: Callable[[], None]) -> None:
            """Run the trial; its process says through a pipe what it spent in steps."""
            reader, writer = os.pipe()

            def timed() -> None:
                watch.install()
                try:
                    body()
                finally:
                    os.write(writer, json.dumps([watch.seconds, watch.cpu]).encode())

            super().isolated(claim, timed)
            os.close(writer)
            with os.fdopen(reader) as stream:
                steps = json.load(stream)
            costs.append(Cost(time.perf_counter() - self.began[0], all_cpu() - self.began[1], *steps))

    asked, waiting, costs = iter(turns), [], []
    TimedWorker.open(folder, run.number).work()


@contextlib.contextmanager
def contender(name: str, folder: Path, steps: int, threads: int) -> Iterator[Callable[[int], list[Cost]]]:
    """Start a contender's process; yield how to have it run some trials."""
    from finesweep.environment import child_environment

    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder), "--steps", str(steps)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        (folder / f"{name}.log").open("w") as log,
        # At the block's end its input is closed, which ends it.
        subprocess.Popen(command, **pipes, stderr=log, env=child_environment("", threads)) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def turn(trials: int) -> list[Cost]:
            print(trials, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"{name} ended early:\n{Path(log.name).read_text()[-3000:]}")
            return [Cost(**cost) for cost in json.loads(answer)]

        yield turn


def measure(rounds: int, trials: int, steps: int = STEPS, threads: int = 1) -> dict[str, list[Cost]]:
    """Let the contenders take turns.

    Args:
        rounds: Turns of each.
        trials: Trials per turn.
        steps: Optimizer steps per trial.
        threads: CPU threads of each contender.

    Returns:
        The cost of every trial by contender, without those of a first turn to warm up.
    """
    with tempfile.TemporaryDirectory(prefix="fixed-cost-") as scratch, contextlib.ExitStack() as stack:
        folder = prepare(Path(scratch), steps)
        turns = {name: stack.enter_context(contender(name, folder, steps, threads)) for name in CONTENDERS}
        for turn in turns.values():
            turn(2)
        costs: dict[str, list[Cost]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, turn in turns.items():
                costs[name] += turn(trials)
        return costs


def ratio(costs: dict[str, list[Cost]], against: str = "stock") -> float:
    """Return finesweep's fixed cost in units of another contender's, of the medians."""
    own, other = (statistics.median(cost.fixed for cost in costs[name]) for name in ("finesweep", against))
    return own / other


def report(costs: dict[str, list[Cost]]) -> str:
    """Return the medians as a table."""
    head = f"{'':17}{'fixed s':>9}{'(quartiles)':>17}{'fixed CPU s':>13}{'steps s':>9}{'whole s':>9}{'trials':>8}"
    lines = [head]
    for name, found in costs.items():
        low, middle, high = statistics.quantiles([cost.fixed for cost in found], n=4)
        cpu, steps, whole = (
            statistics.median(getattr(cost, part) for cost in found)
            for part in ("fixed_cpu", "step_seconds", "seconds")
        )
        spread = f"({low:.3f}-{high:.3f})"
        lines.append(f"{NAMES[name]:17}{middle:9.3f}{spread:>17}{cpu:13.3f}{steps:9.3f}{whole:9.3f}{len(found):8}")
    for other in ("stock", "stock-unsaved"):
        lines.append(f"finesweep's fixed cost is {ratio(costs, other):.2f} of that of {NAMES[other]}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print; with ``--contender``, be one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6, help="turns of each contender")
    parser.add_argument("--trials", type=int, default=4, help="trials per turn")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps per trial")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each contender")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contender == "finesweep":
        run_finesweep(asked.folder)
    elif asked.contender:
        run_stock(asked.folder, asked.steps, saves=asked.contender == "stock")
    else:
        before = os.getloadavg()[0]
        print(report(measure(asked.rounds, asked.trials, asked.steps, asked.threads)))  # noqa: T201
        print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")  # noqa: T201


if __name__ == "__main__":
    main()
