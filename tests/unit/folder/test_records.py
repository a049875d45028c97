"""Reading the records over and over: each file once, and nothing that really happens goes unnoticed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, record

from finesweep.folder import next_attempt
from finesweep.folder import records as records_module
from finesweep.folder.records import THOROUGH_SECONDS, Records
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.trial import TrialState

WAITING = TrialState.WAITING
UNFINISHED = (WAITING, INTERRUPTED)
Clock = Callable[[float], None]


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    names: list[str] = []
    real = records_module._record

    def counted(file: Path) -> object:
        names.append(file.name)
        return real(file)

    monkeypatch.setattr(records_module, "_record", counted)
    return names


def reader(folder: SweepFolder) -> Records:
    return Records(folder.path / "trials", folder.notes.append)


def numbers(records: Records) -> list[int]:
    return [item.trial for item in records.all()]


def test_each_record_is_read_once(folder: SweepFolder, read: list[str]) -> None:
    known = reader(folder)
    for count in range(1, 5):
        folder.record(record(count, 0.5))
        assert numbers(known) == list(range(1, count + 1))
    assert read == ["0001.json", "0002.json", "0003.json", "0004.json"]


def test_what_has_finished_is_not_even_looked_at_again(
    folder: SweepFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.record(record(0, 0.5))
    folder.record(record(1, state=WAITING))
    known = reader(folder)
    known.all()
    looked_at: list[str] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda file, **how: looked_at.append(Path(file).name) or real(file, **how))
    known.all()
    assert looked_at == ["0001.json"]
    looked_at.clear()
    clock(THOROUGH_SECONDS)
    known.all()
    assert looked_at == ["0000.json", "0001.json"]


def test_the_next_thorough_look_is_the_later_the_longer_the_last_one_took(
    folder: SweepFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    """Ten thousand files on a slow network: whoever looked at all of them every five seconds would do nothing else."""
    folder.record(record(0, 0.5))
    known = reader(folder)
    real = known.read
    monkeypatch.setattr(known, "read", lambda name: clock(2.0) or real(name))
    known.all()
    folder.record(record(0, 0.25))
    clock(30.0)
    assert [item.objective for item in known.all()] == [0.5]
    clock(10.0)
    assert [item.objective for item in known.all()] == [0.25]


@pytest.mark.parametrize("state", UNFINISHED)
def test_who_was_to_go_on_is_seen_to_have_gone_on(folder: SweepFolder, state: TrialState) -> None:
    known = reader(folder)
    folder.record(record(0, state=state))
    assert [item.state for item in known.all()] == [state]
    folder.record(record(0, 0.5))
    assert [item.state for item in known.all()] == [COMPLETE]


def test_a_record_that_is_deleted_is_gone_at_once_and_there_again_when_it_is(folder: SweepFolder) -> None:
    known = reader(folder)
    for trial in range(3):
        folder.record(record(trial, 0.5))
    assert numbers(known) == [0, 1, 2]
    folder.record_file(1).unlink()
    assert numbers(known) == [0, 2]
    folder.record(record(1, 0.25))
    assert [item.objective for item in known.all()] == [0.5, 0.25, 0.5]


def test_damage_to_what_has_finished_is_found_some_seconds_later_at_most(folder: SweepFolder, clock: Clock) -> None:
    known = reader(folder)
    folder.record(record(0, 0.5))
    known.all()
    folder.record_file(0).write_text("{")
    clock(THOROUGH_SECONDS)
    assert known.all() == []
    assert folder.record_file(0).with_name("0000.json.corrupt").exists()
    (note,) = folder.notes
    assert note.startswith("0000.json could not be read (")


def test_what_was_replaced_after_it_had_finished_is_seen_at_once_where_all_are_checked(folder: SweepFolder) -> None:
    """Another process has set a damaged record aside and trained the trial again; the last board must know it."""
    folder.record(record(0, 0.5))
    assert folder.records(checked=True)[0].objective == 0.5
    SweepFolder(folder.path).record(record(0, 0.25))
    assert [one.objective for one in folder.records()] == [0.5]
    assert [one.objective for one in folder.records(checked=True)] == [0.25]


def test_one_record_that_is_read_by_itself_is_among_all(folder: SweepFolder) -> None:
    known = reader(folder)
    known.all()
    folder.record(record(3, 0.5))
    assert known.read("0003.json") == record(3, 0.5)
    assert numbers(known) == [3]
    folder.record_file(3).unlink()
    assert known.read("0003.json") is None
    assert numbers(known) == []


def test_what_was_handed_out_does_not_change_any_more(folder: SweepFolder) -> None:
    known = reader(folder)
    folder.record(record(0, 0.5))
    before = known.all()
    folder.record(record(1, 0.5))
    known.all()
    assert [item.trial for item in before] == [0]


def test_what_is_new_is_read_before_anybody_looks_at_the_first(folder: SweepFolder, read: list[str]) -> None:
    """A worker reads ahead for the trials that are forked from it."""
    known = reader(folder)
    folder.record(record(0, 0.5))
    known.each()
    assert read == ["0000.json"]


def test_a_folder_that_is_gone_has_no_records(folder: SweepFolder) -> None:
    known = reader(folder)
    folder.record(record(0, 0.5))
    known.all()
    folder.record_file(0).unlink()
    (folder.path / "trials").rmdir()
    assert known.all() == []


Step = tuple[str, int, TrialState]
steps = st.lists(
    st.tuples(
        st.sampled_from(["record", "record", "record", "delete", "break", "look", "wait"]),
        st.integers(0, 5),
        st.sampled_from([COMPLETE, PRUNED, DIVERGED, FAILED, *UNFINISHED]),
    ),
    max_size=30,
)


@given(steps=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_has_read_before_reads_the_same_as_who_reads_for_the_first_time(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, steps: Sequence[Step]
) -> None:
    folder = make_folders(tmp_path_factory.mktemp("s"))
    known = reader(folder)
    for attempt, (what, trial, state) in enumerate(steps):
        present = folder.read_record(trial)
        if what == "record" and not (present is not None and present.state.finished):
            folder.record(record(trial, 0.5, state, attempt=attempt))
        elif what == "delete":
            folder.record_file(trial).unlink(missing_ok=True)
        elif what == "break" and present is not None:
            folder.record_file(trial).write_text("{" * (attempt + 1))
            clock(THOROUGH_SECONDS)
        elif what == "wait":
            clock(1.0)
        else:
            known.read(f"{trial:04d}.json")
        assert known.all() == reader(folder).all()


def test_what_this_process_has_replaced_is_seen_at_once(folder: SweepFolder, clock: Clock) -> None:
    """A trial whose weights are damaged is put back into the queue by whoever has just ranked it."""
    clock(1.0)
    lease = next_attempt.claim(folder, 1, range(1))
    assert lease is not None
    for state in (COMPLETE, INTERRUPTED):
        folder.record(record(0, state=state))
        assert folder.records()[0].state is state
        assert folder.is_finished(0) == state.finished
    lease.release()
