"""A worker that is killed leaves neither processes nor temporary folders."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time

import psutil

from finesweep.files import owned_folder
from finesweep.host.temporary_folders import temporary_folder, temporary_folders_in
from finesweep.launch.local import LocalHandle

OWNER = """
    import sys, time
    from pathlib import Path
    from finesweep.files import owned_folder
    with owned_folder.owned_folder(Path(sys.argv[1])):
        time.sleep(600)
"""


def test_it_takes_the_folders_that_its_parent_does_not_contain(tmp_path, monkeypatch):
    """Ray's folder has to have a short path, so it does not lie in the worker's own temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)], start_new_session=True)
    handle = LocalHandle(process, temporary_folder())
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("fsweep-*/lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) == 2
    handle.kill()
    assert not list(tmp_path.iterdir())


ORPHAN = """
    import subprocess, sys
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    orphan = subprocess.Popen(sleep, start_new_session=True, stdout=subprocess.DEVNULL)
    print(orphan.pid, flush=True)
"""


def test_it_takes_orphans_that_the_worker_has_left(tmp_path, monkeypatch):
    """Ray's agents outlive the daemon that started them by a minute."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path)
    temporary = temporary_folder()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHAN)],
        env={**os.environ, **temporary_folders_in(temporary.name)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    out, _ = process.communicate(timeout=60)
    orphan = psutil.Process(int(out))
    LocalHandle(process, temporary).kill()
    assert not orphan.is_running()
    assert not list(tmp_path.iterdir())
