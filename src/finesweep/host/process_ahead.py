"""Starts a Python process ahead: it imports what a command needs before the command's arguments are known.

The importing takes seconds, and would otherwise begin only when the arguments are known. The process is an ordinary
one, with a session, an environment and a temporary folder of its own, so it is watched and killed like one that was
started with its arguments. That is why it is no fork of ``multiprocessing``'s fork server: such a fork is a child of
the server, which alone learns its exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from finesweep.host.python_process import own_command
from finesweep.host.signals import end_with_parent
from finesweep.host.temporary_folders import remove, temporary_folder, temporary_folders_in

_BYTES = 65_536
_MOST_FILES = 8


class ProcessAhead:
    """A process that was started ahead; its parent ends it, or has it carry out a command.

    Args:
        name: The command whose imports it makes; ``finesweep.cli.internal.ahead`` knows it.
        environment: What the command's environment will be, without its temporary folder.

    Attributes:
        process: The process.
        temporary: Contains the temporary folders of the process and its descendants.

    Raises:
        OSError: It could not be started.
    """

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._is_taken = self._is_gone = False
        self.temporary = temporary_folder()
        self._channel, theirs = socket.socketpair()
        try:
            # What it prints before it has a log is kept in a file without a name; see `awaited`.
            with theirs, tempfile.TemporaryFile() as early:
                self.process = subprocess.Popen(
                    own_command("ahead", name, str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=early,
                    stderr=early,
                    env={**environment, **temporary_folders_in(self.temporary.name)},
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError:
            self._channel.close()
            self.temporary.cleanup()
            raise

    def carry_out(
        self, command: Sequence[str], environment: Mapping[str, str] | None, log: int, files: Sequence[int] = ()
    ) -> bool:
        """Have it carry out a command, as if it had been started with that.

        Args:
            command: The command line, from ``own_command``.
            environment: The command's environment, without its temporary folder; None for that which it has.
            log: Descriptor for its output, with what it has printed so far.
            files: More descriptors that it holds until it ends.

        Returns:
            Whether it does; False if it has ended, or has another environment. Then it is gone.
        """
        start = own_command()
        is_fit = environment in (None, self._environment) and list(command[: len(start)]) == start
        if self._is_taken or self._is_gone or not is_fit or self.process.poll() is not None:
            self.end()
            return False
        try:
            # The descriptors travel with the first byte. The blank is ignored in front of the JSON.
            socket.send_fds(self._channel, [b" "], [log, *files])
            self._channel.sendall(json.dumps(command[len(start) :]).encode() + b"\n")
        except OSError:
            self.end()
            return False
        self._is_taken = True
        self._channel.close()
        return True

    def end(self) -> None:
        """Kill the process and remove its temporary folder, unless it carries out a command."""
        if self._is_taken:
            if self.process.returncode is not None:
                self.temporary.cleanup()
            return
        if self._is_gone:  # its process id may be another one's by now
            return
        self._is_gone = True
        self._channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        remove(self.temporary)


def awaited(channel: int) -> list[str]:
    """In the process: wait for the command, begin to write to its log, and return its arguments.

    Until then the process should end with its parent (``signals.end_with_parent``); from then on it does not.

    Args:
        channel: Descriptor of the socket to the parent.

    Raises:
        SystemExit: The parent needs no such process, or has ended.
    """
    message, files = b"", list[int]()
    with socket.socket(fileno=channel) as parent:
        while not message.endswith(b"\n"):
            data, passed, *_ = socket.recv_fds(parent, _BYTES, _MOST_FILES)
            message, files = message + data, files + passed
            if not data:
                sys.exit(0)
    log = files[0]  # it holds the others, which children inherit, as with `pass_fds`
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.lseek(sys.stdout.fileno(), 0, os.SEEK_SET)
    while said := os.read(sys.stdout.fileno(), _BYTES):
        os.write(log, said)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    end_with_parent(0)
    arguments: list[str] = json.loads(message)
    return arguments
