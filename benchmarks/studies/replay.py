"""Replays pruners on recorded curves: what each saves, and what it loses.

    python -m benchmarks.studies.replay
    python -m benchmarks.studies.replay --trials 20 30 40 --workers 1 4 8
    python -m benchmarks.studies.replay --grid --match halving --orders 100
    python -m benchmarks.studies.replay --table pretrained

A table of ``curves/`` holds the full curves of many configurations, each trained with several seeds. A replayed sweep
draws trials from one seed's curves in a random order and lets a pruner see of them what it would have seen
(``replay_rules``). Averages over all orders of all seeds:

* ``cost``: examples trained, as a share of those without pruning; ``time``: wall clock likewise;
* ``done``: trials that completed, which alone rank;
* ``regret``: the winner's objective less that of the best trial drawn, in percent of it, with the same seed; then the
  smallest and the largest average of a seed, since the seeds differ more than the orders;
* ``elsewhere``: the winner's objective under the other seeds against that of the winner without pruning, in percent. A
  trial's own best is luck in part; this is the loss when the winner's parameters are used again;
* ``lost``: how often the best trial drawn did not complete; ``by mean``: the same of the trial whose parameters are the
  best on average over all seeds;
* ``2 done`` and so on: of the trials of two epochs, how many complete; ``2 lost``: how often the best trial drawn did
  not, where it is one of two epochs.

The last table says for each rung how well the values there order the trials (Kendall's tau between the best value so
far and the final one), and by how many places of a hundred trials of so many epochs stand too well there: positive
where a rung favours them.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from benchmarks.curves.recorded import Curve, find_table, is_held_out, read_curves
from benchmarks.studies.replay_rules import (
    Fewer,
    Halving,
    Median,
    Optuna,
    Outcome,
    RayAsha,
    Rule,
    Unpruned,
    carry_out,
    epochs_axis,
    examples_axis,
)
from scipy.stats import kendalltau

from finesweep.spec.sections import DataSpec, ObjectiveSpec, Patience, ScratchModelSpec, SweepSpec
from finesweep.trial import Direction

Making = Callable[[Sequence[Curve]], Rule]
"""Makes a pruner for the trials of one sweep."""

AUTO = "patience: auto"
"""Name of the rule by which trials end by themselves unless a spec says otherwise."""

FEW_RUNGS = ((0.5, 1, 2), (1, 2), (0.75, 1.5, 2.5))
RUNGS = (*FEW_RUNGS, (0.25, 0.5, 1), (0.5, 1), (0.75, 1.5), (1,), (1, 1.5, 2.5), (2,))
"""Rungs in epochs that are tried, and those of the grid."""

SHARES = ((0.25, 0.5), (0.25, 0.5, 0.75), (0.5, 0.75))
"""Rungs in shares of a trial's own length. Curves are known at each quarter of an epoch, so other shares are not."""


def rivals() -> dict[str, Making]:
    """Return what pruning of our own is held against, by name."""
    halving, hyperband = optuna.pruners.SuccessiveHalvingPruner, optuna.pruners.HyperbandPruner
    asha = partial(halving, min_resource=1, reduction_factor=2)
    return {
        "none": Unpruned,
        **{f"only {round(100 * share)} % of the trials": partial(Fewer, share=share) for share in (0.33, 0.5, 0.67)},
        "patience of 1 epoch": patient(Unpruned, 1),
        AUTO: patient(Unpruned),
        "Optuna median, at steps": Optuna,
        "Optuna median, at examples": partial(Optuna, axis=examples_axis),
        "Optuna halving, stops 1/2": partial(Optuna, pruner=asha, axis=epochs_axis),
        "Optuna hyperband": partial(
            Optuna, pruner=partial(hyperband, min_resource=1, max_resource=5), axis=epochs_axis
        ),
        "Ray ASHA, stops 1/2": partial(RayAsha, factor=2),
    }


def patient(
    make: Making, patience: Patience = "auto", rungs: Sequence[float] = (), *, own_length: bool = False
) -> Making:
    """Let trials complete, besides, that gain nothing any more.

    Args:
        make: Makes the pruner.
        patience: What ends them, see ``SweepSpec``.
        rungs: Where they are evaluated, besides at the end of each epoch, in epochs.
        own_length: Whether the rungs are shares of each trial's own length instead.
    """
    spec = SweepSpec(
        name="replayed",
        base=Path(),
        model=ScratchModelSpec(config="bert"),
        data=DataSpec(),
        objective=ObjectiveSpec(direction=Direction.MINIMIZE),
        space={},
        patience=patience,
    )

    def made(curves: Sequence[Curve]) -> Rule:
        epochs = [[rung * curve.epochs for rung in rungs] if own_length else rungs for curve in curves]
        return make([curve.cut(spec, at) for curve, at in zip(curves, epochs, strict=True)])

    return made


def ours(
    rungs: Sequence[Sequence[float]], *, fewest: Sequence[int], shapes: Sequence[tuple[int, int]]
) -> dict[str, partial[Any]]:
    """Return pruners of ours by name.

    Args:
        rungs: Epochs at which trials are compared.
        fewest: Others that the median wants.
        shapes: Factors and cohorts of halving.
    """
    found: dict[str, partial[Any]] = {}
    for at in rungs:
        named = ", ".join(f"{epochs:g}" for epochs in at)
        for few in fewest:
            found[f"median at {named}; {few} others"] = partial(Median, rungs=at, fewest=few)
        for factor, cohort in shapes:
            found[f"halving at {named}; 1/{factor} of {cohort}"] = partial(
                Halving, rungs=at, factor=factor, cohort=cohort
            )
    return found


@dataclass(frozen=True)
class Replayed:
    """One replayed sweep.

    Attributes:
        seed: Whose curves it drew.
        drawn: Configurations by trial.
        outcome: What became of them.
    """

    seed: int
    drawn: Sequence[int]
    outcome: Outcome


@dataclass(frozen=True)
class Measured:
    """What replayed sweeps of one pruner came to; shares are 0 to 1, regrets in percent."""

    cost: float
    time: float
    done: float
    regret: float
    regrets: Sequence[float]
    elsewhere: float
    lost: float
    lost_by_mean: float
    survive: Mapping[int, float]
    lost_by: Mapping[int, float]


class Truth:
    """Facts that follow from all curves and that no sweep knows.

    Attributes:
        curves: The curves of each seed, by configuration.
        mean: The best objective of each configuration, averaged over the seeds.
    """

    def __init__(self, curves: Mapping[int, Sequence[Curve]]) -> None:
        self.curves = curves
        count = len(next(iter(curves.values())))
        self.mean = [statistics.fmean(of[one].best for of in curves.values()) for one in range(count)]

    def elsewhere(self, configuration: int, seed: int) -> float:
        """Return the best objective of a configuration under the other seeds, on average."""
        return statistics.fmean(of[configuration].best for other, of in self.curves.items() if other != seed)

    def winner(self, sweep: Replayed) -> tuple[int, float]:
        """Return the configuration that a sweep ends with, and its objective."""
        of, drawn, reached = self.curves[sweep.seed], sweep.drawn, sweep.outcome.reached
        found = {trial: of[drawn[trial]].best_until(reached[trial]) for trial in sweep.outcome.complete}
        first = min(found, key=lambda trial: (found[trial], trial))
        return drawn[first], found[first]

    def best(self, sweep: Replayed) -> int:
        """Return the configuration that it should have ended with."""
        return min(sweep.drawn, key=lambda one: self.curves[sweep.seed][one].best)


def orders(curves: Mapping[int, Sequence[Curve]], trials: int, count: int) -> Iterator[tuple[int, list[int]]]:
    """Yield seeds with configurations drawn without replacement, the same ones each time."""
    for seed, of in curves.items():
        for number in range(count):
            yield seed, random.Random(f"{seed}:{trials}:{number}").sample(range(len(of)), trials)


def replay(
    curves: Mapping[int, Sequence[Curve]], make: Making, drawn: Sequence[tuple[int, list[int]]], workers: int
) -> list[Replayed]:
    """Replay a pruner in each order."""
    return [
        Replayed(seed, order, carry_out(make([curves[seed][one] for one in order]), workers)) for seed, order in drawn
    ]


def measured(truth: Truth, sweeps: Sequence[Replayed], unpruned: Sequence[Replayed]) -> Measured:
    """Sum up one pruner's sweeps, beside the same ones without pruning."""
    regrets, away, lost, by_mean = [], [], [], []
    for sweep in sweeps:
        of, best = truth.curves[sweep.seed], truth.best(sweep)
        winner, value = truth.winner(sweep)
        complete = {sweep.drawn[trial] for trial in sweep.outcome.complete}
        regrets.append((sweep.seed, 100 * (value / of[best].best - 1)))
        away.append(100 * (truth.elsewhere(winner, sweep.seed) / truth.elsewhere(best, sweep.seed) - 1))
        lost.append(best not in complete)
        by_mean.append(min(sweep.drawn, key=truth.mean.__getitem__) not in complete)
    return Measured(
        cost=_share(sweeps, unpruned, lambda outcome: sum(outcome.reached)),
        time=_share(sweeps, unpruned, lambda outcome: outcome.seconds),
        done=statistics.fmean(len(sweep.outcome.complete) for sweep in sweeps),
        regret=statistics.fmean(regret for _, regret in regrets),
        regrets=[statistics.fmean(one for of, one in regrets if of == seed) for seed in truth.curves],
        elsewhere=statistics.fmean(away),
        lost=statistics.fmean(lost),
        lost_by_mean=statistics.fmean(by_mean),
        survive=_by_epochs(truth, sweeps, best=False),
        lost_by={epochs: 1 - kept for epochs, kept in _by_epochs(truth, sweeps, best=True).items()},
    )


def _share(sweeps: Sequence[Replayed], unpruned: Sequence[Replayed], amount: Callable[[Outcome], float]) -> float:
    pairs = zip(sweeps, unpruned, strict=True)
    return statistics.fmean(amount(one.outcome) / amount(all_of_it.outcome) for one, all_of_it in pairs)


def _by_epochs(truth: Truth, sweeps: Sequence[Replayed], *, best: bool) -> dict[int, float]:
    """Return how many of all trials complete, or how many of those that are the best, by epochs."""
    found: dict[int, list[bool]] = {}
    for sweep in sweeps:
        trials = [sweep.drawn.index(truth.best(sweep))] if best else range(len(sweep.drawn))
        for trial in trials:
            epochs = truth.curves[sweep.seed][sweep.drawn[trial]].epochs
            found.setdefault(epochs, []).append(trial in sweep.outcome.complete)
    return {epochs: statistics.fmean(found[epochs]) for epochs in sorted(found)}


def rung_table(curves: Mapping[int, Sequence[Curve]]) -> list[str]:
    """Say how far the values at a rung can be trusted, as lines of a table."""
    epochs = sorted({curve.epochs for of in curves.values() for curve in of})
    lines = ["| rung | tau, by seed | " + " | ".join(f"{count} epochs" for count in epochs) + " |"]
    lines.append("|---" * (2 + len(epochs)) + "|")
    for rung in (0.25, 0.5, 1, 1.5, 2):
        values = {seed: [one.best_until(int(rung * one.rows)) for one in of] for seed, of in curves.items()}
        lines.append(_rung_line(f"{rung:g}", curves, values, epochs))
    for share in (0.25, 0.5, 0.75):
        values = {seed: [one.best_until(int(share * one.examples)) for one in of] for seed, of in curves.items()}
        lines.append(_rung_line(f"{share:g} of its own length", curves, values, epochs))
    return lines


def _rung_line(
    name: str,
    curves: Mapping[int, Sequence[Curve]],
    values: Mapping[int, Sequence[float]],
    epochs: Sequence[int],
) -> str:
    final = {seed: [one.best for one in of] for seed, of in curves.items()}
    taus = ", ".join(f"{kendalltau(values[seed], final[seed])[0]:+.2f}" for seed in curves)
    favours = [_favours(of, values[seed], final[seed]) for seed, of in curves.items()]
    moved = (statistics.fmean(statistics.fmean(favour[count]) for favour in favours) for count in epochs)
    return f"| {name} | {taus} | " + " | ".join(f"{places:+.0f}" for places in moved) + " |"


def _favours(of: Sequence[Curve], there: Sequence[float], final: Sequence[float]) -> dict[int, list[float]]:
    """Return by how many places of a hundred each trial stands better there than in the end, by its epochs."""
    found: dict[int, list[float]] = {}
    for curve, now, end in zip(of, _places(there), _places(final), strict=True):
        found.setdefault(curve.epochs, []).append(100 * (end - now) / len(of))
    return found


def _places(values: Sequence[float]) -> list[int]:
    order = sorted(range(len(values)), key=values.__getitem__)
    return [order.index(one) for one in range(len(values))]


def line(name: str, found: Measured) -> str:
    """Return one pruner's line of the table."""
    ranged = f"{found.regret:.2f} ({min(found.regrets):.2f} to {max(found.regrets):.2f})"
    lost = f"{100 * found.lost:.0f} | {100 * found.lost_by_mean:.0f}"
    survive = " | ".join(f"{100 * share:.0f}" for share in found.survive.values())
    by = " | ".join(f"{100 * found.lost_by[epochs]:.0f}" if epochs in found.lost_by else "" for epochs in found.survive)
    return (
        f"| {name} | {found.cost:.2f} | {found.time:.2f} | {found.done:.1f} | {ranged} | {found.elsewhere:+.2f} "
        f"| {lost} | {survive} | {by} |"
    )


def arms(grid: bool) -> dict[str, Making]:
    """Return all that is replayed, by name.

    Args:
        grid: Whether many settings of our own pruners are wanted.
    """
    shapes = [(factor, cohort) for factor in (2, 3, 4) for cohort in (9, 27, 1_000)] if grid else [(3, 27), (2, 27)]
    pruners = ours(RUNGS if grid else FEW_RUNGS, fewest=(4, 8), shapes=shapes)
    by_length: dict[str, Making] = {}
    for shares in SHARES:
        at = ", ".join(f"{100 * share:g} %" for share in shares)
        for factor in (3, 2):
            name = f"halving at {at} of its own length; 1/{factor} of 27"
            make = partial(Halving, rungs=shares, own_length=True, factor=factor, cohort=27)
            by_length |= {name: make, f"{name}; {AUTO}": patient(make, rungs=shares, own_length=True)}
    default_rungs = {name: make for name, make in pruners.items() if " at 0.75" in name}
    both = {f"{name}; {AUTO}": patient(make, rungs=FEW_RUNGS[-1]) for name, make in default_rungs.items()}
    chance = {
        f"{name}; equals told apart": partial(make, tolerance=0.0)
        for name, make in default_rungs.items()
        if name.startswith("halving")
    }
    return rivals() | pruners | by_length | both | chance


def tables(asked: argparse.Namespace, curves: Mapping[int, Sequence[Curve]]) -> Iterator[str]:
    """Replay everything; yield the report's lines."""
    truth = Truth(curves)
    for trials in asked.trials:
        drawn = list(orders(curves, trials, asked.orders))
        for workers in asked.workers:
            unpruned = replay(curves, Unpruned, drawn, workers)
            yield f"\n{trials} trials, {workers} at a time, {len(drawn):,} orders\n"
            yield from heading(list(measured(truth, unpruned, unpruned).survive))
            for name, make in arms(asked.grid).items():
                if asked.match in name:
                    yield line(name, measured(truth, replay(curves, make, drawn, workers), unpruned))
    yield ""
    yield from rung_table(curves)


def title(table: Path) -> str:
    """Return the report's first line."""
    return f"{table.stem}: held out, so no rule may be tuned on these figures" if is_held_out(table) else table.stem


def heading(epochs: Sequence[int]) -> Iterator[str]:
    """Yield the first two lines of a table."""
    columns = ["pruner", "cost", "time", "done", "regret %", "elsewhere %", "lost %", "by mean %"]
    columns += [f"{count} {what}" for what in ("done", "lost") for count in epochs]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=find_table, default="curves", help="recorded curves, by name or path")
    parser.add_argument("--trials", type=int, nargs="+", default=[30], help="trials of a sweep")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="trials at a time")
    parser.add_argument("--orders", type=int, default=500, help="orders of each seed's trials")
    parser.add_argument("--grid", action="store_true", help="many settings of our own pruners")
    parser.add_argument("--match", default="", help="only pruners with this in their name")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(title(asked.table))  # noqa: T201
    for text in tables(asked, read_curves(asked.table)):
        print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
