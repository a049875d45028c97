"""Starts workers on this machine: one process each, in its own session, on its own GPU."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import psutil

from finesweep.errors import LaunchError
from finesweep.files import open_log, owned_folder
from finesweep.folder import Run, SweepFolder
from finesweep.host.machine import Machine
from finesweep.host.process_ahead import ProcessAhead
from finesweep.host.python_process import child_environment
from finesweep.host.temporary_folders import (
    REMOVE_SECONDS,
    kill_users,
    remove,
    temporary_folder,
    temporary_folders_in,
)
from finesweep.launch.commands import run_command
from finesweep.launch.profile import SettledProfile

_TOO_MANY = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors of a system without room for another process or open file."""


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker may use of this machine.

    Attributes:
        device: Its GPU, as ``CUDA_VISIBLE_DEVICES`` names it; empty for none, None for the first.
        threads: Number of CPU threads of the worker itself.
        all_devices: Whether it sees all devices.
    """

    device: str | None
    threads: int
    all_devices: bool = False

    def environment(self) -> dict[str, str]:
        """Return the worker's environment, without its temporary folder."""
        return child_environment(self.device, self.threads, all_devices=self.all_devices)

    def worker_ahead(self) -> ProcessAhead | None:
        """Start a process for a worker whose sweep is not known yet; None if it cannot be started."""
        with contextlib.suppress(OSError):
            return ProcessAhead("worker", self.environment())
        return None


@dataclass(frozen=True)
class LocalHandle:
    """A worker process and, through its process group, its trial.

    Attributes:
        process: The worker.
        temporary: Contains the temporary folders of the worker and its descendants.
    """

    process: subprocess.Popen[bytes]
    temporary: tempfile.TemporaryDirectory[str]

    @property
    def pid(self) -> int:
        """The worker's process id, which is also its process group."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Send SIGTERM to the worker, which asks its trial to stop."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the worker, its trial and all that they have started; remove their temporary folders.

        The trial is in the worker's process group, which exists until its last process has ended. Ray's processes are
        in groups of their own. Its actors overwrite their environment, so they are found as descendants; its agents may
        be orphans, so they are found by their environment. They would run for up to a minute, and make the folder again
        that is removed here.
        """
        # Listed before the group is killed: orphans are no longer found as descendants.
        started = self._descendants()
        # If only zombies are left in a group, macOS reports that it is not permitted.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # Until they have ended, they hold locks and write files. The worker is waited for first, since psutil would
        # take its exit code.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(REMOVE_SECONDS)
        psutil.wait_procs(started, REMOVE_SECONDS)
        kill_users(self.temporary.name)
        remove(self.temporary)
        owned_folder.remove_abandoned()

    def _descendants(self) -> Sequence[psutil.Process]:
        """Return all descendants of the worker; empty once it has ended."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return ()


class LocalLauncher:
    """Starts workers as child processes.

    Args:
        machine: The machine whose GPUs they use; None to probe when the first worker needs a GPU.
    """

    def __init__(self, machine: Machine | None = None) -> None:
        self._given = machine

    def start(
        self,
        sweep_folder: SweepFolder,
        run: Run,
        profile: SettledProfile,
        lock: int | None,
        index: int = 0,
        *,
        single_worker: bool = False,
        ahead: ProcessAhead | None = None,
    ) -> LocalHandle:
        """Start ``sweep worker``; its output goes to ``logs/worker-0001-1.log``.

        Its own session keeps the terminal's Ctrl-C away from it: the command that started it decides how it ends.

        Raises:
            LaunchError: The process could not be started, or there is no GPU for it.
        """
        command = [*run_command("worker", sweep_folder, run), "--parent", str(os.getpid())]
        environment = self.place(profile, index, measures=run.measures, single_worker=single_worker).environment()
        # The worker inherits the lock's descriptor, so the folder stays owned until the last worker has ended.
        files = () if lock is None else (lock,)
        try:
            with os.fdopen(open_log(sweep_folder.worker_log(run.number, index)), "ab") as log:
                if ahead is not None and ahead.carry_out(command, environment, log.fileno(), files):
                    return LocalHandle(ahead.process, ahead.temporary)
                return _started(command, environment, log, files)
        except OSError as error:
            hint = "; fewer may fit: --workers" if error.errno in _TOO_MANY else ""
            raise LaunchError(f"worker {index + 1} could not be started: {error}{hint}") from error

    def place(self, profile: SettledProfile, index: int = 0, *, measures: bool, single_worker: bool) -> WorkerPlace:
        """Return the place of a worker.

        Args:
            profile: The run's launch profile.
            index: Number of the worker in the run.
            measures: Whether workers measure before they begin.
            single_worker: Whether it is the run's only worker, which starts all trials elsewhere.

        Raises:
            LaunchError: There is no GPU for it.
        """
        # While one worker measures, the others idle. Each trial sets its own number of threads.
        threads = 1 if measures else profile.threads_per_worker
        return WorkerPlace(None if single_worker else self._device(profile, index), threads, all_devices=single_worker)

    @functools.cached_property
    def _machine(self) -> Machine:
        return self._given or Machine.probe()

    def _device(self, profile: SettledProfile, index: int) -> str:
        """Return the GPU of a worker, empty for none."""
        if profile.gpus_per_trial == 0:
            return ""
        gpus = self._machine.gpus
        if index >= len(gpus) * profile.trials_per_gpu:
            found = f"{len(gpus)} GPUs were found for trials_per_gpu: {profile.trials_per_gpu}"
            raise LaunchError(f"worker {index + 1} has no GPU: {found}")
        return gpus[index % len(gpus)]  # a second round only when each GPU has a worker


def _started(
    command: Sequence[str], environment: Mapping[str, str], log: IO[bytes], files: Sequence[int]
) -> LocalHandle:
    temporary = temporary_folder()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment, **temporary_folders_in(temporary.name)},
            pass_fds=files,
            start_new_session=True,
        )
    except OSError:
        temporary.cleanup()
        raise
    return LocalHandle(process, temporary)
