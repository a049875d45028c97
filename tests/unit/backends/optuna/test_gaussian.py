"""The Gaussian process learns from pruned and diverged trials too, and no value makes it fail."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from finesweep import trial as sweep_trial
from finesweep.backends.optuna.drawing import distribution_of, suggest
from finesweep.backends.optuna.gaussian import STARTUP, GaussianProcess, fit_values, learned
from finesweep.backends.optuna.pruners import step_of
from finesweep.backends.optuna.samplers import made
from finesweep.backends.optuna.study import DIVERGED, SweepStudy, TrialStorage
from finesweep.folder.foreign import Foreign, ForeignTrial
from finesweep.folder.sweep_folder import make_folders
from finesweep.spec import SearchSpace
from finesweep.trial import Evaluation, Params, TrialRecord
from made_specs import made_spec

pytestmark = pytest.mark.torch
SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
}
CONDITIONAL: dict[str, Any] = {
    "learning_rate": SPACE["learning_rate"],
    "lr_scheduler_type": {"choices": ["linear", "constant"]},
    "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": "linear"}},
}
MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
COMPLETE, PRUNED, RUNNING, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL
ODD: list[float | None] = [None, math.inf, -math.inf, 1e308, -1e308, 1e-308, 0.0, 5e-324, 0.5, 0.5]


def space_of(space: dict[str, Any]) -> SearchSpace:
    return made_spec(space=space).search_space


def away(params: Params) -> float:
    """Return a value that is lowest at a learning rate of 3e-4."""
    return 0.4 + abs(math.log10(float(str(params["learning_rate"])) / 3e-4))


def trial_of(
    number: int, state: TrialState, value: float | None, params: Params, space: dict[str, Any] | None = None
) -> FrozenTrial:
    axes = space_of(space or SPACE).parameters
    of = {name: distribution_of(axes[name]) for name in params}
    made_trial = create_trial(state=state, value=value, params=dict(params), distributions=of)
    made_trial.number = number
    return made_trial


def drawn(count: int, space: dict[str, Any] | None = None, seed: int = 0) -> list[Params]:
    source = random.Random(seed)
    return [space_of(space or SPACE).draw(lambda _, axis: axis.draw(source)) for _ in range(count)]


def proposal(
    trials: Sequence[FrozenTrial], seed: int = 0, space: dict[str, Any] | None = None, maximize: bool = False
) -> Params:
    """Return what the process proposes after trials."""
    direction = "maximize" if maximize else "minimize"
    storage = TrialStorage(len(trials), list(trials))
    study = optuna.create_study(storage=storage, sampler=GaussianProcess(seed), direction=direction)
    return suggest(study.ask(), space_of(space or SPACE))


@pytest.mark.parametrize("state", [COMPLETE, PRUNED])
def test_trials_of_either_end_lead_to_the_best_region(state: TrialState) -> None:
    trials = [trial_of(number, state, away(params), params) for number, params in enumerate(drawn(15))]
    assert max(away(proposal(trials, seed)) for seed in range(5)) < 0.55
    at_random = [away(params) for params in drawn(5, seed=1)]
    assert max(at_random) > 0.7


def test_larger_values_are_better_where_they_are_maximized() -> None:
    trials = [trial_of(number, PRUNED, -away(params), params) for number, params in enumerate(drawn(15))]
    assert max(away(proposal(trials, seed, maximize=True)) for seed in range(5)) < 0.55


def test_a_region_in_which_all_diverge_at_once_is_left() -> None:
    trials = []
    for number, params in enumerate(drawn(20)):
        bad = float(str(params["learning_rate"])) > 1e-4
        trials.append(trial_of(number, PRUNED if bad else COMPLETE, None if bad else 0.5, params))
    assert sum(float(str(proposal(trials, seed)["learning_rate"])) > 1e-4 for seed in range(6)) <= 1


def test_a_good_value_before_the_loss_diverged_does_not_count() -> None:
    trials = [
        trial_of(number, PRUNED, value, params)
        for number, (value, params) in enumerate(zip((0.1, 0.4, 0.6), drawn(3), strict=True))
    ]
    trials[0].user_attrs = {DIVERGED: True}
    assert [one.value for one in learned(trials, MINIMIZE)] == pytest.approx([1.0, 0.4 / 0.6, 1.0])


def test_the_study_says_which_trials_have_diverged(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "s")
    first, second, third = drawn(3)
    foreign = tuple(
        ForeignTrial(number, state, first, 0.3)
        for number, state in enumerate((sweep_trial.TrialState.DIVERGED, sweep_trial.TrialState.PRUNED))
    )
    Foreign("/old", foreign).write(folder)
    folder.record(dataclasses.replace(_record(1, second), state=sweep_trial.TrialState.DIVERGED))
    folder.record(_record(2, third))
    spec = made_spec(space=SPACE)
    others = SweepStudy(folder, spec, partial(step_of, spec)).others(3)
    assert [(one.number, DIVERGED in one.user_attrs) for one in others] == [
        (-2, True),
        (-1, False),
        (1, True),
        (2, False),
    ]
    assert [one.value for one in others[:2]] == [0.3, 0.3]


def test_few_trials_are_followed_by_a_random_draw() -> None:
    trials = [trial_of(number, PRUNED, away(params), params) for number, params in enumerate(drawn(STARTUP - 1))]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    assert proposal(trials, 3) == suggest(study.ask(), space_of(SPACE))


def test_what_is_learned_keeps_its_order_and_counts_from_0() -> None:
    first, second, third, *rest = drawn(6)
    trials = [
        trial_of(-2, PRUNED, None, first),
        trial_of(-1, COMPLETE, 2.0, second),
        trial_of(0, COMPLETE, 1.0, third),
        trial_of(1, FAIL, None, {}),
        trial_of(2, RUNNING, None, rest[0]),
        trial_of(3, PRUNED, 1.5, rest[1]),
        trial_of(5, RUNNING, None, {}),
    ]
    found = learned(trials, MINIMIZE)
    assert [one.number for one in found] == [0, 1, 2, 3, 4, 5]
    assert [one.state for one in found] == [COMPLETE, COMPLETE, COMPLETE, RUNNING, COMPLETE, RUNNING]
    assert [one.value for one in found] == [1.0, 1.0, 0.5, None, 0.75, None], "in shares of the largest"
    assert [one.params for one in found] == [first, second, third, rest[0], rest[1], {}]
    assert trials[0].number == -2, "the trials of the study stay as they are"


@given(values=st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=12), maximize=st.booleans())
@settings(max_examples=300, derandomize=True)
def test_any_values_become_ones_that_a_process_can_be_fitted_to(values: list[float | None], maximize: bool) -> None:
    found = fit_values(values, MAXIMIZE if maximize else MINIMIZE)
    assert len(found) == len(values)
    sign = -1 if maximize else 1
    usable = [(sign * value, sign * fitted) for value, fitted in _known(values, found)]
    if not usable:
        assert found == [None] * len(values)
        return
    assert all(-1 <= _number(fitted) <= 1 for fitted in found)
    for (value, fitted), (other, also) in itertools.product(usable, usable):
        assert fitted <= also or value > other, "no order is turned round"
    worst = max(fitted for _, fitted in usable)
    assert {sign * _number(fitted) for value, fitted in zip(values, found, strict=True) if _is_odd(value)} <= {worst}


def _is_odd(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _number(value: float | None) -> float:
    assert value is not None
    return value


def _known(values: Sequence[float | None], found: Sequence[float | None]) -> list[tuple[float, float]]:
    pairs = zip(values, found, strict=True)
    return [(_number(value), _number(fitted)) for value, fitted in pairs if not _is_odd(value)]


def test_one_value_far_away_leaves_the_others_distinct() -> None:
    found = [_number(value) for value in fit_values([0.4, 0.5, 0.6, 0.7, 1e6], MINIMIZE)]
    spread = max(found) - min(found)
    assert (found[1] - found[0]) / spread > 0.15
    assert found == sorted(found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [ODD * 2, [0.5] * 15, [math.inf] * 15, [1e308, -1e308] * 8, [None, 0.1] * 7])
@pytest.mark.parametrize("maximize", [False, True])
def test_odd_values_do_not_break_a_proposal(values: list[float | None], maximize: bool) -> None:
    trials = [
        trial_of(number, PRUNED if value is None else COMPLETE, value, params)
        for number, (value, params) in enumerate(zip(values, drawn(len(values)), strict=True))
    ]
    assert space_of(SPACE).contains(proposal(trials, maximize=maximize))


def test_a_failed_fit_draws_at_random_and_says_so(monkeypatch: Any, capsys: Any) -> None:
    def broken(*_: object) -> None:
        raise ValueError("not positive definite")

    monkeypatch.setattr(optuna.samplers.GPSampler, "sample_relative", broken)
    trials = [trial_of(number, COMPLETE, away(params), params) for number, params in enumerate(drawn(15))]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    assert proposal(trials, 3) == suggest(study.ask(), space_of(SPACE))
    assert capsys.readouterr().out == "gp: drawn at random, because the fit failed: not positive definite\n"


@pytest.mark.filterwarnings("error")
def test_parameters_with_a_when_are_drawn_too_beside_foreign_trials() -> None:
    params = drawn(16, CONDITIONAL)
    assert {len(one) for one in params} == {2, 3}
    trials = [trial_of(place - 8, COMPLETE, away(one), one, CONDITIONAL) for place, one in enumerate(params)]
    found = [proposal(trials, seed, CONDITIONAL) for seed in range(6)]
    assert all(space_of(CONDITIONAL).contains(one) for one in found)
    assert max(map(away, found)) < 0.7


def test_equal_folders_give_equal_proposals_in_any_order_of_the_ends(tmp_path: Path) -> None:
    params = drawn(14)
    proposals = set()
    for place, order in enumerate((range(14), [*range(13, -1, -1)], [*range(7, 14), *range(7)])):
        folder = make_folders(tmp_path / str(place))
        for number in order:
            folder.record(_record(number, params[number]))
        spec = made_spec(space=SPACE, search={"sampler": "gp"})
        study = SweepStudy(folder, spec, partial(step_of, spec))
        storage = TrialStorage(14, study.others(14))
        asked = study.made(storage, sampler=made("gp", 7)).ask()
        proposals.add(tuple(suggest(asked, spec.search_space).values()))
    assert len(proposals) == 1


def _record(number: int, params: Params) -> TrialRecord:
    pruned = number % 3 > 0
    state = sweep_trial.TrialState.PRUNED if pruned else sweep_trial.TrialState.COMPLETE
    seen = (Evaluation(1, 1.0, 100, {}, away(params)),)
    return TrialRecord(number, 1, state, params, 0.0, 1.0, "", "h", objective=away(params), evaluations=seen)


def test_a_running_trial_repels_the_next_proposal() -> None:
    trials = [trial_of(number, COMPLETE, away(params), params) for number, params in enumerate(drawn(15))]
    alone = proposal(trials)
    beside = proposal([*trials, trial_of(15, RUNNING, None, alone)])
    assert beside != alone
