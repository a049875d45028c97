from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, INTERRUPTED, PRUNED, WAITING, record
from sweep_replays import ROWS, spec_with

from finesweep.forecast.course import Course
from finesweep.forecast.remaining_work import Rest, reached
from finesweep.forecast.simulation import Simulation
from finesweep.forecast.speed import AttemptTiming, ResampledSpeed
from finesweep.pruning.rules import is_audited
from finesweep.spec.trial_length import Workload
from finesweep.trial import Evaluation, Progress, TrialRecord

RUNGS = (2_000, 4_000)
LONGEST = {"num_train_epochs": 4}


def course(pruner: str = "halving", **sections: Any) -> Course:
    search = {"pruner": pruner, "sampler": "random", "baseline": False}
    values = {
        "search": search,
        "pruning": {"rungs": [0.5, 1], "factor": 3},
        "space": {"num_train_epochs": {"choices": [4]}},
    }
    return Course(spec_with(pruner, **{**values, **sections}), ROWS)


def seen(*objectives: float) -> tuple[Evaluation, ...]:
    """Evaluations at the rungs, then at each further epoch."""
    places = (*RUNGS, 8_000, 12_000, 16_000)
    return tuple(Evaluation(x // 20, x / ROWS, x, {}, y) for x, y in zip(places, objectives, strict=False))


def at_rung(trial: int, *objectives: float, **fields: Any) -> TrialRecord:
    """A trial that waits after its last evaluation, and has seen the rest of that step's batch too."""
    values = {"examples": RUNGS[len(objectives) - 1] + 16, "evaluations": seen(*objectives), "params": LONGEST}
    return record(trial, min(objectives), **{"state": WAITING, **values, **fields})


def as_long_as_examples(_: Workload, examples: int, **__: bool) -> float:
    return float(examples)


def drawn(
    course: Course, trials: int, records: list[TrialRecord], progress: tuple[Progress, ...] = ()
) -> list[Simulation]:
    """Simulate the rest of a sweep, in which a second is an example, until nothing is left."""
    rest, source = Rest.of(course, trials, records, progress, now=1_000.0), random.Random(0)
    found = []
    for _ in range(30):
        simulation, fresh, _ = rest.simulation(as_long_as_examples, 2, source)
        others = {n: t for n, t in simulation.trials.items() if n not in rest.running and not (t.is_over or t.waits)}
        running = {n: float(simulation.next_stop(simulation.trials[n]) - rest.begun[n].seen) for n in rest.running}
        for number, seconds in running.items():
            simulation.begun[number].append(seconds)
        simulation.run(running, [*(n for n in others if n not in fresh), *fresh])
        found.append(simulation)
    return found


def examples(simulation: Simulation) -> list[int]:
    """Return the examples of each attempt that was simulated, the running ones' first, in order of trials."""
    return [int(part) for number in sorted(simulation.begun) for part in simulation.begun[number]]


def total(simulation: Simulation) -> int:
    return sum(examples(simulation))


def usual(simulations: list[Simulation]) -> Simulation:
    """The one that comes most often; in some a trial diverges."""
    often = statistics.mode(str(sorted(examples(one))) for one in simulations)
    return next(one for one in simulations if str(sorted(examples(one))) == often)


def test_a_trial_at_a_rung_has_come_to_it_and_no_further() -> None:
    assert reached(at_rung(0, 0.5)) == 2_000
    assert reached(at_rung(0, 0.5, state=PRUNED)) == 2_000
    assert reached(record(0, 0.5, COMPLETE, examples=16_000, evaluations=seen(0.5))) == 16_000


def test_a_third_of_those_that_wait_goes_on_and_a_third_of_these_to_the_end() -> None:
    waiting = [at_rung(n, 0.5 + n / 100) for n in range(9)]
    found = usual(drawn(course(), 9, waiting))
    assert sorted(total for parts in found.begun.values() for total in [sum(parts)]) == [2_000, 2_000, 14_000]


def test_it_is_the_best_that_goes_on() -> None:
    epochs = [2, 2, 2, 2, 4, 4, 4, 4, 4]
    waiting = [at_rung(n, 0.5 - n / 100, 0.4 - n / 100, params={"num_train_epochs": epochs[n]}) for n in range(3)]
    waiting += [at_rung(n, 0.5 - n / 100, params={"num_train_epochs": epochs[n]}, state=PRUNED) for n in range(3, 9)]
    # Trial 2 is the best of the three at the second rung.
    assert dict(usual(drawn(course(), 9, waiting)).begun) == {2: [4_000]}


def test_trials_to_come_take_part() -> None:
    totals = [total(one) for one in drawn(course(), 9, [at_rung(n, 0.5 + n / 100) for n in range(4)])]
    # The first rung of five, the second of three or more, and the rest of one at least.
    assert 10_000 + 6_000 + 12_000 in totals
    assert max(totals) <= 10_000 + 7 * 2_000 + 5 * 12_000


def test_where_trials_that_came_are_equals_so_are_those_to_come() -> None:
    plateau = [at_rung(n, 0.6931 + n / 10_000) for n in range(4)]
    # All nine come to the second rung, and a third of them to the end.
    assert statistics.median(total(one) for one in drawn(course(), 9, plateau)) >= 28_000 + 12_000


def test_running_trials_are_counted_once() -> None:
    first = Progress(4, 1, LONGEST, started=990.0, step=50, total_steps=800)
    promoted = Progress(0, 2, LONGEST, started=990.0, step=125, total_steps=800, evaluations=seen(0.1))
    found = drawn(course(), 9, [at_rung(n, 0.5) for n in range(4)], (first, promoted))
    assert all(one.trials[4].seen >= 2_000 and sum(one.begun[4]) == one.trials[4].seen - 1_000 for one in found)
    assert all(sum(one.begun[0]) == one.trials[0].seen - 2_500 for one in found)


def test_a_trial_that_has_just_gone_on_stands_where_it_waited() -> None:
    starting = Progress(0, 2, LONGEST, started=999.0, step=100, total_steps=0, evaluations=seen(0.5))
    rest = Rest.of(course(), 9, [at_rung(0, 0.5)], (starting,), now=1_000.0)
    assert (rest.begun[0].seen, rest.running[0].trained) == (2_000, 0)


def test_a_trial_that_is_trained_again_takes_the_rest_of_its_training() -> None:
    """It shows the evaluations that are known from before its state was dropped."""
    again = Progress(0, 2, LONGEST, started=900.0, step=5, total_steps=800, evaluations=seen(0.1, 0.1))
    records = [at_rung(0, 0.1, 0.1), *(at_rung(n, 0.5) for n in range(1, 9))]
    found = drawn(course(), 9, records, (again,))
    assert all(sum(one.begun[0]) == one.trials[0].seen - 100 for one in found)
    rest = Rest.of(course(), 9, records, (again,), now=1_000.0)
    speed = ResampledSpeed([AttemptTiming(Workload(16_000, 8), 16_000, 160.0)], 1.0, 0.0, random.Random(0))
    assert 0 < rest.draw(speed, 1, random.Random(0)) < 9 * 200


def test_a_trial_whose_examples_are_all_known_and_that_begins_again_needs_no_time() -> None:
    """Its weights were damaged after it had completed."""
    damaged = record(0, 0.1, INTERRUPTED, examples=16_000, params=LONGEST, evaluations=seen(0.1, 0.1, 0.1, 0.1, 0.1))
    again = Progress(0, 2, LONGEST, started=999.0, step=0, total_steps=800, evaluations=())
    rest = Rest.of(course("none"), 1, [damaged], (again,), now=1_000.0)
    speed = ResampledSpeed([AttemptTiming(Workload(16_000, 8), 16_000, 160.0)], 1.0, 0.0, random.Random(0))
    assert rest.draw(speed, 1, random.Random(0)) == 0.0


def test_a_step_beyond_a_rung_is_no_promotion_as_long_as_the_rung_is_not_evaluated() -> None:
    there = Progress(0, 1, LONGEST, started=990.0, step=101, total_steps=800)
    rest = Rest.of(course(), 9, [], (there,), now=1_000.0)
    assert (rest.begun[0].seen, rest.running[0].trained, rest.running[0].seconds) == (2_000, 2_000, 10.0)


def test_a_running_trial_goes_on_as_it_went_so_far() -> None:
    """Until it has come far enough for that, it takes what ended attempts took."""
    at_half, at_start = (Progress(0, 1, LONGEST, started=900.0, step=step, total_steps=800) for step in (400, 4))
    took = ResampledSpeed([AttemptTiming(Workload(16_000, 8), 16_000, 160.0)], 1.0, 0.0, random.Random(0))
    slow = Rest.of(course("none"), 1, [], (at_half,), now=1_100.0).draw(took, 1, random.Random(0))
    assert slow == pytest.approx(200, abs=1)
    other = Rest.of(course("none"), 1, [], (at_start,), now=902.0).draw(took, 1, random.Random(0))
    assert other == pytest.approx(158, abs=2)


def test_audited_trials_train_to_their_end() -> None:
    audited = [n for n in range(9) if is_audited(0, n, 0.5)]
    waiting = [at_rung(n, 0.5 if n in audited else 0.4) for n in range(9)]
    assert len(audited) in range(1, 6)
    found = usual(drawn(course(pruning={"rungs": [0.5, 1], "factor": 3, "audit": 0.5}), 9, waiting))
    assert examples(found).count(14_000) >= len(audited)
    assert all(found.trials[n].seen == 16_000 for n in audited)


def test_the_untuned_default_is_never_ended() -> None:
    search = {"pruner": "halving", "sampler": "random"}
    untuned = Progress(0, 1, LONGEST, started=990.0, step=200, total_steps=800, evaluations=seen(9.0))
    found = drawn(course(search=search), 9, [at_rung(n, 0.5) for n in range(1, 9)], (untuned,))
    assert usual(found).begun[0] == [12_000]


def test_the_first_point_of_a_grid_may_be_ended() -> None:
    grid = {"pruner": "halving", "sampler": "grid"}
    space = {"num_train_epochs": {"choices": [4]}, "learning_rate": {"choices": [1e-5, 2e-5]}}
    assert course(search={"pruner": "halving", "sampler": "random"}).is_baseline(0)
    assert not course(search=grid, space=space).is_baseline(0)


def test_a_trial_that_a_fault_has_ended_begins_anew_and_an_interrupted_one_goes_on() -> None:
    killed = record(0, None, INTERRUPTED, examples=5_000, faults=("killed",), params=LONGEST)
    stopped = record(1, None, INTERRUPTED, examples=5_000, params=LONGEST)
    assert {total(one) for one in drawn(course("none"), 2, [killed, stopped])} == {16_000 + 11_000}


def test_cohorts_to_come_are_drawn_in_part() -> None:
    rest = Rest.of(course(), 2_700)
    simulation, fresh, standing = rest.simulation(as_long_as_examples, 1, random.Random(0))
    assert (len(simulation.trials), len(fresh), len(standing)) == (54, 54, 54)
    speed = ResampledSpeed([AttemptTiming(Workload(16_000, 8), 16_000, 160.0)], 1.0, 0.0, random.Random(0))
    whole, part = (Rest.of(course(), trials).draw(speed, 1, random.Random(0)) for trials in (2_700, 54))
    assert whole == pytest.approx(50 * part, rel=0.15)


def test_a_cohort_that_is_over_is_left_out() -> None:
    over = [record(n, 0.5, PRUNED, examples=2_000, params=LONGEST, evaluations=seen(0.5)) for n in range(27)]
    assert set(Rest.of(course(), 54, over).begun) == set()
    assert set(Rest.of(course(), 54, over[:-1]).begun) == set(range(26))


def test_trials_to_come_are_drawn_in_part_where_there_are_many() -> None:
    simulation, fresh, standing = Rest.of(course("none"), 10_000).simulation(as_long_as_examples, 1, random.Random(0))
    assert len(simulation.trials) == len(fresh) == len(standing) < 200
    speed = ResampledSpeed([AttemptTiming(Workload(16_000, 8), 16_000, 160.0)], 1.0, 0.0, random.Random(0))
    assert Rest.of(course("none"), 10_000).draw(speed, 10, random.Random(0)) == pytest.approx(160_000, rel=0.05)


def test_how_many_go_on_is_learned_from_those_that_have_ended() -> None:
    def left(pruned_of_ten: int) -> float:
        ends = [at_rung(n, 0.5, state=PRUNED) if n % 10 < pruned_of_ten else done(n) for n in range(30)]
        return sum(total(one) for one in drawn(course("median"), 60, ends))

    def done(trial: int) -> TrialRecord:
        return record(trial, 0.5, examples=16_000, params=LONGEST)

    assert left(9) < 0.6 * left(2)


def test_how_many_end_by_themselves_is_learned_too() -> None:
    diverged = [record(n, None, DIVERGED, examples=1_000, params=LONGEST) for n in range(20)]
    sound = [record(n, 0.5, examples=16_000, params=LONGEST) for n in range(20)]
    less, more = (sum(total(one) for one in drawn(course("none"), 40, ended)) for ended in (diverged, sound))
    assert less < 0.5 * more


@given(
    st.lists(st.sampled_from([WAITING, PRUNED, COMPLETE, INTERRUPTED, DIVERGED]), max_size=30),
    st.integers(0, 4),
    st.integers(1, 40),
    st.sampled_from(["none", "median", "asha", "hyperband", "halving"]),
    st.integers(0, 1_000),
)
@settings(max_examples=60, deadline=None)
def test_no_trial_trains_less_than_nothing_or_more_than_planned(
    states: list[Any], running_now: int, trials: int, pruner: str, seed: int
) -> None:
    source = random.Random(seed)
    records = [
        at_rung(n, *(source.random() for _ in range(source.randint(1, 2))), state=s) for n, s in enumerate(states)
    ]
    progress = tuple(
        Progress(n, 2, LONGEST, 990.0, source.randint(0, 800), 800, evaluations=seen(0.5)) for n in range(running_now)
    )
    for one in drawn(course(pruner, pruning={"audit": 0.2}), trials, records, progress)[:5]:
        assert all(0 <= part <= 16_000 for part in examples(one))
        assert all(trial.seen <= trial.plan.examples and trial.is_over for trial in one.trials.values())
        finished = sum(record.state.finished for record in records if record.trial < trials)
        assert finished < trials or not one.begun
