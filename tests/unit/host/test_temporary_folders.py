"""Temporary folders lie in the one of the process that removes what a killed one leaves."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
import time
from pathlib import Path

import pytest

from finesweep.host.temporary_folders import remove, temporary_folder, temporary_folders_in


@pytest.fixture(autouse=True)
def usual(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "usual"))
    Path(tmp_path / "usual").mkdir()
    return tmp_path / "usual"


def given(monkeypatch, folder):
    for name, value in temporary_folders_in(str(folder)).items():
        monkeypatch.setenv(name, value)


def test_a_child_makes_its_folders_in_the_one_that_it_was_given(tmp_path, monkeypatch):
    given(monkeypatch, tmp_path)
    with temporary_folder() as name:
        assert Path(name).parent == tmp_path
    assert not Path(name).exists()


def test_a_folder_that_is_gone_is_no_reason_to_fail(tmp_path, usual, monkeypatch):
    given(monkeypatch, tmp_path / "gone")
    with temporary_folder() as name:
        assert Path(name).parent == usual


def test_without_one_they_lie_where_the_system_keeps_them(usual, monkeypatch):
    given(monkeypatch, "")
    with temporary_folder() as name:
        assert Path(name).parent == usual


def test_a_folder_is_removed_although_a_process_ends_its_last_writes() -> None:
    folder = temporary_folder()
    began = threading.Event()

    def write() -> None:
        ends = time.monotonic() + 0.2
        with contextlib.suppress(FileNotFoundError):  # the folder is gone
            for number in itertools.takewhile(lambda _: time.monotonic() < ends, itertools.count()):
                Path(folder.name, f"{number}").touch()
                began.set()

    writer = threading.Thread(target=write)
    writer.start()
    began.wait()
    remove(folder)
    writer.join()
    assert not Path(folder.name).exists()
