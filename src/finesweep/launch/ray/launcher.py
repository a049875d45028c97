"""Starts workers on a Ray cluster: an actor for each, on the node that Ray chooses."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass, field

from finesweep.errors import LaunchError
from finesweep.files import open_log
from finesweep.folder import Run, SweepFolder
from finesweep.host.process_ahead import ProcessAhead
from finesweep.launch.commands import run_command
from finesweep.launch.profile import SettledProfile
from finesweep.launch.ray.connection import GONE, RayConnection
from finesweep.launch.ray.nodes import Amounts, RayNode, able
from finesweep.launch.ray.profile import RayProfile, refusal


@dataclass
class RayHandle:
    """A worker on a node of the cluster.

    Attributes:
        connection: The connection that has started it.
        number: Its number there.
        sweep_folder: The sweep's folder.
        log: The worker's log.
    """

    connection: RayConnection
    number: int
    sweep_folder: SweepFolder
    log: str
    _code: int | None = field(default=None, init=False)

    @property
    def pid(self) -> None:
        """None: it has no process id on this machine."""
        return

    def poll(self) -> int | None:
        """Return the exit code, None while it runs or waits for a node."""
        self.connection.look()
        if (remark := self.connection.remarks.pop(self.number, None)) is not None:
            self._remark(remark)
        if self._code is None:
            self._code = self.connection.codes.get(self.number, GONE if self.connection.is_gone else None)
        return self._code

    def stop(self) -> None:
        """Send SIGTERM to the worker, which asks its trial to stop."""
        self.connection.stop(self.number)

    def kill(self) -> None:
        """Send SIGKILL to the worker and its trial."""
        self.connection.kill(self.number)

    def _remark(self, text: str) -> None:
        """Write Ray's remark on a worker into the worker's log, and keep it for the end of the command."""
        # If the folder is gone, its next reader reports that.
        with (
            contextlib.suppress(OSError),
            os.fdopen(open_log(self.sweep_folder.path / self.log), "a", encoding="utf-8") as log,
        ):
            log.write(f"Ray: {text}\n")
        self.sweep_folder.notes.append(f"{self.log}: {text}")


class RayLauncher:
    """Starts workers on a Ray cluster, which must see the sweep's folder under the same path."""

    def __init__(self) -> None:
        self._connection: RayConnection | None = None
        self._nodes: list[RayNode] = []

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
    ) -> RayHandle:
        """Start a worker; it may wait for a node.

        The first call connects to the cluster and checks the folder on all nodes. The lock stays on this machine:
        claims show what other machines hold.

        Raises:
            LaunchError: The cluster does not answer, a node does not see the folder, or no node could take the worker.
        """
        asked = RayProfile.of(profile.asked)
        # The only worker asks for no CPU or GPU: its trials ask for all of them, and would wait for its share for ever.
        need = Amounts(resources=asked.resources) if single_worker else asked.need(profile)
        connection = self._connected(sweep_folder, run, asked.address, need)
        if not able(self._nodes, need):
            raise LaunchError(refusal(self._nodes, need))
        log = sweep_folder.worker_log(run.number, index)
        work = {
            "arguments": run_command("worker", sweep_folder, run)[1:],
            "log": str(log),
            "threads": None if single_worker else profile.threads_per_worker,
            "gpu": bool(need.gpus),
            "joins": single_worker,
        }
        return RayHandle(
            connection, connection.start(work, need), sweep_folder, str(log.relative_to(sweep_folder.path))
        )

    def _connected(self, sweep_folder: SweepFolder, run: Run, address: str, need: Amounts) -> RayConnection:
        if self._connection is None or self._connection.is_gone:
            connection = RayConnection(_chosen(address), sweep_folder.path / "logs" / "ray.log")
            of_run = {"folder": str(sweep_folder.path), "run": run.number, "token": run.token, "model": run.model_path}
            self._nodes = connection.connect({**of_run, "need": dataclasses.asdict(need)})
            self._connection = connection
        return self._connection


def _chosen(address: str) -> str:
    """Return the address of the cluster; in a job, ``auto`` means the cluster of the job.

    Ray sets RAY_ADDRESS in a job to the cluster that it found on its machine. If there are several, that may be the
    wrong one; then the profile must name the address.
    """
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    return os.environ.get("RAY_ADDRESS", address) if is_job and address == "auto" else address
