"""Runs on the nodes of a Ray cluster: an actor that starts one worker, and the check of the folder.

Ray sends both to the nodes by name, so finesweep must be installed there, in the same version.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finesweep import __version__
from finesweep.errors import FolderError
from finesweep.files import open_log, permissions
from finesweep.folder import open_run
from finesweep.host.python_process import child_environment

TOLD = 128 + signal.SIGTERM


class NodeWorker:
    """Runs one ``sweep worker`` on the node that Ray has chosen; a Ray actor.

    The worker is a separate process in its own session: it forks for each trial, which a process with Ray's threads
    must not do.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._received: list[int] = []

    def where(self) -> str:
        """Return the name of this node."""
        return socket.gethostname()

    def run(self, work: Mapping[str, Any]) -> int:
        """Start the worker and wait for its end.

        Args:
            work: ``arguments`` of the interpreter, the ``log`` to append to, the number of ``threads``, whether it has
                a ``gpu``, and the ``address`` of the cluster if it joins the cluster itself.

        Returns:
            Its exit code; negative: the signal that ended it.
        """
        # With the actor as the parent, the worker stops when Ray kills the actor or the node loses the cluster.
        command = [sys.executable, *work["arguments"], "--parent", str(os.getpid())]
        with self._lock:
            # Methods of the actor run in several threads, so a request to stop can come before the worker is started.
            if self._received:
                return TOLD
            permissions.follow(Path(work["log"]).parent)
            with os.fdopen(open_log(Path(work["log"])), "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(work),
                    start_new_session=True,
                )
        return self._process.wait()

    def stop(self) -> None:
        """Send SIGTERM to the worker, which asks its trial to stop."""
        with self._lock:
            self._received.append(signal.SIGTERM)
            if self._process is not None:
                self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the worker and its trial, also if the trial has outlived the worker."""
        with self._lock:
            self._received.append(signal.SIGKILL)
            if self._process is not None:
                # The worker leads the group of its trial, which exists until the trial too has ended.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)


def _environment(work: Mapping[str, Any]) -> dict[str, str]:
    """Return the worker's environment; it sees the GPUs that Ray has given to this actor."""
    environment = child_environment(None if work["gpu"] else "", work["threads"])
    if work["address"] is not None:
        environment["RAY_ADDRESS"] = work["address"]
    return environment


def look(folder: str, run: int, token: str, model: str | None, version: str) -> str | None:
    """Return why this node cannot run trials of a sweep, None if it can.

    Args:
        folder: The sweep's folder.
        run: Number of the run.
        token: The run's token, as the machine that prepared the folder knows it.
        model: Folder of the model.
        version: The version of finesweep on that machine.
    """
    if __version__ != version:
        return f"finesweep {__version__} is installed there, {version} here"
    try:
        open_run(Path(folder), run, token)
    except FolderError as error:
        return str(error)
    if model is not None and not Path(model).is_dir():
        return f"{model}: there is no such folder; the model must lie on a file system that all nodes share"
    return None
