"""Runs the process that is connected to a Ray cluster: it starts workers there and reports how they end.

It is a separate process, which exchanges JSON lines with its command. Ray takes over signals, prints, waits for
minutes, and ends the process that loses its cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finesweep import __version__
from finesweep.errors import lines_of
from finesweep.host.python_process import LIBRARY
from finesweep.launch import deadlines
from finesweep.launch.ray.node_worker import TOLD, NodeWorker, look
from finesweep.launch.ray.nodes import Amounts, RayNode, able

Send = Callable[[Mapping[str, Any]], None]

LOOK_SECONDS = 0.1
PENDING_SECONDS = 60.0
"""Seconds after which a remark says that a worker waits for a node. A busy node takes some of them to start it."""

KILL_SECONDS = 5.0
"""Seconds in which a node must kill a worker and its trial itself, before its actor is killed."""

KILLED = -signal.SIGKILL
COULD_NOT = 3


@dataclass
class Started:
    """A requested worker.

    Attributes:
        actor: Ray's handle of its actor.
        need: Resources that it needs on a node.
        placed: Future of the node's name; None once the worker has a node.
        ended: Future of its exit code.
        began: Time of the request, on the monotonic clock.
        code: The exit code once it is known.
        is_pending_told: Whether its waiting was reported.
        kill_at: Time to kill the actor that was asked to kill the worker.
    """

    actor: Any
    need: Amounts
    placed: Any
    ended: Any
    began: float = field(default_factory=time.monotonic)
    code: int | None = None
    is_pending_told: bool = False
    kill_at: float | None = None


class ClusterWorkers:
    """Workers on a Ray cluster, by number.

    Args:
        send: Sends an event to the process that started this one.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started: dict[int, Started] = {}

    @property
    def has_work(self) -> bool:
        """Whether a worker runs, or waits for a node."""
        return any(one.code is None for one in self._started.values())

    def obey(self, request: Mapping[str, Any]) -> None:
        """Execute a request: start, stop or kill a worker."""
        number, is_stop = request["id"], request["do"] == "stop"
        if request["do"] == "start":
            self._start(number, request["work"], Amounts(**request["need"]))
            return
        one = self._started[number]
        if one.placed is not None:  # it has no node yet, and so no state to save
            self._drop(number, one, TOLD if is_stop else KILLED)
        elif is_stop:
            one.actor.stop.remote()
        else:
            self._kill(one)

    def stop_all(self) -> None:
        """Ask all workers to stop."""
        for number in list(self._started):
            self.obey({"do": "stop", "id": number})

    def look(self) -> None:
        """Check all workers, without waiting."""
        for number, one in self._started.items():
            if one.placed is not None:
                self._look_for_place(number, one)
            if one.code is None and _is_ready(one.ended):
                self._end(number, one, *_outcome(one.ended))
            if one.kill_at is not None and time.monotonic() >= one.kill_at:
                one.kill_at = None
                self._drop(number, one, KILLED)

    def _start(self, number: int, work: Mapping[str, Any], need: Amounts) -> None:
        import ray

        # The actor needs several threads: one waits for the worker, and requests to stop and to kill must not wait for
        # it.
        options = {"max_concurrency": 4, "max_restarts": 0, "max_task_retries": 0, **need.options()}
        actor = ray.remote(NodeWorker).options(**options).remote()
        address = ray.get_runtime_context().gcs_address if work["joins"] else None
        ended = actor.run.remote({**work, "address": address})
        self._started[number] = Started(actor, need, actor.where.remote(), ended)

    def _look_for_place(self, number: int, one: Started) -> None:
        import ray

        if _is_ready(one.placed):
            one.placed = None
        elif not one.is_pending_told and time.monotonic() - one.began >= PENDING_SECONDS:
            one.is_pending_told = True
            free = Amounts.of_ray(ray.available_resources())
            said = f"waits for its place on the Ray cluster: it asks for {one.need}; free in all: {free}"
            self._send({"id": number, "pending": said})

    def _kill(self, one: Started) -> None:
        """Kill a worker and its leftovers on its node, then its actor."""
        one.actor.kill.remote()
        # The node kills first: if Ray killed the actor, the worker and its trial would train on without it. A second
        # request does not extend the time.
        deadline = time.monotonic() + (KILL_SECONDS if one.code is None else LOOK_SECONDS)
        one.kill_at = deadline if one.kill_at is None else min(one.kill_at, deadline)

    def _drop(self, number: int, one: Started, code: int) -> None:
        import ray

        ray.kill(one.actor, no_restart=True)
        self._end(number, one, code)

    def _end(self, number: int, one: Started, code: int, why: str | None = None) -> None:
        # Only the first end counts: the future of a killed actor fails afterwards.
        if one.code is None:
            one.code, one.placed = code, None
            self._send({"id": number, "ended": code, "why": why})
            if code == 0:
                self._dismiss_waiting()

    def _dismiss_waiting(self) -> None:
        """End the workers that wait for a node: one that ran has found no trials left."""
        for number, one in self._started.items():
            if one.code is None and one.placed is not None:
                self._drop(number, one, 0)


def _is_ready(reference: Any) -> bool:
    import ray

    ready, _ = ray.wait([reference], timeout=0)
    return bool(ready)


def _outcome(ended: Any) -> tuple[int, str | None]:
    """Return a worker's exit code, and Ray's reason if it did not end by itself."""
    import ray

    try:
        return int(ray.get(ended)), None
    except ray.exceptions.RayTaskError as error:
        return COULD_NOT, lines_of(error)[-1]
    except ray.exceptions.RayError as error:
        return KILLED, lines_of(error)[-1]


def cluster_nodes() -> list[RayNode]:
    """Return the nodes of the cluster that are alive."""
    import ray

    return [
        RayNode(node["NodeID"], node["NodeManagerHostname"], Amounts.of_ray(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    ]


def complaints(nodes: list[RayNode], asked: Mapping[str, Any]) -> list[str]:
    """Check the sweep's folder and model on every node; return the problems, one line for each node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    looking, answers = ray.remote(look), []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        options = looking.options(num_cpus=0, max_retries=1, scheduling_strategy=there)
        answers.append(options.remote(asked["folder"], asked["run"], asked["token"], asked["model"], __version__))
    said = zip(nodes, map(_answer, answers), strict=True)
    return [f"node {node.host}: {complaint}" for node, complaint in said if complaint is not None]


def _answer(reference: Any) -> str | None:
    import ray

    try:
        said: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"finesweep could not be run there: {lines_of(error)[-1]}"
    return said


def connect(asked: Mapping[str, Any], send: Send) -> None:
    """Join the cluster and report its nodes; with a folder, check that they see it."""
    import ray

    # Ray puts the current folder first on the import path of all its workers.
    with contextlib.chdir(LIBRARY):
        ray.init(address=asked["address"], namespace="finesweep", log_to_driver=False)
    _leave_signals()  # Ray has taken them
    nodes = cluster_nodes()
    send({"nodes": [node.values() for node in nodes]})
    if asked["folder"] is not None:
        send({"complaints": complaints(able(nodes, Amounts(**asked["need"])), asked)})


def serve(workers: ClusterWorkers, requests: int) -> None:
    """Execute requests until the command is gone, and then until the workers have saved their states.

    Args:
        workers: The workers.
        requests: Descriptor from which each request comes as a line of JSON.
    """
    rest, stop_at = b"", None
    while stop_at is None or (workers.has_work and time.monotonic() < stop_at):
        if stop_at is None and select.select([requests], [], [], LOOK_SECONDS)[0]:
            if chunk := os.read(requests, 65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    workers.obey(json.loads(line))
            else:
                # The command is gone. Requests are not awaited any more: at its end `select` returns at once, always.
                stop_at = time.monotonic() + deadlines.WORKER_SECONDS
                workers.stop_all()
        elif stop_at is not None:
            time.sleep(LOOK_SECONDS)
        workers.look()


def _leave_signals() -> None:
    """Ignore signals: the process that started this one handles them, and this one ends with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _sender() -> Send:
    """Reserve standard output for events; everything that prints goes to the log."""
    # Ray and its libraries print to standard output too, and would break the lines of JSON.
    channel = os.dup(1)
    os.dup2(2, 1)

    def send(event: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the command has ended, but the workers must still save
            os.write(channel, json.dumps(event).encode() + b"\n")

    return send


def main() -> None:
    """Connect as the first line of standard input says, then serve requests."""
    _leave_signals()
    send = _sender()
    with open(0, "rb", buffering=0, closefd=False) as requests:
        connect(json.loads(requests.readline()), send)
        serve(ClusterWorkers(send), requests.fileno())


if __name__ == "__main__":
    main()
