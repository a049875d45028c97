"""Compares whole sweeps by what their winners are worth on other seeds (M1, M2), on a model that knows its language.

A sweep finds the best of some thirty trials of one seed, and part of what it finds is the luck of this seed. So each
arm's winner is trained again, by the arm itself, with seeds that no arm used, and evaluated by the same code. What S
ends with on these seeds, plus 1 %, is the target of the round, and the winners are compared in pairs on these seeds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arms import ARMS, OURS, Arm, Outcome, carry_out
from benchmarks.figures import Figures, Goal, Spread, Table, number, rounds, shown
from benchmarks.threads import fastest
from benchmarks.workload import Size, Source, Workload, make

SEEDS = 3
"""Other seeds that each winner is trained with."""

FIRST_SEED = 1_000
"""The smallest of them; the arms use the numbers of the rounds."""

NEAR = 1.01
"""Times what S ended with on the other seeds: the target of a round."""

LEVEL = 0.95
"""Of the interval of the paired differences."""

LIMIT_SECONDS = 3 * 3_600.0
"""A sweep, or a training of its winner, is ended after this time."""

PEERS = ("S", "S+")
START, END = 5.0, 3.0
"""Seconds to the first step, and from the last one, that are the goal."""

MOST_LENGTH = 128
"""Tokens at most, where the model has room for them and nothing else was asked for."""

RATES, WIDTH = (1e-5, 5e-5), 768
"""Learning rates that are searched on a model of BERT-base's width; on others they go with the width's inverse."""

SMALL_WIDTH, ROWS, ROWS_OF_SMALL = 128, 1_000, 8_000
"""Training rows at most, and those on a model no wider than that: with 30 trials the stock search takes ten minutes."""

VALIDATION_ROWS, TRIALS = 872, 30

METHOD = (
    "Whole commands, from a CSV to a winner, in turns on the same rows, model, space and number of trials; each round "
    "has another seed. The winner of each arm is then trained again by the same arm, alone and without pruning, with "
    f"{SEEDS} seeds that no arm used; all models are evaluated by the same code on the validation rows. The target of "
    "a round is the mean of S's winner on these seeds, plus 1 %. The time to it counts from the start of the command "
    "to the first evaluation, on the arm's own seed, that is as good; where none is, the whole time is taken, as a "
    "lower bound for a peer. Differences are (finesweep - peer) / peer on the same other seeds: below 0 finesweep's "
    "winner is better. The winner is no worse if their interval holds 0 or lies below it. The interval is that of "
    "Student's t over the means of the rounds; of a single round over its seeds, which says nothing of other rounds. "
    "The first step is the beginning of the first trial's training, the last one the end of the last trial's."
)

Round = Mapping[str, "Result"]
"""What came of each arm, by its key."""


@dataclass(frozen=True)
class Result:
    """What came of one arm in one round.

    Attributes:
        outcome: Of its sweep.
        again: eval_loss of its winner with each of the other seeds; None where the training failed.
    """

    outcome: Outcome
    again: tuple[float | None, ...]

    @property
    def truth(self) -> float | None:
        """Mean eval_loss of its winner over the other seeds; None if one of them is missing."""
        known = [loss for loss in self.again if loss is not None]
        return statistics.mean(known) if known and len(known) == len(self.again) else None


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it.

    Attributes:
        mean: The mean.
        low: Lower end.
        high: Upper end.
        units: How many values it is over.
        of: What they are: ``rounds`` or ``seeds``.
    """

    mean: float
    low: float
    high: float
    units: int
    of: str

    @property
    def is_no_worse(self) -> bool:
        """Whether losses whose differences these are do not say that the first side is worse."""
        return self.low <= 0


def size_for(model: Path, max_length: int | None) -> Size:
    """Return the size of the sweeps on a pretrained model.

    Args:
        model: Its folder.
        max_length: Tokens at most; None for what is usual.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width = config.get("hidden_size") or config.get("dim") or WIDTH
    low, high = (float(f"{rate * WIDTH / width:.3g}") for rate in RATES)
    space = {
        "learning_rate": {"low": low, "high": high, "log": True},
        "num_train_epochs": {"low": 2, "high": 5},
        "per_device_train_batch_size": {"choices": [8, 16, 32]},
    }
    length = max_length or min(MOST_LENGTH, config.get("max_position_embeddings", MOST_LENGTH))
    rows = ROWS_OF_SMALL if width <= SMALL_WIDTH else ROWS
    return Size(str(model.resolve()), rows, VALIDATION_ROWS, TRIALS, space, length)


def measure(
    sources: Sequence[Source],
    size: Size,
    most: int,
    seconds: float,
    scratch: Path,
    keep: Callable[[Figures], None],
) -> Figures:
    """Run the rounds.

    Args:
        sources: The texts; each gets an equal share of the time.
        size: Model, rows, space and trials.
        most: Rounds at most.
        seconds: Budget; one round of each source is run in any case.
        scratch: Where everything is written; what is not needed any more is deleted.
        keep: Takes the figures of the rounds so far, after each round.
    """
    parts: dict[str, Figures] = {}
    for source in sources:
        folder = scratch / source.name
        workload = make(source, size, folder)
        chosen, _ = fastest(["S"], workload, folder / "threads")
        field = arms_with(chosen["S"].threads)
        found = []
        for turn in rounds(seconds / len(sources), most):
            found.append(_round(workload, field, turn, folder))
            name = f"{source.name}, {workload.train_rows:,} rows, {workload.labels} labels"
            parts[source.name] = summed_up(name, field, found)
            keep(_joined(parts, size))
    return _joined(parts, size)


def _joined(parts: Mapping[str, Figures], size: Size) -> Figures:
    """Return the figures of all texts as one."""
    return Figures(
        title=f"Winners of {size.trials} trials on other seeds",
        method=METHOD,
        goals=[goal for part in parts.values() for goal in part.goals],
        tables=[table for part in parts.values() for table in part.tables],
        notes=[note for part in parts.values() for note in part.notes],
        raw={name: part.raw for name, part in parts.items()},
    )


def arms_with(threads: int | None) -> dict[str, Arm]:
    """Return the arms by key; peers have so many threads, None for what their libraries take."""
    return {OURS.key: OURS, **{key: dataclasses.replace(ARMS[key], threads=threads) for key in PEERS}}


def _round(workload: Workload, field: Mapping[str, Arm], turn: int, folder: Path) -> Round:
    given, found = dataclasses.replace(workload, seed=turn), {}
    for key in field if turn % 2 == 0 else list(field)[::-1]:
        place = folder / f"{turn}-{key}"
        outcome = carry_out(field[key], given, place, LIMIT_SECONDS)
        again: list[float | None] = [None] * SEEDS
        if outcome.failure is None:
            params = parameters_of(field[key], place)
            again = [_trained_again(field[key], given, params, seed, place) for seed in other_seeds(turn)]
        found[key] = Result(outcome, tuple(again))
        shutil.rmtree(place)
    return found


def other_seeds(turn: int) -> Iterator[int]:
    """Yield the seeds that the winners of a round are trained with."""
    yield from range(FIRST_SEED + SEEDS * turn, FIRST_SEED + SEEDS * (turn + 1))


def parameters_of(arm: Arm, folder: Path) -> dict[str, Any]:
    """Return the parameters of the winner that an arm left in a folder."""
    if arm.script is not None:
        found: dict[str, Any] = json.loads((folder / "parameters.json").read_text(encoding="utf-8"))
        return found
    (evidence,) = folder.glob("results/*/winner/evidence.json")
    trial = json.loads(evidence.read_text(encoding="utf-8"))["trial"]
    record = json.loads((evidence.parents[1] / f"trials/{trial:04d}.json").read_text(encoding="utf-8"))
    return dict(record["params"])


def alone(workload: Workload, params: Mapping[str, Any], seed: int) -> Workload:
    """Return the workload of a single trial with given parameters.

    One of them stays in the space, as its only choice, because a search needs a space.
    """
    name, *rest = params
    fixed = {**workload.fixed, **{key: params[key] for key in rest}}
    return dataclasses.replace(workload, trials=1, space={name: {"choices": [params[name]]}}, fixed=fixed, seed=seed)


def _trained_again(arm: Arm, workload: Workload, params: Mapping[str, Any], seed: int, folder: Path) -> float | None:
    place = folder.with_name(f"{folder.name}-{seed}")
    own = ALONE if arm.script is None else arm
    try:
        return carry_out(own, alone(workload, params, seed), place, LIMIT_SECONDS).winner_loss
    finally:
        shutil.rmtree(place, ignore_errors=True)


ALONE = dataclasses.replace(
    OURS, options=("--set", "search.baseline=false", "--set", "search.pruner=none", "--set", "search.sampler=random")
)
"""finesweep with a trial of its own alone: no untuned default beside it."""


def summed_up(name: str, field: Mapping[str, Arm], found: Sequence[Round]) -> Figures:
    """Turn rounds into figures.

    Args:
        name: What the sweeps were about.
        field: The arms by key, finesweep among them.
        found: What came of them.
    """
    targets = [None if (truth := one["S"].truth) is None else NEAR * truth for one in found]
    against = {key: interval(differences(found, key)) for key in field if key != OURS.key}
    notes = [
        f"{name}: {field[key].title}, round {turn}: {why}"
        for turn, one in enumerate(found, 1)
        for key in field
        if (why := _failure(one[key])) is not None
    ]
    raw = [{key: dataclasses.asdict(result) for key, result in one.items()} for one in found]
    return Figures(
        title="",
        method="",
        goals=list(_goals(name, found, targets, against)),
        tables=[_arms_table(name, field, found, targets), _differences_table(name, field, against)],
        notes=notes,
        raw={"targets": targets, "rounds": raw},
    )


def _failure(result: Result) -> str | None:
    missing = sum(loss is None for loss in result.again)
    return result.outcome.failure or (f"{missing} of {len(result.again)} other seeds failed" if missing else None)


def differences(found: Sequence[Round], peer: str) -> list[list[float]]:
    """Return, round by round, the paired differences of finesweep's winner to a peer's, as a share of the peer's loss.

    A round in which a seed of either is missing is left out.
    """
    pairs = [(one[OURS.key].again, one[peer].again) for one in found]
    return [
        [(own - other) / other for own, other in zip(*pair, strict=True) if own is not None and other is not None]
        for pair in pairs
        if None not in pair[0] and None not in pair[1]
    ]


def interval(found: Sequence[Sequence[float]]) -> Interval | None:
    """Return the mean of differences with its interval; None without any.

    Seeds of one round share its winners, so rounds are what varies; with a single round it is the seeds.

    Args:
        found: Differences by round.
    """
    values, of = [statistics.mean(one) for one in found], "rounds"
    if len(values) == 1:
        values, of = list(found[0]), "seeds"
    if len(values) < 2:
        return None
    from scipy import stats

    mean = statistics.mean(values)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach, len(values), of)


def _goals(
    name: str, found: Sequence[Round], targets: Sequence[float | None], against: Mapping[str, Interval | None]
) -> Iterator[Goal]:
    """Yield the promises that the rounds speak to."""
    for peer, one in against.items():
        on_par = one is not None and one.is_no_worse
        yield _time_goal(name, peer, found, targets, on_par)
        pairs = [(each[peer].outcome, each[OURS.key].outcome) for each in found]
        whole = _ratios(pairs, lambda outcome: outcome.seconds)
        examples = _ratios(pairs, lambda outcome: outcome.examples)
        stopped = any(outcome.failure for pair in pairs for outcome in pair)
        yield Goal("M1", f"whole sweep ({name})", peer, 2.0, "x", True, whole, stopped, on_par)
        yield Goal("M2", f"examples trained ({name})", peer, 2.0, "x", True, examples, stopped, on_par)
    starts, ends = _times(found, OURS.key)
    yield Goal("start", f"command to first step ({name})", "", START, " s", False, starts)
    yield Goal("start", f"last step to exit ({name})", "", END, " s", False, ends)


def _time_goal(name: str, peer: str, found: Sequence[Round], targets: Sequence[float | None], on_par: bool) -> Goal:
    """Compare the times to the target of each round; a round without a target is left out."""
    ratios, missed, own_missed = [], 0, 0
    known = [(one, target) for one, target in zip(found, targets, strict=True) if target is not None]
    for one, target in known:
        theirs, ours = one[peer].outcome, one[OURS.key].outcome
        there, own = theirs.seconds_to(target), ours.seconds_to(target)
        missed, own_missed = missed + (there is None), own_missed + (own is None)
        # A peer that never got there was at it for the whole time; finesweep then gets no ratio at all.
        if own is not None:
            ratios.append((there if there is not None else theirs.seconds) / own)
        elif there is not None:
            ratios.append(0.0)
    parts = [(missed, peer), (own_missed, OURS.key)]
    note = "; ".join(f"{who} did not get there in {count} of {len(known)} rounds" for count, who in parts if count)
    spread = Spread.of(ratios) if ratios else None
    what = f"wall clock to what S is worth on other seeds + 1 % ({name})"
    return Goal("M1", what, peer, 3.0, "x", True, spread, bool(missed), on_par, note)


def _ratios(pairs: Sequence[tuple[Outcome, Outcome]], part: Callable[[Outcome], float]) -> Spread | None:
    ratios = [part(one) / part(two) for one, two in pairs if part(one) and part(two) and not two.failure]
    return Spread.of(ratios) if ratios else None


def _times(found: Sequence[Round], key: str) -> tuple[Spread | None, Spread | None]:
    """Return the seconds to the first step and from the last one."""
    outcomes = [one[key].outcome for one in found]
    starts = [one.start_seconds for one in outcomes if one.start_seconds is not None]
    ends = [one.end_seconds for one in outcomes if one.end_seconds is not None]
    return Spread.of(starts) if starts else None, Spread.of(ends) if ends else None


def _arms_table(name: str, field: Mapping[str, Arm], found: Sequence[Round], targets: Sequence[float | None]) -> Table:
    columns = [
        *("arm", "s to target", "s in all", "s to the first step", "s from the last step", "examples"),
        *("winner's eval_loss, own seed", "on other seeds"),
    ]
    return Table(
        f"{name}; {len(found)} rounds", columns, [_arm_row(key, arm, found, targets) for key, arm in field.items()]
    )


def _arm_row(key: str, arm: Arm, found: Sequence[Round], targets: Sequence[float | None]) -> list[str]:
    outcomes = [one[key].outcome for one in found]
    reached = [
        seconds
        for one, target in zip(outcomes, targets, strict=True)
        if target is not None and (seconds := one.seconds_to(target)) is not None
    ]
    never = sum(target is not None for target in targets) - len(reached)
    starts, ends = _times(found, key)
    truths = [truth for one in found if (truth := one[key].truth) is not None]
    own = [one.winner_loss for one in outcomes if one.winner_loss is not None]
    return [
        arm.title,
        (shown(Spread.of(reached)) if reached else "-") + (f", {never} never" if never else ""),
        shown(Spread.of([one.seconds for one in outcomes])),
        shown(starts),
        shown(ends),
        shown(Spread.of([one.examples for one in outcomes])),
        shown(Spread.of(own) if own else None, digits=4),
        shown(Spread.of(truths) if truths else None, digits=4),
    ]


def _differences_table(name: str, field: Mapping[str, Arm], against: Mapping[str, Interval | None]) -> Table:
    columns = ["finesweep's winner against that of", "difference", f"{LEVEL:.0%} interval", "over", "no worse"]
    rows = []
    for key, one in against.items():
        if one is None:
            rows.append([field[key].title, *("-",) * 4])
            continue
        ends = f"{_percent(one.low)} to {_percent(one.high)}"
        over = f"{one.units} {one.of}"
        rows.append([field[key].title, _percent(one.mean), ends, over, "yes" if one.is_no_worse else "**no**"])
    return Table(f"{name}: eval_loss on other seeds, in pairs", columns, rows)


def _percent(share: float) -> str:
    return f"{'-' if share < 0 else '+'}{number(abs(100 * share))} %"
