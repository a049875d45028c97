"""Who owns a sweep's folder: one `sweep run` at a time, seen by everybody, disturbed by nobody who looks."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from finesweep.errors import FolderError
from finesweep.folder.sweep_lock import InUse, held, owner, refuse_owned


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "demo"


def test_a_folder_has_one_owner_at_a_time(sweep: Path) -> None:
    said = rf"demo is in use by another `sweep run`: host .*, pid {os.getpid()}, since \d"
    with held(sweep):
        with pytest.raises(InUse, match=said) as caught:
            held(sweep).__enter__()
        assert caught.value.owner == owner(sweep)
        with pytest.raises(InUse, match=said):
            refuse_owned(sweep)
    assert owner(sweep) is None
    refuse_owned(sweep)
    with held(sweep):
        pass


def test_looking_for_the_owner_makes_nothing(tmp_path: Path) -> None:
    assert owner(tmp_path / "results" / "demo") is None
    assert owner(tmp_path / "demo") is None
    assert list(tmp_path.iterdir()) == []


def test_whoever_only_looks_keeps_nobody_from_owning(sweep: Path) -> None:
    with held(sweep):
        pass
    descriptor = os.open(sweep.with_name(".demo.lock"), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looked = threading.Timer(0.15, os.close, [descriptor])
    looked.start()
    with held(sweep):
        pass
    looked.join()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".demo.lock").symlink_to(victim)
    with pytest.raises(FolderError, match="cannot be opened"), held(tmp_path / "demo"):
        pass
    assert victim.read_text() == "precious"


def test_pipe_as_a_lock_is_not_waited_for(sweep: Path) -> None:
    os.mkfifo(sweep.with_name(".demo.lock"))
    assert owner(sweep) is None
    with pytest.raises(FolderError, match=r"\.demo\.lock: cannot be opened \(this is a pipe; only regular files"):
        held(sweep).__enter__()
