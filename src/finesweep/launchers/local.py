"""Owns running workers on this machine: one process each, in a session of its own, on a GPU of its own."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from finesweep.commands import worker_command
from finesweep.environment import child_environment
from finesweep.errors import LaunchError
from finesweep.machine import Machine
from finesweep.manifest import Run
from finesweep.profile import Profile
from finesweep.run_dir import RunDir
from finesweep.scratch import scratch_environment, scratch_folder
from finesweep.stored import open_log

_TOO_MANY = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""What the system says when it has no room for one more process or open file."""


GONE_SECONDS = 2.0
"""How long to wait for killed processes; one that waits for a disk or a network cannot end before that answers."""

_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class LocalHandle:
    """A worker process and, through its process group, the trial that it runs.

    Attributes:
        process: The worker.
        scratch: Holds the temporary folders of it and of all that it starts.
    """

    process: subprocess.Popen[bytes]
    scratch: tempfile.TemporaryDirectory[str]

    @property
    def pid(self) -> int:
        """The worker's process id, which is its process group's too."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Send SIGTERM to the worker, which tells its trial."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the worker, its trial and all that it has started; remove their temporary folders.

        The trial is in the worker's process group, which is there until the last of them is gone. Ray's processes are
        in groups of their own. One of them that has just begun would otherwise run on until it misses the others.
        """
        started = self._descendants()
        # For a group of which nothing but zombies is left macOS says that it is not permitted.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._wait(started)
        self.scratch.cleanup()

    def _wait(self, started: Sequence[psutil.Process]) -> None:
        """Wait until the killed processes write nothing more."""
        deadline = time.monotonic() + GONE_SECONDS
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GONE_SECONDS)
        while any(_is_alive(process) for process in started) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def _descendants(self) -> Sequence[psutil.Process]:
        """Return what the worker has started, and what that has started; nothing once the worker is gone."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return ()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class LocalLauncher:
    """Starts workers as child processes.

    Args:
        machine: Whose GPUs they get; None to look when the first one needs a GPU.
    """

    def __init__(self, machine: Machine | None = None) -> None:
        self._given = machine

    def start(
        self,
        run_dir: RunDir,
        run: Run,
        profile: Profile,
        lock: int | None,
        index: int = 0,
        *,
        coordinates: bool = False,
    ) -> LocalHandle:
        """Start ``sweep worker``; its output goes to ``logs/worker-0001-1.log``.

        A session of its own keeps the terminal's Ctrl-C away from it: the command that started it
        decides how the worker ends.

        Raises:
            LaunchError: The process could not be started, or there is no GPU for it.
        """
        command = [*worker_command(sys.executable, run_dir, run), "--parent", str(os.getpid())]
        # Where the number is still to be found out, workers idle meanwhile; each trial sets its own.
        threads = 1 if profile.threads_per_worker == "auto" else profile.threads_per_worker
        device = None if coordinates else self._device(profile, index)
        scratch = scratch_folder()
        environment = {
            **child_environment(device, threads, all_devices=coordinates),
            **scratch_environment(scratch.name),
        }
        try:
            with os.fdopen(open_log(run_dir.worker_log(run.number, index)), "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=() if lock is None else (lock,),
                    start_new_session=True,
                )
        except OSError as error:
            scratch.cleanup()
            hint = "; fewer may fit: --workers" if error.errno in _TOO_MANY else ""
            raise LaunchError(f"worker {index + 1} could not be started: {error}{hint}", command) from error
        return LocalHandle(process, scratch)

    @functools.cached_property
    def _machine(self) -> Machine:
        return self._given or Machine.probe()

    def _device(self, profile: Profile, index: int) -> str | None:
        """Return the GPU that a worker sees: empty for none, None where the profile leaves it open."""
        if profile.gpus_per_trial == "auto":
            return None
        if profile.gpus_per_trial == 0:
            return ""
        gpus = self._machine.gpus
        if index >= len(gpus) * profile.per_gpu:
            found = f"{len(gpus)} GPUs were found for trials_per_gpu: {profile.trials_per_gpu}"
            raise LaunchError(f"worker {index + 1} has no GPU: {found}")
        return gpus[index % len(gpus)]
