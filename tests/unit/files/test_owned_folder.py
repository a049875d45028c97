"""Folders of killed processes are removed, those in use and those of others are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from finesweep.files import file_lock, owned_folder
from finesweep.files.owned_folder import LOCK


@pytest.fixture(autouse=True)
def only_here(tmp_path, monkeypatch):
    """Look in the test's folder alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path)
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path)


def test_it_is_in_use_while_the_block_runs_and_gone_afterwards(tmp_path):
    with owned_folder.owned_folder(tmp_path) as folder:
        owned_folder.remove_abandoned()
        assert (folder / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_it_is_not_taken_for_abandoned_before_its_owner_has_locked_it(tmp_path, monkeypatch):
    real = file_lock.lock
    monkeypatch.setattr(file_lock, "lock", lambda file: (owned_folder.remove_abandoned(), real(file)))
    with owned_folder.owned_folder(tmp_path) as folder:
        assert (folder / LOCK).exists()


def test_one_that_is_not_empty_at_once_is_removed_too(tmp_path, monkeypatch):
    """A process that was just killed may still end its last write."""
    (tmp_path / "fsweep-left/r/logs").mkdir(parents=True)
    (tmp_path / "fsweep-left" / LOCK).touch()
    real, calls = shutil.rmtree, []
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **how: calls.append(1) if not calls else real(*args, **how))
    owned_folder.remove_abandoned()
    assert not list(tmp_path.iterdir())


OWNER = """
    import os, sys
    from pathlib import Path
    from finesweep.files import owned_folder
    real, deleted = os.rmdir, []
    def rmdir(*args, **how):
        real(*args, **how)
        deleted.append(args)
        if len(deleted) == 20:
            os.kill(os.getpid(), 9)
    os.rmdir = rmdir
    with owned_folder.owned_folder(Path(sys.argv[1])) as folder:
        for number in range(20):
            (folder / f"{number}").mkdir()
"""


def test_one_whose_owner_was_killed_while_it_removed_it_is_removed_by_the_next_process(tmp_path):
    subprocess.run([sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)], check=False)
    assert [item.name for item in tmp_path.glob("fsweep-*/*")] == [LOCK]
    owned_folder.remove_abandoned()
    assert not list(tmp_path.iterdir())


def test_one_that_a_process_still_writes_into_is_removed_by_a_later_process(tmp_path, monkeypatch):
    """Ray's daemons write for some seconds after their owner was killed."""
    with monkeypatch.context() as writing:
        writing.setattr(owned_folder, "REMOVE_SECONDS", 0.0)
        writing.setattr(shutil, "rmtree", lambda *_, **__: None)
        with owned_folder.owned_folder(tmp_path) as folder:
            (folder / "logs").mkdir()
    assert folder.exists()
    owned_folder.remove_abandoned()
    assert not folder.exists()


def test_one_whose_owner_was_killed_before_it_was_locked_is_removed_after_a_minute(tmp_path):
    folder = tmp_path / "fsweep-unlocked"
    folder.mkdir()
    (folder / f"{LOCK}.new").touch()
    owned_folder.remove_abandoned()
    assert folder.exists()
    os.utime(folder / f"{LOCK}.new", (0, time.time() - owned_folder.MAKE_SECONDS - 1))
    owned_folder.remove_abandoned()
    assert not folder.exists()


def test_a_folder_of_the_user_with_such_a_name_stays(tmp_path):
    """A results folder may lie there; it has a file called "lock" too."""
    (tmp_path / "fsweep-results/bert").mkdir(parents=True)
    (tmp_path / "fsweep-results/lock").touch()
    os.utime(tmp_path / "fsweep-results", (0, 0))
    owned_folder.remove_abandoned()
    assert (tmp_path / "fsweep-results/bert").exists()


def test_a_folder_that_was_left_behind_is_removed_and_one_in_use_is_not(tmp_path):
    used, left, other, fresh = (tmp_path / name for name in ("fsweep-used", "fsweep-left", "data", "fsweep-fresh"))
    for folder in (used, left, other, fresh):
        folder.mkdir()
    for folder in (left, other):
        (folder / LOCK).touch()
    with (used / LOCK).open("w") as lock:
        file_lock.lock(lock.fileno())
        owned_folder.remove_abandoned()
        # One without a lock is being made at this moment.
        assert sorted(tmp_path.iterdir()) == sorted([used, other, fresh])


def test_what_is_another_users_or_leads_elsewhere_is_left_alone(tmp_path, monkeypatch):
    """Everybody can make a folder of that name where temporary files go."""
    others, link, lock = tmp_path / "fsweep-others", tmp_path / "fsweep-link", tmp_path / "fsweep-lock"
    for folder in (others, lock, tmp_path / "mine"):
        folder.mkdir()
    for file in (others / LOCK, tmp_path / "mine" / LOCK):
        file.touch()
    link.symlink_to(tmp_path / "mine")
    (lock / LOCK).symlink_to(tmp_path / "mine" / LOCK)
    before = sorted(tmp_path.rglob("*"))
    real = Path.lstat
    theirs = lambda path: os.stat_result([*real(path)[:4], os.getuid() + 1, *real(path)[5:]])  # noqa: E731
    monkeypatch.setattr(Path, "lstat", lambda path: theirs(path) if path == others else real(path))
    owned_folder.remove_abandoned()
    assert sorted(tmp_path.rglob("*")) == before
