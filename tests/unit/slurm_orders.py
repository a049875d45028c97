"""Orders for a Slurm that is made of a few lines of shell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_records import run

from finesweep.files.atomic import write_json
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.launch.protocol import Order
from finesweep.launch.slurm.profile import SlurmProfile

TOKEN = "0123456789abcdef"


def order(path: Path, *, single_worker: bool = False, **keys: Any) -> Order:
    """Return an order for a folder, which is made, with a run in it."""
    for name in ("runs", "logs"):
        (path / name).mkdir(parents=True, exist_ok=True)
    folder = SweepFolder(path)
    write_json(folder.spec_file, {})
    asked = SlurmProfile.model_validate({"workers": 3, **keys})
    profile = asked.settled(None, 100)  # type: ignore[arg-type] - which machine it is makes no difference
    begun = run(profile=profile.record(), token=TOKEN, watched=False, ended=None)
    folder.write_run(begun)
    return Order(folder, begun, profile, "spec", single_worker)


def program(folder: Path, name: str, text: str) -> None:
    """Write a shell script that stands in for a program."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Path:
    """Put programs on PATH, each of which notes its arguments in ``NAME.argv``; return their folder."""
    for name, text in programs.items():
        program(folder, name, f'printf "%s\\n" "$@" >>"{folder}/{name}.argv"; echo -- >>"{folder}/{name}.argv"\n{text}')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def calls(folder: Path, name: str) -> list[list[str]]:
    """Return the arguments of each call of a program."""
    file = folder / f"{name}.argv"
    text = file.read_text() if file.exists() else ""
    return [call.splitlines() for call in text.split("--\n")[:-1]]


def environment(**variables: str) -> Mapping[str, str]:
    """Return an environment in which a script runs as a task of an array."""
    return {"PATH": os.environ["PATH"], "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", **variables}
