"""Checks and prepares a sweep in a separate process, so that the command stays small.

The libraries that read data and model take hundreds of megabytes. The process that loads them ends before training
starts. It shares the command's terminal, and prints its activity, its findings and its errors there itself. It gets the
request as one line of JSON, and answers with another: the run that it has begun, and with it the lock on the sweep's
folder, which is never free in between.

The command starts the process as early as it can. So this module imports little: what the command needs afterwards it
imports while the process works.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesweep import activity
from finesweep.errors import LaunchError, Stopped
from finesweep.files import as_kind
from finesweep.host.python_process import own_command, own_environment
from finesweep.host.signals import Signals, blocked, end_with_parent, unblock
from finesweep.host.temporary_folders import temporary_folder, temporary_folders_in
from finesweep.host.timeline import phase
from finesweep.sweep.request import Request

if TYPE_CHECKING:
    from finesweep.folder import Manifest, SweepFolder
    from finesweep.host.process_ahead import ProcessAhead
    from finesweep.launch import Profile
    from finesweep.launch.local import WorkerPlace
    from finesweep.sweep.open_sweep import OpenSweep
    from finesweep.sweep.preflight import Checked

END_SECONDS = 2.0
"""Seconds in which the process must end after a signal; then it is killed."""

POLL_SECONDS = 0.05
"""Seconds between two looks at the signals while the process works."""

_BYTES = 65_536
_PLACES = b"places "
"""Begins a line with the places of the first workers; a later one replaces it."""

_LINE_AWAY = "\r\x1b[2K\x1b[?25h"
"""Clears a terminal's line and shows its cursor."""


@dataclass(frozen=True)
class Begun:
    """The answer: the run that was begun.

    Attributes:
        folder: The sweep's folder.
        run: Number of the run.
        token: The run's token; see ``shared_folder.open_run``.
        notes: Remarks on the folder for the user.
    """

    folder: str
    run: int
    token: str
    notes: list[str]

    @classmethod
    def of(cls, sweep: OpenSweep) -> Begun:
        """Return the answer for a sweep that is open in this process."""
        folder = sweep.sweep_folder
        return cls(os.fspath(folder.path), sweep.run.number, sweep.run.token, folder.notes)

    def opened(self) -> OpenSweep:
        """Open the sweep in this process, to which the run belongs from now on.

        Raises:
            FolderError: The folder or the run is gone.
        """
        from finesweep.folder import open_run
        from finesweep.sweep.open_sweep import OpenSweep

        sweep_folder, run = open_run(Path(self.folder), self.run, self.token)
        sweep_folder.notes.extend(self.notes)
        return OpenSweep.of_run(sweep_folder, dataclasses.replace(run, pid=os.getpid()))


@contextlib.contextmanager
def started(request: Request, signals: Signals) -> Iterator[Preparation]:
    """Start the process; it has ended when the block ends.

    Args:
        request: The user's request.
        signals: The user's signals meanwhile; the first one is passed on.
    """
    ours, theirs = socket.socketpair()
    with ours:
        # Signals stay blocked in the child until it can handle them. Otherwise an early Ctrl-C would kill it silently.
        with theirs, blocked(), phase("start the preparation"):
            temporary = temporary_folder()
            process = subprocess.Popen(
                own_command("prepare", str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**own_environment(), **temporary_folders_in(temporary.name)},
            )
        preparation = Preparation(process, ours, request, signals)
        with temporary:
            try:
                yield preparation
            finally:
                for ahead in preparation.workers_ahead:
                    ahead.end()
                preparation.end()


@dataclass
class Preparation:
    """The process that checks a request, makes the sweep's folder if necessary, and begins a run there.

    Attributes:
        process: The process.
        channel: The socket to it.
        request: The user's request.
        signals: The user's signals; the first one is passed on.
        workers_ahead: The processes that become the first workers; empty until the places of these are known.
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket
    request: Request
    signals: Signals
    workers_ahead: list[ProcessAhead] = field(default_factory=list, init=False)
    _deadline: float | None = field(default=None, init=False)

    def end(self) -> None:
        """Wait a moment for the end of the process, which has answered; kill it if it does not end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.process.kill()
        self.process.wait()

    def opened(self) -> tuple[OpenSweep, int | None]:
        """Wait for the run, and open its sweep.

        Returns:
            The sweep, and the descriptor of the lock on its folder, which this process holds from now on; None instead
            if another command holds it, and the run joins its sweep.

        Raises:
            LaunchError: The process was killed.
            Stopped: It was killed after a signal.
            SystemExit: It failed, and has printed why.
        """
        try:
            with phase("wait for the preparation"):
                message, lock = self._answer()
        finally:
            with phase("wait for its end"):
                self.end()
        with phase("open the sweep's folder"):
            sweep = as_kind(Begun, json.loads(message)).opened()
            if self.workers_ahead:
                sweep.workers_ahead = self.workers_ahead
            return sweep, lock

    def _answer(self) -> tuple[bytes, int | None]:
        """Send the request; return the answer's line, and the descriptor that came with it.

        Meanwhile the places of the first workers come, on lines of their own; there are processes for them then.
        """
        message, files = b"", list[int]()
        try:
            self.channel.sendall(self.request.to_json().encode() + b"\n")
            self.channel.settimeout(POLL_SECONDS)
            while not message.endswith(b"\n"):
                self._attend()
                with contextlib.suppress(TimeoutError):
                    data, passed, *_ = socket.recv_fds(self.channel, _BYTES, 1)
                    message, files = message + data, files + passed
                    if not data:
                        raise self._end()
                while message.startswith(_PLACES) and b"\n" in message:
                    line, _, message = message.partition(b"\n")
                    self._have_workers(json.loads(line.removeprefix(_PLACES)))
        except ConnectionError:
            raise self._end() from None
        # Workers get the lock on purpose (`pass_fds`). Any other child that kept it would keep the folder owned.
        for file in files:
            os.set_inheritable(file, False)
        return message, files[0] if files else None

    def _have_workers(self, places: list[dict[str, Any]]) -> None:
        """Start the processes that some places lack, or end those for which there is none any more."""
        for surplus in self.workers_ahead[len(places) :]:
            surplus.end()
        del self.workers_ahead[len(places) :]
        if not (missing := places[len(self.workers_ahead) :]):
            return
        from finesweep.launch.local import WorkerPlace

        with phase("start workers ahead"):
            for place in missing:
                if self.signals.first is None and (ahead := WorkerPlace(**place).worker_ahead()) is not None:
                    self.workers_ahead.append(ahead)

    def _attend(self) -> None:
        """Pass the first signal on; kill the process if it does not end then."""
        if self.signals.first is None:
            return
        # Only once: a second signal would interrupt the process while it ends.
        if self._deadline is None:
            self._deadline = time.monotonic() + END_SECONDS
            self.process.send_signal(self.signals.first)
        elif time.monotonic() > self._deadline:
            self.process.kill()

    def _end(self) -> BaseException:
        """Wait for the end of the process, and return the error for the missing answer."""
        while (code := self.process.poll()) is None:
            self._attend()
            time.sleep(POLL_SECONDS)
        # It has printed its error itself. A success without an answer is an error too.
        if code >= 0:
            return SystemExit(code or 1)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(_LINE_AWAY)
        if self.signals.first is not None:
            return Stopped(self.signals.first)
        hint = "; this is mostly the system, when memory runs out" if code == -signal.SIGKILL else ""
        return LaunchError(f"the process that checks and prepares was killed by {signal.Signals(-code).name}{hint}")


def answer(channel: int, announce: Callable[[Checked], None]) -> None:
    """Execute the command's request in this process, and send the answer.

    Args:
        channel: Descriptor of the socket to the command.
        announce: Called with the ``Checked`` spec before anything is written.

    Raises:
        SpecError, FolderError, LaunchError, Stopped: See ``finesweep.errors``.
    """
    from finesweep.sweep import prepare

    end_with_parent(signal.SIGTERM)
    with socket.socket(fileno=channel) as command, Signals().counted() as signals:
        command.set_inheritable(False)
        unblock()
        with signals.ending_the_block():
            with command.makefile(encoding="ascii") as lines:
                request = Request.from_json(lines.readline())
            with phase("check spec, data and model"):
                profile = prepare.profile_of(request)
                prepare.refuse_batch(profile, request.profile)
                checked = prepare.check_to_begin(request, profile, functools.partial(_tell_places, command))
            activity.tell("")
            announce(checked)
        _begin(command, checked, request, profile, signals)


def _begin(command: socket.socket, checked: Checked, request: Request, profile: Profile, signals: Signals) -> None:
    """Open the folder, begin a run there and send the answer; a signal interrupts only the writing of files."""
    from finesweep.files import permissions
    from finesweep.folder import sweep_lock
    from finesweep.sweep import prepare

    def write(folder: SweepFolder, manifest: Manifest) -> Manifest:
        with signals.ending_the_block(), phase("write rows and model, fit the references"):
            return prepare.write_all(checked, folder, manifest)

    path = prepare.path_of(checked.loaded, request)
    if request.join and sweep_lock.owner(path) is not None:
        _send(command, prepare.join(path, checked, request, profile))
        return
    permissions.prepare(path, profile.shared)
    with sweep_lock.held(path, os.getppid()) as lock:
        with phase("open the folder, begin a run"):
            sweep = prepare.open_folder(path, checked, request, profile, write=write)
        _send(command, sweep, lock)


def _tell_places(command: socket.socket, places: Sequence[WorkerPlace]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the command was killed meanwhile
        command.sendall(_PLACES + json.dumps(list(map(dataclasses.asdict, places))).encode() + b"\n")


def _send(command: socket.socket, sweep: OpenSweep, *files: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the command was killed meanwhile
        # A descriptor needs a byte of data to travel with. The blank is ignored in front of the JSON.
        socket.send_fds(command, [b" "], files)
        command.sendall(json.dumps(dataclasses.asdict(Begun.of(sweep))).encode() + b"\n")
