"""Reads the tables of recorded curves: the evaluations of each configuration, trained to its end."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finesweep.pruning.early_stopping import out_of_patience
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation

FOLDER = Path(__file__).parent

HELD_OUT = frozenset({"amazon", "tweets"})
"""Names of tables that are held out: rules are judged on them, and no rule is ever tuned on them."""


def find_table(asked: str) -> Path:
    """Return the file of a table.

    Args:
        asked: The name of a recorded table, such as ``pretrained``, or the path of any other.

    Raises:
        ValueError: There is neither.
    """
    for path in (FOLDER / f"{asked}.csv", Path(asked)):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.csv")))
    raise ValueError(f"no table {asked}; name a file or one of {names}")


def is_held_out(table: Path) -> bool:
    """Return whether a table is one that no rule is tuned on."""
    return table.resolve().parent == FOLDER.resolve() and table.stem in HELD_OUT


@dataclass(frozen=True)
class Curve:
    """One configuration trained with one seed.

    Attributes:
        configuration: Its number in the table.
        seed: The seed.
        epochs: Passes over the rows that were planned.
        rows: Training rows.
        batch: Rows per step.
        seconds: Wall clock of the whole trial.
        evaluations: What was seen of it, in order.
    """

    configuration: int
    seed: int
    epochs: int
    rows: int
    batch: int
    seconds: float
    evaluations: tuple[Evaluation, ...]

    @cached_property
    def best(self) -> float:
        """Its best objective."""
        return self.best_until(self.examples)

    def best_until(self, examples: int) -> float:
        """Return its best objective so far, infinite before the first evaluation."""
        seen = (one.objective for one in self.evaluations if one.examples <= examples and one.objective is not None)
        return min(seen, default=math.inf)

    def at(self, examples: int) -> Evaluation:
        """Return the evaluation at this many examples."""
        return next(one for one in self.evaluations if one.examples == examples)

    @property
    def examples(self) -> int:
        """Examples of the whole trial."""
        return self.evaluations[-1].examples

    @property
    def epoch_ends(self) -> Sequence[int]:
        """Examples at the end of each epoch."""
        return range(self.rows, self.examples + 1, self.rows)

    def cut(self, spec: SweepSpec, rungs: Sequence[float] = ()) -> Curve:
        """Return what is left of it where trials end by a spec's patience, evaluated each epoch and at rungs."""
        seen = sorted({*self.epoch_ends, *(int(rung * self.rows) for rung in rungs if rung < self.epochs)})
        best = self.at(seen[0])
        for examples in seen[:-1]:
            latest = self.at(examples)
            if spec.direction.better(latest.objective or 0.0, best.objective):
                best = latest
            if out_of_patience(spec, self.rows, best, latest):
                before = tuple(one for one in self.evaluations if one.examples <= examples)
                return dataclasses.replace(self, evaluations=before, seconds=self.seconds * examples / self.examples)
        return self


def read_curves(table: Path) -> dict[int, list[Curve]]:
    """Read the table: the curves of each seed, by configuration."""
    found: dict[tuple[int, int], list[Mapping[str, str]]] = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[int(row["seed"]), int(row["configuration"])].append(row)
    curves: dict[int, list[Curve]] = defaultdict(list)
    for (seed, configuration), rows in sorted(found.items()):
        last = rows[-1]
        epochs, batch, seconds = int(last["epochs"]), int(last["batch"]), float(last["seconds"])
        in_epoch = int(last["examples"]) // epochs
        evaluations = tuple(_evaluation(row, in_epoch, batch) for row in rows)
        curves[seed].append(Curve(configuration, seed, epochs, in_epoch, batch, seconds, evaluations))
    return dict(curves)


def _evaluation(row: Mapping[str, str], rows: int, batch: int) -> Evaluation:
    epoch = int(row["examples"]) / rows
    step = round(epoch * math.ceil(rows / batch))
    return Evaluation(step, epoch, int(row["examples"]), {}, float(row["eval_loss"]))
