"""No configuration is proposed twice, and a sampler's proposals are otherwise its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesweep.backends.optuna.drawing import suggest
from finesweep.backends.optuna.proposals import (
    TRIES,
    DraftTrial,
    RandomDraws,
    Unrepeated,
    taken_by_others,
    trial_seed,
    unrepeated,
)
from finesweep.folder import SweepFolder, next_attempt
from finesweep.folder.sweep_folder import make_folders
from finesweep.spec import SweepSpec
from finesweep.spec.planned_trials import configuration
from finesweep.trial import Params, TrialRecord, TrialState
from made_specs import made_spec

SMALL: dict[str, Any] = {
    "num_train_epochs": {"low": 1, "high": 2},
    "weight_decay": {"low": 0.0, "high": 0.2, "step": 0.1},
    "lr_scheduler_type": {"choices": ["linear", "constant"]},
    "warmup_steps": {"choices": [0.0, 0.1], "when": {"lr_scheduler_type": "linear"}},
}
SIZE = 2 * 3 * (2 + 1)
LARGE: dict[str, Any] = {
    "learning_rate": {"low": 1e-6, "high": 1e-3, "log": True},
    "num_train_epochs": {"low": 1, "high": 5},
    "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"num_train_epochs": [4, 5]}},
    "adam_beta1": {"low": 0.9, "high": 0.9},
}


def spec_of(space: dict[str, Any], seed: int = 0) -> SweepSpec:
    return made_spec(space=space, search={"seed": seed, "sampler": "tpe"})


SPEC = spec_of(SMALL)
POINTS = list(SPEC.search_space.points(random.Random(5)))


def told(space: dict[str, Any], trials: int) -> optuna.Study:
    """Return a study with some complete trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for number in range(trials):
        trial = study.ask()
        suggest(trial, spec_of(space).search_space)
        study.tell(trial, (number * 7) % 5)
    return study


@given(seed=st.integers(0, 2**31 - 1), order=st.permutations(range(2, 2 + SIZE - 2)))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_number_has_its_parameters_whichever_is_asked_first(seed: int, order: Sequence[int]) -> None:
    spec, planned = spec_of(SMALL, seed), POINTS[:2]
    one, other = RandomDraws(spec, planned), RandomDraws(spec, planned)
    drawn = {trial: one.of(trial) for trial in order}
    assert drawn == {trial: other.of(trial) for trial in sorted(order)}
    found = {configuration(spec, params) for params in [*planned, *drawn.values()]}
    assert len(found) == SIZE, "none of the plan and none twice, until the space is used up"


def test_space_that_is_used_up_gives_a_repeat_and_no_error() -> None:
    draws = RandomDraws(SPEC, POINTS)
    assert SPEC.search_space.contains(draws.of(SIZE))


def test_seeds_and_numbers_draw_other_parameters() -> None:
    spec = spec_of(LARGE)
    rates = {RandomDraws(spec_of(LARGE, seed), []).of(0)["learning_rate"] for seed in range(5)}
    rates |= {RandomDraws(spec, []).of(trial)["learning_rate"] for trial in range(1, 6)}
    assert len(rates) == 10
    seeds = {trial_seed(seed, trial) for seed in range(30) for trial in range(30)}
    assert len(seeds) == 900, "trial 11 of seed 1 is not trial 1 of seed 11"
    assert max(seeds) < 2**32


def test_sampler_is_asked_some_times_before_a_search() -> None:
    asked: list[Params] = []

    def stubborn() -> Params:
        asked.append(POINTS[0])
        return POINTS[0]

    taken = {configuration(SPEC, point) for point in POINTS[:-1]}
    assert unrepeated(SPEC, stubborn, taken, seed=1) == POINTS[-1]
    assert len(asked) == TRIES
    assert unrepeated(SPEC, stubborn, set(), seed=1) is POINTS[0]
    assert len(asked) == TRIES + 1


def test_searches_after_a_stuck_sampler_begin_elsewhere() -> None:
    taken = {configuration(SPEC, POINTS[0])}
    found = {str(unrepeated(SPEC, lambda: POINTS[0], taken, seed)) for seed in range(12)}
    assert len(found) > 3


@pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("multivariate", [False, True])
def test_proposal_that_is_free_is_that_of_the_sampler_alone(space: dict[str, Any], multivariate: bool) -> None:
    """Through the whole way of Optuna: the space of all parameters together, the single ones, the fixed one."""
    spec, history = spec_of(space), told(space, 12).trials
    proposed = []
    for wrapped in (False, True):
        sampler: Any = optuna.samplers.TPESampler(seed=4, multivariate=multivariate)
        study = optuna.create_study(sampler=Unrepeated(sampler, spec, set, 9) if wrapped else sampler)
        study.add_trials(history)
        proposed.append(suggest(study.ask(), spec.search_space))
    assert proposed[0] == proposed[1]
    assert spec.search_space.contains(proposed[1])


def test_only_free_configuration_is_proposed_and_kept() -> None:
    free = next(point for point in POINTS if "warmup_steps" not in point)
    taken = {configuration(SPEC, point) for point in POINTS if point != free}
    study = optuna.create_study(sampler=Unrepeated(optuna.samplers.TPESampler(seed=0), SPEC, lambda: taken, 2))
    study.add_trials(told(SMALL, 12).trials)
    trial = study.ask()
    assert suggest(trial, SPEC.search_space) == trial.params == free
    assert set(trial.distributions) == set(free)


def test_draft_gives_the_trial_no_parameters() -> None:
    study = told(LARGE, 12)
    trial = study.ask()
    draft = DraftTrial(optuna.samplers.TPESampler(seed=1), study, study.trials[-1])
    drawn = spec_of(LARGE).search_space.draw(draft.draw)
    assert drawn["adam_beta1"] == 0.9
    assert trial.params == {}
    assert (study.trials[-1].params, study.trials[-1].distributions) == ({}, {})


def record_of(trial: int, state: TrialState, params: Params) -> TrialRecord:
    return TrialRecord(trial, 1, state, params, 0.0, 1.0, "", "h")


def test_planned_running_and_ended_trials_of_others_are_taken(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "s")
    planned, params = POINTS[:1], dict(enumerate(POINTS[1:7]))

    def claimed(trial: int) -> Any:
        lease = next_attempt.claim(folder, 1, [trial])
        assert lease is not None
        folder.claims.note(lease.claim, params[trial])
        return lease

    leases = [claimed(0), claimed(1)]
    claimed(2).release()
    folder.record(record_of(2, TrialState.INTERRUPTED, params[2]))
    folder.record(record_of(3, TrialState.FAILED, params[3]))
    folder.record(record_of(4, TrialState.WAITING, params[4]))
    folder.record(record_of(5, TrialState.FAILED, {}))

    def taken(trial: int) -> set[Any]:
        return taken_by_others(SPEC, planned, SweepFolder(folder.path), trial)

    def those(*trials: int) -> set[Any]:
        return {configuration(SPEC, point) for point in (*planned, *(params[trial] for trial in trials))}

    assert taken(9) == those(0, 1, 2, 3, 4), "a trial that failed before it had parameters takes none"
    assert taken(1) == those(0, 2, 3, 4), "its own earlier attempts do not count"
    assert taken(4) == those(0, 1, 2, 3)
    for lease in leases:
        lease.release()
