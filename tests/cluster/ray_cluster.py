"""A Ray cluster of several nodes on this machine, which listens on the loopback interface only.

Each node is a process of its own, ``ray_node.py``, which starts what belongs to the node and ends it when its
standard input is closed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cluster.ports import free_ports

NODE = Path(__file__).with_name("ray_node.py")
HAS_DASHBOARD = all(importlib.util.find_spec(name) for name in ("aiohttp_cors", "opencensus", "prometheus_client"))
QUICK = {"initial_delay": "1000", "period": "500", "timeout": "1000"}
"""Milliseconds: by itself Ray takes ten seconds to see that a node is dead."""


@dataclass
class RayCluster:
    """A running cluster.

    Attributes:
        folder: Holds all that Ray writes, and the token that keeps others out.
        nodes: The process of each node, the head first; None where it was ended.
        address: Of the head.
        dashboard: ``http://127.0.0.1:port``, None without ``ray[default]``.
    """

    folder: Path
    nodes: list[subprocess.Popen[str] | None] = field(default_factory=list)
    address: str = ""
    dashboard: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What everybody needs who talks to the cluster."""
        return {
            # In spite of its name: 127.0.0.1 stays what it is, and nothing listens elsewhere.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "RAY_health_check_failure_threshold": "3",
            # By itself Ray gives way to all others, and on a busy machine its workers would hardly run.
            "RAY_worker_niceness": "0",
            **{f"RAY_health_check_{name}_ms": value for name, value in QUICK.items()},
        }

    def add_node(self, cpus: int = 2, before: Sequence[str] = ()) -> int:
        """Start a node, the head if it is the first one; return its number.

        Args:
            cpus: How many it says it has.
            before: Words of a command to start it by.
        """
        port = free_ports(1)[0] if HAS_DASHBOARD and not self.nodes else 0
        words = [str(self.folder), self.address or "-", str(cpus), str(port)]
        # Inherited by whoever Ray starts; an outer cluster must not be found instead.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        with (self.folder / f"node-{len(self.nodes)}.log").open("w") as log:
            process = subprocess.Popen(
                [*before, sys.executable, str(NODE), *words],
                env={**environment, **self.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.nodes.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, Path(log.name).read_text()[-3000:]
        self.address = json.loads(said)["address"]
        if port:
            self.dashboard = f"http://127.0.0.1:{port}"
        return len(self.nodes) - 1

    def runs_on(self, number: int, pid: int) -> bool:
        """Say whether a process was started by a node, or by what that has started."""
        process = self.nodes[number]
        return process is not None and any(one.pid == process.pid for one in psutil.Process(pid).parents())

    def kill_node(self, number: int) -> None:
        """End a node and all that runs on it, as a power cut does."""
        process = self.nodes[number]
        assert process is not None
        tree, found = [], [psutil.Process(process.pid)]
        while found:  # what is stopped starts nothing more, and sees nobody die
            for one in found:
                _send(one, signal.SIGSTOP)
            tree += found
            found = [one for one in tree[0].children(recursive=True) if one not in tree]
        for one in tree:
            _send(one, signal.SIGKILL)
        process.communicate()
        self.nodes[number] = None

    def processes(self) -> list[psutil.Process]:
        """Return all that belongs to the cluster, or was started by what does."""
        return [one for one in psutil.process_iter() if _variable(one, "RAY_TMPDIR") == str(self.folder)]

    def stop(self) -> None:
        """End all nodes, the head last, and make sure that nothing is left."""
        for process in reversed(self.nodes):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=30)
        for one in self.processes():
            _send(one, signal.SIGKILL)
        for process in filter(None, self.nodes):
            process.wait()
        shutil.rmtree(self.folder)


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except (psutil.Error, OSError):
        return None


@pytest.fixture(scope="session")
def ray() -> Iterator[RayCluster]:
    """Yield a cluster of a head and one more node, with two CPUs each."""
    # The sockets in it have long names, for which a test's own folder leaves no room.
    cluster = RayCluster(Path(tempfile.mkdtemp(prefix="fs-nodes-")))
    token = cluster.folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(24))
    try:
        for _ in range(2):
            cluster.add_node()
        yield cluster
    finally:
        cluster.stop()
