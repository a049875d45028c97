"""What every attack is made from: a place where nothing may appear, a server that nobody may call, a command line."""

from __future__ import annotations

import contextlib
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import constants
from made_records import record, run

import tiny
from finesweep.cli import command_line
from finesweep.files.atomic import write_json
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.signals import Signals
from finesweep.spec import reader
from finesweep.sweep import preflight, prepare_process
from finesweep.sweep.request import Request
from security.attacks import SPEC, Canary, Evil, Planted, Sweep


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Canary]:
    """Yield a server that no attack may reach, the Hub's address included."""
    server = Canary()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{server.address}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()
    assert server.calls == 0, "an attack reached the network"


@pytest.fixture
def pwned(tmp_path: Path) -> Iterator[Path]:
    """Yield a path at which no attack may make a file."""
    file = tmp_path / "PWNED"
    yield file
    assert not file.exists(), "an attack ran code"


@pytest.fixture
def evil_pickle(pwned: Path) -> bytes:
    """Return a pickle that does harm to whoever loads it."""
    return pickle.dumps(Evil(pwned))


@pytest.fixture
def checks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `sweep run` check in this process, which has imported all that takes seconds."""
    monkeypatch.setattr(prepare_process, "started", _started_here)
    monkeypatch.setattr(prepare_process, "end_with_parent", lambda _: None)


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checks_here: None) -> Sweep:
    """Run `sweep` in this process; return its exit code and all that it printed."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sweep", *map(str, arguments)])
        code = 0
        try:
            command_line.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@contextlib.contextmanager
def _started_here(request: Request, _: Signals) -> Iterator[NoReturn]:
    """Do in this process what another one would do for it; an attack ends it with an error."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(request.to_json().encode() + b"\n")
        prepare_process.answer(theirs.detach(), lambda _: None)
    yield pytest.fail("a run was begun")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a user's folder with rows, a model that passes for one, and a sound spec; it is the current one."""
    folder = tmp_path / "project"
    tiny.write_csv(folder / "train.csv", tiny.review_rows(40, seed=1))
    tiny.write_csv(folder / "validation.csv", tiny.review_rows(20, seed=2))
    tiny.write_model_files(folder / "model")
    (folder / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def planted(project: Path) -> Planted:
    """Return a sound folder of the project's spec: two of three trials are recorded, one run is over."""
    checked = preflight.check(reader.draft(project / "spec.yaml").finished())
    path = project / "results" / "spec"
    made: SweepFolder = make_folders(path)
    write_json(made.spec_file, checked.manifest().to_json())
    made.write_run(run(outcome="done"))
    for number in (0, 1):
        write_json(made.record_file(number), record(number, 0.5 + number, run=1).to_json())
    return Planted(path)
