from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.curves.recorded import read_curves
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, FAILED, INTERRUPTED, WAITING, record, running
from sweep_replays import ROWS, SPACE, ConfirmationReplay, Moment, RecordedReplay, Replay, World, spec_with

from finesweep.forecast.course import Course
from finesweep.forecast.time_left import TimeLeft, span
from finesweep.trial import Evaluation, Progress, TrialRecord
from growth import growth

FIXED = {"num_train_epochs": {"choices": [3]}, "per_device_train_batch_size": {"choices": [16]}}


def left(trials: int, workers: int = 1, pruner: str = "none", **spec: object) -> TimeLeft:
    return TimeLeft(Course(spec_with(pruner, **spec), ROWS), trials, workers)


def ended(trial: int, seconds: float = 60.0, epochs: int = 3, batch: int = 16, **fields: object) -> TrialRecord:
    """A trial that trained to its planned end."""
    params = {"num_train_epochs": epochs, "per_device_train_batch_size": batch}
    values = {"examples": epochs * ROWS, "examples_per_second": epochs * ROWS / seconds}
    return record(trial, 0.5, params=params, seconds=seconds, **{"started": seconds * trial, **values, **fields})


def in_a_row(*seconds_epochs_batch: tuple[float, int, int]) -> list[TrialRecord]:
    """Trials of one worker, each begun as soon as the one before had ended."""
    records, now = [], 0.0
    for trial, (seconds, epochs, batch) in enumerate(seconds_epochs_batch):
        records.append(ended(trial, seconds, epochs, batch, started=now))
        now += seconds
    return records


def middle(found: tuple[float, float] | None) -> float:
    assert found is not None
    return sum(found) / 2


def test_nothing_is_known_before_a_trial_has_ended() -> None:
    assert left(10).estimate([], [running(0)], now=50.0) is None
    assert left(10).estimate([record(0, None, INTERRUPTED, examples_per_second=None)], [], now=50.0) is None


def test_equal_trials_take_what_they_took() -> None:
    low, high = left(10, space=FIXED).estimate([ended(n) for n in range(4)], [], now=400.0) or (0, 0)
    assert low < 360 < high
    # About a third to each side: four trials say little, and the machine may get other work to do.
    assert high - low < 270


def test_trials_with_more_epochs_take_longer() -> None:
    known = in_a_row(*((20.0 * (2 + n % 4), 2 + n % 4, 16) for n in range(12)))
    search = {"baseline": False, "pruner": "none", "sampler": "random"}
    short, long = (
        left(20, space={**FIXED, "num_train_epochs": {"choices": [epochs]}}, search=search) for epochs in (2, 5)
    )
    shorter, longer = (middle(one.estimate(known, [], now=2000.0)) for one in (short, long))
    assert longer == pytest.approx(2.5 * shorter, rel=0.15)


def test_the_speed_is_that_of_the_batch_size() -> None:
    known = in_a_row(*((30.0, 3, 32) if n % 2 else (90.0, 3, 8) for n in range(12)))
    small, large = (
        left(20, space={**FIXED, "per_device_train_batch_size": {"choices": [batch]}}, sampler="random")
        for batch in (8, 32)
    )
    assert middle(small.estimate(known, [], now=2000.0)) == pytest.approx(8 * 90, rel=0.15)
    assert middle(large.estimate(known, [], now=2000.0)) == pytest.approx(8 * 30, rel=0.15)


def test_a_running_trial_goes_on_at_its_own_pace() -> None:
    known = [ended(n) for n in range(9)]
    at_half = Progress(9, 1, known[0].params, started=1000.0, step=200, total_steps=400)
    fast = left(10, space=FIXED).estimate(known, [at_half], now=1030.0)
    slow = left(10, space=FIXED).estimate(known, [at_half], now=1060.0)
    # Part of what has passed may be what each trial takes before its first step.
    assert 12 < middle(fast) < 32
    assert middle(slow) > 1.5 * middle(fast)


def test_several_workers_share_the_work_but_not_the_last_trial() -> None:
    known = [ended(n) for n in range(4)]
    alone, four = (middle(left(13, workers, space=FIXED).estimate(known, [], now=400.0)) for workers in (1, 4))
    assert alone == pytest.approx(9 * 60, rel=0.1)
    # Nine trials for four workers: three rounds, of which the last has one trial.
    assert four == pytest.approx(3 * 60, rel=0.15)


def test_workers_are_counted_as_they_are_seen() -> None:
    known = [ended(n) for n in range(4)]
    estimate = left(40, workers=1, space=FIXED)
    both = [running(4, started=395.0, step=0, total_steps=0), running(5, started=395.0, step=0, total_steps=0)]
    two = middle(estimate.estimate(known, both, now=400.0))
    between = middle(estimate.estimate([*known, ended(4)], both[1:], now=402.0))
    assert two == pytest.approx(18 * 60, rel=0.15)
    assert between == pytest.approx(two, rel=0.2)


def test_the_hours_that_earlier_runs_took_say_less_than_this_ones() -> None:
    before = [ended(n, seconds=300.0, run=1) for n in range(10)]
    now_faster = [ended(n, seconds=30.0, run=2, started=5_000.0 + 40 * n) for n in range(10, 16)]
    found = middle(left(26, space=FIXED).estimate([*before, *now_faster], [], now=6_000.0))
    assert found < 10 * 60


def test_waiting_trials_are_work_that_is_left() -> None:
    search = {"baseline": False, "pruner": "halving"}
    spec = {"space": FIXED, "search": search, "pruning": {"rungs": [0.5, 1, 2], "factor": 3}}
    done = in_a_row(*((60.0, 3, 16) for _ in range(9)))
    there = {"state": WAITING, "examples": 2_000, "examples_per_second": 2_000 / 60}
    seen = [(Evaluation(125, 0.5, 2_000, {}, 0.5 + one.trial / 100),) for one in done]
    rung = [dataclasses.replace(one, evaluations=at, **there) for one, at in zip(done, seen, strict=True)]
    some = middle(left(9, pruner="halving", **spec).estimate(rung, [], now=1_000.0))
    over = [dataclasses.replace(one, state=COMPLETE) for one in rung]
    assert left(9, pruner="halving", **spec).estimate(over, [], now=1_000.0) == (0.0, 0.0)
    # 3 of 9 go on, one of them to the third epoch: 4 epochs of two minutes, less what is fixed of the 60 seconds.
    assert 120 < some < 5 * 120


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_only_running_trials_are_left_of_a_sweep_that_ends_early(pruner: str) -> None:
    known = [ended(n) for n in range(9)]
    course = Course(spec_with(pruner, space=FIXED), ROWS)
    estimate, ending = (TimeLeft(course, 40, 1, lambda over=over: over) for over in (False, True))
    assert ending.estimate(known, [], now=1_000.0) == (0.0, 0.0)
    at_half = Progress(9, 1, known[0].params, started=1000.0, step=200, total_steps=400)
    assert 0 < middle(ending.estimate(known, [at_half], now=1030.0)) < 40
    assert middle(estimate.estimate(known, [at_half], now=1030.0)) > 120


def test_a_trial_that_was_broken_off_is_finished_though_the_sweep_ends_early() -> None:
    known = [*(ended(n) for n in range(9)), ended(9, state=INTERRUPTED, examples=ROWS)]
    ending = TimeLeft(Course(spec_with("none", space=FIXED), ROWS), 40, 1, lambda: True)
    assert 15 < middle(ending.estimate(known, [], now=1_000.0)) < 70


def test_a_budget_that_is_used_up_takes_nothing() -> None:
    assert left(2).estimate([ended(0), ended(1)], [], now=0.0) == (0.0, 0.0)
    assert left(1).estimate([ended(0), ended(1)], [], now=0.0) == (0.0, 0.0)


def test_it_is_drawn_anew_when_a_trial_ends_and_counts_down_meanwhile() -> None:
    estimate, known = left(10, space=FIXED), [ended(n) for n in range(4)]
    first = estimate.estimate(known, [], now=400.0) or (0, 0)
    later = estimate.estimate(known, [], now=403.0) or (0, 0)
    assert later == pytest.approx((first[0] - 3, first[1] - 3))
    assert (estimate.estimate([*known, ended(4)], [], now=403.0) or (0, 0))[1] < later[1] - 20


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 30_000)), min_size=1, max_size=8),
    st.integers(0, 3),
    st.integers(1, 40),
    st.floats(-1e6, 1e6),
    st.sampled_from(["none", "median", "asha", "hyperband", "halving"]),
)
@settings(max_examples=40, deadline=None)
def test_the_range_is_in_order_and_never_negative(
    taken: list[tuple[float, int]], running_now: int, trials: int, now: float, pruner: str
) -> None:
    states = (COMPLETE, FAILED, WAITING)
    records = [
        record(n, 0.5, states[n % 3], seconds=seconds, examples=examples, examples_per_second=examples / (seconds + 1))
        for n, (seconds, examples) in enumerate(taken)
    ]
    progress = [running(100 + n, step=n) for n in range(running_now)]
    found = left(trials, pruner=pruner).estimate(records, progress, now=now)
    assert found is None or 0 <= found[0] <= found[1]


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_ten_times_the_trials_take_less_than_ten_times_as_long_to_estimate(pruner: str) -> None:
    records = [ended(n, started=70.0 * n) for n in range(5_000)]

    def estimate(count: int) -> None:
        low, high = left(2 * count, pruner=pruner).estimate(records[:count], [], now=70.0 * count) or (0, 0)
        assert 0 < low < high

    assert growth(estimate, 500, 5_000) < 9


FAMILIES = ("none", "median", "asha", "halving")


Look = tuple[float, float, float]


def looked_at(world: World, looks: int) -> Iterator[Look]:
    """Yield low end, truth and high end at some of the moments from the tenth trial on."""
    yield from _looked_at(world, Replay(world), looks)


def _looked_at(world: World, replay: Replay, looks: int) -> Iterator[Look]:
    moments = list(replay.moments())
    end = moments[-1].now
    later = [moment for moment in moments if _finished(moment) in range(10, world.trials)]
    estimate = left_of(world)
    step = max(len(later) // looks, 1)
    for moment in later[5 * world.seed % step :: step][:looks]:
        found = estimate.estimate(moment.records, moment.progress, moment.now)
        assert found is not None
        yield found[0], end - moment.now, found[1]


def left_of(world: World) -> TimeLeft:
    return TimeLeft(Course(world.spec, ROWS), world.trials, world.workers)


def _finished(moment: Moment) -> int:
    return sum(one.state.finished for one in moment.records)


def worlds(pruner: str, seeds: int) -> Iterator[World]:
    """Sweeps of 20 to 60 trials on 1 to 8 workers, with both kinds of sampler, audited or not."""
    for seed in range(seeds):
        for workers in (1, 2, 4, 8):
            sampler = ("random", "tpe")[(seed + workers // 2) % 2]
            audit = {"pruning": {"audit": 0.1}} if seed % 2 else {}
            spec = spec_with(pruner, sampler, **audit)
            yield World(spec, (20, 40, 60)[(seed + workers) % 3], workers, seed, fixed=(0.3, 2.0)[seed // 2 % 2])


def coverage(found: Sequence[Look]) -> tuple[float, float]:
    """Return how often the range held the truth, and how wide it was in the median against its middle."""
    held = sum(low <= truth <= high for low, truth, high in found) / len(found)
    return held, statistics.median((high - low) / ((high + low) / 2) for low, _, high in found if high)


@pytest.mark.parametrize("pruner", FAMILIES)
def test_the_range_holds_the_truth_in_eight_of_ten_sweeps(pruner: str) -> None:
    held, width = coverage([look for world in worlds(pruner, seeds=6) for look in looked_at(world, looks=3)])
    assert held >= 0.8
    assert width < 0.95


EARLY = {
    "patience: auto": {"patience": "auto"},
    "patience: 2": {"patience": 2},
    "no gain": {"patience": "auto", "stop": {"no_gain_trials": 10}},
    "target": {"stop": {"target": 0.25}},
    "shares": {"patience": "auto", "pruning": {"rungs": ["25%", "50%", "75%"]}},
}


def at_the_tenth(world: World, replay: Replay) -> tuple[Moment, float] | None:
    """Return the moment at which ten trials have finished, and the seconds until the end; None for a shorter sweep."""
    moments = list(replay.moments())
    tenth = next((moment for moment in moments[:-1] if _finished(moment) >= 10), None)
    return None if tenth is None else (tenth, moments[-1].now - tenth.now)


def ranges(world: World, moment: Moment) -> tuple[float, float]:
    found = left_of(world).estimate(moment.records, moment.progress, moment.now)
    assert found is not None
    return found


def many_worlds(seeds: int, **sections: Any) -> Iterator[World]:
    for pruner in ("none", "halving"):
        for world in worlds(pruner, seeds):
            search = world.spec.search
            yield dataclasses.replace(world, spec=spec_with(pruner, search.sampler, **sections))


@pytest.mark.parametrize("sections", EARLY.values(), ids=EARLY)
def test_the_range_holds_the_truth_where_trials_or_sweeps_end_early(sections: dict[str, Any]) -> None:
    found: list[Look] = []
    for world in many_worlds(4, **sections):
        if (seen := at_the_tenth(world, Replay(world))) is not None:
            low, high = ranges(world, seen[0])
            found.append((low, seen[1], high))
    assert len(found) > 15
    assert coverage(found)[0] >= 0.8


def test_the_range_holds_the_truth_of_a_search_and_its_confirmation() -> None:
    whole: list[Look] = []
    inside: list[Look] = []
    for world in many_worlds(4, patience="auto", confirm={"top": 3, "seeds": 4}):
        search = Replay(world)
        seen = at_the_tenth(world, search)
        assert seen is not None
        again = ConfirmationReplay(search, tied=1 + world.seed % 5)
        *moments, last = again.moments()
        low, high = ranges(world, seen[0])
        whole.append((low, seen[1] + last.now, high))
        estimate = TimeLeft(again.course, again.world.trials, world.workers)
        moment = moments[len(moments) // 2]
        low, high = estimate.estimate(moment.records, moment.progress, moment.now) or (0.0, 0.0)
        inside.append((low, last.now - moment.now, high))
    assert coverage(whole)[0] >= 0.8
    assert coverage(inside)[0] >= 0.8


def test_hours_of_the_budget_do_not_limit_the_confirmation() -> None:
    known = [ended(n) for n in range(4)]
    one = left(10, space=FIXED, confirm={"top": 1, "seeds": 2}, search={"baseline": False, "pruner": "none"})
    low, high = one.estimate(known, [], now=400.0, allowed=0.0) or (0.0, 0.0)
    assert low < 2 * 60 < high < 4 * 60
    assert one.confirms
    assert left(10).estimate(known, [], now=400.0, allowed=0.0) == (0.0, 0.0)


def test_planned_trials_are_those_of_the_manifest() -> None:
    """The best configurations of an earlier sweep, which the spec does not know, are long ones."""
    first = [{"num_train_epochs": 5, "per_device_train_batch_size": 16}] * 16
    space = {**FIXED, "num_train_epochs": {"choices": [2, 5]}}
    spec = spec_with("none", space=space, start={"from": "results/old", "top": 16})
    known = [ended(n, seconds=100.0, epochs=5) for n in range(6)]
    found = middle(TimeLeft(Course(spec, ROWS, first), 16).estimate(known, [], now=600.0))
    assert found == pytest.approx(10 * 100, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", FAMILIES)
def test_the_range_holds_the_truth_in_eight_of_ten_of_many_sweeps(pruner: str) -> None:
    held, width = coverage([look for world in worlds(pruner, seeds=12) for look in looked_at(world, looks=4)])
    assert held >= 0.8
    assert width < 0.95


CURVES = Path(__file__).parents[3] / "benchmarks" / "curves"


@pytest.mark.slow
@pytest.mark.parametrize("pruner", FAMILIES)
def test_the_range_holds_the_truth_on_recorded_curves(pruner: str) -> None:
    """Their times are those of a busy machine, so the range may be wider."""
    found: list[Look] = []
    for table in sorted(CURVES.glob("*.csv")):
        for seed, curves in read_curves(table).items():
            space = {**SPACE, "per_device_train_batch_size": {"choices": sorted({curve.batch for curve in curves})}}
            spec = spec_with(pruner, space=space)
            for order, workers in itertools.product(range(3), (1, 2, 4)):
                trials, number = min(len(curves), (24, 36)[seed % 2]), 100 * order + 10 * seed + workers
                world = World(spec, trials, workers, number, drift=0.0, fixed=1.0)
                found += _looked_at(world, RecordedReplay(world, curves), looks=2)
    held, width = coverage(found)
    assert held >= 0.8
    assert width < 1.25


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0, 1, "a few s"),
        (0, 60, "up to 60 s"),
        (41, 42, "about 40 s"),
        (12, 80, "10 to 80 s"),
        (20, 110, "up to 2 min"),
        (700, 1210, "12 to 20 min"),
        (1190, 1210, "about 20 min"),
        (3600, 7200, "1.0 to 2.0 h"),
        (36_000, 72_000, "10 to 20 h"),
        (3.6e6, 7.2e6, "1,000 to 2,000 h"),
    ],
)
def test_span(low: float, high: float, shown: str) -> None:
    assert span(low, high) == shown
