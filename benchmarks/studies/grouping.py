"""Measures what batches of rows of one length save, and that they cost no quality.

    python -m benchmarks.studies.grouping
    python -m benchmarks.studies.grouping --data my.csv --text-column text --label-column label --model path/to/model

Trials in pairs: the same seed, parameters, rows and model, once with the rows grouped by length (the default) and once
shuffled (``train_sampling_strategy: random``). The two take turns in which is first. Printed are the share
of the tokens given to the model that are padding, real tokens per second of CPU time and of wall clock in training,
and the objective's mean difference over the pairs with its 95 % confidence interval: on par if zero lies in it. The
objective is one that is minimised.

Without ``--data`` it trains the quickstart's small model on the quickstart's rows, which were made from a few patterns
of typical lengths and so are a hard case for grouping.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEC = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
STRATEGIES = ("random", "group_by_length")
PARAMS: Mapping[str, Any] = {"learning_rate": 2e-3, "num_train_epochs": 4, "per_device_train_batch_size": 32}

QUANTILES = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 11: 2.20, 15: 2.13}
"""Student's t for two-sided 95 %, by degrees of freedom; for those between, the one below, which is wider."""


@dataclass(frozen=True)
class Training:
    """What one trial's training came to.

    Attributes:
        objective: The best evaluation's.
        real: Tokens of the rows that it was trained on.
        given: Tokens that the model was given for them, padding included.
        seconds: Wall clock of training and its evaluations.
        cpu: CPU seconds of the same.
    """

    objective: float
    real: int
    given: int
    seconds: float
    cpu: float

    @property
    def padding(self) -> float:
        """The share of the given tokens that is padding."""
        return 1 - self.real / self.given


def settings_of(asked: argparse.Namespace) -> list[str]:
    """Return what is changed in the quickstart's spec."""
    changes = ["search.pruner=none", "patience=none", "evaluation.per_epoch=1"]
    if asked.data is not None:
        columns = f"text: {asked.text_column}, label: {asked.label_column}"
        changes.append(f"data={{train: '{asked.data.resolve()}', {columns}, max_length: {asked.max_length}}}")
    if asked.model:
        changes.append(f"model={asked.model}")
    return changes


def prepare(folder: Path, changes: Sequence[str]) -> Any:
    """Make a sweep's folder with rows, tokens and model, and return what describes a trial of it."""
    import torch

    from finesweep.spec.trial_settings import TrialSettings
    from finesweep.sweep import prepare as preparing
    from finesweep.sweep.request import Request
    from finesweep.training.callback import TrialContext
    from finesweep.training.tokens import tokenized

    torch.set_num_threads(1)
    request = Request(SPEC, results=folder, overrides=tuple(changes))
    profile = preparing.profile_of(request)
    checked = preparing.check(request, profile)
    path = preparing.path_of(checked.loaded, request)
    sweep = preparing.open_folder(path, checked, request, profile, watched=False)
    length = TrialSettings.of(sweep.spec, {}, sweep.manifest.model.max_tokens).max_length
    tokenized(sweep.sweep_folder, sweep.manifest, length)
    return TrialContext(sweep.sweep_folder, sweep.manifest, sweep.spec, {})


def train(context: Any, seed: int, strategy: str, params: Mapping[str, Any]) -> Training:
    """Train one trial."""
    import dataclasses

    from finesweep.training.callback import TrialWatch
    from finesweep.training.fine_tuning import FineTuning

    search = context.spec.search.model_copy(update={"seed": seed})
    spec = context.spec.model_copy(update={"search": search})
    mine = dataclasses.replace(context, spec=spec, params={**params, "train_sampling_strategy": strategy})
    watch = TrialWatch(spec.direction)
    tokens = [0, 0]

    def count(model: Any, _: Any, inputs: Mapping[str, Any]) -> None:
        if model.training:
            tokens[0] += int(inputs["attention_mask"].sum())
            tokens[1] += inputs["attention_mask"].numel()

    with contextlib.redirect_stdout(io.StringIO()):
        tuning = FineTuning(mine, context.sweep_folder.path.parent / "scratch", watch, lambda *_: None, lambda _: None)
        tuning.trainer.model.register_forward_pre_hook(count, with_kwargs=True)
        began, cpu = time.perf_counter(), time.process_time()
        tuning.train()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert watch.result is not None
    assert watch.result.objective is not None
    return Training(watch.result.objective, tokens[0], tokens[1], seconds, cpu)


def measure(context: Any, seeds: int, params: Mapping[str, Any] = PARAMS) -> dict[str, list[Training]]:
    """Train each pair, after one trial that warms up and does not count."""
    train(context, 0, STRATEGIES[0], {**params, "num_train_epochs": 0.1})
    found: dict[str, list[Training]] = {strategy: [] for strategy in STRATEGIES}
    for seed in range(seeds):
        for strategy in STRATEGIES if seed % 2 else reversed(STRATEGIES):
            found[strategy].append(train(context, seed, strategy, params))
    return found


def difference(found: Mapping[str, Sequence[Training]]) -> tuple[float, float]:
    """Return how much higher the objective is with grouping, on average, and the half of its interval.

    Raises:
        ValueError: There are fewer than two pairs.
    """
    pairs = zip(*(found[strategy] for strategy in STRATEGIES), strict=True)
    gaps = [grouped.objective - shuffled.objective for shuffled, grouped in pairs]
    if len(gaps) < 2:
        raise ValueError("an interval needs two pairs at least")
    freedom = max(degrees for degrees in QUANTILES if degrees < len(gaps))
    return statistics.mean(gaps), QUANTILES[freedom] * statistics.stdev(gaps) / math.sqrt(len(gaps))


def report(found: Mapping[str, Sequence[Training]], metric: str) -> str:
    """Return what was measured as a table."""
    lines = [f"{'':16}{'padding':>9}{'tokens/CPU s':>14}{'tokens/s':>10}{metric:>12}{'(spread)':>10}"]
    for strategy, trainings in found.items():
        values = [training.objective for training in trainings]
        speed = (statistics.median(one.real / getattr(one, clock) for one in trainings) for clock in ("cpu", "seconds"))
        numbers = "{:14.0f}{:10.0f}".format(*speed)
        padding = f"{statistics.mean(one.padding for one in trainings):9.1%}"
        lines.append(f"{strategy:16}{padding}{numbers}{statistics.mean(values):12.4f}{statistics.stdev(values):10.4f}")
    mean, half = difference(found)
    verdict = "on par" if abs(mean) <= half else "better" if mean < 0 else "NOT on par"
    pairs = len(found[STRATEGIES[0]])
    lines.append(f"grouped minus shuffled, {pairs} pairs: {mean:+.4f} +- {half:.4f} (95 %): {verdict}")
    gain = statistics.median(
        grouped.real / grouped.cpu * shuffled.cpu / shuffled.real
        for shuffled, grouped in zip(*(found[strategy] for strategy in STRATEGIES), strict=True)
    )
    lines.append(f"real tokens per CPU second: {gain:.2f} times as many with grouping (median of the pairs)")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="CSV to train on; a fifth of it validates")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--max-length", type=int, default=128, help="tokens, with --data")
    parser.add_argument("--model", help="folder or id of a pretrained model")
    parser.add_argument("--seeds", type=int, default=8, help="pairs, at least 2")
    parser.add_argument("--epochs", type=float, default=PARAMS["num_train_epochs"])
    parser.add_argument("--batch", type=int, default=PARAMS["per_device_train_batch_size"])
    parser.add_argument("--learning-rate", type=float, default=PARAMS["learning_rate"])
    asked = parser.parse_args()
    if asked.seeds < 2:
        parser.error("--seeds: an interval needs two pairs at least")
    params = dict(zip(PARAMS, (asked.learning_rate, asked.epochs, asked.batch), strict=True))
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="grouping-") as scratch:
        context = prepare(Path(scratch), settings_of(asked))
        found = measure(context, asked.seeds, params)
    print(report(found, context.spec.objective.metric))  # noqa: T201
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after")  # noqa: T201


if __name__ == "__main__":
    main()
