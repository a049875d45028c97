"""The sweep's folder: written atomically, claimed once, read in spite of damage."""

import errno
import json
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep import run_dir
from finesweep.atomic import write_failure, write_json, write_text
from finesweep.errors import RunDirError
from finesweep.manifest import Manifest, Run, changes
from finesweep.ownership import held, owner
from finesweep.run_dir import RunDir, make_folders
from finesweep.trial import Divergence, Evaluation, Progress, TrialRecord, TrialState


def manifest(**changed: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "demo",
        "spec": {
            "task": "text-classification",
            "model": {"name": "bert", "revision": None},
            "data": {"train": "a.csv", "text": "text", "max_length": 64},
            "space": {"learning_rate": {"low": 1e-5, "high": 5e-5}},
        },
        "data": {"sources": {"train": {"path": "/a.csv", "digest": "d1"}}, "rows": {"train": 10}},
        "model": {"name": "bert", "path": "/models/bert", "digest": "m1"},
        "plan": [{"learning_rate": 2e-5}],
        "created": 1.0,
    }
    return Manifest(**{**values, **changed})


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


def run(number: int, started: float, ended: float | None = None) -> Run:
    return Run(number, {"trials": 5}, {}, {}, {}, "here", 1, started, ended)


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    return make_folders(tmp_path / "demo")


def test_a_manifest_is_read_as_it_was_written(folder: RunDir) -> None:
    write_json(folder.spec_file, manifest().__dict__)
    assert folder.manifest() == manifest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"this is no sweep's folder \(it has no spec.json\)"),
        ("{", "cannot be read as JSON; start anew with --fresh"),
        ("[]", "cannot be read as JSON"),
        ("{}", "layout None, this finesweep reads 1; use another --name or --fresh"),
        ('{"format": 99}', "layout 99, this finesweep reads 1"),
        ('{"format": 1, "unknown": 2}', "unexpected keyword argument 'unknown'; start anew with --fresh"),
    ],
)
def test_a_damaged_manifest_is_refused_with_a_way_out(folder: RunDir, content: str | None, message: str) -> None:
    if content is not None:
        folder.spec_file.write_text(content)
    with pytest.raises(RunDirError, match=message):
        folder.manifest()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no such folder"):
        RunDir(tmp_path / "lost").manifest()


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"created": 2.0, "plan": []}, [], id="no-part-of-it"),
        pytest.param({"model": {"name": "other", "path": "/elsewhere", "digest": "m1"}}, [], id="model-moved"),
        pytest.param(
            {"model": {"name": "bert", "path": "/models/bert", "digest": "m2"}}, ["model.content: m1 -> m2"], id="model"
        ),
        pytest.param(
            {"data": {"sources": {"train": {"path": "/b.csv", "digest": "d1"}}, "rows": {}}}, [], id="data-moved"
        ),
        pytest.param(
            {"data": {"sources": {"train": {"path": "/a.csv", "digest": "d2"}}, "rows": {}}},
            ["data.content.train: d1 -> d2"],
            id="data",
        ),
    ],
)
def test_the_identity_is_what_is_in_the_files(changed: dict[str, Any], lines: list[str]) -> None:
    assert changes(manifest(), manifest(**changed)) == lines


def test_a_changed_space_is_named_by_value() -> None:
    spec = manifest().spec
    new = {**spec, "space": {"learning_rate": {"low": 1e-5, "high": 1e-4}, "num_train_epochs": {"low": 1}}}
    assert changes(manifest(), manifest(spec=new)) == [
        "space.learning_rate.high: 5e-05 -> 0.0001",
        "space.num_train_epochs.low: nothing -> 1",
    ]


def test_an_identity_survives_being_written(folder: RunDir) -> None:
    made = manifest(plan=({"learning_rate": 2e-5},), spec={**manifest().spec, "start": ({"learning_rate": 2e-5},)})
    write_json(folder.spec_file, made.__dict__)
    assert changes(folder.manifest(), made) == []


def test_a_record_is_read_as_it_was_written(folder: RunDir) -> None:
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


def test_records_come_in_the_order_of_their_numbers(folder: RunDir) -> None:
    for number in (10_000, 2, 11):
        folder.record(record(number))
    assert [item.trial for item in folder.records()] == [2, 11, 10_000]


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"trial": 1, "state": "WON"}', '{"state": "COMPLETE"}'])
def test_a_damaged_record_is_set_aside_and_its_trial_runs_again(folder: RunDir, content: str) -> None:
    folder.record(record(0))
    folder.record_file(1).write_text(content)
    assert [item.trial for item in folder.records()] == [0]
    assert (folder.path / "trials" / "0001.json.corrupt").read_text() == content
    assert folder.notes[0].startswith("0001.json could not be read")
    claim = folder.claim(run=2, trials=2)
    assert claim is not None
    assert claim.trial == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"what": 1}'])
def test_damaged_progress_and_runs_are_passed_over(folder: RunDir, content: str) -> None:
    progress = Progress(0, 1, {}, 1.0)
    folder.write_progress(progress)
    folder.write_run(run(1, 10.0))
    folder.progress_file(1).write_text(content)
    (folder.path / "runs" / "0002.json").write_text(content)
    assert folder.progress() == [progress]
    assert [item.number for item in folder.runs()] == [1]


def test_the_lowest_free_number_is_claimed(folder: RunDir) -> None:
    folder.record(record(1))
    claims = [folder.claim(run=1, trials=4) for _ in range(4)]
    assert [(claim.trial, claim.attempt) if claim else None for claim in claims] == [(0, 1), (2, 1), (3, 1), None]


def test_a_dead_runs_claim_is_taken_over_with_the_next_attempt(folder: RunDir) -> None:
    folder.claim(run=1, trials=2)
    folder.claim(run=1, trials=2)
    folder.record(record(0))
    claim = folder.claim(run=2, trials=2)
    assert claim is not None
    assert (claim.trial, claim.attempt, claim.run) == (1, 2, 2)
    assert folder.claim(run=2, trials=2) is None


def test_an_interrupted_trial_is_claimed_again_by_the_next_run_only(folder: RunDir) -> None:
    folder.claim(run=1, trials=1)
    folder.record(record(0, TrialState.INTERRUPTED))
    assert folder.claim(run=1, trials=1) is None
    claim = folder.claim(run=2, trials=1)
    assert claim is not None
    assert claim.attempt == 2


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED, TrialState.COMPLETE])
def test_a_finished_trial_is_never_claimed_again(folder: RunDir, state: TrialState) -> None:
    folder.record(record(0, state))
    assert folder.claim(run=9, trials=1) is None


def test_what_else_lies_among_the_claims_does_no_harm(folder: RunDir) -> None:
    for name in ("0000.1.bak", ".lock~", "notes", "0000.x"):
        (folder.path / "claims" / name).write_text("?")
    (folder.path / "claims" / "0000.1").write_text("")
    claim = folder.claim(run=1, trials=1)
    assert claim is not None
    assert (claim.trial, claim.attempt) == (0, 2)


def test_a_folder_that_was_removed_is_not_made_again(folder: RunDir) -> None:
    (folder.path / "claims").rmdir()
    with pytest.raises(RunDirError, match=r"claims/\.lock: No such file"):
        folder.claim(run=1, trials=1)
    assert not (folder.path / "claims").exists()


def _claim_all(path: str, out: Any) -> None:
    folder, taken = RunDir(Path(path)), []
    while (claim := folder.claim(run=1, trials=40)) is not None:
        taken.append(claim.trial)
    out.put(taken)


def test_two_processes_never_claim_the_same_number(folder: RunDir) -> None:
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    workers = [context.Process(target=_claim_all, args=(str(folder.path), out)) for _ in range(3)]
    for worker in workers:
        worker.start()
    taken = [out.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert sorted(number for numbers in taken for number in numbers) == list(range(40))


def test_hours_of_a_killed_run_end_with_its_last_record(folder: RunDir) -> None:
    folder.write_run(run(1, started=0.0))
    folder.write_run(run(2, started=360_000.0, ended=363_600.0))
    folder.record(record(0, started=1_000.0, seconds=800.0))
    folder.record(record(1, started=360_100.0, seconds=100.0))
    assert folder.hours_used() == pytest.approx(0.5 + 1.0)


def test_hours_of_a_run_that_recorded_nothing_are_none(folder: RunDir) -> None:
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
    with pytest.raises(RunDirError, match="f: cannot be written"):
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


def test_a_folder_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "demo"):
        with pytest.raises(
            RunDirError, match=rf"demo is in use by another `sweep run`: host .*, pid {os.getpid()}, since"
        ):
            held(tmp_path / "demo").__enter__()
        assert str(os.getpid()) in (owner(tmp_path / "demo") or "")
    assert owner(tmp_path / "demo") is None
    with held(tmp_path / "demo"):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".demo.lock").symlink_to(victim)
    with pytest.raises(RunDirError, match="cannot be opened"), held(tmp_path / "demo"):
        pass
    assert victim.read_text() == "precious"


def test_checking_that_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    run_dir.check_writable(tmp_path / "results" / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(RunDirError, match=r"results: cannot be written \(Not a directory\); use --results DIR"):
        run_dir.check_writable(tmp_path / "results" / "demo")
    with pytest.raises(RunDirError, match=r"cannot be written \(Not a directory\)"):
        make_folders(tmp_path / "results" / "demo")


def test_a_foreign_folder_is_not_taken_over(tmp_path: Path) -> None:
    run_dir.refuse_foreign(tmp_path / "new")
    run_dir.refuse_foreign(make_folders(tmp_path / "begun").path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(RunDirError, match=r"photos is no sweep's folder \(it holds cat.jpg\)"):
        run_dir.refuse_foreign(tmp_path / "photos")
    with pytest.raises(RunDirError, match=r"cat.jpg is a file; use another --name"):
        run_dir.refuse_foreign(tmp_path / "photos" / "cat.jpg")


def test_a_folder_moved_aside_keeps_what_is_in_it(folder: RunDir) -> None:
    folder.record(record(3))
    aside = run_dir.move_aside(folder.path)
    assert not folder.path.exists()
    assert [item.trial for item in RunDir(aside).records()] == [3]


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
    assert TrialRecord.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
