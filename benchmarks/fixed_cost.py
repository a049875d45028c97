"""Measures the fixed cost per trial: everything from a trial's claim to its record but training and evaluating (M4).

    python -m benchmarks.fixed_cost

Processes take turns, a few trials each, so that whatever else the machine does hits all alike:

* stock: ``Trainer.hyperparameter_search(backend="optuna")`` over a plain Trainer with a ``model_init``, all trials in
  one process. ``stock, no saving`` is the same with ``save_strategy="no"``; as it comes, it writes a checkpoint at the
  end of each trial.
* finesweep: its worker, with a process per trial. A trial lasts from the call that claims it until its record is
  written, its process is gone, and the worker could claim the next one.
* ray: the stock call with ``backend="ray"``, one trial at a time, with Ray's default of a new actor for each trial, and
  warm, with ``reuse_actors=True``. The time is from one trial's begin to the next one's, so what Ray needs to start and
  to end a search is not counted, nor any CPU, since daemons do part of the work.

All train the same small model on the same tokens, a few optimizer steps and one evaluation per trial. The time in the
steps (from ``on_step_begin`` to ``on_step_end``: forward, backward, optimizer) and in the evaluation's loop is taken by
the same two wrappers in all, and subtracted; what is left is the fixed cost. CPU time is treated alike; a child's is
added to its worker's. The first trials of each, in which libraries are still being imported, are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Goal, Spread, Table
from benchmarks.figures import rounds as turns_within
from benchmarks.report import as_text
from benchmarks.workload import ROOT

SPEC = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
CHANGES = (
    "search.pruner=none",
    "budget.trials=1",
    "space={learning_rate: {low: 1e-4, high: 3e-3, log: true}}",
    "fixed.per_device_train_batch_size=16",
)
STEPS = 2
PARTS = ("train", "validation")
NAMES = {
    "finesweep": "finesweep",
    "stock": "stock",
    "stock-unsaved": "stock, no saving",
    "ray": "ray",
    "ray-warm": "ray, warm actors",
}
"""Contenders."""

QUICK = ("finesweep", "stock", "stock-unsaved")
"""Those that take seconds."""

SLOW_TRIALS = 2
"""Trials per turn of the others."""


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


def all_cpu() -> float:
    """Return the CPU seconds of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def prepare(folder: Path, steps: int, model: Path | None = None, changes: Sequence[str] = CHANGES) -> Path:
    """Let ``sweep run`` make a sweep's folder: rows, tokens, model, one trial.

    Args:
        folder: Where results go.
        steps: Optimizer steps per trial.
        model: A model's folder, None for the quickstart's own.
        changes: Settings that replace those of the quickstart's YAML.
    """
    more = [f"fixed.max_steps={steps}", *([] if model is None else [f"model={model}"])]
    settings = [word for setting in (*changes, *more) for word in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "finesweep",
        "run",
        str(SPEC),
        *settings,
        "--workers",
        "1",
        "--results",
        str(folder),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
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
    from benchmarks.marks import Stopwatch

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


def stock_trainer(folder: Path, steps: int, *, saves: bool, **arguments: Any) -> Any:
    """Return what a user of the stock call writes.

    Args:
        folder: The sweep's folder, for the model; it may write there too.
        steps: Optimizer steps per trial.
        saves: Whether it writes a checkpoint at the end of each trial, as the call does by default.
        arguments: More for the Trainer.
    """
    import datasets
    import torch
    import transformers

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = Path(json.loads((folder / "spec.json").read_text())["model"]["path"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    rows = datasets.load_dataset("csv", data_files={part: str(SPEC.with_suffix("") / f"{part}.csv") for part in PARTS})
    rows = rows.map(
        lambda batch: {**tokenizer(batch["text"], truncation=True), "labels": numbers(batch["label"])}, batched=True
    )
    saving = {} if saves else {"save_strategy": "no"}
    return transformers.Trainer(
        model_init=lambda: loaded(model),
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
        train_dataset=rows["train"].remove_columns("label"),
        eval_dataset=rows["validation"].remove_columns("label"),
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        **arguments,
    )


def numbers(labels: Sequence[str]) -> list[int]:
    """Number the labels of the quickstart's rows."""
    return [int(label == "positive") for label in labels]


def loaded(model: Path) -> Any:
    """Load a model, or make one where the folder has no weights."""
    import transformers

    kind = transformers.AutoModelForSequenceClassification
    if (model / "model.safetensors").is_file():
        return kind.from_pretrained(model)
    return kind.from_config(transformers.AutoConfig.from_pretrained(model))


def accuracy(prediction: Any) -> dict[str, float]:
    """Score an evaluation."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def run_ray(folder: Path, steps: int, *, warm: bool) -> None:
    """Run stock searches with Ray, one for each turn, and answer with what each trial took but the last."""
    import ray
    from benchmarks.marks import Marks

    turns, marks = Turns(), folder / f"marks-{warm}.jsonl"
    ray.init(include_dashboard=False, log_to_driver=False)
    for count in turns:
        marks.unlink(missing_ok=True)
        trainer = stock_trainer(folder, steps, saves=True, callbacks=[Marks(marks)])
        trainer.hyperparameter_search(
            hp_space=lambda _: {"learning_rate": ray.tune.loguniform(1e-4, 3e-3)},
            compute_objective=lambda metrics: metrics["eval_loss"],
            n_trials=count + 1,
            direction="minimize",
            backend="ray",
            resources_per_trial={"cpu": 1},
            max_concurrent_trials=1,
            reuse_actors=warm,
            storage_path=str(folder / "ray"),
            verbose=0,
        )
        lines = [json.loads(line) for line in marks.read_text().splitlines()]
        turns.answer(
            [Cost(two["began"] - one["began"], 0.0, one["steps"], 0.0) for one, two in itertools.pairwise(lines)]
        )
    ray.shutdown()


def run_finesweep(folder: Path) -> None:
    """Run a worker that claims as many trials as each turn says, and answer with what each of them took."""
    from benchmarks.marks import Stopwatch

    from finesweep.folder.claims import Claim
    from finesweep.folder.sweep_folder import SweepFolder
    from finesweep.spec.sections import BudgetSpec
    from finesweep.worker.worker import Worker

    sweep_folder = SweepFolder(folder)
    first = sweep_folder.runs()[-1]
    budget = BudgetSpec(trials=9_999)
    run = sweep_folder.begin_run(lambda number: dataclasses.replace(first, number=number, budget=budget))
    turns, watch = Turns(), Stopwatch()

    class TimedWorker(Worker):
        def claim(self, wait: bool = True) -> Claim | None:
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
            return super().claim(wait)

        def isolated(self, claim: Claim, body: Callable[[], None], attend: Callable[[], None] | None = None) -> None:
            """Run the trial; its process says through a pipe what it spent in steps."""
            reader, writer = os.pipe()

            def timed() -> None:
                watch.install()
                try:
                    body()
                finally:
                    os.write(writer, json.dumps([watch.seconds, watch.cpu]).encode())

            super().isolated(claim, timed, attend)
            os.close(writer)
            with os.fdopen(reader) as stream:
                steps = json.load(stream)
            costs.append(Cost(time.perf_counter() - self.began[0], all_cpu() - self.began[1], *steps))

    asked = iter(turns)
    waiting: list[int] = []
    costs: list[Cost] = []
    TimedWorker.open(folder, run.number).work()


@contextlib.contextmanager
def contender(name: str, folder: Path, steps: int, threads: int) -> Iterator[Callable[[int], list[Cost]]]:
    """Start a contender's process; yield how to have it run some trials."""
    from finesweep.host.python_process import child_environment

    command = [sys.executable, "-m", "benchmarks.fixed_cost", "--contender", name]
    command += ["--folder", str(folder), "--steps", str(steps)]
    environment = {**child_environment("", threads), "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "cache")}
    # Unbuffered, so that closing the input of one that has died has nothing left to write.
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with (
        (folder / f"{name}.log").open("w") as log,
        # At the block's end its input is closed, which ends it.
        subprocess.Popen(command, **pipes, stderr=log, env=environment, cwd=ROOT) as process,
    ):
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def turn(trials: int) -> list[Cost]:
            with contextlib.suppress(BrokenPipeError):
                print(trials, file=orders, flush=True)
            answer = answers.readline()
            if not answer:
                process.kill()
                raise RuntimeError(f"{name} ended early:\n{Path(log.name).read_text()[-3000:]}")
            return [Cost(**cost) for cost in json.loads(answer)]

        yield turn


def measure(
    rounds: int,
    trials: int,
    steps: int = STEPS,
    threads: int = 1,
    model: Path | None = None,
    names: Sequence[str] = QUICK,
    seconds: float = float("inf"),
) -> dict[str, list[Cost]]:
    """Let the contenders take turns.

    Args:
        rounds: Turns of each at most.
        trials: Trials per turn of those that take seconds.
        steps: Optimizer steps per trial.
        threads: CPU threads of each contender.
        model: A model's folder, None for the quickstart's own.
        names: The contenders, of ``NAMES``.
        seconds: Budget; every contender has one turn in any case.

    Returns:
        The cost of every trial by contender, without those of a first turn to warm up. Ray's actors begin anew in each
        turn, so there is nothing to warm up of them.
    """
    with tempfile.TemporaryDirectory(prefix="fixed-cost-") as scratch, contextlib.ExitStack() as stack:
        folder = prepare(Path(scratch), steps, model)
        turns = {name: stack.enter_context(contender(name, folder, steps, threads)) for name in names}
        for name in QUICK:
            if name in turns:
                turns[name](2)
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for _ in turns_within(seconds, rounds):
            for name, turn in turns.items():
                costs[name] += turn(trials if name in QUICK else SLOW_TRIALS)
        return costs


def ratio(costs: dict[str, list[Cost]], against: str = "stock") -> float:
    """Return finesweep's fixed cost in units of another contender's, of the medians."""
    own, other = (statistics.median(cost.fixed for cost in costs[name]) for name in ("finesweep", against))
    return own / other


def table(title: str, costs: dict[str, list[Cost]]) -> Table:
    """Return the medians, with their quartiles."""
    rows = []
    for name, found in costs.items():
        low, middle, high = statistics.quantiles([cost.fixed for cost in found], n=4)
        cpu, steps, whole = (
            statistics.median(getattr(cost, part) for cost in found)
            for part in ("fixed_cpu", "step_seconds", "seconds")
        )
        shown = f"{cpu:.3f}" if cpu > 0 else "-"
        rows.append(
            [
                NAMES[name],
                f"{middle:.3f} ({low:.3f}-{high:.3f})",
                shown,
                f"{steps:.3f}",
                f"{whole:.3f}",
                str(len(found)),
            ]
        )
    return Table(title, ["contender", "fixed s (quartiles)", "fixed CPU s", "steps s", "whole s", "trials"], rows)


def figures(models: Mapping[str, Path | None], rounds: int, trials: int, seconds: float) -> Figures:
    """Measure all contenders on several models.

    Args:
        models: Folders by what they are called, None for the quickstart's own.
        rounds: Turns of each contender at most.
        trials: Trials per turn.
        seconds: Budget.
    """
    goals, tables, raw = [], [], {}
    for name, model in models.items():
        costs = measure(rounds, trials, model=model, names=tuple(NAMES), seconds=seconds / len(models))
        tables.append(table(name, costs))
        for other, wanted in (("stock", 4.0), ("ray", 20.0), ("ray-warm", 20.0)):
            found = Spread(*(1 / ratio(costs, other),) * 3, 1)
            goals.append(Goal("M4", f"fixed cost per trial ({name})", NAMES[other], wanted, "x", True, found))
        raw[name] = {key: [dataclasses.asdict(cost) for cost in found] for key, found in costs.items()}
    method = " ".join((__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].split())
    return Figures("Fixed cost per trial", method, goals, tables, raw=raw)


def main() -> None:
    """Measure and print; with ``--contender``, be one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6, help="turns of each contender")
    parser.add_argument("--trials", type=int, default=4, help="trials per turn")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps per trial")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each contender")
    parser.add_argument("--model", type=Path, help="a model's folder instead of the quickstart's own")
    parser.add_argument("--ray", action="store_true", help="with Ray, which takes minutes")
    parser.add_argument("--contender", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contender == "finesweep":
        run_finesweep(asked.folder)
    elif asked.contender in ("ray", "ray-warm"):
        run_ray(asked.folder, asked.steps, warm=asked.contender == "ray-warm")
    elif asked.contender:
        run_stock(asked.folder, asked.steps, saves=asked.contender == "stock")
    else:
        names = tuple(NAMES) if asked.ray else QUICK
        costs = measure(asked.rounds, asked.trials, asked.steps, asked.threads, asked.model, names)
        print(as_text(table("fixed cost per trial", costs)))  # noqa: T201


if __name__ == "__main__":
    main()
