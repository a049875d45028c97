"""How a run ends: the leaderboard is written while the winner is proved, and in any case."""

from __future__ import annotations

import contextlib
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
from made_profiles import settled

WAITS = (sys.executable, "-c", "import time; time.sleep(60)")


def test_something_else_is_done_while_a_process_proves_the_winner() -> None:
    done: list[str] = []
    with Path(os.devnull).open("wb") as log:
        ended = (sys.executable, "-c", "pass")
        process = subprocess.Popen(ended, stdout=log, env=dict(os.environ))
        assert winner._ended(process, lambda: False, lambda: done.append("board")) == 0
        assert done == ["board"]
        began = time.monotonic()
        process = subprocess.Popen(WAITS, stdout=log, env=dict(os.environ))
        assert winner._ended(process, lambda: True, lambda: done.append("board")) is None
    assert done == ["board", "board"]
    assert time.monotonic() - began < 30


def test_a_process_that_proves_is_killed_if_what_is_done_meanwhile_fails() -> None:
    def fail() -> None:
        raise FolderError("the folder is gone")

    process = subprocess.Popen(WAITS, env=dict(os.environ))
    with pytest.raises(FolderError, match="the folder is gone"):
        winner._ended(process, lambda: False, fail)
    assert process.poll() == -9


class Sweep:
    """A sweep whose best trial is to be exported; it remembers what was written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.sweep_folder = SimpleNamespace(records=lambda **_: [])
        self.manifest = self.profile = None
        self.proof_ahead = object()
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
    def export(*_: object, meanwhile: Any, ahead: object) -> str:
        assert ahead is sweep.proof_ahead
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


@pytest.mark.parametrize(
    ("lock", "confirm", "repeats", "starts"),
    [(3, None, (), True), (None, None, (), False), (3, object(), (), False), (3, None, (object(),), False)],
    ids=["a search", "one that has joined", "one that a confirmation follows", "a confirmation"],
)
def test_the_process_of_the_proof_is_started_once_where_a_proof_follows(monkeypatch, lock, confirm, repeats, starts):
    started: list[object] = []
    monkeypatch.setattr(winner, "proof_ahead", lambda profile: started.append(profile) or "ahead")
    sweep = SimpleNamespace(
        spec=SimpleNamespace(confirm=confirm), manifest=SimpleNamespace(repeats=repeats), profile="p", proof_ahead=None
    )
    for _ in range(2):
        run._start_proof_ahead(sweep, lock)  # type: ignore[arg-type]
    assert started == ["p"] * starts
    assert sweep.proof_ahead == ("ahead" if starts else None)


class Waiting:
    """A process that was started ahead; it notes its end."""

    def __init__(self, name: str, noted: list[str]) -> None:
        self.name, self.noted = name, noted

    def end(self) -> None:
        self.noted.append(f"{self.name} ended")


@pytest.mark.parametrize("fails", [False, True], ids=["it ends well", "it fails"])
def test_a_process_beyond_the_number_of_workers_is_gone_before_the_search_and_the_others_after_it(monkeypatch, fails):
    noted: list[str] = []

    def search(*_: object) -> str:
        noted.append("searched")
        if fails:
            raise FolderError("the folder is gone")
        return "all trials have finished"

    monkeypatch.setattr(run, "_supervised", search)
    sweep: Any = SimpleNamespace(
        workers=1, workers_ahead=[Waiting("1", noted), Waiting("2", noted)], nothing_left=str, end_run=noted.append
    )
    with contextlib.suppress(FolderError):
        run._search(sweep, None, Signals())
    assert noted[:2] == ["2 ended", "searched"]
    assert "1 ended" in noted[2:]


@pytest.mark.parametrize("fails", [False, True], ids=["it ends well", "it fails"])
def test_the_process_of_the_proof_ends_with_the_run(monkeypatch, fails):
    noted: list[str] = []

    def repaired(*_: object) -> str:
        noted.append("searched")
        if fails:
            raise FolderError("the folder is gone")
        return "all trials have finished"

    monkeypatch.setattr(run, "_repaired", repaired)
    with contextlib.suppress(FolderError):
        run._carried_out(SimpleNamespace(proof_ahead=Waiting("it", noted)), 3, Signals())  # type: ignore[arg-type]
    assert noted == ["searched", "it ended"]


class Ahead:
    """A process that was started ahead, and is or is not what is needed."""

    process = "the one ahead"

    def __init__(self, fits: bool) -> None:
        self.fits = fits

    def carry_out(self, command: list[str], environment: dict[str, str], log: int) -> bool:
        assert command == ["prove"]
        assert environment["HF_HUB_OFFLINE"] == "1"
        assert winner.temporary_folders_in("/t").keys().isdisjoint(environment), "it has a folder of its own"
        assert log > 2
        return self.fits


def test_the_winner_is_proved_by_the_process_that_is_ahead_or_else_by_a_new_one(monkeypatch, tmp_path):
    monkeypatch.setattr(winner.subprocess, "Popen", lambda command, **options: (command, options["env"]))
    with Path(os.devnull).open("wb") as log:
        profile, command = settled(), ["prove"]
        assert winner._started(profile, Ahead(fits=True), command, log, tmp_path) == "the one ahead"  # type: ignore[arg-type]
        for ahead in (None, Ahead(fits=False)):
            started: Any = winner._started(profile, ahead, command, log, tmp_path)  # type: ignore[arg-type]
            assert started[0] == ["prove"]
            assert winner.temporary_folders_in(str(tmp_path)).items() <= started[1].items()
