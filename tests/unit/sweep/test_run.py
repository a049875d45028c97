"""How a run ends: the leaderboard is written while the winner is proved, and in any case."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finesweep.errors import FolderError, WinnerMismatch
from finesweep.folder import leftovers
from finesweep.host.signals import Signals
from finesweep.results import winner
from finesweep.sweep import run

WAITS = (sys.executable, "-c", "import time; time.sleep(60)")


def test_something_else_is_done_while_a_process_proves_the_winner() -> None:
    done: list[str] = []
    with Path(os.devnull).open("wb") as log:
        ended = (sys.executable, "-c", "pass")
        assert winner._run(ended, log, dict(os.environ), lambda: False, lambda: done.append("board")) == 0
        assert done == ["board"]
        began = time.monotonic()
        assert winner._run(WAITS, log, dict(os.environ), lambda: True, lambda: done.append("board")) is None
    assert done == ["board", "board"]
    assert time.monotonic() - began < 30


def test_a_process_that_proves_is_killed_if_what_is_done_meanwhile_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        """A process that the test can look at afterwards."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    def fail() -> None:
        raise FolderError("the folder is gone")

    monkeypatch.setattr(winner.subprocess, "Popen", Watched)
    with Path(os.devnull).open("wb") as log, pytest.raises(FolderError, match="the folder is gone"):
        winner._run(WAITS, log, dict(os.environ), lambda: False, fail)
    assert [process.poll() for process in started] == [-9]


class Sweep:
    """A sweep whose best trial is to be exported; it remembers what was written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.sweep_folder = SimpleNamespace(records=lambda **_: [])
        self.manifest = self.profile = None
        self.command = "run"

    def choice(self, _: object) -> str:
        return "trial 1"

    def is_unconfirmed(self, _: object) -> bool:
        return False

    def write_leaderboard(self, _: object) -> None:
        self.written.append("board")

    def write_report(self, _: object) -> None:
        self.written.append("page")


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setattr(leftovers, "tidy", lambda _: None)
    return Sweep()


def collect(sweep: Sweep) -> run.RunResult:
    return run.collected(sweep, "all trials have finished", Signals())  # type: ignore[arg-type]


def test_the_leaderboard_is_written_while_the_winner_is_proved_and_again_with_its_place(sweep, monkeypatch):
    def export(*_: object, meanwhile: Any) -> str:
        sweep.written.append("started")
        meanwhile()
        sweep.written.append("proved")
        return "evidence"

    monkeypatch.setattr(winner, "export", export)
    assert collect(sweep).evidence == "evidence"
    assert sweep.written == ["started", "board", "proved", "board", "page"]


def test_an_export_that_proves_nothing_leaves_the_leaderboard_to_be_written(sweep, monkeypatch):
    monkeypatch.setattr(winner, "export", lambda *_, **__: "evidence of before")
    collect(sweep)
    assert sweep.written == ["board", "board", "page"]


def test_the_leaderboard_is_written_though_the_proof_fails(sweep, monkeypatch):
    def export(*_: object, **__: object) -> None:
        raise WinnerMismatch("it differs")

    monkeypatch.setattr(winner, "export", export)
    with pytest.raises(WinnerMismatch, match="it differs"):
        collect(sweep)
    assert sweep.written == ["board"]
