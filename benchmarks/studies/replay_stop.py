"""Replays sweeps that end when little is expected of the rest: how many end, what that saves, and what it costs.

    python -m benchmarks.studies.replay_stop --table pretrained --sweeps 100
    python -m benchmarks.studies.replay_stop --table amazon tweets --trials 20 30 --workers 4
    python -m benchmarks.studies.replay_stop --table amazon tweets --one-seed --row-noise 0.015

A sweep is replayed as in ``replay_search``, with known good configurations, ``gp`` and ``halving``. By default each
trial has a seed of its own; with ``--one-seed`` all trials of a sweep share one, as in a real sweep. Whenever a trial
has ended or waits, ``finesweep.pruning.prospects`` is asked. The report compares the trial that is chosen at the first
poor prospects with the one that is chosen after the whole budget, by the surface's value: that is what other seeds
reach on average.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import optuna
from benchmarks.curves.recorded import find_table, is_held_out
from benchmarks.studies.replay_rules import carry_out
from benchmarks.studies.replay_search import RUNGS, TABLES, Drawn, Halved, OneSeed, Point, World, planned

from finesweep.pruning.prospects import Prospects, prospects
from finesweep.trial import Direction, TrialRecord, TrialState

SEEDS = 2
"""Recorded seeds that sweeps with one seed take in turns."""

LOOK_AT = 12
"""Number of begun trials at which the expected gain is compared with the true one."""


@dataclass
class Moment:
    """What a sweep knows when a trial has ended or waits.

    Attributes:
        begun: Trials that have begun.
        examples: Examples trained so far.
        value: The surface's value of the trial that would be chosen, None without a complete one.
        found: What is expected of the rest.
    """

    begun: int
    examples: int
    value: float | None
    found: Prospects | None


@dataclass
class Watched(Halved):
    """Halving, with the prospects after each trial that ended or waits.

    Attributes:
        moments: What was known, in order.
        row_noise: What the validation rows tell of the seed noise, as a share of the best value; no table has rows.
    """

    moments: list[Moment] = field(default_factory=list)
    row_noise: float = 0.0
    records: dict[int, TrialRecord] = field(default_factory=dict)
    trained: dict[int, int] = field(default_factory=dict)

    def judge(self, trial: int, examples: int) -> bool:
        """Look, unless the trial continues."""
        goes_on = super().judge(trial, examples)
        self.trained[trial] = examples
        if not goes_on:
            self._look(trial, examples, TrialState.WAITING)
        return goes_on

    def complete(self, trial: int) -> None:
        """Look."""
        super().complete(trial)
        self.trained[trial] = self.curves[trial].examples
        self._look(trial, self.trained[trial], TrialState.COMPLETE)

    def _look(self, trial: int, examples: int, state: TrialState) -> None:
        drawn = self.curves
        assert isinstance(drawn, Drawn)
        curve, now = drawn.curves[trial], float(len(self.moments))
        seen = tuple(one for one in curve.evaluations if one.examples <= examples)
        objective = curve.best if state is TrialState.COMPLETE else None
        self.records[trial] = TrialRecord(
            trial, 1, state, drawn.params[trial], now, 0.0, "", "", objective=objective, evaluations=seen
        )
        records = list(self.records.values())
        complete = [(one.objective, one.trial) for one in records if one.objective is not None]
        noise, left = self.row_noise * min(complete)[0] if complete else 0.0, drawn.total - len(records)
        found = prospects(records, drawn.world.space, Direction.MINIMIZE, left, drawn.seed, noise)
        value = drawn.world.true(Point.of(drawn.params[min(complete)[1]])) if complete else None
        self.moments.append(Moment(len(records), sum(self.trained.values()), value, found))


@dataclass(frozen=True)
class Result:
    """One sweep.

    Attributes:
        at: Trials that had begun when it ended; None if it used its budget.
        saved: Share of the examples that were not trained.
        lost: How much worse the chosen trial is than at the end of the budget, in percent.
        expected: At ``LOOK_AT`` trials: the expected gain, the true gain, what seeds differ by, in percent, and the
            share of the trials that was predicted within one standard deviation; None if nothing was known then.
    """

    at: int | None
    saved: float
    lost: float
    expected: tuple[float, float, float, float] | None


def results(worlds: Sequence[World], sweeps: int, trials: int, workers: int, row_noise: float) -> Iterator[Result]:
    """Replay sweeps, in one world after the other."""
    first = planned(worlds[0], portfolio=True)
    for seed in range(sweeps):
        world = worlds[seed % len(worlds)]
        drawn = Drawn(world, "gp", first, seed, trials)
        rule = Watched(drawn, rungs=RUNGS, factor=world.factor, row_noise=row_noise)
        carry_out(rule, workers)
        yield _result(rule.moments)


def _result(moments: Sequence[Moment]) -> Result:
    end = moments[-1]
    assert end.value is not None
    hit = next((one for one in moments if one.found is not None and one.found.are_poor), None)
    look = next((one for one in moments if one.begun >= LOOK_AT and one.found is not None), None)
    expected = None
    if look is not None and look.found is not None and look.value is not None:
        percent = 100 / abs(look.found.best)
        true = look.value - end.value
        expected = (look.found.gain * percent, true * percent, look.found.seeds * percent, look.found.sure)
    if hit is None or hit.value is None:
        return Result(None, 0.0, 0.0, expected)
    return Result(hit.begun, 1 - hit.examples / end.examples, 100 * (hit.value / end.value - 1), expected)


def line(found: Sequence[Result], trials: int) -> str:
    """Return a table's line."""
    ends = [one.at for one in found if one.at is not None]
    lost = [one.lost for one in found]
    middle, wide = statistics.fmean(lost), 1.96 * statistics.stdev(lost) / math.sqrt(len(lost))
    means = [statistics.fmean(column) for column in zip(*(one.expected for one in found if one.expected), strict=True)]
    cells = [
        f"{trials}",
        f"{len(found)}",
        f"{100 * len(ends) / len(found):.0f}",
        f"{statistics.median(ends):.0f}" if ends else "-",
        f"{100 * statistics.fmean(one.saved for one in found):.0f}",
        f"{middle:+.2f} ({middle - wide:+.2f} to {middle + wide:+.2f})",
        *(f"{mean:.2f}" for mean in means),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=find_table, nargs="+", default=TABLES, help="recorded curves: names or paths")
    parser.add_argument("--sweeps", type=int, default=40, help="sweeps of each budget")
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 30], help="budgets")
    parser.add_argument("--workers", type=int, default=1, help="trials at a time")
    parser.add_argument("--one-seed", action="store_true", help="all trials of a sweep have one seed")
    parser.add_argument("--row-noise", type=float, default=0.0, help="seed noise by the rows, as a share of the best")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    head = ["trials", "sweeps", "ended, %", "at (median)", "examples saved, %", "worse, %"]
    head += ["expected gain at 12, %", "true, %", "seeds, %", "predicted"]
    for table in asked.table:
        print(f"\n{table.stem}{' (held out)' if is_held_out(table) else ''}\n")  # noqa: T201
        print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)  # noqa: T201
        worlds = [OneSeed(table, number) for number in range(SEEDS)] if asked.one_seed else [World(table)]
        for trials in asked.trials:
            found = list(results(worlds, asked.sweeps, trials, asked.workers, asked.row_noise))
            print(line(found, trials), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
