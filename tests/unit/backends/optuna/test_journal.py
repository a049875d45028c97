"""The study's journal: torn at any byte, full disk, garbage, and many writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finesweep.backends.optuna.journal import UNREADABLE, Journal, corrupt_file, set_aside
from finesweep.errors import FolderError

EVENTS = [{"op_code": 1, "text": "é" * count, "number": count} for count in range(5)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def written(file: Path, events=EVENTS) -> bytes:
    journal = Journal(file)
    for event in events:
        journal.append_logs([event])
    journal.close()
    return file.read_bytes()


def read(file: Path) -> list[dict]:
    """Read as whoever opens it does, and as any other tool of Optuna's would: both must find the same."""
    from optuna.storages.journal import JournalFileBackend

    journal = Journal(file)
    events = list(journal.read_logs(0))
    journal.close()
    assert list(JournalFileBackend(str(file)).read_logs(0)) == events
    return events


def lines_begun(content: bytes, length: int) -> int:
    return content[:length].count(b"\n")


def test_a_journal_torn_at_any_byte_goes_on_after_its_last_whole_event(file):
    """Stock: what is written next is glued to the torn line, and from then on the study cannot be opened."""
    content = written(file)
    last_two = content.rfind(b"\n", 0, content.rfind(b"\n", 0, len(content) - 1)) + 1
    for length in range(last_two, len(content)):
        file.write_bytes(content[:length])
        corrupt_file(file).unlink(missing_ok=True)
        whole = EVENTS[: lines_begun(content, length)]
        assert read(file) == whole
        written(file, [{"op_code": 9}])
        assert read(file) == [*whole, {"op_code": 9}]
        torn = content[:length].rpartition(b"\n")[2]
        assert (corrupt_file(file).read_bytes() if torn else b"\n") == torn + b"\n"


@given(tail=st.binary(min_size=1, max_size=64).filter(lambda tail: b"\n" not in tail))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_left_behind_the_last_line_is_cut_off(file, tail):
    file.unlink(missing_ok=True)
    file.write_bytes(written(file) + tail)
    written(file, [{"op_code": 9}])
    assert read(file) == [*EVENTS, {"op_code": 9}]


@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_or_empty_journal_is_an_empty_one(file, exists):
    if exists:
        file.touch()
    assert read(file) == []
    written(file)
    assert read(file) == EVENTS
    assert not corrupt_file(file).exists()


def test_events_are_read_from_any_number_on(file):
    written(file)
    journal = Journal(file)
    assert [len(list(journal.read_logs(number))) for number in (0, 5, 3, 1, 4, 0)] == [5, 0, 2, 4, 1, 5]
    journal.close()


def test_a_write_that_does_not_fit_leaves_the_file_as_it_was(file):
    """A stand-in for a full disk: the file may not grow beyond the middle of the next event."""
    content = written(file)
    journal = Journal(file)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 10, limits[1]))
    try:
        with pytest.raises(FolderError, match=r"study\.journal: the disk is full"):
            journal.append_logs([{"op_code": 1, "text": "long" * 100}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == content
    assert "disk is full" in str(journal.failure)
    journal.append_logs([{"op_code": 9}])
    assert read(file) == [*EVENTS, {"op_code": 9}]
    journal.close()


@pytest.mark.parametrize(
    "garbage", [b"no JSON\n", bytes(8) + b"\n", b"[1]\n", b"7\n", b"\xff\xfe\n", b"[" * 9999 + b"\n"]
)
def test_garbage_is_noticed_by_whoever_opens_and_skipped_by_whoever_is_at_work(file, garbage):
    file.write_bytes(written(file) + garbage)
    journal = Journal(file)
    with pytest.raises(UNREADABLE):
        list(journal.read_logs(0))
    journal.lenient = True
    journal.append_logs([{"op_code": 9}, {"op_code": 8}])
    assert list(journal.read_logs(0)) == [*EVENTS, {"op_code": 9}, {"op_code": 8}]
    assert list(journal.read_logs(6)) == [{"op_code": 8}]
    journal.close()


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_whoever_has_a_journal_open_does_not_write_into_the_one_that_replaces_it(file, how):
    written(file)
    journal = Journal(file)
    assert list(journal.read_logs(0)) == EVENTS
    set_aside(file) if how == "moved" else file.unlink()
    written(file, [{"op_code": 7}])
    journal.append_logs([{"op_code": 9}])
    assert list(journal.read_logs(5)) == [{"op_code": 9}]
    assert read(file) == [{"op_code": 7}]
    journal.close()


def test_what_is_set_aside_never_replaces_what_was(file):
    names = []
    for text in ("one", "two", "three"):
        file.write_text(text)
        names.append(set_aside(file).name)
    assert names == ["study.journal.corrupt", "study.journal.corrupt.2", "study.journal.corrupt.3"]
    assert [(file.parent / name).read_text() for name in names] == ["one", "two", "three"]


def test_line_without_end_is_read_up_to_a_limit_only(file):
    content = written(file)
    with file.open("r+b") as stream:
        stream.truncate(10**12)  # of which the disk holds nothing
    with pytest.raises(ValueError, match="a line is too long for an event"):
        read(file)
    with pytest.raises(FolderError, match=r"cannot be written \(its last line is too long for an event\)"):
        written(file, [{"op_code": 9}])
    with file.open("rb") as stream:
        assert stream.read(len(content)) == content


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_what_is_no_file_is_not_opened(file, what):
    victim = file.with_name("victim")
    victim.write_text("torn")
    {"link": lambda: file.symlink_to(victim), "folder": file.mkdir, "pipe": lambda: os.mkfifo(file)}[what]()
    with pytest.raises(ValueError, match=r"study\.journal is no file"):
        Journal(file)
    assert victim.read_text() == "torn"


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"gone/study\.journal: cannot be written"):
        Journal(tmp_path / "gone" / "study.journal")


def _append_many(file: Path, writer: int) -> None:
    journal = Journal(file)
    for count in range(50):
        journal.append_logs([{"op_code": 1, "writer": writer, "count": count, "text": "x" * 200}])
    journal.close()


def test_events_of_many_writers_stay_whole_and_in_order(file):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_many, args=(file, writer)) for writer in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    events = read(file)
    counts = [[event["count"] for event in events if event["writer"] == writer] for writer in range(8)]
    assert counts == [list(range(50))] * 8
    assert len(json.dumps(events)) > 8 * 50 * 200


def test_a_writer_waits_for_the_lock(file):
    """While somebody cuts off a torn line, nobody may write behind it."""
    journal = Journal(file)
    writer = multiprocessing.get_context("fork").Process(target=written, args=(file,))
    with journal._locked():
        writer.start()
        writer.join(timeout=0.3)
        assert writer.is_alive()
        assert read(file) == []
    writer.join(timeout=30)
    assert read(file) == EVENTS
    journal.close()
