"""Communicates with the process that is connected to a Ray cluster: starts it, sends requests, reads events."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import select
import socket
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import LaunchError, printable
from finesweep.files import last_lines, open_log
from finesweep.host.python_process import own_command, own_environment
from finesweep.host.temporary_folders import temporary_folder
from finesweep.launch.ray.nodes import Amounts, RayNode

CONNECT_SECONDS = 20.0
"""Seconds in which Ray must answer; by itself it would try for more than a minute."""

KNOCK_SECONDS = 5.0
"""Seconds in which a machine must accept a connection."""

LOOK_SECONDS = 90.0
"""Seconds in which the nodes must find the folder: each starts Python first, and a network file may appear late."""

END_SECONDS = 10.0
GONE = -9
"""Exit code of workers whose connection is lost; their actors end with it."""

_STAMP = re.compile(r"^\[[\d :,-]+ \w \d+ \d+\] \S+ |^\S+ \S+\t\w+ \S+ -- |\x1b\[[\d;]*m")


class RayConnection:
    """A process that is connected to a Ray cluster, and its events so far.

    Args:
        address: ``auto``, or ``host:port`` of the cluster's head.
        log: File to which Ray's own output is appended.

    Raises:
        LaunchError: Nothing listens at that address, or the process could not be started.
    """

    def __init__(self, address: str, log: Path) -> None:
        self.address, self.log = _resolved(address), log
        self.codes: dict[int, int] = {}
        self.remarks: dict[int, str] = {}
        self.is_gone = False
        self._number, self._rest, self._said = 0, b"", dict[str, Any]()
        _knock(self.address)
        self._log_start = 0
        self._process = self._started()
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        # Also called when this object is dropped or the command exits: otherwise the process would outlive it.
        self.close = weakref.finalize(self, _close, self._process)

    def connect(self, asked: Mapping[str, Any] | None = None) -> list[RayNode]:
        """Join the cluster and return its nodes.

        Args:
            asked: The checks for the nodes; None for none. ``folder``, ``run``, ``token`` and ``model`` are those of
                the run; nodes without the resources ``need`` of a worker are not checked.

        Raises:
            LaunchError: Ray does not answer in time or refuses, in its own words; or a node does not see the folder.
        """
        try:
            self._tell({"address": self.address, **(asked or {"folder": None})})
            nodes = [RayNode.of_values(values) for values in self._hear("nodes", CONNECT_SECONDS)]
            if asked and (complaints := self._hear("complaints", LOOK_SECONDS)):
                raise LaunchError("\n".join(complaints))
        except BaseException:
            self._process.kill()  # it may be waiting for Ray
            self.close()
            raise
        return nodes

    def start(self, work: Mapping[str, Any], need: Amounts) -> int:
        """Request a worker; return its number."""
        self._number += 1
        self._tell({"do": "start", "id": self._number, "work": work, "need": dataclasses.asdict(need)})
        return self._number

    def stop(self, number: int) -> None:
        """Ask a worker to stop."""
        self._tell({"do": "stop", "id": number})

    def kill(self, number: int) -> None:
        """Kill a worker and its trial, also if one of them has ended already."""
        self._tell({"do": "kill", "id": number})

    def look(self) -> None:
        """Read new events, without waiting; if the process has ended, so have its workers."""
        # Until nothing is left: an event of a worker's end can arrive together with the end of the process.
        while not self.is_gone and select.select([self._output], [], [], 0)[0]:
            chunk = os.read(self._output, 65_536)
            self.is_gone = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._note(json.loads(line))

    def _started(self) -> subprocess.Popen[bytes]:
        command = own_command(module="finesweep.launch.ray.connection_process")
        try:
            with os.fdopen(open_log(self.log), "ab") as errors:
                self._log_start = errors.tell()
                return subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                    env=own_environment(),
                    start_new_session=True,  # only the command handles Ctrl-C
                )
        except OSError as error:
            raise LaunchError(f"the process that talks to Ray could not be started: {error}") from error

    def _note(self, event: Mapping[str, Any]) -> None:
        if "pending" in event:
            self.remarks[event["id"]] = event["pending"]
        elif "ended" in event:
            self.codes[event["id"]] = event["ended"]
            if event["why"]:
                self.remarks[event["id"]] = event["why"]
        else:
            self._said.update(event)

    def _tell(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        # If the process has ended, the next look notices.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    def _hear(self, what: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while what not in self._said:
            self.look()
            if self.is_gone:
                raise LaunchError(f"Ray at {self.address}: {self._last_words() or 'no answer'}")
            if time.monotonic() >= deadline:
                words = self._last_words()
                raise LaunchError(
                    f"Ray at {self.address} did not answer within {seconds:g} s" + (f": {words}" if words else "")
                )
            select.select([self._output], [], [], 0.1)
        return self._said[what]

    def _last_words(self) -> str:
        """Return the last line that Ray has printed here."""
        lines = [_STAMP.sub("", line).strip() for line in last_lines(self.log, self._log_start)]
        return next((printable(line, 500) for line in reversed(lines) if line), "")


@functools.cache
def nodes_of(address: str) -> Sequence[RayNode]:
    """Return the nodes of a cluster; they are asked for only once.

    Raises:
        LaunchError: The cluster does not answer.
    """
    with temporary_folder() as folder:
        connection = RayConnection(address, Path(folder, "ray.log"))
        try:
            return connection.connect()
        finally:
            connection.close()


def _resolved(address: str) -> str:
    """Return the address that ``auto`` means, as far as the environment tells.

    Raises:
        LaunchError: Workers cannot be started through that address.
    """
    named = os.environ.get("RAY_ADDRESS")
    if address != "auto" or not named:
        return address
    if "://" in named:
        where = printable(named, 100)
        raise LaunchError(
            f"RAY_ADDRESS is {where}: sweep run needs the head's host:port; a dashboard is for sweep submit"
        )
    return named


def _knock(address: str) -> None:
    """Check that a server listens there; Ray by itself would take long to find out."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise LaunchError(f"Ray at {address}: {error.strerror or error}; is the cluster running there?") from None


def _close(process: subprocess.Popen[bytes]) -> None:
    """End the process: close its input, and kill it if it does not end then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
