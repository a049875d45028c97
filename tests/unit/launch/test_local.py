"""A worker that is killed leaves neither processes nor temporary folders."""

from __future__ import annotations

import os
import signal
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
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path)
    temporary = temporary_folder()
    environment = {**os.environ, **temporary_folders_in(temporary.name)}
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)]
    handle = LocalHandle(subprocess.Popen(command, env=environment, start_new_session=True), temporary)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(f"fsweep-*/{owned_folder.LOCK}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) == 2
    handle.kill()
    assert handle.poll() == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


ORPHAN = """
    import subprocess, sys
    sleep = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"]
    orphan = subprocess.Popen(sleep, start_new_session=True, stdout=subprocess.PIPE)
    orphan.stdout.readline()
    print(orphan.pid, flush=True)
"""


def test_it_takes_orphans_that_the_worker_has_left(tmp_path, monkeypatch):
    """Ray's agents outlive the daemon that started them by a minute."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path)
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path)
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
    assert process.returncode == 0
    assert not orphan.is_running()
    assert not list(tmp_path.iterdir())


PARENT = """
    import os, subprocess, sys, time
    code = "import time; print(1, flush=True); time.sleep(600)"
    clean = {name: value for name, value in os.environ.items() if name != "FINESWEEP_TEMPORARY_FOLDER"}
    child = subprocess.Popen([sys.executable, "-c", code], env=clean, start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def test_it_takes_descendants_without_the_folder_in_their_environment(tmp_path, monkeypatch):
    """An actor of Ray overwrites its environment with its title."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path)
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path)
    temporary = temporary_folder()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        env={**os.environ, **temporary_folders_in(temporary.name)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        LocalHandle(process, temporary).kill()
    assert not child.is_running()
    assert process.returncode == -signal.SIGKILL
