from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_replays import ROWS, spec_with

from finesweep.forecast.course import Course
from finesweep.forecast.simulated_stop import SimulatedStop
from finesweep.forecast.simulation import SimulatedTrial, Simulation
from finesweep.pruning.gains import Gains
from finesweep.pruning.rules import RungStanding, promotions
from finesweep.spec.sections import StopSpec
from finesweep.spec.trial_length import Workload
from finesweep.trial import Direction

LONG = Workload(16_000, 16)


def as_long_as_examples(_: Workload, examples: int, **__: bool) -> float:
    return float(examples)


def simulated(pruner: str, trials: dict[int, SimulatedTrial], workers: int = 1, **sections: Any) -> Simulation:
    search = {"pruner": pruner, "sampler": "random", "baseline": False}
    course = Course(
        spec_with(pruner, **{"search": search, "pruning": {"rungs": [0.5, 1], "factor": 3}, **sections}), ROWS
    )
    return Simulation(course, len(trials), trials, workers, as_long_as_examples, lambda number, _: 0.5 + number / 100)


def fresh(*ends: int) -> dict[int, SimulatedTrial]:
    return {number: SimulatedTrial(Workload(end, 16), end) for number, end in enumerate(ends)}


def test_each_worker_takes_the_next_trial_as_soon_as_it_is_free() -> None:
    for workers, took in ((3, 120), (1, 170), (4, 100)):
        assert simulated("none", fresh(30, 20, 20, 100), workers).run({}, range(4)) == took
    # The worker of a running trial is busy for 50 seconds more; the three others do the rest meanwhile.
    assert simulated("none", fresh(50, 30, 20, 20), 4).run({0: 50.0}, range(1, 4)) == 50


def test_trials_that_run_are_finished_when_the_sweep_ends_early() -> None:
    simulation = simulated("none", fresh(30, 100, 20, 20), 2)
    simulation.stop = SimulatedStop(StopSpec(target=0.1), Gains(), 0.0, 1.0, 1.0, random.Random(0))
    assert simulation.run({}, range(4)) == 100
    assert sorted(simulation.begun) == [0, 1]


def test_no_trial_goes_on_from_a_rung_later_when_the_sweep_has_ended_early() -> None:
    trials = {n: SimulatedTrial(LONG, 16_000) for n in range(9)}
    simulation = simulated("halving", trials)
    simulation.is_stopped = True
    # The last of nine is the weakest: two others would go on, and each had to begin again.
    for n in range(8):
        trials[n].seen, trials[n].values, trials[n].waits = 2_000, {0: 0.5 + n / 100}, True
    assert simulation.run({8: 10.0}, []) == 10
    assert not simulation.begun


def test_a_trial_that_ends_by_itself_is_waited_for_no_longer() -> None:
    trials = {n: SimulatedTrial(LONG, 16_000 if n < 3 else 1_000) for n in range(9)}
    simulation = simulated("halving", trials)
    simulation.run({}, range(9))
    # Of the three that come to the first rung one goes on.
    assert sorted(trial.seen for trial in trials.values()) == [1_000] * 6 + [2_000, 2_000, 16_000]


def test_a_trial_that_goes_on_at_once_is_begun_once() -> None:
    simulation = simulated("halving", {n: SimulatedTrial(LONG, 16_000) for n in range(27)})
    simulation.run({}, range(27))
    counts = [len(simulation.begun[n]) for n in range(27)]
    assert 27 < sum(counts) < 27 + 13
    assert sum(sum(parts) for parts in simulation.begun.values()) == sum(t.seen for t in simulation.trials.values())


@given(st.lists(st.floats(0.1, 1) | st.floats(0.69, 0.7), min_size=1, max_size=30), st.integers(2, 4))
@settings(deadline=None)
def test_one_rung_promotes_what_the_rule_promotes(values: list[float], factor: int) -> None:
    promoted: set[int] = set()
    for arrival in range(len(values)):
        there = {one: RungStanding(one, {0: value}, True) for one, value in enumerate(values[: arrival + 1])}
        promoted |= set(promotions(there, len(values), 1, Direction.MINIMIZE, factor=factor, cohort=100).promoted)
    simulation = simulated(
        "halving",
        {n: SimulatedTrial(LONG, 16_000) for n in range(len(values))},
        pruning={"rungs": [1], "factor": factor},
    )
    simulation.value = lambda number, _: values[number]
    simulation.run({}, range(len(values)))
    assert {number for number, trial in simulation.trials.items() if trial.seen == 16_000} == promoted


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 1_000))
@settings(deadline=None, max_examples=30)
def test_no_trial_is_left_waiting(trials: int, workers: int, seed: int) -> None:
    source = random.Random(seed)
    several = {n: SimulatedTrial(LONG, source.choice([500, 2_000, 9_000, 16_000])) for n in range(trials)}
    simulation = simulated("halving", several, workers, pruning={"audit": 0.2})
    simulation.value = lambda *_: source.random()
    assert simulation.run({}, range(trials)) >= max(trial.seen for trial in several.values())
    assert all(trial.is_over and not trial.waits and trial.seen <= trial.end for trial in several.values())
