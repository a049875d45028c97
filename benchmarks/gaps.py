"""Computes how far shown values are from the truth, over many sweeps; what ``confirmed_gap`` has measured.

A gap is a value on validation rows minus the loss on fresh rows: below 0 if the value looked too good.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

RESAMPLES = 10_000

Numbers = np.ndarray
Part = Literal["shown", "fresh", "gap"]


@dataclass(frozen=True)
class Model:
    """One trained model.

    Attributes:
        trial: Number of the trial in the search whose parameters it has.
        shown: Its eval_loss on the validation rows.
        fresh: Its loss on the fresh rows.
    """

    trial: int
    shown: float
    fresh: float

    @property
    def gap(self) -> float:
        """Its value on the validation rows minus that on the fresh rows."""
        return self.shown - self.fresh


@dataclass(frozen=True)
class Sweep:
    """One sweep, and the losses of its models on fresh rows.

    Attributes:
        draw: Number of the draw of rows.
        rows: Number of fresh rows.
        search: The models of the search that rank, best first.
        again: The same parameters, each trained with fresh seeds of the confirmation, in the order of the seeds.
        tied: Trials of the tie set.
        winner: The confirmed trial.
        confirmed: Its mean, as the leaderboard shows it.
        exported: The exported model.
    """

    draw: int
    rows: int
    search: Sequence[Model]
    again: Sequence[Model]
    tied: Sequence[int]
    winner: int
    confirmed: float
    exported: Model

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Sweep:
        """Return what ``to_json`` has written."""
        models = {name: [Model(**one) for one in read[name]] for name in ("search", "again")}
        return cls(**{**read, **models, "exported": Model(**read["exported"])})

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)

    @property
    def stock(self) -> Model:
        """The best model of the search."""
        return self.search[0]

    @property
    def chosen(self) -> float:
        """The value of the search by which the confirmed trial was chosen."""
        return next(one.shown for one in self.search if one.trial == self.winner)

    def seeds(self, trial: int) -> list[Model]:
        """Return a trial's models of the fresh seeds."""
        return [one for one in self.again if one.trial == trial]

    def mean(self, trial: int, part: Part) -> float:
        """Return a mean over a trial's fresh seeds."""
        return statistics.fmean(getattr(one, part) for one in self.seeds(trial))

    @property
    def confirmed_gap(self) -> float:
        """The confirmed mean minus the mean loss of its seeds on fresh rows."""
        return self.confirmed - self.mean(self.winner, "fresh")

    @property
    def common(self) -> float:
        """The mean gap of all trials on fresh seeds: what no choice of a trial or of a seed has caused."""
        return statistics.fmean(self.mean(one.trial, "gap") for one in self.search)

    def best(self, part: Part) -> int:
        """Return the trial with the lowest mean over the fresh seeds."""
        return min((one.trial for one in self.search), key=lambda trial: self.mean(trial, part))


@dataclass(frozen=True)
class Figure:
    """A number over all sweeps.

    Attributes:
        value: The number.
        low: Lower end of its 95 % interval, by a percentile bootstrap over sweeps.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, statistic: Callable[[Numbers], Numbers], *values: Sequence[float]) -> Figure:
        """Compute it.

        Args:
            statistic: Takes an array of (lists, ..., sweeps) and returns one of (...).
            values: One or more lists of a number for each sweep.
        """
        every = np.array(values)
        picked = np.random.default_rng(0).integers(every.shape[1], size=(RESAMPLES, every.shape[1]))
        low, high = np.percentile(statistic(every[:, picked]), [2.5, 97.5])
        return cls(float(statistic(every)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.value:.4f} | {self.low:.4f} to {self.high:.4f}"


def mean(lists: Numbers) -> Numbers:
    """Return the mean of the first list."""
    return np.asarray(lists[0].mean(axis=-1))


def size(lists: Numbers) -> Numbers:
    """Return the mean of the first list without the signs of its numbers."""
    return np.asarray(np.abs(lists[0]).mean(axis=-1))


def ratio(lists: Numbers) -> Numbers:
    """Return the first list's mean by that of the second one, without its sign."""
    return np.asarray(np.abs(lists[0].mean(axis=-1) / lists[1].mean(axis=-1)))


def ratio_of_sizes(lists: Numbers) -> Numbers:
    """Return the first list's mean by that of the second one, both without the signs of their numbers."""
    return np.asarray(np.abs(lists[0]).mean(axis=-1) / np.abs(lists[1]).mean(axis=-1))


def figures(sweeps: Sequence[Sweep]) -> dict[str, Figure]:
    """Return all figures by name."""
    stock, confirmed = [one.stock.gap for one in sweeps], [one.confirmed_gap for one in sweeps]
    common = [one.common for one in sweeps]
    of_stock = [gap - part for gap, part in zip(stock, common, strict=True)]
    of_confirmed = [gap - part for gap, part in zip(confirmed, common, strict=True)]
    same_trial = [one.mean(one.stock.trial, "gap") for one in sweeps]
    return {
        "gap of stock": Figure.of(mean, stock),
        "gap of confirmed": Figure.of(mean, confirmed),
        "gap of the confirmed mean to the exported model": Figure.of(
            mean, [one.confirmed - one.exported.fresh for one in sweeps]
        ),
        "size of the gap of stock": Figure.of(size, stock),
        "size of the gap of confirmed": Figure.of(size, confirmed),
        "confirmed / stock: mean gaps": Figure.of(ratio, confirmed, stock),
        "confirmed / stock: sizes": Figure.of(ratio_of_sizes, confirmed, stock),
        "both: rows and epochs": Figure.of(mean, common),
        "both: rows and epochs, size": Figure.of(size, common),
        "stock: choice of trial and seed": Figure.of(mean, of_stock),
        "stock: of it, trial": Figure.of(mean, [one - part for one, part in zip(same_trial, common, strict=True)]),
        "stock: of it, seed": Figure.of(mean, [gap - one for gap, one in zip(stock, same_trial, strict=True)]),
        "confirmed: choice of trial": Figure.of(mean, of_confirmed),
        "confirmed / stock: choice": Figure.of(ratio, of_confirmed, of_stock),
        "optimism as shown": Figure.of(mean, [one.confirmed - one.chosen for one in sweeps]),
        "optimism in truth": Figure.of(mean, [one.mean(one.winner, "fresh") - one.chosen for one in sweeps]),
        "loss of stock on fresh rows": Figure.of(mean, [one.stock.fresh for one in sweeps]),
        "loss of the exported model on fresh rows": Figure.of(mean, [one.exported.fresh for one in sweeps]),
    }


def counts(sweeps: Sequence[Sweep]) -> dict[str, int]:
    """Return in how many sweeps tie set, confirmation and search hold the trial with the lowest mean over seeds."""
    found = {}
    parts: tuple[tuple[Part, str], ...] = (("shown", "validation rows"), ("fresh", "fresh rows"))
    for part, rows in parts:
        found[f"tie set holds the best over seeds, {rows}"] = sum(one.best(part) in one.tied for one in sweeps)
        found[f"confirmed trial is that, {rows}"] = sum(one.best(part) == one.winner for one in sweeps)
        found[f"first of the search is that, {rows}"] = sum(one.best(part) == one.stock.trial for one in sweeps)
    return found


def lines(sweeps: Sequence[Sweep]) -> Iterable[str]:
    """Yield tables in Markdown: a row for each sweep, the figures, the counts."""
    names = ("draw", "stock", "fresh", "gap", "confirmed", "seeds", "fresh", "gap", "exported, fresh", "tied", "ranked")
    yield from _head(names)
    for one in sweeps:
        cells = (one.draw, one.stock.shown, one.stock.fresh, one.stock.gap, one.confirmed, len(one.seeds(one.winner)))
        more = (one.mean(one.winner, "fresh"), one.confirmed_gap, one.exported.fresh, len(one.tied), len(one.search))
        yield f"| {' | '.join(f'{cell:.4f}' if isinstance(cell, float) else str(cell) for cell in (*cells, *more))} |"
    yield ""
    yield from _head((f"over {len(sweeps)} sweeps", "", "95 % over sweeps"))
    yield from (f"| {name} | {figure} |" for name, figure in figures(sweeps).items())
    yield ""
    yield from _head(("in how many sweeps", f"of {len(sweeps)}"))
    yield from (f"| {name} | {count} |" for name, count in counts(sweeps).items())


def _head(names: Sequence[str]) -> Iterable[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
