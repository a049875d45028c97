"""What the rest of a sweep is expected to gain, and when that is too little to go on."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, WAITING, record

from finesweep.pruning.prospects import MOST, PATIENCE, Prospects, prospects
from finesweep.spec import Parameter, SearchSpace
from finesweep.trial import Direction, Evaluation, Params, TrialRecord
from growth import growth

MIN, MAX = Direction.MINIMIZE, Direction.MAXIMIZE
AXES = {
    "learning_rate": Parameter(low=1e-5, high=1e-3, log=True),
    "num_train_epochs": Parameter(low=2, high=5),
    "per_device_train_batch_size": Parameter(choices=(8, 16, 32)),
}
SPACE = SearchSpace(AXES)


def evaluation(examples: int, objective: float) -> Evaluation:
    return Evaluation(examples, examples / 1000, examples, {}, objective)


def tried(
    trial: int, params: Params, objective: float | None, state: Any = COMPLETE, early: float = 0.0
) -> TrialRecord:
    """A trial with evaluations after 1,000 and 2,000 examples; an incomplete one only has the first."""
    if objective is None:
        return record(trial, None, state, params=params)
    seen = (evaluation(1000, objective + early),)
    if state is COMPLETE:
        return record(trial, objective, params=params, evaluations=(*seen, evaluation(2000, objective)))
    return record(trial, None, state, params=params, evaluations=seen)


def drawn(count: int, value: Callable[[Params], float], noise: float, seed: int = 0) -> list[TrialRecord]:
    """Trials drawn at random; the noise is a seed's."""
    source = random.Random(seed)
    points = [SPACE.draw(lambda _, axis: axis.draw(source)) for _ in range(count)]
    return [tried(trial, point, value(point) + source.gauss(0, noise)) for trial, point in enumerate(points)]


def flat(_: Params) -> float:
    return 0.4


def steep(params: Params) -> float:
    """Best at the highest rate."""
    rate = params["learning_rate"]
    assert isinstance(rate, float)
    return 0.4 - 0.1 * math.log10(rate / 1e-5)


def found(
    records: list[TrialRecord], direction: Direction = MIN, left: int = 16, space: SearchSpace = SPACE
) -> Prospects:
    made = prospects(records, space, direction, left, seed=1)
    assert made is not None
    return made


def test_where_only_luck_differs_most_sweeps_end() -> None:
    """The first trial is the best, so no later one was a gain. Fourteen trials may look like a function by chance."""
    made = []
    for seed in range(10):
        records = drawn(14, flat, 0.01, seed)
        luckiest = min(records, key=lambda one: one.objective or 0.0)
        records[luckiest.trial] = dataclasses.replace(luckiest, started=-1.0)
        made.append(found(records))
    assert sum(one.are_poor for one in made) >= 6
    assert statistics.fmean(one.gain for one in made) < 0.005
    seeds = statistics.fmean(one.seeds for one in made)
    assert 0.005 < seeds < 0.015, "a trial's objective differs by 0.01 from seed to seed"


def test_trials_of_one_seed_look_alike_so_the_noise_that_rows_tell_counts() -> None:
    records = drawn(14, lambda params: 0.4 + 0.001 * params["num_train_epochs"], 0.0001)  # type: ignore[operator]
    alone, with_rows = (prospects(records, SPACE, MIN, 16, 1, noise) for noise in (0.0, 0.01))
    assert alone is not None
    assert with_rows is not None
    assert alone.seeds < 0.003
    assert dataclasses.replace(alone, seeds=0.01, since=with_rows.since) == with_rows
    assert with_rows.since >= alone.since, "the first trials are as good as the best"


@pytest.mark.parametrize("seed", range(5))
def test_where_a_parameter_matters_much_is_expected(seed: int) -> None:
    """The best fifth of the range was not tried."""
    records = [one for one in drawn(40, steep, 0.002, seed) if one.params["learning_rate"] < 3e-4][:12]  # type: ignore[operator]
    made = found(records, left=48)
    assert made.gain > made.seeds
    assert not made.are_poor


def test_the_luck_of_a_seed_is_no_gain() -> None:
    """The minimum of 16 more noisy values would be lower by about one standard deviation."""
    gains = [found(drawn(40, flat, 0.01, seed), left=16).gain for seed in range(5)]
    assert statistics.fmean(gains) < 0.003


@pytest.mark.parametrize("shift", [0.0, -0.4, -5.0, 1e6])
@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_the_unit_of_the_objective_decides_nothing(shift: float, factor: float) -> None:
    records = drawn(14, steep, 0.01)
    moved = [tried(one.trial, one.params, factor * ((one.objective or 0.0) + shift)) for one in records]
    before, after = found(records), found(moved)
    close = 1e-3 if shift < 1e6 else 0.2  # so far from 0 digits are lost
    assert after.gain == pytest.approx(factor * before.gain, rel=close, abs=factor * 1e-5)
    assert after.seeds == pytest.approx(factor * before.seeds, rel=close)


def test_a_maximised_objective_is_the_mirror_image() -> None:
    records = drawn(14, steep, 0.01)
    mirrored = [tried(one.trial, one.params, -(one.objective or 0.0)) for one in records]
    before, after = found(records), found(mirrored, MAX)
    assert (after.gain, after.seeds, after.since) == (before.gain, before.seeds, before.since)
    assert after.best == -before.best


def test_the_order_of_the_records_decides_nothing() -> None:
    records = drawn(14, steep, 0.01)
    assert found(records[::-1]) == found(records)


@pytest.mark.parametrize("bad", [10.0, 1e300, 1.7e308])
@pytest.mark.parametrize("state", [COMPLETE, PRUNED])
def test_a_training_that_collapsed_beside_a_good_one_is_no_difference_between_seeds(bad: float, state: Any) -> None:
    records = drawn(14, steep, 0.01)
    best = min(records, key=lambda one: one.objective or 0.0)
    made, before = found([*records, tried(14, best.params, bad, state)]), found(records)
    assert made.begun == 14
    assert made.seeds == pytest.approx(before.seeds, rel=0.1)
    assert made.gain == pytest.approx(before.gain, rel=0.2)


@pytest.mark.parametrize("sign", [1, -1])
def test_huge_values_of_both_signs_are_no_error(sign: int) -> None:
    points = [one.params for one in drawn(14, steep, 0.01)]
    records = [tried(n, point, sign * (-1) ** n * 1.7e308) for n, point in enumerate(points)]
    made = prospects(records, SPACE, MIN, 16, 1)
    assert made is None or math.isfinite(made.gain)


@pytest.mark.parametrize("objective", [math.nan, math.inf, None])
def test_a_trial_without_a_number_does_not_count(objective: float | None) -> None:
    records = drawn(12, steep, 0.01)
    odd = [record(trial, objective, params=records[0].params) for trial in range(12, 16)]
    assert found([*records, *odd]).begun == 12


@pytest.mark.parametrize("state", [FAILED, INTERRUPTED, DIVERGED])
def test_a_trial_that_failed_diverged_or_was_interrupted_does_not_count(state: Any) -> None:
    records = drawn(12, steep, 0.01)
    made = found([*records, tried(12, records[0].params, 0.1, state)])
    assert made.begun == 12


def test_a_record_of_another_space_does_not_count() -> None:
    records = drawn(12, steep, 0.01)
    assert found([*records, record(12, 0.1, params={"learning_rate": 0.5})]).begun == 12


def test_a_waiting_trial_counts_with_what_it_would_end_with() -> None:
    """All trials fall by 0.2 from the first evaluation to the last, so the waiting one is no bad one."""
    source = random.Random(0)
    points = [SPACE.draw(lambda _, axis: axis.draw(source)) for _ in range(14)]
    whole = [tried(n, point, steep(point) + source.gauss(0, 0.01), early=0.2) for n, point in enumerate(points)]
    some = [
        one
        if one.trial % 3 == 0
        else tried(one.trial, one.params, (one.objective or 0.0), (WAITING, PRUNED)[one.trial % 2], early=0.2)
        for one in whole
    ]
    assert found(some).begun == 14
    assert found(some).seeds == pytest.approx(found(whole).seeds, rel=0.2)


def test_a_new_best_within_luck_is_no_gain_and_a_clear_one_is() -> None:
    records = drawn(14, flat, 0.01)
    best = min(one.objective or 0.0 for one in records)
    near = [*records, tried(14, records[0].params, best - 0.001)]
    clear = [*records, tried(14, records[0].params, best - 0.1)]
    assert found(near).since >= PATIENCE
    assert found(clear).since == 0
    assert not found(clear).are_poor


def test_where_the_others_do_not_predict_a_trial_nothing_is_said() -> None:
    made = found(drawn(14, flat, 0.01))
    sure = dataclasses.replace(made, since=9, gain=0.0)
    assert sure.are_poor
    assert not dataclasses.replace(sure, sure=0.4).are_poor
    assert not dataclasses.replace(sure, since=4).are_poor
    assert not dataclasses.replace(sure, gain=0.6 * made.seeds).are_poor


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_trials_say_nothing(count: int) -> None:
    assert prospects(drawn(count, steep, 0.01), SPACE, MIN, 16, 1) is None


def test_too_many_trials_say_nothing() -> None:
    assert prospects(drawn(MOST + 1, steep, 0.01), SPACE, MIN, 100, 1) is None


def test_a_quarter_of_outliers_is_left_out_before_it_is_too_many() -> None:
    records = drawn(MOST, steep, 0.01)
    bad = [tried(MOST + trial, records[trial].params, 10.0) for trial in range(MOST // 3)]
    assert found([*records, *bad]).begun == MOST
    assert prospects([*records, *bad, tried(200, records[0].params, 10.0)], SPACE, MIN, 100, 1) is None


def test_time_grows_with_the_trials_not_with_their_square() -> None:
    """A worker looks after each trial, and each incomplete one would be compared with each complete one."""
    records = [
        one if one.trial % 2 else dataclasses.replace(one, state=PRUNED, objective=None)
        for one in drawn(8_000, steep, 0.01)
    ]
    assert growth(lambda count: prospects(records[:count], SPACE, MIN, 9_000, 1), 1_000, 8_000) < 24


def test_without_two_complete_trials_nothing_is_said() -> None:
    records = drawn(14, steep, 0.01)
    waiting = [tried(one.trial, one.params, one.objective, PRUNED) for one in records[1:]]
    assert prospects(waiting, SPACE, MIN, 16, 1) is None
    assert prospects([records[0], *waiting], SPACE, MIN, 16, 1) is None


@pytest.mark.parametrize("objective", [0.0, 0.4, -1e300])
def test_equal_values_say_nothing(objective: float) -> None:
    points = [one.params for one in drawn(14, steep, 0.01)]
    records = [tried(trial, point, objective) for trial, point in enumerate(points)]
    assert prospects(records, SPACE, MIN, 16, 1) is None


def test_a_sweep_with_no_trial_left_has_no_prospects() -> None:
    assert prospects(drawn(14, steep, 0.01), SPACE, MIN, 0, 1) is None


def test_conditional_fixed_and_odd_parameters_have_their_places() -> None:
    space = SearchSpace(
        {
            **AXES,
            "bf16": Parameter(choices=(True, False)),
            "max_grad_norm": Parameter(choices=(None, 1, 1.5)),
            "weight_decay": Parameter(low=0.1, high=0.1),
            "adam_beta1": Parameter(low=0.8, high=0.9, when={"bf16": True}),
        }
    )
    source = random.Random(0)
    points = [space.draw(lambda _, axis: axis.draw(source)) for _ in range(14)]
    records = [tried(n, point, steep(point) + source.gauss(0, 0.01)) for n, point in enumerate(points)]
    made = found(records, space=space)
    assert math.isfinite(made.gain)
    assert made.seeds > 0


def test_a_hundred_trials_take_less_than_a_second() -> None:
    records = drawn(MOST, steep, 0.01)
    before = time.process_time()
    found(records, left=100)
    assert time.process_time() - before < 3.0, "one second on a machine that has nothing else to do"


@pytest.mark.parametrize("direction", [MIN, MAX])
def test_huge_objectives_do_not_end_the_worker(direction: Direction) -> None:
    """The sum of falls from 1.7e308 is no number, so the pruned trial is left out."""
    records = [
        dataclasses.replace(one, evaluations=(evaluation(1000, 1.7e308),)) for one in drawn(12, flat, noise=0.0001)
    ]
    pruned = tried(12, records[0].params, 1.7e308, PRUNED)
    assert found([*records, pruned], direction).begun == found(records, direction).begun


def test_an_infinite_difference_between_seeds_ends_nothing() -> None:
    prospects = Prospects(begun=12, left=8, best=0.0, since=9, gain=1.0, seeds=1e300, sure=0.7)
    assert prospects.are_poor
    assert not dataclasses.replace(prospects, seeds=math.inf).are_poor
