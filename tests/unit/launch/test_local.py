"""A worker that is killed leaves neither processes nor temporary folders."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import time

from finesweep.files import owned_folder
from finesweep.host.temporary_folders import temporary_folder
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
