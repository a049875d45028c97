"""What processes note of their phases, and that nothing is noted unless it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finesweep.host import timeline


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this process note what it does, under a name of its own."""
    monkeypatch.setenv(timeline.VARIABLE, str(tmp_path))
    monkeypatch.setattr(timeline, "_here", timeline._Here())
    timeline.enter("worker", forked=True)
    return tmp_path


def test_nothing_is_noted_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(timeline.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    timeline.enter("worker")
    with timeline.phase("read"):
        timeline.lap("think")
        timeline.mark("done")
    assert list(tmp_path.iterdir()) == []


def test_phases_lie_in_each_other_and_are_read_in_their_order(folder):
    with timeline.phase("check"):
        time.sleep(0.01)
        with timeline.phase("read"):
            sum(range(300_000))
    timeline.mark("end")
    check, read, end = timeline.read(folder)
    assert [(note.name, note.depth) for note in (check, read, end)] == [("check", 0), ("read", 1), ("end", 0)]
    assert check.began <= read.began <= read.ended <= check.ended <= end.began
    assert check.seconds >= 0.01
    assert 0 < read.cpu <= check.cpu
    assert (end.seconds, end.process, end.pid, end.parent) == (pytest.approx(0, abs=0.1), "worker", *_pids())


def _pids() -> tuple[int, int]:
    return os.getpid(), os.getppid()


def test_a_lap_reaches_from_the_last_note_to_now(folder):
    with timeline.phase("read"):
        pass
    time.sleep(0.02)
    timeline.lap("think")
    read, think = timeline.read(folder)
    assert think.began == pytest.approx(read.ended, abs=1e-6)
    assert think.seconds >= 0.02


def test_a_phase_that_fails_is_noted_and_the_next_one_is_no_part_of_it(folder):
    with pytest.raises(ValueError, match="no"), timeline.phase("read"):
        raise ValueError("no")
    timeline.mark("after")
    assert [(note.name, note.depth) for note in timeline.read(folder)] == [("read", 0), ("after", 0)]


def test_a_decorated_function_is_noted_at_each_call(folder, monkeypatch):
    @timeline.phase("count")
    def count(number: int) -> int:
        return number + 1

    assert (count(1), count(2)) == (2, 3)
    monkeypatch.delenv(timeline.VARIABLE)
    assert count(3) == 4
    assert [note.name for note in timeline.read(folder)] == ["count", "count"]


def test_a_fork_has_a_file_of_its_own_and_no_phase_of_its_parent(folder):
    with timeline.phase("train"):
        pid = os.fork()
        if pid == 0:
            timeline.enter("trial 3", forked=True)
            timeline.lap("step")
            os._exit(0)
        os.waitpid(pid, 0)
    train, step = timeline.read(folder)
    assert (step.process, step.pid, step.parent, step.depth) == ("trial 3", pid, os.getpid(), 0)
    assert train.began <= step.began <= step.ended <= train.ended


def test_a_new_process_notes_its_start_on_the_same_clock(folder):
    began = time.monotonic()
    code = "from finesweep.host import timeline; timeline.enter('proof')"
    subprocess.run([sys.executable, "-c", code], check=True)
    (note,) = timeline.read(folder)
    assert (note.process, note.parent) == ("proof", os.getpid())
    # Linux counts a process's start in hundredths of a second.
    assert began - 0.02 <= note.began <= note.ended <= time.monotonic()
    assert note.cpu > 0


def test_a_process_that_was_started_ahead_notes_its_start_once(folder):
    timeline.enter("proof")
    timeline.enter("proof")
    assert [(note.process, note.name) for note in timeline.read(folder)] == [
        ("proof", "start Python, import the command")
    ]


def test_half_a_line_of_a_killed_process_is_left_out(folder):
    timeline.mark("one")
    (folder / "1.jsonl").write_text('{"process": "worker", "pi\n{"process": "worker"}\n[]\n', encoding="utf-8")
    assert [note.name for note in timeline.read(folder)] == ["one"]


def test_a_folder_that_is_gone_stops_no_process(folder, monkeypatch):
    monkeypatch.setenv(timeline.VARIABLE, str(folder / "gone"))
    with timeline.phase("read"):
        timeline.mark("one")
    assert timeline.read(folder / "gone") == []
