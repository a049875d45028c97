"""Replays sweeps that end when little is expected of the rest: how many end, what that saves, and what it costs.

    python -m benchmarks.studies.replay_stop --table pretrained --sweeps 100
    python -m benchmarks.studies.replay_stop --table amazon tweets --trials 20 30

A sweep is replayed as in ``replay_search``, with known good configurations, ``gp`` and ``halving``, one trial at a
time. Whenever a trial has ended or waits, ``finesweep.pruning.prospects`` is asked. The report compares the trial that
is chosen at the first poor prospects with the one that is chosen after the whole budget, by the surface's value: that
is what other seeds reach on average.
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
from benchmarks.studies.replay_search import RUNGS, TABLES, Drawn, Halved, Point, World, planned

from finesweep.pruning.prospects import Prospects, prospects
from finesweep.trial import Direction, TrialRecord, TrialState

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
    """

    moments: list[Moment] = field(default_factory=list)
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
        found = prospects(records, drawn.world.space, Direction.MINIMIZE, drawn.total - len(records), drawn.seed)
        complete = [(one.objective, one.trial) for one in records if one.objective is not None]
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


def results(world: World, sweeps: int, trials: int) -> Iterator[Result]:
    """Replay sweeps."""
    first = planned(world, portfolio=True)
    for seed in range(sweeps):
        rule = Watched(Drawn(world, "gp", first, seed, trials), rungs=RUNGS, factor=world.factor)
        carry_out(rule, 1)
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
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    head = ["trials", "sweeps", "ended, %", "at (median)", "examples saved, %", "worse, %"]
    head += ["expected gain at 12, %", "true, %", "seeds, %", "predicted"]
    for table in asked.table:
        print(f"\n{table.stem}{' (held out)' if is_held_out(table) else ''}\n")  # noqa: T201
        print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)  # noqa: T201
        world = World(table)
        for trials in asked.trials:
            print(line(list(results(world, asked.sweeps, trials)), trials), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
