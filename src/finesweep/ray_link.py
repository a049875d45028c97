"""Owns talking to the process that is connected to a Ray cluster: asking it, hearing from it, ending it."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.commands import own_command
from finesweep.environment import own_environment
from finesweep.errors import LaunchError, printable
from finesweep.ray_nodes import Amounts, RayNode
from finesweep.scratch import scratch_folder
from finesweep.stored import open_log

CONNECT_SECONDS = 20.0
"""How long Ray has to answer; by itself it would try for more than a minute."""

KNOCK_SECONDS = 5.0
"""How long a machine has to accept a connection at all."""

LOOK_SECONDS = 90.0
"""How long the nodes have to look for the folder: each starts Python first, and a file may take a while to show."""

END_SECONDS = 10.0
GONE = -9
"""Exit code of workers whose connection is lost, and with it their actors."""

_STAMP = re.compile(r"^\[[\d :,-]+ \w \d+ \d+\] \S+ |^\S+ \S+\t\w+ \S+ -- |\x1b\[[\d;]*m")
_TAIL_BYTES = 4_000


@dataclass(frozen=True)
class Inspection:
    """What the nodes are to look at before anything runs on them.

    Attributes:
        folder: The sweep's folder.
        run: Number of the run.
        token: The run's token.
        model: Folder of the model.
        need: What a worker asks of a node; nodes that could not take one are not asked.
    """

    folder: str
    run: int
    token: str
    model: str | None
    need: Amounts


class RayLink:
    """A process that is connected to a Ray cluster, and what it has said so far.

    Args:
        address: ``auto``, or ``host:port`` of the cluster's head.
        log: Where Ray's own output is appended.

    Raises:
        LaunchError: Nobody listens at that address, or the process could not be started.
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
        self.close = weakref.finalize(self, _close, self._process)

    def connect(self, asked: Inspection | None = None) -> list[RayNode]:
        """Join the cluster and return its nodes.

        Args:
            asked: What the nodes are to look at; None for nothing.

        Raises:
            LaunchError: Ray does not answer in time or refuses, in its own words; or a node does not see the folder.
        """
        looking = dataclasses.asdict(asked) if asked else {"folder": None}
        try:
            self._tell({"address": self.address, **looking})
            nodes = [RayNode.of_values(values) for values in self._hear("nodes", CONNECT_SECONDS)]
            if asked and (complaints := self._hear("complaints", LOOK_SECONDS)):
                raise LaunchError("\n".join(complaints))
        except BaseException:
            self._process.kill()  # it may be waiting for Ray
            self.close()
            raise
        return nodes

    def start(self, work: Mapping[str, Any], need: Amounts) -> int:
        """Ask for a worker; return the number under which it is known here."""
        self._number += 1
        self._tell({"do": "start", "id": self._number, "work": work, "need": dataclasses.asdict(need)})
        return self._number

    def stop(self, number: int) -> None:
        """Have a worker told to stop."""
        self._tell({"do": "stop", "id": number})

    def kill(self, number: int) -> None:
        """Have a worker killed, and its trial, also where one of them is dead already."""
        self._tell({"do": "kill", "id": number})

    def look(self) -> None:
        """Take in what was said since, without waiting; where the process is gone, so are its workers."""
        while not self.is_gone and select.select([self._output], [], [], 0)[0]:
            chunk = os.read(self._output, 65_536)
            self.is_gone = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._note(json.loads(line))

    def _started(self) -> subprocess.Popen[bytes]:
        command = own_command(module="finesweep.ray_driver")
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
                    start_new_session=True,  # Ctrl-C is the command's to understand
                )
        except OSError as error:
            raise LaunchError(f"the process that talks to Ray could not be started: {error}", command) from error

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
        # Who is gone is found to be when it is looked for.
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
        """Return the last line of what Ray has said here."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = [_STAMP.sub("", line).strip() for line in log.read().decode(errors="replace").splitlines()]
        return next((printable(line, 500) for line in reversed(lines) if line), "")


@functools.cache
def nodes_of(address: str) -> Sequence[RayNode]:
    """Return the nodes of a cluster; it is asked once.

    Raises:
        LaunchError: It does not answer.
    """
    with scratch_folder() as folder:
        link = RayLink(address, Path(folder, "ray.log"))
        try:
            return link.connect()
        finally:
            link.close()


def _resolved(address: str) -> str:
    """Return where ``auto`` leads, as far as the environment says so.

    Raises:
        LaunchError: It leads to something that workers cannot be started through.
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
    """Make sure that somebody listens, which Ray by itself would take long to find out."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise LaunchError(f"Ray at {address}: {error.strerror or error}; is the cluster running there?") from None


def _close(process: subprocess.Popen[bytes]) -> None:
    """End the process, which goes when nobody is left to ask it for anything."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
