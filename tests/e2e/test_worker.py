"""The worker process itself: what it must be when it forks a trial."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

AT_THE_FORK = """
import sys, threading
from pathlib import Path
from finesweep.worker.worker import Worker

def report(self, claim, body):
    print("threads:", [thread.name for thread in threading.enumerate()])
    self._told = True

Worker.isolated = report
Worker.open(Path(sys.argv[1]), 1).work()
"""


def test_no_thread_is_alive_when_a_trial_is_forked(finished, tmp_path):
    """A lock that a thread holds at the fork is never released; tqdm alone starts such a thread."""
    folder = tmp_path / "spec"
    shutil.copytree(finished.results(), folder)
    for stale in (*(folder / "trials").iterdir(), *(folder / "claims").glob("0*"), *(folder / "data").glob("tokens-*")):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", AT_THE_FORK, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "threads: ['MainThread']" in result.stdout, result.stderr[-2000:]
