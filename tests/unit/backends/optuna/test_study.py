"""The shared study against the records: whatever becomes of its journal, it says what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finesweep.backends.optuna.drawing import suggest
from finesweep.backends.optuna.journal import FileStorage, Journal
from finesweep.backends.optuna.study import SharedStudy
from finesweep.folder.claims import Claim
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation, Progress, TrialRecord, TrialState

SPEC = SweepSpec.model_validate(
    {
        "name": "study",
        "base": Path(),
        "model": {"name": "m"},
        "data": {"train": "t.csv"},
        "objective": {"metric": "eval_loss", "direction": "minimize"},
        "space": {
            "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
            "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
            "num_train_epochs": {"low": 2, "high": 5},
            "lr_scheduler_type": {"choices": ["linear", "constant"]},
            "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": "linear"}},
        },
    },
    strict=False,
)
FULL = {"learning_rate": 3e-4, "weight_decay": 0.3, "num_train_epochs": 3, "lr_scheduler_type": "linear"}
FULL |= {"warmup_steps": 0.1}
WITHOUT = {key: value for key, value in FULL.items() if key != "warmup_steps"} | {"lr_scheduler_type": "constant"}


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def shared(sweep_folder: SweepFolder) -> SharedStudy:
    return SharedStudy(sweep_folder, SPEC, lambda evaluation: evaluation.examples)


def record_of(trial: int, state=TrialState.COMPLETE, params=FULL, attempt: int = 1, values=(0.5, 0.4, 0.9)):
    evaluations = tuple(Evaluation(i, float(i), i * 100, {}, value) for i, value in enumerate(values, start=1))
    best = min((value for value in values if value is not None), default=None)
    return TrialRecord(trial, attempt, state, params, 0.0, 1.0, "", "h", objective=best, evaluations=evaluations)


def trials(sweep_folder: SweepFolder) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(sweep_folder.study_file)))
    return optuna.load_study(study_name=SPEC.name, storage=storage).trials


def outline(sweep_folder: SweepFolder) -> list[tuple[int, int, str]]:
    return [(t.user_attrs.get("number"), t.user_attrs.get("attempt"), t.state.name) for t in trials(sweep_folder)]


REPORTS = ((100, 0.5), (200, 0.4), (300, 0.4))


def begin(sweep_folder: SweepFolder, claim: Claim, params=FULL, reports=REPORTS) -> None:
    """Leave a trial RUNNING, with the parameters drawn and the reports made so far, as a killed process does."""
    storage = shared(sweep_folder).open(claim)
    study = optuna.load_study(
        study_name=SPEC.name,
        storage=storage,
        sampler=optuna.samplers.PartialFixedSampler(dict(params), optuna.samplers.RandomSampler()),
    )
    trial = study.ask()
    suggest(trial, SearchSpace({name: SPEC.space[name] for name in params}))
    for step, value in reports:
        trial.report(value, step)
    storage.close()


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_a_missing_study_is_made_of_the_records(sweep_folder):
    told = [
        record_of(0),
        record_of(1, TrialState.PRUNED, WITHOUT, values=(0.7, 0.6)),
        record_of(2, TrialState.DIVERGED, values=(0.8, None)),
        record_of(3, TrialState.DIVERGED, values=()),
        record_of(4, TrialState.FAILED, {}, attempt=3, values=()),
        record_of(5, TrialState.INTERRUPTED),
    ]
    for record in told:
        sweep_folder.record(record)
    shared(sweep_folder).settle()
    made = trials(sweep_folder)
    states = ["COMPLETE", "PRUNED", "PRUNED", "PRUNED", "FAIL"]
    assert outline(sweep_folder) == [(i, 3 if i == 4 else 1, state) for i, state in enumerate(states)]
    assert [trial.value for trial in made] == [0.4, 0.6, 0.8, None, None]
    assert [trial.params for trial in made] == [FULL, WITHOUT, FULL, FULL, {}]
    assert made[0].intermediate_values == {100: 0.5, 200: 0.4, 300: 0.4}


def test_what_is_made_of_a_record_is_what_telling_it_made(sweep_folder):
    begin(sweep_folder, Claim(0, 1, 1))
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    live = trials(sweep_folder)[0]
    sweep_folder.study_file.unlink()
    shared(sweep_folder).settle()
    again = trials(sweep_folder)[0]
    assert (again.params, again.distributions, again.value) == (live.params, live.distributions, live.value)
    assert again.user_attrs == live.user_attrs


def test_settling_again_changes_nothing(sweep_folder):
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    before = sweep_folder.study_file.read_bytes()
    shared(sweep_folder).settle()
    assert sweep_folder.study_file.read_bytes() == before


def test_a_dead_trials_end_is_told_from_its_record_or_as_a_failure(sweep_folder):
    for number in range(3):
        begin(sweep_folder, Claim(number, 1, 1))
    sweep_folder.record(record_of(0))
    sweep_folder.record(record_of(1, TrialState.PRUNED))
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "COMPLETE"), (1, 1, "PRUNED"), (2, 1, "FAIL")]


def test_a_trial_that_somebody_holds_is_left_to_them(sweep_folder):
    lease = sweep_folder.claim(1, range(1))
    begin(sweep_folder, lease.claim)
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "RUNNING")]
    lease.release()
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "COMPLETE")]


def test_a_running_trial_of_nobody_is_closed(sweep_folder):
    shared(sweep_folder).settle()
    storage = FileStorage(sweep_folder.study_file)
    optuna.load_study(study_name=SPEC.name, storage=storage).ask()
    storage.close()
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(None, None, "FAIL")]


def test_a_trial_is_marked_from_its_first_moment(sweep_folder):
    """A process may die between any two events; the first one says already whose the trial is."""
    storage = shared(sweep_folder).open(Claim(7, 2, 1))
    optuna.load_study(study_name=SPEC.name, storage=storage).ask()
    storage.close()
    assert outline(sweep_folder) == [(7, 2, "RUNNING")]


def test_a_later_attempt_is_added_beside_the_failed_one(sweep_folder):
    begin(sweep_folder, Claim(0, 1, 1))
    shared(sweep_folder).settle()
    sweep_folder.record(record_of(0, attempt=2))
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "FAIL"), (0, 2, "COMPLETE")]


@pytest.mark.parametrize(("params", "reports"), [(FULL, REPORTS[:1]), ({"learning_rate": 3e-4}, ())])
def test_a_trial_of_which_the_study_lost_a_part_is_added_as_a_whole(sweep_folder, params, reports):
    begin(sweep_folder, Claim(0, 1, 1), params, reports)
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "FAIL"), (0, 1, "COMPLETE")]
    assert (trials(sweep_folder)[1].params, trials(sweep_folder)[1].intermediate_values) == (FULL, dict(REPORTS))


@pytest.mark.parametrize("kept", ["study", "record", "progress", "nothing"])
def test_parameters_of_an_earlier_attempt_come_from_wherever_they_are_left(sweep_folder, kept):
    if kept == "study":
        begin(sweep_folder, Claim(0, 1, 1))
    if kept == "record":
        sweep_folder.record(record_of(0, TrialState.INTERRUPTED))
    if kept == "progress":
        sweep_folder.write_progress(Progress(0, 1, FULL, 0.0))
    begin(sweep_folder, Claim(0, 2, 1), {"learning_rate": 1e-4})  # cut short: half a set is none
    study = shared(sweep_folder)
    storage = study.open(Claim(0, 3, 1))
    assert study.params_to_repeat(Claim(0, 3, 1), storage) == (None if kept == "nothing" else FULL)
    storage.close()
    assert {state for _, _, state in outline(sweep_folder)} == {"FAIL"}


def test_closing_a_trial_that_was_ended_meanwhile_does_no_harm(sweep_folder, monkeypatch):
    begin(sweep_folder, Claim(0, 1, 1))
    study = shared(sweep_folder)
    storage = study.open(Claim(0, 2, 1))
    ended = optuna.exceptions.UpdateFinishedTrialError

    def too_late(*_: object) -> None:
        raise ended

    monkeypatch.setattr(storage, "set_trial_state_values", too_late)
    assert study.params_to_repeat(Claim(0, 2, 1), storage) == FULL
    storage.close()


@pytest.mark.parametrize("garbage", [b"no JSON\n", bytes(64) + b"\n", b'{"op_code":99}\n', b"[]\n", b'{"op_code":4}\n'])
def test_garbage_is_set_aside_and_the_study_made_anew(sweep_folder, capfd, garbage):
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    for name in ("study.journal.corrupt", "study.journal.corrupt.2"):
        content = sweep_folder.study_file.read_bytes() + garbage
        sweep_folder.study_file.write_bytes(content)
        shared(sweep_folder).settle()
        assert outline(sweep_folder) == [(0, 1, "COMPLETE")]
        assert (sweep_folder.path / name).read_bytes() == content
        assert f"set aside as {name} and made anew" in capfd.readouterr().out
        assert f"set aside as {name} and made anew" in sweep_folder.notes[-1]


@pytest.mark.parametrize(("old", "new"), [(b'"directions":[1]', b'"directions":[2]'), (b'"value":0.4', b'"value":0.7')])
def test_a_study_that_contradicts_the_sweep_is_made_anew(sweep_folder, old, new):
    """A flipped bit may leave valid JSON behind."""
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    content = sweep_folder.study_file.read_bytes()
    assert old in content
    sweep_folder.study_file.write_bytes(content.replace(old, new))
    shared(sweep_folder).settle()
    assert sweep_folder.notes
    assert trials(sweep_folder)[0].value == 0.4


@pytest.mark.parametrize("what", ["link", "folder"])
def test_something_else_in_the_journals_place_is_moved_away(sweep_folder, tmp_path, what):
    victim = tmp_path / "victim"
    victim.write_text("torn")
    sweep_folder.study_file.symlink_to(victim) if what == "link" else sweep_folder.study_file.mkdir()
    sweep_folder.record(record_of(0))
    shared(sweep_folder).settle()
    assert outline(sweep_folder) == [(0, 1, "COMPLETE")]
    assert victim.read_text() == "torn"


@pytest.mark.parametrize("values", [{"objective": None}, {"objective": float("nan")}, {"params": FULL | {"n": 1}}])
def test_an_edited_record_does_not_stop_the_sweep(sweep_folder, values):
    edited = dataclasses.replace(record_of(0), **values)
    assert shared(sweep_folder)._as_told(edited).state.is_finished()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[SweepFolder, bytes]:
    sweep_folder = make_folders(tmp_path_factory.mktemp("whole") / "s")
    for number in range(4):
        begin(sweep_folder, Claim(number, 1, 1), FULL | {"learning_rate": 1e-4 + number * 1e-5})
        params = FULL | {"learning_rate": 1e-4 + number * 1e-5}
        sweep_folder.record(record_of(number, params=params))
        shared(sweep_folder).settle()
    return sweep_folder, sweep_folder.study_file.read_bytes()


def complete(sweep_folder: SweepFolder) -> dict[int, tuple[dict, float | None]]:
    return {t.user_attrs["number"]: (t.params, t.value) for t in trials(sweep_folder) if t.state.name == "COMPLETE"}


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_flipped_bit_or_cut_the_study_says_what_the_records_say(whole, data):
    sweep_folder, content = whole
    sweep_folder.study_file.write_bytes(content)
    wanted = complete(sweep_folder)
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = bytes([content[place] ^ (1 << bit)])
    harmed = content[:place] + (flipped + content[place + 1 :] if data.draw(st.booleans()) else b"")
    sweep_folder.study_file.write_bytes(harmed)
    shared(sweep_folder).settle()
    found = complete(sweep_folder)
    # A flipped number makes a trial of its own, which no record contradicts; every record is there all the same.
    assert {number: found.get(number) for number in wanted} == wanted
    assert all(trial.state.is_finished() for trial in trials(sweep_folder))


def told(storage: FileStorage, params: dict) -> int:
    """Tell a study one more trial; return its number."""
    study = optuna.load_study(study_name=SPEC.name, storage=storage)
    study.add_trial(optuna.trial.create_trial(params=params, distributions=DISTRIBUTIONS, value=1.0))
    return study.trials[-1].number


DISTRIBUTIONS = {"learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-3)}


def opened(sweep_folder: SweepFolder, known: FileStorage | None = None) -> FileStorage:
    storage = FileStorage(sweep_folder.study_file, known=known)
    storage.close()
    return storage


def held(storage: FileStorage) -> list[optuna.trial.FrozenTrial]:
    """Return what a storage has read when it was opened."""
    return list(storage._replay_result._trials.values())


def test_what_a_worker_knows_is_not_read_again_by_its_trials(sweep_folder, monkeypatch):
    """Each trial would else read the whole journal: with thousands of trials most of what a trial costs."""
    shared(sweep_folder).settle()
    with contextlib.closing(FileStorage(sweep_folder.study_file)) as storage:
        for count in range(20):
            told(storage, {"learning_rate": 1e-4 + count * 1e-6})
    known = opened(sweep_folder)
    with contextlib.closing(FileStorage(sweep_folder.study_file)) as storage:
        told(storage, {"learning_rate": 9e-4})
    read = []
    monkeypatch.setattr(Journal, "_event", lambda _, line: read.append(line) or json.loads(line))
    assert held(opened(sweep_folder, known)) == held(opened(sweep_folder))
    assert len(read) == 1 + len(sweep_folder.study_file.read_bytes().splitlines())


def test_two_trials_that_begin_with_the_same_knowledge_do_not_disturb_each_other(sweep_folder):
    shared(sweep_folder).settle()
    known = opened(sweep_folder)
    storages = [FileStorage(sweep_folder.study_file, Claim(number, 1, 1), known) for number in range(2)]
    asked = [optuna.load_study(study_name=SPEC.name, storage=storage).ask() for storage in storages]
    for storage in storages:
        storage.close()
    assert [(trial.number, trial.user_attrs["number"]) for trial in asked] == [(0, 0), (1, 1)]
    assert known.replay is None, "what was read is handed over, not shared"


@given(place=st.integers(0, 10_000), is_other_file=st.booleans())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_file_that_is_no_longer_the_one_that_was_read_is_read_from_its_start(whole, place, is_other_file):
    """It was removed and begun anew, or an older copy of it was put back, perhaps under the same inode."""
    sweep_folder, content = whole
    sweep_folder.study_file.write_bytes(content)
    known = opened(sweep_folder)
    lines = content.splitlines(keepends=True)
    kept = lines[: place % (len(lines) + 1)]
    if is_other_file:
        kept = [line.replace(b'"worker_id":"', b'"worker_id":"f') for line in kept]
    sweep_folder.study_file.write_bytes(b"".join(kept))
    assert held(opened(sweep_folder, known)) == held(opened(sweep_folder))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_trial_is_known_without_a_look_at_all_of_them(sweep_folder, monkeypatch, direction):
    values = [0.5, 0.3, 0.9, 0.3, 0.1, 0.95, 0.7]
    with contextlib.closing(FileStorage(sweep_folder.study_file)) as storage:
        study = optuna.create_study(study_name=SPEC.name, storage=storage, direction=direction)
        with pytest.raises(ValueError, match="No trials are completed yet"):
            _ = study.best_trial
        for value in values:
            study.tell(study.ask(), value)
        study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
        study.add_trial(optuna.trial.create_trial(value=0.2, params={}, distributions={}))
        expected = optuna.storages.BaseStorage.get_best_trial(storage, study._study_id)
        monkeypatch.setattr(FileStorage, "get_all_trials", None)
        assert study.best_trial == expected
    known = FileStorage(sweep_folder.study_file, known=storage)
    with contextlib.closing(known):
        assert known.get_best_trial(0) == expected, "handed over with the rest"
