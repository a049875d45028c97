"""Owns running a worker on this machine: one process, in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from finesweep.environment import child_environment
from finesweep.errors import LaunchError
from finesweep.profile import Profile
from finesweep.run_dir import RunDir


@dataclass(frozen=True)
class LocalHandle:
    """A worker process and, through its process group, the trial that it runs."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Send SIGTERM to the worker, which tells its trial."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the worker and its trial."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class LocalLauncher:
    """Starts workers as child processes."""

    def start(self, run_dir: RunDir, run: int, profile: Profile, lock: int) -> LocalHandle:
        """Start ``sweep worker``; its output goes to ``logs/worker.log``.

        A session of its own keeps the terminal's Ctrl-C away from it: the command that started it
        decides how the worker ends.

        Raises:
            LaunchError: The process could not be started.
        """
        command = [sys.executable, "-m", "finesweep", "worker", str(run_dir.path), "--run", str(run)]
        try:
            with run_dir.worker_log.open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=child_environment(),
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except OSError as error:
            raise LaunchError(f"the worker could not be started: {error}", command) from error
        return LocalHandle(process)
