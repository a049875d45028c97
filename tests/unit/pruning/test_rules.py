"""The pure rules of pruning: rungs, the median, who goes on at a rung, who is finished all the same."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.pruning.rules import (
    COHORT,
    FEWEST,
    RungStanding,
    by_chance,
    cohorts,
    is_audited,
    is_below_median,
    promotions,
    rung_epochs,
    rung_examples,
    rung_fractions,
    values_at,
)
from finesweep.spec.sections import FACTOR
from finesweep.spec.trial_length import TrialLength
from finesweep.trial import Direction, Evaluation
from made_specs import made_spec

MINIMIZE, MAXIMIZE = Direction.MINIMIZE, Direction.MAXIMIZE

FEW_VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
"""Few distinct values make ties common."""


@st.composite
def halfway(draw: st.DrawFn) -> tuple[dict[int, RungStanding], int, int]:
    """Draw what may be seen of a sweep in the middle of it: standings, trials, rungs."""
    trials, rungs = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    standings = {}
    for trial in range(trials):
        come = draw(st.integers(-1, rungs))
        if come < 0:
            continue  # not begun
        # What is reported is the best so far, so it never gets worse from rung to rung.
        values = sorted(draw(st.lists(FEW_VALUES, min_size=come, max_size=come)), reverse=True)
        how = draw(st.sampled_from(["waits", "runs", "is over"]))
        waits = how == "waits" and come > 0
        standings[trial] = RungStanding(trial, dict(enumerate(values)), waits, how == "is over")
    return standings, trials, rungs


def waiting(standings: Mapping[int, RungStanding]) -> set[int]:
    return {trial for trial, standing in standings.items() if standing.waits}


def at_rung(values: list[float], waits: bool = True) -> dict[int, RungStanding]:
    return {trial: RungStanding(trial, {0: value}, waits) for trial, value in enumerate(values)}


@given(halfway(), st.sampled_from(Direction), st.integers(2, 4), st.integers(1, 30))
def test_only_trials_that_wait_are_judged_and_each_but_once(
    sweep: tuple[dict[int, RungStanding], int, int], direction: Direction, factor: int, cohort: int
) -> None:
    standings, trials, rungs = sweep
    found = promotions(standings, trials, rungs, direction, factor=factor, cohort=cohort)
    judged = [*found.promoted, *found.dropped]
    assert len(judged) == len(set(judged))
    assert set(judged) <= waiting(standings)


@given(halfway(), st.sampled_from(Direction), st.randoms(use_true_random=False))
def test_the_order_in_which_trials_are_seen_changes_nothing(
    sweep: tuple[dict[int, RungStanding], int, int], direction: Direction, randomness: random.Random
) -> None:
    standings, trials, rungs = sweep
    items = list(standings.items())
    randomness.shuffle(items)
    assert promotions(dict(items), trials, rungs, direction) == promotions(standings, trials, rungs, direction)


@given(halfway())
def test_a_maximised_objective_is_a_minimised_one_turned_over(sweep: tuple[dict[int, RungStanding], int, int]) -> None:
    standings, trials, rungs = sweep
    turned = {
        trial: RungStanding(trial, {rung: -value for rung, value in one.values.items()}, one.waits, one.is_over)
        for trial, one in standings.items()
    }
    assert decided(turned, trials, rungs, MAXIMIZE) == decided(standings, trials, rungs, MINIMIZE)


@given(halfway(), st.integers(2, 4))
def test_when_nobody_is_coming_all_that_wait_are_judged_for_good(
    sweep: tuple[dict[int, RungStanding], int, int], factor: int
) -> None:
    standings, trials, rungs = sweep
    last = {
        trial: one if one.waits else RungStanding(trial, one.values, is_over=True) for trial, one in standings.items()
    }
    absent = {trial: RungStanding(trial, is_over=True) for trial in range(trials) if trial not in last}
    lowest = min((max(one.values) for one in last.values() if one.waits), default=0)
    here = {trial for trial, one in last.items() if one.waits and max(one.values) == lowest}
    found = promotions(last | absent, trials, rungs, MINIMIZE, factor=factor)
    # Whoever waits higher up may still have to wait for those who go on from here.
    assert here <= {*found.promoted, *found.dropped}
    assert bool(found.promoted or found.dropped) == bool(waiting(last))


@given(halfway(), st.sampled_from(Direction), st.integers(2, 4), st.integers(1, 30))
def test_the_best_at_a_rung_never_ends_there(
    sweep: tuple[dict[int, RungStanding], int, int], direction: Direction, factor: int, cohort: int
) -> None:
    standings, trials, rungs = sweep
    dropped = promotions(standings, trials, rungs, direction, factor=factor, cohort=cohort).dropped
    for trial in dropped:
        rung = max(standings[trial].values)
        members = next(part for part in cohorts(trials, cohort) if trial in part)
        values = [one.values[rung] for number, one in standings.items() if number in members and rung in one.values]
        assert any(direction.better(value, standings[trial].values[rung]) for value in values) or (
            values.count(standings[trial].values[rung]) > 1  # of equals the first one goes on
        )


@given(st.lists(FEW_VALUES, min_size=1, max_size=30), st.integers(2, 4))
def test_of_a_whole_cohort_that_waits_the_best_go_on(values: list[float], factor: int) -> None:
    found = promotions(at_rung(values), len(values), 1, MINIMIZE, factor=factor, cohort=len(values))
    last = sorted(values)[max(1, len(values) // factor) - 1]
    going = {trial for trial, value in enumerate(values) if value <= last or value * 0.998 <= last}
    assert set(found.promoted) == going
    assert set(found.dropped) == set(range(len(values))) - going


PLATEAU = [0.6931, 0.6928, 0.6937, 0.6933, 0.6930, 0.6939]
"""Losses of a model with two labels that has learned nothing yet."""


def test_on_a_plateau_nobody_is_dropped_by_chance() -> None:
    assert set(promotions(at_rung(PLATEAU), 6, 1, MINIMIZE).promoted) == set(range(6))
    assert set(promotions(at_rung(PLATEAU), 9, 1, MINIMIZE).promoted) == set(range(6))
    assert not any(is_below_median(value, PLATEAU, MINIMIZE, fewest=1) for value in PLATEAU)


def test_who_has_left_the_plateau_leaves_those_behind_who_have_not() -> None:
    found = promotions(at_rung([*PLATEAU, 0.5, 0.4, 0.3, 0.2, 0.1, 0.6]), 12, 1, MINIMIZE)
    assert (set(found.promoted), set(found.dropped)) == ({6, 7, 8, 9, 10, 11}, set(range(6)))
    assert is_below_median(0.6931, [0.5, 0.4, 0.6], MINIMIZE, fewest=3)


def decided(*seen: Any, **settings: Any) -> tuple[tuple[int, ...], list[int]]:
    """The promoted and the dropped trials."""
    found = promotions(*seen, **settings)
    return found.promoted, list(found.dropped)


@given(halfway(), st.sampled_from([MINIMIZE, MAXIMIZE]), st.integers(2, 4))
def test_a_dropped_trial_has_lost_to_those_that_its_rung_names(
    seen: tuple[dict[int, RungStanding], int, int], direction: Direction, factor: int
) -> None:
    standings, trials, rungs = seen
    for trial, rung in promotions(standings, trials, rungs, direction, factor=factor).dropped.items():
        own, last_kept = rung.values[rung.best.index(trial)], rung.values[rung.most_promoted - 1]
        assert rung.best.index(trial) >= rung.most_promoted
        assert direction.better(last_kept, own)
        assert own == standings[trial].values[max(standings[trial].values)]


def test_as_few_as_there_are_go_on_where_they_can_be_told_apart() -> None:
    assert decided(at_rung([0.500, 0.502]), 2, 1, MINIMIZE) == ((0,), [1])
    assert set(promotions(at_rung([0.500, 0.5009]), 2, 1, MINIMIZE).promoted) == {0, 1}
    assert set(promotions(at_rung([0.500, 0.4991]), 2, 1, MAXIMIZE).promoted) == {0, 1}
    assert decided(at_rung([0.500, 0.498]), 2, 1, MAXIMIZE) == ((0,), [1])
    assert set(promotions(at_rung([-0.500, -0.4991]), 2, 1, MINIMIZE).promoted) == {0, 1}


@given(halfway(), st.integers(2, 4), st.data())
def test_what_is_seen_later_revives_nobody_who_was_dropped(
    sweep: tuple[dict[int, RungStanding], int, int], factor: int, data: st.DataObject
) -> None:
    standings, trials, rungs = sweep
    first = promotions(standings, trials, rungs, MINIMIZE, factor=factor)
    # What may happen next to anybody but those: to begin, to come to the next rung, to end.
    later = dict(standings)
    for trial in set(range(trials)) - set(first.dropped):
        now = standings.get(trial, RungStanding(trial))
        if now.waits or now.is_over:
            continue
        come = len(now.values)
        happens = data.draw(st.sampled_from(["nothing", "comes", "ends"]))
        if happens == "comes" and come < rungs:
            value = min([data.draw(FEW_VALUES), *now.values.values()])
            later[trial] = RungStanding(trial, {**now.values, come: value}, waits=True)
        elif happens == "ends":
            later[trial] = RungStanding(trial, now.values, is_over=True)
    second = promotions(later, trials, rungs, MINIMIZE, factor=factor)
    assert set(first.dropped) <= set(second.dropped)


@settings(deadline=None)
@given(
    st.lists(st.lists(FEW_VALUES, min_size=3, max_size=3), min_size=1, max_size=27),
    st.integers(2, 4),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_a_sweep_of_halving_comes_to_its_end_and_sends_on_whoever_belongs_to_the_best(
    drawn: list[list[float]], factor: int, workers: int, randomness: random.Random
) -> None:
    reached = carry_out(drawn, factor, workers, randomness)
    for rung in range(3):
        came = [trial for trial, rungs in enumerate(reached) if rungs > rung]
        went = {trial for trial, rungs in enumerate(reached) if rungs > rung + 1}
        # Others go on besides who belonged to them when they did.
        best = sorted(came, key=lambda trial: (min(drawn[trial][: rung + 1]), trial))[: max(1, len(came) // factor)]
        assert went >= set(best)


def carry_out(drawn: list[list[float]], factor: int, workers: int, randomness: random.Random) -> list[int]:
    """Run trials as workers do; return how many rungs each came to, 4 for the end."""
    values = [[min(one[: rung + 1]) for rung in range(3)] for one in drawn]
    standings: dict[int, RungStanding] = {}
    fresh, running, reached = list(range(len(drawn))), [], [0] * len(drawn)
    while True:
        found = promotions(standings, len(drawn), 3, MINIMIZE, factor=factor)
        for trial in found.dropped:
            standings[trial] = RungStanding(trial, standings[trial].values, is_over=True)
        queue = [*found.promoted, *fresh]
        for trial in queue[: workers - len(running)]:
            standings[trial] = RungStanding(trial, standings[trial].values if trial in standings else {})
            running.append(trial)
        fresh = [trial for trial in fresh if trial not in running]
        if not running:
            assert not waiting(standings), "trials wait and nobody comes"
            return reached
        trial = running.pop(randomness.randrange(len(running)))
        reached[trial] += 1
        seen = dict(enumerate(values[trial][: reached[trial]]))
        standings[trial] = RungStanding(trial, seen, waits=reached[trial] <= 3, is_over=reached[trial] > 3)


def test_the_best_go_on_at_once_and_the_others_wait_while_there_may_be_a_place_left() -> None:
    assert decided(at_rung([0.1]), 4, 1, MINIMIZE, factor=2) == ((), [])
    assert decided(at_rung([0.1, 0.2, 0.3]), 4, 1, MINIMIZE, factor=2) == ((0,), [2])
    assert decided(at_rung([0.1, 0.2, 0.3]), 5, 1, MINIMIZE, factor=2) == ((0,), [2])
    assert decided(at_rung([0.1, 0.2, 0.3]), 6, 1, MINIMIZE, factor=2) == ((0,), [])


def test_those_that_came_farthest_go_on_first() -> None:
    first = {0: RungStanding(0, {0: 0.1}, waits=True), 1: RungStanding(1, {0: 0.9}, is_over=True)}
    second = {2: RungStanding(2, {0: 0.3, 1: 0.3}, waits=True), 3: RungStanding(3, {0: 0.9}, is_over=True)}
    assert promotions(first | second, 4, 2, MINIMIZE, factor=2, cohort=2).promoted == (2, 0)


def test_who_waits_higher_up_waits_for_those_who_go_on_from_below() -> None:
    standings = {
        0: RungStanding(0, {0: 0.2}, waits=True),
        1: RungStanding(1, {0: 0.9}, is_over=True),
        2: RungStanding(2, {0: 0.9}, is_over=True),
        3: RungStanding(3, {0: 0.1, 1: 0.1}, waits=True),
    }
    assert promotions(standings, 4, 2, MINIMIZE, factor=2).promoted == (0,)
    ended = standings | {0: RungStanding(0, {0: 0.2}, is_over=True)}
    assert promotions(ended, 4, 2, MINIMIZE, factor=2).promoted == (3,)


@given(halfway())
def test_all_that_wait_have_a_chance_and_those_that_go_on_come_before_those_that_end(
    sweep: tuple[dict[int, RungStanding], int, int],
) -> None:
    standings, trials, rungs = sweep
    found = by_chance(standings, trials, rungs, MINIMIZE)
    assert sorted(found) == sorted(waiting(standings))
    decided = promotions(standings, trials, rungs, MINIMIZE, tolerance=0.0)
    for index in range(rungs):
        here = [trial for trial in found if max(standings[trial].values) == index]
        ends = [here.index(trial) for trial in here if trial in decided.dropped]
        goes = [here.index(trial) for trial in here if trial in decided.promoted]
        assert max(goes, default=-1) < min(ends, default=trials)
        assert here == sorted(here, key=lambda trial: (standings[trial].values[index], trial))
    turned = {
        trial: RungStanding(trial, {rung: -value for rung, value in one.values.items()}, one.waits, one.is_over)
        for trial, one in standings.items()
    }
    assert by_chance(turned, trials, rungs, MAXIMIZE) == found


def test_chances_are_those_of_the_places_at_each_rung() -> None:
    standings = at_rung([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert by_chance(standings, 8, 2, MINIMIZE) == (0, 1, 2, 3, 4, 5)
    for trial, one in standings.items():
        # Three have come to the second rung, two wait at the first, and one has ended.
        values = {**one.values, 1: one.values[0]} if trial < 3 else one.values
        standings[trial] = RungStanding(trial, values, waits=trial < 5, is_over=trial == 5)
    for trial in (6, 7):
        standings[trial] = RungStanding(trial, {0: 0.9}, is_over=True)
    # There are two places at the second rung and four at the first: 3 has the last of them, 2 and 4 have none.
    assert by_chance(standings, 8, 2, MINIMIZE) == (0, 1, 3, 2, 4)


def test_who_has_no_rung_of_the_spec_has_no_chance() -> None:
    standings = {0: RungStanding(0, {}, waits=True), 1: RungStanding(1, {2: 0.5}, waits=True)}
    assert by_chance(standings, 4, 2, MINIMIZE) == ()


def test_cohorts_do_not_mix() -> None:
    # The better half of the trials is in the first cohort, and each cohort sends on its own best.
    found = promotions(at_rung([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 6, 1, MINIMIZE, factor=3, cohort=3)
    assert found.promoted == (0, 3)


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_cohorts_share_out_the_budget(trials: int, cohort: int) -> None:
    parts = cohorts(trials, cohort)
    assert [trial for part in parts for trial in part] == list(range(trials))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    # A cohort is half as large again at most, or the whole budget.
    assert max(sizes) <= 1.5 * cohort + 1


@given(FEW_VALUES, st.lists(FEW_VALUES, max_size=20), st.sampled_from(Direction))
def test_a_trial_is_weak_only_against_enough_others_and_below_their_middle(
    value: float, others: list[float], direction: Direction
) -> None:
    weak = is_below_median(value, others, direction)
    if len(others) < FEWEST:
        assert not weak
        return
    middle = statistics.median(others)
    assert weak == (0.998 * value > middle if direction is MINIMIZE else 1.002 * value < middle)
    assert is_below_median(value, list(reversed(others)), direction) == weak


def test_as_few_others_as_asked_for_are_enough() -> None:
    assert is_below_median(0.3, [0.1, 0.2], MINIMIZE, fewest=2)
    assert not is_below_median(0.3, [0.1, 0.2], MINIMIZE, fewest=3)


@st.composite
def trainings(draw: st.DrawFn) -> list[Evaluation]:
    points = draw(st.lists(st.integers(1, 12), unique=True, max_size=8).map(sorted))
    return [Evaluation(point, point / 4, point * 100, {}, draw(FEW_VALUES | st.none())) for point in points]


@given(trainings(), st.lists(st.integers(1, 12).map(lambda point: point * 100), unique=True, min_size=1).map(sorted))
def test_a_trials_value_at_a_rung_is_its_best_so_far(evaluations: list[Evaluation], rungs: list[int]) -> None:
    values = values_at(evaluations, rungs, MINIMIZE)
    for rung, examples in enumerate(rungs):
        seen = [one.objective for one in evaluations if one.examples <= examples and one.objective is not None]
        there = [one for one in evaluations if one.examples == examples and one.objective is not None]
        assert values.get(rung) == (min(seen) if there else None)
    assert list(values.values()) == sorted(values.values(), reverse=True)


@given(trainings(), st.integers(0, 8))
def test_what_comes_later_does_not_change_a_value_at_a_rung(evaluations: list[Evaluation], count: int) -> None:
    rungs = [300, 600, 900]
    early = values_at(evaluations[:count], rungs, MAXIMIZE)
    assert early.items() <= values_at(evaluations, rungs, MAXIMIZE).items()


@given(st.integers(0, 2**31 - 1), st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_audit_holds_the_smaller_one(seed: int, trial: int, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not is_audited(seed, trial, 0.0)
    assert is_audited(seed, trial, 1.0)
    assert is_audited(seed, trial, large) or not is_audited(seed, trial, small)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_that_share_of_trials_is_audited_in_each_sweep_other_ones(share: float) -> None:
    drawn = {seed: {trial for trial in range(2_000) if is_audited(seed, trial, share)} for seed in (0, 1)}
    for trials in drawn.values():
        # Five standard deviations of so many draws are 0.034 and 0.056.
        assert len(trials) / 2_000 == pytest.approx(share, abs=0.06)
    assert drawn[0] != drawn[1]


def test_rungs_lie_at_examples_whatever_the_epochs() -> None:
    wanted = made_spec(search={"pruner": "halving"}, pruning={"rungs": [2, 0.5, 1]})
    assert rung_examples(wanted, 4_001) == (2_000, 4_001, 8_002)


def test_rungs_of_so_few_rows_that_they_fall_together_are_one() -> None:
    assert rung_examples(made_spec(search={"pruner": "median"}, pruning={"rungs": [0.5, 0.6, 2]}), 2) == (1, 4)


def test_a_tenth_of_an_epoch_is_a_tenth() -> None:
    # As a binary fraction 0.7 of 10 rows would be 6.
    assert rung_examples(made_spec(search={"pruner": "median"}, pruning={"rungs": [0.7]}), 10) == (7,)


def test_rungs_of_shares_lie_at_the_same_share_of_each_trial() -> None:
    spec = made_spec(search={"pruner": "halving"}, pruning={"rungs": ["50%", "12.5%", "25 %"]})
    assert rung_fractions(spec) == (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))
    assert rung_examples(spec, 1_000, 4_000) == (500, 1_000, 2_000)
    assert rung_examples(spec, 1_000, 2_000) == (250, 500, 1_000)
    # Of so short a trial two rungs are at the same example; none moves to the place of another.
    assert rung_examples(spec, 1_000, 9) == (1, 2, 4)
    assert rung_examples(spec, 1_000, 7) == (0, 1, 3)


@given(
    rows=st.integers(5, 3_000),
    batch=st.integers(1, 64),
    epochs=st.sampled_from([0.5, 1, 1.7, 2, 2.5, 3, 4, 5]),
    per_epoch=st.integers(1, 4),
)
def test_a_trial_is_evaluated_at_its_shares_unless_a_step_passes_two(
    rows: int, batch: int, epochs: float, per_epoch: int
) -> None:
    spec = made_spec(search={"pruner": "halving"}, pruning={"rungs": ["25%", "50%", "75%"]})
    values = {"num_train_epochs": epochs, "per_device_train_batch_size": batch}
    length = TrialLength.of(values, rows)
    plan = Schedule(length, per_epoch, rung_epochs(spec, rows, values), rungs_first=True)
    evaluated = [count for step in range(1, length.total_steps + 1) if (count := plan.rung(step)) is not None]
    wanted = rung_examples(spec, rows, length.total_examples)
    steps = [math.ceil(rung * length.steps_per_epoch / rows) for rung in wanted]
    assert evaluated == sorted(evaluated)
    if 0 not in steps and len({*steps, length.total_steps}) == 4:
        assert set(wanted) <= set(evaluated)


def test_pruners_of_the_libraries_have_no_rungs_of_ours() -> None:
    assert rung_fractions(made_spec(search={"pruner": "hyperband"})) == ()


def test_the_standing_settings_make_sense_together() -> None:
    assert FACTOR >= 2
    assert COHORT >= FACTOR**2
    assert FEWEST >= 2
