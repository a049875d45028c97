"""Measures whole sweeps side by side: time to a good model (M1), examples (M2), bytes (M5), memory (M8).

All arms are given the same rows, model, space, seed and number of trials, and take turns; the next round has another
seed, and begins at the other end. What an arm ships is evaluated afterwards by the same code on the same rows.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.arms import ARMS, OURS, Arm, Outcome, carry_out
from benchmarks.figures import Figures, Goal, Spread, Table, number, rounds, shown
from benchmarks.threads import fastest
from benchmarks.workload import Size, Source, make

NEAR = 1.01
"""Times the best known eval_loss: what counts as having got there, and as no worse a winner."""

LEAST_LIMIT_SECONDS = 300.0
"""A sweep may take this long at least before it is ended; what is known of it then is a bound."""

ONCE = ("R", "O")
"""Peers that no goal speaks of here: one round of them is enough."""

METHOD = (
    "Whole commands, from a CSV to a winner, in turns on the same rows, model, space and number of trials; each round "
    "has another seed. The target is the best eval_loss that any arm reached in any round, plus 1 %; the time to it "
    "counts from the start of the command to the evaluation that reached it, and where none did, the whole time is "
    "taken, as a lower bound. With a model from scratch that target is luck in part, since the same parameters end "
    "some percent apart; so the time to what the peer itself ended with in the same round stands beside it. eval_loss "
    "and accuracy of the winner are computed afterwards, for all arms by the same code. Peers run with the number of "
    "threads at which they were faster: what torch takes by itself, or one. MB of memory is that of a process that "
    "trains, for finesweep with the worker that it was forked from, what is shared counted once."
)


def measure(
    sources: Sequence[Source], size: Size, seconds: float, most: int, arms: Sequence[str], scratch: Path
) -> Figures:
    """Run sweeps of all arms.

    Args:
        sources: The texts; each gets an equal share of the time.
        size: Model, rows, space and trials.
        seconds: Budget; one round of each source is run in any case.
        most: Rounds at most.
        arms: Keys of the arms.
        scratch: Where everything is written; what is not needed any more is deleted.
    """
    parts = [_measure(source, size, seconds / len(sources), most, arms, scratch / source.name) for source in sources]
    return Figures(
        title=f"Whole sweeps of {size.trials} trials",
        method=METHOD,
        goals=[goal for part in parts for goal in part.goals],
        tables=[table for part in parts for table in part.tables],
        notes=[note for part in parts for note in part.notes],
        raw={source.name: part.raw for source, part in zip(sources, parts, strict=True)},
    )


def _measure(source: Source, size: Size, seconds: float, most: int, arms: Sequence[str], scratch: Path) -> Figures:
    workload = make(source, size, scratch)
    chosen, _ = fastest([key for key in ("T", "S") if key in arms], workload, scratch / "threads")
    if "S" in chosen and "O" in arms:
        chosen["O"] = dataclasses.replace(ARMS["O"], threads=chosen["S"].threads)
    field = [chosen.get(key, ARMS[key]) for key in arms]
    outcomes: dict[str, list[Outcome]] = {arm.key: [] for arm in field}
    for turn in rounds(seconds, most):
        given = dataclasses.replace(workload, seed=turn)
        running = [arm for arm in field if turn == 0 or arm.key not in ONCE]
        for arm in running if turn % 2 == 0 else running[::-1]:
            folder = scratch / f"{turn}-{arm.key}"
            outcomes[arm.key].append(carry_out(arm, given, folder, max(LEAST_LIMIT_SECONDS, 0.4 * seconds)))
            shutil.rmtree(folder)
    name = f"{source.name}, {workload.train_rows:,} rows, {workload.labels} labels"
    return summed_up(name, field, outcomes)


def summed_up(name: str, field: Sequence[Arm], outcomes: Mapping[str, Sequence[Outcome]]) -> Figures:
    """Turn what came of each arm into figures.

    Args:
        name: What the sweeps were about.
        field: The arms, finesweep among them.
        outcomes: What came of them, round by round.
    """
    target = NEAR * min(one.best for found in outcomes.values() for one in found)
    table = Table(
        f"{name}; target {target:.4f}",
        ["arm", *_COLUMNS],
        [[arm.title, *(column(outcomes[arm.key], target) for column in _COLUMNS.values())] for arm in field],
    )
    notes = [
        f"{name}: {arm.title}, round {turn}: {one.failure}"
        for arm in field
        for turn, one in enumerate(outcomes[arm.key], 1)
        if one.failure
    ]
    goals = [goal for arm in field for goal in _goals(name, arm, outcomes[arm.key], outcomes[OURS.key], target)]
    raw = {key: [dataclasses.asdict(one) for one in found] for key, found in outcomes.items()}
    return Figures("", "", goals, [table], notes, {"target": target, "outcomes": raw})


def _goals(name: str, arm: Arm, theirs: Sequence[Outcome], ours: Sequence[Outcome], target: float) -> list[Goal]:
    """Return the promises that one arm's figures speak to."""
    peer = arm.key[0]
    if arm.key == OURS.key:
        parent = Spread.of([one.command_rss / 1e6 for one in ours])
        return [Goal("M8", f"memory of the command ({name})", "", 100, " MB", False, parent)]
    found, stopped = [], any(one.failure for one in theirs)
    if peer in _TIME_GOALS:
        known, own = [target] * len(theirs), [NEAR * one.best for one in theirs]
        found.append(_time_goal(f"to the best known eval_loss + 1 % ({name})", peer, theirs, ours, known))
        found.append(_time_goal(f"to the best eval_loss of {peer} + 1 % ({name})", peer, theirs, ours, own))
    if arm.key == "random" or peer == "S":
        ratio = _ratios(theirs, ours, lambda one: one.examples)
        wanted = 2.3 if arm.key == "random" else 1.6
        against = "random, no pruning" if arm.key == "random" else "S"
        what = f"examples trained ({name})"
        found.append(Goal("M2", what, against, wanted, "x", True, ratio, stopped, _is_on_par(theirs, ours)))
    if peer == "T":
        loads = all(one.winner_loss is not None for one in ours)
        written = _ratios(theirs, ours, lambda one: one.bytes_written)
        without = _ratios(theirs, ours, lambda one: one.bytes_written - one.bytes_apart)
        peak = _ratios(theirs, ours, lambda one: one.peak_bytes)
        found.append(Goal("M5", f"bytes written ({name})", "T", 50, "x", True, written, stopped, loads))
        what = f"bytes written but states of waiting trials ({name})"
        found.append(Goal("M5", what, "T", 50, "x", True, without, stopped, loads))
        found.append(Goal("M5", f"peak folder size ({name})", "T", 100, "x", True, peak, stopped, loads))
    if peer == "S":
        memory = _ratios(ours, theirs, lambda one: one.trainer_pss)
        found.append(Goal("M8", f"memory of a worker with its trial ({name})", "S", 1.0, "x", False, memory))
    return found


_TIME_GOALS = {"T": 8.0, "S": 3.0}


def _time_goal(
    what: str, peer: str, theirs: Sequence[Outcome], ours: Sequence[Outcome], targets: Sequence[float]
) -> Goal:
    """Compare the times to a target in each round; where neither got there nothing is known."""
    pairs = [
        (one.seconds_to(target), one.seconds, our.seconds_to(target))
        for one, our, target in zip(theirs, ours, targets, strict=True)
    ]
    # A peer that never got there was at it for the whole time; finesweep then gets no ratio at all.
    ratios = [(there or whole) / own if own else 0.0 for there, whole, own in pairs if there or own]
    missed = sum(there is None for there, _, _ in pairs)
    note = f"{peer} did not get there in {missed} of {len(pairs)} rounds" if missed else ""
    if own_missed := sum(own is None for _, _, own in pairs):
        note = "; ".join(filter(None, [note, f"finesweep did not in {own_missed}"]))
    found = Spread.of(ratios) if ratios else None
    return Goal("M1", f"wall clock {what}", peer, _TIME_GOALS[peer], "x", True, found, bool(missed), note=note)


def _ratios(over: Sequence[Outcome], under: Sequence[Outcome], part: Callable[[Outcome], float]) -> Spread | None:
    pairs = [(part(one), part(two)) for one, two in zip(over, under, strict=True)]
    ratios = [one / two for one, two in pairs if one and two]
    return Spread.of(ratios) if ratios else None


def _is_on_par(theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> bool:
    losses = [_spread(found, lambda one: one.winner_loss) for found in (theirs, ours)]
    return losses[1] is not None and (losses[0] is None or losses[1].median <= NEAR * losses[0].median)


def _spread(found: Sequence[Outcome], part: Callable[[Outcome], float | None]) -> Spread | None:
    values = [value for one in found if (value := part(one)) is not None]
    return Spread.of(values) if values else None


def _column(part: Callable[[Outcome], float | None], digits: int = 3) -> Callable[[Sequence[Outcome], float], str]:
    return lambda found, _: shown(_spread(found, part), digits=digits)


def _time_to(found: Sequence[Outcome], target: float) -> str:
    there = [seconds for one in found if (seconds := one.seconds_to(target)) is not None]
    if not there:
        return f"never, in {number(max(one.seconds for one in found))}"
    missed = f", {len(found) - len(there)} never" if len(there) < len(found) else ""
    return shown(Spread.of(there)) + missed


_COLUMNS: dict[str, Callable[[Sequence[Outcome], float], str]] = {
    "s to target": _time_to,
    "s in all": _column(lambda one: one.seconds),
    "CPU s": _column(lambda one: one.cpu_seconds),
    "winner's eval_loss": _column(lambda one: one.winner_loss, 4),
    "accuracy": _column(lambda one: one.winner_accuracy),
    "examples": _column(lambda one: one.examples),
    "MB written": _column(lambda one: one.bytes_written / 1e6),
    "of them states": _column(lambda one: one.bytes_apart / 1e6),
    "peak MB": _column(lambda one: one.peak_bytes / 1e6),
    "peak MB of states": _column(lambda one: one.peak_apart / 1e6),
    "MB of memory": _column(lambda one: one.trainer_pss / 1e6),
}
