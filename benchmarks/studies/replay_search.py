"""Replays searches on recorded curves: how near each comes to the lowest objective, after so many trials.

    python -m benchmarks.studies.replay_search
    python -m benchmarks.studies.replay_search --table pretrained --sweeps 40 --only gp tpe

A search proposes parameters that no table has. So a table's values are made continuous: a smooth surface (a thin-plate
spline over the logarithm of the learning rate, the epochs and the logarithm of the batch size) is laid through the mean
of all seeds, one at each rung and one at the end. Its smoothing is the one that predicts left-out configurations best.
A replayed trial has the values of the surfaces at its parameters, and beside them what one recorded trial differs from
them at these places: that is what a seed and the surface's faults make. ``halving`` prunes as it does in a sweep.

The report says by how many percent the trial that a sweep would choose is above the lowest point of the surface. It is
the surface's value that counts, which no sweep knows, and not the value that the sweep has seen: a seed's luck is not
repeated.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import random
import statistics
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from benchmarks.curves.recorded import FOLDER, HELD_OUT, Curve, find_table, is_held_out, read_curves
from benchmarks.studies.replay_rules import Halving, Rule, Unpruned, carry_out
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.interpolate import RBFInterpolator

from finesweep.backends.optuna.drawing import distribution_of, suggest
from finesweep.backends.optuna.proposals import trial_seed
from finesweep.backends.optuna.samplers import made
from finesweep.backends.optuna.study import TrialStorage
from finesweep.spec import AUTO, DataSpec, ModelSpec, Parameter, SearchSpace, SweepSpec
from finesweep.spec.planned_trials import planned_trials
from finesweep.spec.sections import FACTOR, PRETRAINED_FACTOR, SearchSpec
from finesweep.trial import Evaluation, Params

TABLES = sorted(FOLDER.glob("*.csv"))
"""The tables of recorded curves."""

RUNGS = (0.75, 1.5, 2.5)
"""Epochs at which trials are compared, as in a sweep."""

MARKS = (8, 12, 16, 20)
"""Numbers of trials after which is reported."""

RATE, EPOCHS, BATCH = "learning_rate", "num_train_epochs", "per_device_train_batch_size"

PRETRAINED = frozenset({"pretrained", *HELD_OUT})
"""Tables whose model is pretrained."""

RATES = {"quickstart": (1e-4, 3e-3), **dict.fromkeys(HELD_OUT, (6e-5, 6e-4))}
"""Lowest and highest learning rate that was recorded, where it is not 1e-4 and 5e-4."""

WIDTHS = dict.fromkeys(HELD_OUT, 128)
"""Width of the recorded model, where it is not 64."""

END = math.inf
"""The rung behind all others: the end of a trial."""

SMOOTHINGS = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Point:
    """A configuration.

    Attributes:
        rate: Learning rate.
        epochs: Epochs.
        batch: Batch size.
    """

    rate: float
    epochs: int
    batch: int

    @classmethod
    def of(cls, params: Params) -> Point:
        """Return the point with these parameters."""
        return cls(*(typing.cast("Any", params[name]) for name in (RATE, EPOCHS, BATCH)))

    @property
    def params(self) -> Params:
        """Its parameters by name."""
        return {RATE: self.rate, EPOCHS: self.epochs, BATCH: self.batch}


@dataclass(frozen=True)
class Recorded:
    """One recorded trial: its configuration, its seed, and its value at each rung and at its end."""

    point: Point
    seed: int
    values: Mapping[float, float]


class World:
    """A table made continuous.

    Attributes:
        name: The table's name.
        space: Its search space.
        rows: Training rows.
        batches: Batch sizes.
        low: Lowest learning rate.
        high: Highest learning rate.
        factor: Reduction factor of ``halving``.
        lowest: The lowest point of the surface of final values.
    """

    def __init__(self, table: Path) -> None:
        self._recorded = list(_recorded(table))
        self.name = table.stem
        self.factor = PRETRAINED_FACTOR if self.name in PRETRAINED else FACTOR
        self.rows = next(iter(read_curves(table).values()))[0].rows
        self.batches = sorted({one.point.batch for one in self._recorded})
        self.low, self.high = RATES.get(self.name, (1e-4, 5e-4))
        self.space = SearchSpace(
            {
                RATE: Parameter(low=self.low, high=self.high, log=True),
                EPOCHS: Parameter(low=2, high=5),
                BATCH: Parameter(choices=tuple(self.batches)),
            }
        )
        self._surfaces = self._surfaces_of(self._recorded)
        rates = np.geomspace(self.low, self.high, 60).tolist()
        points = itertools.product(rates, range(2, 6), self.batches)
        self.lowest = min(self.true(Point(*point)) for point in points)

    def true(self, point: Point, at: float = END) -> float:
        """Return the value of a surface at a configuration."""
        return math.exp(float(self._surfaces[at](self._places([point]))[0]))

    def trained(self, point: Point, source: random.Random) -> Curve:
        """Return what is seen of a trial: the surfaces' values, with what a recorded trial differs from them."""
        # A trial of two epochs has no third rung to differ at.
        like = source.choice([one for one in self._recorded if one.point.epochs >= min(point.epochs, 3)])
        return self._curve(point, lambda at: self.true(point, at) * like.values[at] / self.true(like.point, at))

    def _curve(self, point: Point, value: Callable[[float], float]) -> Curve:
        """Return a curve with an evaluation at each rung and at the end."""
        ends = {at: int(at * self.rows) for at in RUNGS if at < point.epochs} | {END: point.epochs * self.rows}
        evaluations = tuple(
            Evaluation(examples // point.batch, examples / self.rows, examples, {}, value(at))
            for at, examples in ends.items()
        )
        return Curve(0, 0, point.epochs, self.rows, point.batch, float(ends[END]), evaluations)

    def _surfaces_of(self, recorded: Sequence[Recorded]) -> Mapping[float, RBFInterpolator]:
        return {at: self._surface(at, recorded) for at in (*RUNGS, END)}

    def _surface(self, at: float, recorded: Sequence[Recorded]) -> RBFInterpolator:
        """Lay a surface through the logarithms of the mean values at a rung or at the end."""
        means: dict[Point, list[float]] = {}
        for one in recorded:
            if at in one.values:
                means.setdefault(one.point, []).append(math.log(one.values[at]))
        places, heights = self._places(list(means)), np.array([statistics.fmean(found) for found in means.values()])
        best = min(SMOOTHINGS, key=lambda smoothing: _left_out(places, heights, smoothing))
        return RBFInterpolator(places, heights, smoothing=best, kernel="thin_plate_spline")

    def _places(self, points: Sequence[Point]) -> np.ndarray:
        width = math.log(self.high / self.low)
        rows = [
            [math.log(one.rate / self.low) / width, (one.epochs - 2) / 3, math.log2(one.batch / 8) / 3]
            for one in points
        ]
        return np.array(rows)


class OneSeed(World):
    """A table whose trials all have one seed, as in a real sweep: what is seen lies on the surface of this seed alone.

    The truth is still the surface of the means over all seeds.
    """

    def __init__(self, table: Path, number: int) -> None:
        super().__init__(table)
        seeds = sorted({one.seed for one in self._recorded})
        seed = seeds[number % len(seeds)]
        self._seen = self._surfaces_of([one for one in self._recorded if one.seed == seed])

    def trained(self, point: Point, source: random.Random) -> Curve:
        """Return the values of the seed's surface."""
        place = self._places([point])
        return self._curve(point, lambda at: math.exp(float(self._seen[at](place)[0])))


def _left_out(places: np.ndarray, heights: np.ndarray, smoothing: float) -> float:
    """Return the mean squared error at configurations that the surface was not laid through."""
    errors = []
    for fold in range(8):
        out = np.arange(len(heights)) % 8 == fold
        surface = RBFInterpolator(places[~out], heights[~out], smoothing=smoothing, kernel="thin_plate_spline")
        errors += list((surface(places[out]) - heights[out]) ** 2)
    return statistics.fmean(errors)


def _recorded(table: Path) -> Iterator[Recorded]:
    with table.open(encoding="utf-8", newline="") as file:
        rates = {int(row["configuration"]): float(row["learning_rate"]) for row in csv.DictReader(file)}
    for curve in itertools.chain.from_iterable(read_curves(table).values()):
        values = {at: curve.best_until(int(at * curve.rows)) for at in RUNGS if at <= curve.epochs}
        point = Point(rates[curve.configuration], curve.epochs, curve.batch)
        yield Recorded(point, curve.seed, values | {END: curve.best})


@dataclass
class Drawn(Sequence[Curve]):
    """The trials of one sweep, each drawn when it begins.

    Attributes:
        world: What trials reach.
        sampler: Name of the sampler, or ``stock gp``.
        planned: First trials.
        seed: The sweep's seed.
        total: Number of trials.
        reached: Examples seen of each begun trial, and whether it has completed; a trial that runs is absent.
    """

    world: World
    sampler: str
    planned: Sequence[Params]
    seed: int
    total: int
    params: list[Params] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    reached: dict[int, tuple[int, bool]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, trial: int) -> Curve:  # type: ignore[override]
        while len(self.curves) <= trial:
            self.params.append(self._proposed(len(self.curves)))
            noise = random.Random(f"{self.seed}:{len(self.curves)}")
            self.curves.append(self.world.trained(Point.of(self.params[-1]), noise))
        return self.curves[trial]

    def _proposed(self, trial: int) -> Params:
        if trial < len(self.planned):
            return self.planned[trial]
        seed = trial_seed(self.seed, trial)
        sampler = optuna.samplers.GPSampler(seed=seed) if self.sampler == "stock gp" else made(self.sampler, seed)
        others = [self._told(number) for number in range(trial)]
        study = optuna.create_study(storage=TrialStorage(trial, others), sampler=sampler)
        return suggest(study.ask(), self.world.space)

    def _told(self, trial: int) -> FrozenTrial:
        examples, complete = self.reached.get(trial, (0, False))
        curve, params = self.curves[trial], dict(self.params[trial])
        seen = {one.examples: curve.best_until(one.examples) for one in curve.evaluations if one.examples <= examples}
        state = TrialState.COMPLETE if complete else TrialState.PRUNED if seen else TrialState.RUNNING
        made_trial = create_trial(
            state=state,
            value=curve.best_until(examples) if seen else None,
            params=params,
            distributions={name: distribution_of(one) for name, one in self.world.space.parameters.items()},
            intermediate_values=seen,
        )
        made_trial.number = trial
        return made_trial

    def chosen(self, trials: int) -> float:
        """Return how far the best complete one of the first trials is above the lowest point, in percent."""
        complete = [trial for trial, (_, done) in self.reached.items() if done and trial < trials]
        best = min(complete, key=lambda trial: (self.curves[trial].best, trial))
        return 100 * (self.world.true(Point.of(self.params[best])) / self.world.lowest - 1)


class Whole(Unpruned):
    """Every trial is finished, and told."""

    def complete(self, trial: int) -> None:
        """Tell the search."""
        _tell(self, trial, self.curves[trial].examples, done=True)


class Halved(Halving):
    """Halving, of which the search is told."""

    def judge(self, trial: int, examples: int) -> bool:
        """Tell the search, unless the trial continues."""
        goes_on = super().judge(trial, examples)
        if not goes_on:
            _tell(self, trial, examples, done=False)
        return goes_on

    def complete(self, trial: int) -> None:
        """Tell the search."""
        super().complete(trial)
        _tell(self, trial, self.curves[trial].examples, done=True)


def _tell(rule: Rule, trial: int, examples: int, *, done: bool) -> None:
    assert isinstance(rule.curves, Drawn)
    rule.curves.reached[trial] = examples, done


@dataclass(frozen=True)
class Arm:
    """A search: its sampler, and whether it begins with the portfolio."""

    sampler: str
    portfolio: bool = False


ARMS = {
    "random": Arm("random"),
    "tpe": Arm("tpe"),
    "gp": Arm("gp"),
    "stock gp": Arm("stock gp"),
    "portfolio, tpe": Arm("tpe", portfolio=True),
    "portfolio, gp": Arm("gp", portfolio=True),
}


def planned(world: World, *, portfolio: bool) -> list[Params]:
    """Return the untuned default, and the portfolio after it."""
    spec = SweepSpec(
        name="replayed",
        base=Path(),
        model=ModelSpec(name="recorded"),
        data=DataSpec(),
        search=SearchSpec(sampler="gp"),
        start=AUTO if portfolio else (),
        space=world.space.parameters,
    )
    return planned_trials(spec, {}, 64, width=WIDTHS.get(world.name, 64))


def sweeps(world: World, arm: Arm, count: int, trials: int, *, halving: bool) -> Iterator[tuple[Drawn, int]]:
    """Replay sweeps; yield each with the examples that it trained."""
    first = planned(world, portfolio=arm.portfolio)
    for seed in range(count):
        drawn = Drawn(world, arm.sampler, first, seed, trials)
        rule = Halved(drawn, rungs=RUNGS, factor=world.factor) if halving else Whole(drawn)
        yield drawn, sum(carry_out(rule, 1).reached)


def lines(world: World, asked: argparse.Namespace) -> Iterator[str]:
    """Yield a table's lines."""
    marks = MARKS[-1:] if asked.halving else MARKS
    yield f"| search | {' | '.join(f'after {mark}, %' for mark in marks)} | examples |"
    yield "|---" * (len(marks) + 2) + "|"
    for name in asked.only:
        arm = ARMS[name]
        found = list(sweeps(world, arm, asked.sweeps, MARKS[-1], halving=asked.halving))
        cells = []
        for mark in marks:
            above = [drawn.chosen(mark) for drawn, _ in found]
            error = statistics.stdev(above) / math.sqrt(len(above))
            cells.append(f"{statistics.fmean(above):.2f} ± {error:.2f}")
        yield f"| {name} | {' | '.join(cells)} | {statistics.fmean(examples for _, examples in found):,.0f} |"


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=find_table, nargs="+", default=TABLES, help="recorded curves: names or paths")
    parser.add_argument("--sweeps", type=int, default=40, help="sweeps of each search")
    parser.add_argument("--halving", action="store_true", help="prune by halving; without, every trial is finished")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS), help="only these searches")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for table in asked.table:
        print(f"\n{table.stem}{' (held out)' if is_held_out(table) else ''}\n", flush=True)  # noqa: T201
        for text in lines(World(table), asked):
            print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
