"""The study that a proposal rests on: what the folder says, in Optuna's terms, whoever reads it and whenever."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finesweep.backends.optuna.drawing import distribution_of, suggest
from finesweep.backends.optuna.pruners import pruner_of, step_of
from finesweep.backends.optuna.study import SweepStudy, TrialStorage
from finesweep.folder import next_attempt
from finesweep.folder.claims import Claim
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation, Params, Progress, TrialRecord, TrialState
from made_specs import made_spec

SPACE: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
    "num_train_epochs": {"low": 2, "high": 5},
    "lr_scheduler_type": {"choices": ["linear", "constant"]},
    "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": "linear"}},
}


def spec_of(space: Any = None, **search: Any) -> SweepSpec:
    return made_spec(name="study", search={"sampler": "tpe", "pruner": "none", **search}, space=space or SPACE)


SPEC = spec_of()
FULL = {"learning_rate": 3e-4, "weight_decay": 0.3, "num_train_epochs": 3, "lr_scheduler_type": "linear"}
FULL |= {"warmup_steps": 0.1}
WITHOUT = {key: value for key, value in FULL.items() if key != "warmup_steps"} | {"lr_scheduler_type": "constant"}

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def study_of(sweep_folder: SweepFolder, spec: SweepSpec = SPEC) -> SweepStudy:
    compares = spec.search.pruner != "none"
    return SweepStudy(sweep_folder, spec, partial(step_of, spec), pruner=pruner_of(spec, 100) if compares else None)


def evaluated(values: Sequence[float | None]) -> tuple[Evaluation, ...]:
    return tuple(Evaluation(i * 10, float(i), i * 100, {}, value) for i, value in enumerate(values, start=1))


def record_of(
    trial: int,
    state: TrialState = TrialState.COMPLETE,
    params: Params = FULL,
    attempt: int = 1,
    values: Sequence[float | None] = (0.5, 0.4, 0.9),
) -> TrialRecord:
    best = min((value for value in values if value is not None), default=None)
    return TrialRecord(trial, attempt, state, params, 0.0, 1.0, "", "h", objective=best, evaluations=evaluated(values))


def outline(trials: Sequence[optuna.trial.FrozenTrial]) -> list[tuple[int, str]]:
    return [(trial.number, trial.state.name) for trial in trials]


def test_each_recorded_trial_is_there_under_its_number_as_its_record_says(sweep_folder: SweepFolder) -> None:
    records = [
        record_of(0),
        record_of(1, TrialState.PRUNED, WITHOUT, values=(0.7, 0.6)),
        record_of(2, TrialState.DIVERGED, values=(0.8, None)),
        record_of(3, TrialState.DIVERGED, values=()),
        record_of(4, TrialState.FAILED, {}, attempt=3, values=()),
        record_of(6, TrialState.INTERRUPTED),
        record_of(7, TrialState.WAITING, values=(0.6,)),
    ]
    for record in records:
        sweep_folder.record(record)
    made = study_of(sweep_folder).others(99)
    states = ["COMPLETE", "PRUNED", "PRUNED", "PRUNED", "FAIL", "FAIL", "PRUNED"]
    assert outline(made) == list(zip([0, 1, 2, 3, 4, 6, 7], states, strict=True))
    assert [trial.value for trial in made] == [0.4, 0.6, 0.8, None, None, None, 0.6]
    assert [trial.params for trial in made] == [FULL, WITHOUT, FULL, FULL, {}, FULL, FULL]
    assert made[0].intermediate_values == {100: 0.5, 200: 0.4, 300: 0.4}
    assert outline(study_of(sweep_folder).others(2)) == [item for item in outline(made) if item[0] != 2]


@given(seed=st.integers(0, 1_000))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_made_of_a_record_is_what_drawing_it_made(seed: int) -> None:
    """Parameters, distributions, value and reports, through the stock calls and through JSON."""
    study = optuna.create_study(storage=TrialStorage(7), sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    params = suggest(trial, SearchSpace(SPEC.space))
    for step, value in ((100, 0.5), (200, 0.4), (300, 0.4)):
        trial.report(value, step)
    study.tell(trial, 0.4)
    (drawn,) = study.trials
    made = SweepStudy(SweepFolder(Path("/nowhere")), SPEC, partial(step_of, SPEC)).of_record(
        record_of(7, params=params), optuna.trial.TrialState.COMPLETE
    )
    for name in ("number", "state", "params", "distributions", "values", "intermediate_values"):
        assert getattr(made, name) == getattr(drawn, name), name


@pytest.mark.parametrize("parameter", SearchSpace(SPEC.space).parameters.items())
def test_a_parameter_is_drawn_from_what_is_kept_with_each_trial(parameter: Any) -> None:
    trial = optuna.create_study().ask()
    suggest(trial, SearchSpace({parameter[0]: parameter[1].model_copy(update={"when": None})}))
    assert trial.distributions == {parameter[0]: distribution_of(parameter[1])}


@pytest.mark.parametrize(
    "edited",
    [{"objective": None}, {"objective": float("nan")}, {"params": FULL | {"n": 1}}, {"params": {"learning_rate": "x"}}],
)
def test_a_record_that_somebody_has_edited_counts_as_a_failure(edited: dict[str, Any]) -> None:
    study = SweepStudy(SweepFolder(Path("/nowhere")), SPEC, partial(step_of, SPEC))
    made = study.of_record(dataclasses.replace(record_of(3), **edited), optuna.trial.TrialState.COMPLETE)
    assert outline([made]) == [(3, "FAIL")]


def claimed(sweep_folder: SweepFolder, trial: int, params: Params | None = None) -> Any:
    """Claim a trial as its worker does; the claim is held for as long as what is returned lives."""
    lease = next_attempt.claim(sweep_folder, 1, [trial])
    assert lease is not None
    if params is not None:
        sweep_folder.claims.note(lease.claim, params)
    return lease


def test_a_trial_that_runs_is_there_with_the_parameters_of_its_claim(sweep_folder: SweepFolder) -> None:
    sweep_folder.record(record_of(0))
    leases = [claimed(sweep_folder, 1, FULL), claimed(sweep_folder, 2), claimed(sweep_folder, 3, WITHOUT)]
    sweep_folder.write_progress(Progress(3, 1, WITHOUT, 0.0, 20, 50, evaluations=evaluated((0.9, 0.8))))
    made = study_of(sweep_folder).others(4)
    assert outline(made) == [(0, "COMPLETE"), (1, "RUNNING"), (2, "RUNNING"), (3, "RUNNING")]
    assert [trial.params for trial in made] == [FULL, FULL, {}, WITHOUT]
    assert made[3].intermediate_values == {100: 0.9, 200: 0.8}
    assert [trial.number for trial in study_of(sweep_folder).others(1)] == [0, 2, 3]
    for lease in leases:
        lease.release()
    assert outline(study_of(sweep_folder).others(4)) == [(0, "COMPLETE")], "a dead trial repels no proposal"


def test_a_trial_that_ended_runs_no_more_though_its_claim_is_still_held(sweep_folder: SweepFolder) -> None:
    lease = claimed(sweep_folder, 0, FULL)
    study = study_of(sweep_folder)
    for state in (TrialState.WAITING, TrialState.COMPLETE):
        sweep_folder.record(record_of(0, state))
        assert outline(study.others(1)) == [(0, {"WAITING": "PRUNED"}.get(state, str(state)))]
    lease.release()


def test_a_trial_that_goes_on_runs_with_what_it_had_and_has_shown(sweep_folder: SweepFolder) -> None:
    claimed(sweep_folder, 0, FULL).release()
    sweep_folder.record(record_of(0, TrialState.WAITING, values=(0.6,)))
    lease = claimed(sweep_folder, 0)
    (made,) = study_of(sweep_folder).others(1)
    assert (made.state.name, made.params, made.intermediate_values) == ("RUNNING", FULL, {100: 0.6})
    lease.release()


@pytest.mark.parametrize("kept", ["claim", "record", "progress", "nothing"])
def test_parameters_of_an_earlier_attempt_come_from_wherever_they_are_left(
    sweep_folder: SweepFolder, kept: str
) -> None:
    claimed(sweep_folder, 0, FULL if kept == "claim" else None).release()
    if kept == "record":
        sweep_folder.record(record_of(0, TrialState.INTERRUPTED))
    if kept == "progress":  # as an earlier version has left it
        sweep_folder.write_progress(Progress(0, 1, FULL, 0.0))
    claimed(sweep_folder, 0, {"learning_rate": 1e-4}).release()  # no whole set
    assert study_of(sweep_folder).params_of(0) == (None if kept == "nothing" else FULL)


def test_the_trial_of_a_storage_has_its_number_and_place_among_the_others(sweep_folder: SweepFolder) -> None:
    for number in (0, 1, 3, 4):
        sweep_folder.record(record_of(number))
    storage = study_of(sweep_folder).open(Claim(2, 1, 1))
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.report(1.0, 1)
    study.tell(trial, 1.0)
    assert trial.number == 2
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert [trial.number for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))] == [0, 1, 2, 3, 4]
    study.trials[0].params["learning_rate"] = 1.0
    assert study.trials[0].params == FULL, "what is handed out is a copy"


def proposal(sweep_folder: SweepFolder, trial: int, spec: SweepSpec, study: SweepStudy | None = None) -> Params:
    """Return what TPE proposes for a trial."""
    study = study or study_of(sweep_folder, spec)
    sampler = optuna.samplers.TPESampler(seed=trial)
    return suggest(study.made(study.open(Claim(trial, 1, 1)), sampler=sampler).ask(), SearchSpace(spec.space))


STATES = [state for state in TrialState if state is not TrialState.RUNNING]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_histories_lead_to_equal_proposals_in_whatever_order_they_came(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """One process reads each record as it comes, some of them replaced meanwhile, the other all at the end."""
    chance = random.Random(seed)
    records = []
    for number in range(25):
        params = suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask(), SPACE_OF_SPEC)
        values = [chance.random() for _ in range(chance.randint(0, 4))]
        state = chance.choice(STATES if values else [TrialState.FAILED, TrialState.DIVERGED])
        records.append(record_of(number, state, params, values=values))
    folders = [make_folders(tmp_path_factory.mktemp("s") / "s") for _ in range(2)]
    spec = spec_of(pruner="asha")
    early = study_of(folders[0], spec)
    for record in chance.sample(records, len(records)):
        if chance.random() < 0.3:
            folders[0].record(dataclasses.replace(record, state=TrialState.INTERRUPTED))
            early.refresh()
        folders[0].record(record)
        if chance.random() < 0.5:
            early.refresh()
    for record in chance.sample(records, len(records)):
        folders[1].record(record)
    late = study_of(folders[1], spec)
    for number in (25, 40):
        assert proposal(folders[0], number, spec, early) == proposal(folders[1], number, spec, late)
    facts = [[(t.number, t.state, t.params, t.values, t.system_attrs) for t in one.others(99)] for one in (early, late)]
    assert facts[0] == facts[1]


SPACE_OF_SPEC = SearchSpace(SPEC.space)
LINE = spec_of({"weight_decay": {"low": 0.0, "high": 1.0}})


def test_trials_that_run_at_the_same_time_repel_each_other(sweep_folder: SweepFolder) -> None:
    """Else eight workers that propose from one history try eight times nearly the same."""
    for number in range(20):
        at = number / 20
        sweep_folder.record(record_of(number, params={"weight_decay": at}, values=((at - 0.5) ** 2,)))
    alone = [proposal(sweep_folder, number, LINE)["weight_decay"] for number in range(20, 28)]
    leases, together = [], []
    for number in range(20, 28):
        params = proposal(sweep_folder, number, LINE)
        leases.append(claimed(sweep_folder, number, params))
        together.append(params["weight_decay"])
    assert together[0] == alone[0]
    spread = [max(values) - min(values) for values in (alone, together)]
    assert spread[1] > 2 * spread[0]
    for lease in leases:
        lease.release()
    assert [proposal(sweep_folder, number, LINE)["weight_decay"] for number in range(20, 28)] == alone


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pruner_sees_of_the_others_what_it_would_in_a_study_that_all_share(
    tmp_path_factory: pytest.TempPathFactory, pruner: str, seed: int
) -> None:
    """Trials of several lengths report in turns: it decides the same, and notes the same on each of them."""
    chance, spec = random.Random(seed), spec_of(pruner=pruner)
    sweep_folder = make_folders(tmp_path_factory.mktemp("s") / "s")
    shared = optuna.create_study(study_name=spec.name, pruner=pruner_of(spec, 100))
    live = [shared.ask() for _ in range(8)]
    studies = [study_of(sweep_folder, spec) for _ in range(8)]
    leases = [claimed(sweep_folder, number, FULL) for number in range(8)]
    storages = [study.open(lease.claim) for study, lease in zip(studies, leases, strict=True)]
    ours = [
        study.made(storage, pruner=pruner_of(spec, 100)).ask() for study, storage in zip(studies, storages, strict=True)
    ]
    lengths, reached = [chance.randint(1, 9) for _ in range(8)], [[] for _ in range(8)]
    left = set(range(8))
    while left:
        number = chance.choice(sorted(left))
        values = reached[number]
        values.append(chance.random())
        step, best, last = len(values), min(values), len(values) == lengths[number]
        storages[number].others = studies[number].others(number)
        live[number].report(best, step)
        ours[number].report(best, step)
        weak = not last and live[number].should_prune()
        assert weak == (not last and ours[number].should_prune())
        if weak or last:
            left.remove(number)
            state = TrialState.PRUNED if weak else TrialState.COMPLETE
            sweep_folder.record(record_of(number, state, values=values))
        else:
            evaluations = evaluated(values)
            sweep_folder.write_progress(Progress(number, 1, FULL, 0.0, step, 1_000, evaluations=evaluations))
    notes = [trial.system_attrs for trial in study_of(sweep_folder, spec).others(99)]
    assert notes == [trial.system_attrs for trial in shared.get_trials(deepcopy=False)]
    for lease in leases:
        lease.release()


def test_where_nobody_looks_at_other_trials_none_are_read(sweep_folder: SweepFolder) -> None:
    sweep_folder.record(record_of(0))
    study = SweepStudy(sweep_folder, SPEC, partial(step_of, SPEC), is_read=False)
    study.refresh()
    assert study.open(Claim(1, 1, 1)).others == []
