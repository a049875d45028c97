"""The sweep's folder: written atomically, claimed once, read in spite of damage."""

import copy
import dataclasses
import errno
import functools
import json
import operator
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import made_records
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import FolderError
from finesweep.files.atomic import write_failure, write_json, write_text
from finesweep.files.checked_json import as_kind
from finesweep.folder import next_attempt
from finesweep.folder.manifest import Manifest, Run, changes
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.spec.sections import BudgetSpec, EvaluationSpec, PruningSpec, StopSpec
from finesweep.trial import Divergence, Evaluation, Progress, TrialRecord, TrialState

VALUES: dict[str, Any] = {
    "name": "demo",
    "spec": {
        "task": "text-classification",
        "model": {"name": "bert", "revision": None},
        "data": {"train": "a.csv", "text": "text", "max_length": 64},
        "objective": {"metric": "eval_loss", "direction": "minimize"},
        "space": {"learning_rate": {"low": 1e-5, "high": 5e-5}},
    },
    "data": {
        "sources": {"train": {"place": "/a.csv", "digest": "d1"}},
        "rows": {"train": 10},
        "labels": ["bad", "good"],
        "text_pair": False,
    },
    "model": {
        "name": "bert",
        "path": "/models/bert",
        "revision": None,
        "digest": "m1",
        "max_tokens": 64,
        "from_scratch": False,
    },
    "plan": [{"learning_rate": 2e-5}],
    "created": 1.0,
    "format": 1,
}
"""What the file of an older version holds: no ``pruning``, no ``evaluation``, no ``naive``, no ``loading``."""


def values(changed: Mapping[str, Any]) -> dict[str, Any]:
    """``VALUES`` with some values changed, each named by its dotted path; ``...`` leaves it out."""
    made = copy.deepcopy(VALUES)
    for path, value in changed.items():
        *outer, last = path.split(".")
        place = functools.reduce(operator.getitem, outer, made)
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return made


def manifest(changed: Mapping[str, Any] = MappingProxyType({})) -> Manifest:
    return Manifest.read(values(changed))


def record(trial: int, state: TrialState = TrialState.COMPLETE, **changed: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "attempt": 1,
        "params": {"learning_rate": 2e-5},
        "started": 100.0,
        "seconds": 10.0,
        "log": f"logs/trial-{trial:04d}.log",
        "host": "here",
    }
    return TrialRecord(trial=trial, state=state, **{**values, **changed})


def run(number: int, started: float, seconds: float | None = None) -> Run:
    ended = None if seconds is None else started + seconds
    return Run(number, BudgetSpec(trials=5), StopSpec(), {}, {}, "here", 1, started, ended, seconds=seconds)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


def test_manifest_is_read_as_it_was_written(folder: SweepFolder) -> None:
    whole = manifest({"data.naive": {"answer": "bad", "scores": {"eval_loss": 0.7}, "limits": {"eval_loss": 0.6}}})
    write_json(folder.spec_file, whole.to_json())
    assert folder.manifest() == whole
    assert folder.manifest().to_json() == whole.to_json()


def test_folder_of_an_older_version_has_todays_defaults(folder: SweepFolder) -> None:
    write_json(folder.spec_file, VALUES)
    read = folder.manifest()
    assert (read.data.naive, read.model.loading, read.trusts_code) == (None, None, False)
    assert (read.spec.evaluation, read.spec.pruning) == (EvaluationSpec(), PruningSpec())
    assert read.data.sources["train"].revision is None


def test_each_run_has_its_own_budget_and_model_folder(folder: SweepFolder) -> None:
    begun = dataclasses.replace(run(1, 0.0), model_path="/elsewhere", trust_remote_code=True)
    kept = manifest()
    assert (kept.spec.budget, kept.spec_for(begun).budget.trials) == (BudgetSpec(), 5)
    assert (kept.of_run(begun).model.folder, kept.of_run(begun).trusts_code) == (Path("/elsewhere"), True)
    assert not manifest({"model.from_scratch": True}).of_run(begun).trusts_code
    assert kept.of_run(run(1, 0.0)).model == kept.model


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"spec": ...}, "spec: Field required"),
        ({"spec.data": ...}, "data: Field required"),
        ({"spec.objective.direction": ...}, "objective.direction: missing"),
        ({"spec.objective.surprise": 1}, "objective.surprise: Extra inputs are not permitted"),
        ({"spec.objective.metric": 3}, "objective.metric: Input should be a valid string"),
        ({"spec.space.learning_rate.low": ...}, "space.learning_rate: Value error, `low` is missing"),
        ({"name": "../x"}, "name: '../x' is not a name for a sweep"),
        ({"data.rows": 5}, "rows: Input should be a valid dictionary"),
        ({"data.rows.train": ...}, "rows.train: missing"),
        ({"data.labels": "ab"}, "labels: Input should be a valid list"),
        ({"data.sources.train.digest": ...}, "sources.train.digest: Field required"),
        ({"data.naive": {"answer": "bad"}}, "naive.scores: Field required"),
        ({"model.max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"model.path": 3}, "path: Input should be a valid string"),
        ({"model.loading": {"output": [], "new": [], "notes": []}}, "loading.rows: Field required"),
        ({"plan": [{"weight_decay": 0.1}]}, "plan: 'weight_decay' is not in the space"),
        ({"created": "soon"}, "created: Input should be a valid number"),
    ],
)
def test_manifest_with_one_wrong_key_is_refused_in_one_line(
    folder: SweepFolder, changed: dict[str, Any], message: str
) -> None:
    write_json(folder.spec_file, values(changed))
    with pytest.raises(FolderError) as refused:
        folder.manifest()
    text = str(refused.value)
    assert text.startswith(f"{folder.spec_file}: {message}")
    assert text.endswith("; start anew with --fresh")
    assert "\n" not in text


def test_manifest_ignores_what_a_newer_version_adds_to_its_facts(folder: SweepFolder) -> None:
    added = {"data.columns": ["a"], "model.architecture": "Bert", "data.sources.train.rows": 10}
    write_json(folder.spec_file, values(added))
    assert folder.manifest() == manifest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"this is no sweep's folder \(it has no spec.json\)"),
        ("{", "cannot be read as JSON; start anew with --fresh"),
        ("[]", "cannot be read as JSON"),
        ("{}", "layout None, this finesweep reads 1; use another --name or --fresh"),
        ('{"format": 99}', "layout 99, this finesweep reads 1"),
        ('{"format": 1, "unknown": 2}', "unknown field 'unknown'; start anew with --fresh"),
    ],
)
def test_a_damaged_manifest_is_refused_with_a_way_out(folder: SweepFolder, content: str | None, message: str) -> None:
    if content is not None:
        folder.spec_file.write_text(content)
    with pytest.raises(FolderError, match=message):
        folder.manifest()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no such folder"):
        SweepFolder(tmp_path / "lost").manifest()


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"created": 2.0, "plan": []}, [], id="no-part-of-it"),
        pytest.param({"model.name": "other", "spec.model.name": "other", "model.path": "/b"}, [], id="model-moved"),
        pytest.param({"model.digest": "m2"}, ["model.content: m1 -> m2"], id="model"),
        pytest.param({"data.sources.train.place": "/b.csv", "spec.data.train": "b.csv"}, [], id="data-moved"),
        pytest.param({"data.sources.train.digest": "d2"}, ["data.content.train: d1 -> d2"], id="data"),
        pytest.param({"spec.data.text": "body"}, ["data.text: text -> body"], id="column"),
        pytest.param(
            {"spec.space": {"learning_rate": {"low": 1e-5, "high": 1e-4}, "num_train_epochs": {"low": 1, "high": 2}}},
            [
                "space.learning_rate.high: 5e-05 -> 0.0001",
                "space.num_train_epochs.high: nothing -> 2",
                "space.num_train_epochs.log: nothing -> False",
                "space.num_train_epochs.low: nothing -> 1",
            ],
            id="space",
        ),
    ],
)
def test_identity_is_what_is_in_the_files(changed: dict[str, Any], lines: list[str]) -> None:
    assert changes(manifest(), manifest(changed)) == lines


def test_identity_of_a_model_from_scratch_is_its_settings() -> None:
    one, other = (manifest({"spec.model": {"config": "bert", "hidden_size": size}}) for size in (8, 16))
    assert changes(one, other) == ["model.hidden_size: 8 -> 16"]


def test_identity_survives_being_written(folder: SweepFolder) -> None:
    made = manifest({"spec.start": [{"learning_rate": 2e-5}]})
    write_json(folder.spec_file, made.to_json())
    assert changes(folder.manifest(), made) == []


def test_a_record_is_read_as_it_was_written(folder: SweepFolder) -> None:
    made = record(
        7,
        TrialState.DIVERGED,
        reason="the loss is NaN",
        divergence=Divergence("the loss is NaN", 30, 2e-5, None),
        evaluations=(Evaluation(10, 0.5, 320, {"eval_loss": None}, None),),
        metrics={"eval_loss": 0.5},
    )
    folder.write_progress(Progress(7, 1, {}, 1.0))
    folder.record(made)
    assert folder.records() == [made]
    assert folder.progress() == []


def test_records_come_in_the_order_of_their_numbers(folder: SweepFolder) -> None:
    for number in (10_000, 2, 11):
        folder.record(record(number))
    assert [item.trial for item in folder.records()] == [2, 11, 10_000]


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"trial": 1, "state": "WON"}', '{"state": "COMPLETE"}'])
def test_a_damaged_record_is_set_aside_and_its_trial_runs_again(folder: SweepFolder, content: str) -> None:
    folder.record(record(0))
    folder.record_file(1).write_text(content)
    assert [item.trial for item in folder.records()] == [0]
    assert (folder.path / "trials" / "0001.json.corrupt").read_text() == content
    assert folder.notes[0].startswith("0001.json could not be read")
    lease = next_attempt.claim(folder, run=2, trials=range(2))
    assert lease is not None
    assert lease.claim.trial == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"what": 1}'])
def test_damaged_progress_and_runs_are_passed_over(folder: SweepFolder, content: str) -> None:
    progress = Progress(0, 1, {}, 1.0)
    folder.write_progress(progress)
    folder.write_run(run(1, 10.0))
    folder.progress_file(1).write_text(content)
    (folder.path / "runs" / "0002.json").write_text(content)
    assert folder.progress() == [progress]
    assert [item.number for item in folder.runs()] == [1]


def test_a_folder_that_was_removed_is_not_made_again(folder: SweepFolder) -> None:
    (folder.path / "claims").rmdir()
    with pytest.raises(FolderError, match=r"claims/\.lock: cannot be written \(No such file"):
        next_attempt.claim(folder, run=1, trials=range(1))
    assert not (folder.path / "claims").exists()


def test_a_result_takes_progress_and_saved_state_away_and_an_interruption_keeps_the_state(folder: SweepFolder) -> None:
    folder.state(0).mkdir()
    folder.record(record(0, TrialState.INTERRUPTED))
    assert folder.state(0).is_dir()
    folder.record(record(0, TrialState.PRUNED))
    assert not folder.state(0).exists()


def test_runs_are_numbered_without_gaps_also_when_two_begin_at_once(folder: SweepFolder) -> None:
    numbers = [folder.begin_run(lambda number: run(number, 1.0)).number for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert [item.number for item in folder.runs()] == [1, 2, 3]


def test_hours_of_a_killed_run_end_with_its_last_record(folder: SweepFolder) -> None:
    folder.write_run(run(1, started=0.0))
    folder.write_run(run(2, started=360_000.0, seconds=3_600.0))
    folder.record(record(0, run=1, started=1_000.0, seconds=800.0))
    folder.record(record(1, run=2, started=360_100.0, seconds=100.0))
    assert folder.hours_used() == pytest.approx(0.5 + 1.0)
    assert folder.hours_used(besides=2) == pytest.approx(0.5)


def test_hours_in_which_two_runs_ran_count_once(folder: SweepFolder) -> None:
    folder.write_run(run(1, started=0.0, seconds=7_200.0))
    folder.write_run(run(2, started=3_600.0, seconds=7_200.0))
    folder.write_run(run(3, started=4_000.0, seconds=10.0))
    assert folder.hours_used() == pytest.approx(3.0)


def test_a_clock_that_was_set_back_meanwhile_changes_no_hours(folder: SweepFolder) -> None:
    folder.write_run(dataclasses.replace(run(1, started=10_000.0, seconds=3_600.0), ended=9_000.0))
    assert folder.hours_used() == pytest.approx(1.0)


def test_hours_of_a_run_that_recorded_nothing_are_none(folder: SweepFolder) -> None:
    folder.write_run(run(1, started=50.0))
    assert folder.hours_used() == 0


def test_a_write_replaces_the_whole_file_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    write_json(file, {"a": "ä"})
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(file, {"a": float("nan")})
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": "ä"}
    assert [item.name for item in tmp_path.iterdir()] == ["f.json"]


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(FolderError, match="f: cannot be written"):
        write_text(tmp_path / "f", "text")
    assert [item.name for item in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in write_failure(tmp_path / "f", error)
    assert "make room and run the same command again" in write_failure(tmp_path / "f", error)


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    file, stop, broken = tmp_path / "f.json", threading.Event(), []
    write_json(file, [0] * 1_000)

    def read() -> None:
        while not stop.is_set():
            values = json.loads(file.read_text())
            if len(set(values)) != 1:
                broken.append(values)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write_json(file, [number] * 1_000, durable=False)
    stop.set()
    reader.join()
    assert not broken


def test_what_was_set_aside_is_listed_whoever_did_it(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    (folder.path / "trials/0000.json").write_text("no record")
    assert SweepFolder(folder.path).records() == []
    (folder.path / "calibration.json.corrupt").write_text("")
    (folder.path / "checkpoints/trial-0001.corrupt").mkdir()
    assert folder.notes == []
    assert folder.set_aside() == [
        "calibration.json.corrupt",
        "checkpoints/trial-0001.corrupt",
        "trials/0000.json.corrupt",
    ]


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.none()


@given(
    st.dictionaries(st.text(max_size=8), st.booleans() | st.integers() | NUMBERS | st.text(max_size=8), max_size=4),
    NUMBERS,
    st.sampled_from(TrialState),
    st.lists(st.tuples(st.integers(0), NUMBERS), max_size=3),
)
def test_any_record_survives_json(
    params: dict[str, Any], value: float | None, state: TrialState, seen: list[Any]
) -> None:
    made = record(
        0,
        state,
        params=params,
        objective=value,
        evaluations=tuple(Evaluation(step, 0.5, step, {"eval_loss": loss}, loss) for step, loss in seen),
    )
    assert as_kind(TrialRecord, json.loads(json.dumps(made.to_json(), allow_nan=False))) == made


def test_a_stop_is_requested_of_one_run_and_no_other(folder: SweepFolder) -> None:
    folder.request_stop(3)
    folder.request_stop(3)
    assert [folder.is_stop_requested(run) for run in (2, 3, 4)] == [False, True, False]
    assert folder.runs() == []
    folder.withdraw_stop(3)
    folder.withdraw_stop(3)
    assert not folder.is_stop_requested(3)


def test_first_record_of_a_pruned_attempt_stays(folder: SweepFolder) -> None:
    """With Ray, the trial and the search both write it, and compare the trial with what they know of the others."""
    lease = next_attempt.claim(folder, 1, range(1))
    assert lease is not None
    first = made_records.record(0, state=TrialState.PRUNED, reason="weak; no other trial had come as far")
    for reason in (first.reason, "weak; 1 other trial had 0.69 there"):
        folder.record(dataclasses.replace(first, reason=reason))
    assert SweepFolder(folder.path).read_record(0) == first
    assert [file.name for file in (folder.path / "trials").iterdir()] == ["0000.json"]
    waiting = dataclasses.replace(first, trial=1, state=TrialState.WAITING)
    for record in (waiting, dataclasses.replace(waiting, state=TrialState.PRUNED)):
        folder.record(record)
    assert SweepFolder(folder.path).read_record(1).state is TrialState.PRUNED
