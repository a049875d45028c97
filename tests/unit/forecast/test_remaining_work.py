from __future__ import annotations

import random
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, INTERRUPTED, PRUNED, WAITING, record
from sweep_replays import ROWS, spec_with

from finesweep.forecast.remaining_work import Draw, Outlook, reached
from finesweep.forecast.work import Course
from finesweep.pruning.rules import is_audited
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


def drawn(course: Course, trials: int, records: list[TrialRecord], progress: tuple[Progress, ...] = ()) -> list[Draw]:
    outlook, source = Outlook.of(course, trials, records, progress, now=1_000.0), random.Random(0)
    return [outlook.draw(source) for _ in range(30)]


def examples(draw: Draw) -> list[int]:
    return [task.examples for task in draw.tasks]


def usual(draws: list[Draw]) -> Draw:
    """The draw that comes most often; in some a trial diverges."""
    often = statistics.mode(str(examples(draw)) for draw in draws)
    return next(draw for draw in draws if str(examples(draw)) == often)


def test_a_trial_at_a_rung_has_come_to_it_and_no_further() -> None:
    assert reached(at_rung(0, 0.5)) == 2_000
    assert reached(at_rung(0, 0.5, state=PRUNED)) == 2_000
    assert reached(record(0, 0.5, COMPLETE, examples=16_000, evaluations=seen(0.5))) == 16_000


def test_a_third_of_those_that_wait_goes_on_and_a_third_of_these_to_the_end() -> None:
    waiting = [at_rung(n, 0.5 + n / 100) for n in range(9)]
    draw = usual(drawn(course(), 9, waiting))
    assert draw.running == []
    assert examples(draw) == [2_000, 2_000, 2_000, 12_000]


def test_it_is_the_best_that_goes_on() -> None:
    epochs = [2, 2, 2, 2, 4, 4, 4, 4, 4]
    waiting = [at_rung(n, 0.5 - n / 100, 0.4 - n / 100, params={"num_train_epochs": epochs[n]}) for n in range(3)]
    waiting += [at_rung(n, 0.5 - n / 100, params={"num_train_epochs": epochs[n]}, state=PRUNED) for n in range(3, 9)]
    # Trial 2 is the best of the three at the second rung.
    assert examples(usual(drawn(course(), 9, waiting))) == [4_000]


def test_trials_to_come_take_part() -> None:
    totals = [sum(examples(draw)) for draw in drawn(course(), 9, [at_rung(n, 0.5 + n / 100) for n in range(4)])]
    # The first rung of five, the second of three or more, and the rest of one at least.
    assert 10_000 + 6_000 + 12_000 in totals
    assert max(totals) <= 10_000 + 7 * 2_000 + 5 * 12_000


def test_where_trials_that_came_are_equals_so_are_those_to_come() -> None:
    plateau = [at_rung(n, 0.6931 + n / 10_000) for n in range(4)]
    # All nine come to the second rung, and a third of them to the end.
    assert statistics.median(sum(examples(draw)) for draw in drawn(course(), 9, plateau)) >= 28_000 + 3 * 12_000


def test_running_trials_are_counted_once() -> None:
    first = Progress(4, 1, LONGEST, started=990.0, step=50, total_steps=800)
    promoted = Progress(0, 2, LONGEST, started=990.0, step=125, total_steps=800, evaluations=seen(0.1))
    draw = usual(drawn(course(), 9, [at_rung(n, 0.5) for n in range(4)], (first, promoted)))
    assert sorted(task.examples for task in draw.running) == [1_000, 1_500]
    assert examples(draw).count(2_000) >= 2
    assert 4 * 2_000 + 2 * 2_000 <= sum(examples(draw)) <= 4 * 2_000 + 5 * 2_000 + 4 * 12_000


def test_a_trial_that_has_just_gone_on_stands_where_it_waited() -> None:
    starting = Progress(0, 2, LONGEST, started=999.0, step=100, total_steps=0, evaluations=seen(0.5))
    (draw, *_) = drawn(course(), 9, [at_rung(0, 0.5)], (starting,))
    assert [task.examples for task in draw.running] == [2_000]
    assert draw.running[0].begun is not None
    assert draw.running[0].begun.before == 2_000


def test_a_step_beyond_a_rung_is_no_promotion_as_long_as_the_rung_is_not_evaluated() -> None:
    there = Progress(0, 1, LONGEST, started=990.0, step=101, total_steps=800)
    (draw, *_) = drawn(course(), 9, [], (there,))
    assert draw.running[0].begun is not None
    assert draw.running[0].begun.seen == 2_000


def test_audited_trials_train_to_their_end() -> None:
    audited = [n for n in range(9) if is_audited(0, n, 0.5)]
    waiting = [at_rung(n, 0.5 if n in audited else 0.4) for n in range(9)]
    assert len(audited) in range(1, 6)
    draw = usual(drawn(course(pruning={"rungs": [0.5, 1], "factor": 3, "audit": 0.5}), 9, waiting))
    assert examples(draw).count(14_000) == len(audited)


def test_the_untuned_default_is_never_ended() -> None:
    search = {"pruner": "halving", "sampler": "random"}
    untuned = Progress(0, 1, LONGEST, started=990.0, step=200, total_steps=800, evaluations=seen(9.0))
    (draw, *_) = drawn(course(search=search), 9, [at_rung(n, 0.5) for n in range(1, 9)], (untuned,))
    assert [task.examples for task in draw.running] == [12_000]


def test_a_trial_that_a_fault_has_ended_begins_anew_and_an_interrupted_one_goes_on() -> None:
    killed = record(0, None, INTERRUPTED, examples=5_000, faults=("killed",), params=LONGEST)
    stopped = record(1, None, INTERRUPTED, examples=5_000, params=LONGEST)
    totals = [sum(examples(draw)) for draw in drawn(course("none"), 2, [killed, stopped])]
    # Some draws let one of them diverge.
    assert max(totals) == 16_000 + 11_000


def test_who_goes_on_without_waiting_is_begun_once() -> None:
    draws = drawn(course(), 27, [])
    # 27 begin; of the 9 and more that go on from the first rung and the 3 and more from the second most do at once.
    assert all(27 <= len(draw.tasks) < 27 + 9 for draw in draws)
    assert any(14_000 in examples(draw) or 16_000 in examples(draw) for draw in draws)


def test_cohorts_that_nobody_has_begun_are_drawn_in_part() -> None:
    outlook = Outlook.of(course(), 2_700, [], [], now=0.0)
    draw = outlook.draw(random.Random(0))
    assert len(draw.tasks) < 300
    assert draw.times * len(draw.standing) == pytest.approx(100 * 27 * 1.2, rel=0.1)


def test_trials_to_come_are_drawn_in_part_where_there_are_many() -> None:
    outlook = Outlook.of(course("none"), 10_000, [], [], now=0.0)
    draw = outlook.draw(random.Random(0))
    assert draw.times * len(draw.standing) == pytest.approx(10_000)
    assert len(draw.standing) < 200


def test_how_many_go_on_is_learned_from_those_that_have_ended() -> None:
    def left(pruned_of_ten: int) -> float:
        ends = [at_rung(n, 0.5, state=PRUNED) if n % 10 < pruned_of_ten else done(n) for n in range(30)]
        return sum(sum(examples(draw)) for draw in drawn(course("median"), 60, ends))

    def done(trial: int) -> TrialRecord:
        return record(trial, 0.5, examples=16_000, params=LONGEST)

    assert left(9) < 0.6 * left(2)


def test_how_many_end_by_themselves_is_learned_too() -> None:
    diverged = [record(n, None, DIVERGED, examples=1_000, params=LONGEST) for n in range(20)]
    sound = [record(n, 0.5, examples=16_000, params=LONGEST) for n in range(20)]
    less, more = (sum(sum(examples(draw)) for draw in drawn(course("none"), 40, ended)) for ended in (diverged, sound))
    assert less < 0.5 * more


@given(
    st.lists(st.sampled_from([WAITING, PRUNED, COMPLETE, INTERRUPTED, DIVERGED]), max_size=30),
    st.integers(0, 4),
    st.integers(1, 40),
    st.sampled_from(["none", "median", "asha", "hyperband", "halving"]),
    st.integers(0, 1_000),
)
@settings(max_examples=60, deadline=None)
def test_nobody_trains_less_than_nothing_or_more_than_planned(
    states: list[Any], running_now: int, trials: int, pruner: str, seed: int
) -> None:
    source = random.Random(seed)
    records = [
        at_rung(n, *(source.random() for _ in range(source.randint(1, 2))), state=s) for n, s in enumerate(states)
    ]
    progress = tuple(
        Progress(n, 2, LONGEST, 990.0, source.randint(0, 800), 800, evaluations=seen(0.5)) for n in range(running_now)
    )
    for draw in drawn(course(pruner, pruning={"audit": 0.2}), trials, records, progress)[:5]:
        every = [*draw.running, *draw.tasks]
        assert all(0 <= task.examples <= task.plan.examples for task in every)
        assert draw.times >= 1
        finished = sum(one.state.finished for one in records if one.trial < trials)
        assert finished < trials or not draw.tasks
