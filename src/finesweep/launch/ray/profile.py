"""Checks a launch profile's keys for a Ray cluster, and counts the workers that fit there."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.launch.profile import Auto, Profile, SettledProfile, number
from finesweep.launch.ray.connection import nodes_of
from finesweep.launch.ray.dashboard import Dashboard
from finesweep.launch.ray.nodes import Amounts, RayNode, able, places, threads_for

_ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})", re.ASCII)
_DASHBOARD = re.compile(
    r"https?://([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:(\d{1,5}))?(/[\w./-]*)?", re.ASCII
)
_RESOURCE = re.compile(r"[A-Za-z_][\w.:/-]{0,99}", re.ASCII)
_PYTHON = re.compile(r"[\w./+-]{1,500}", re.ASCII)
_COUNTED_ELSEWHERE = {"CPU": "threads_per_worker", "GPU": "gpus_per_trial", "memory": "memory_gb"}
DASHBOARD_VARIABLE = "RAY_API_SERVER_ADDRESS"


def _checked_address(value: str) -> str:
    if value.startswith("ray://"):
        raise ValueError(
            "Ray Client (ray://) is not supported: when its connection breaks, everything ends that was started "
            "through it; name the head's host:port on a machine of the cluster, or `dashboard` for sweep submit"
        )
    if value != "auto" and not ((match := _ADDRESS.fullmatch(value)) and _is_port(match[2])):
        raise ValueError("must be auto or host:port, as head.cluster:6379")
    return value


def _checked_dashboard(value: str) -> str:
    if "@" in value:
        raise ValueError("holds credentials; a token belongs into the environment variable RAY_AUTH_TOKEN")
    match = _DASHBOARD.fullmatch(value)
    if not match or (match[3] and not _is_port(match[3])):
        raise ValueError("must be http://host:port or https://host:port, as http://head.cluster:8265")
    return value.rstrip("/")


def _checked_resources(value: Mapping[str, float]) -> Mapping[str, float]:
    for name, amount in value.items():
        if name in _COUNTED_ELSEWHERE:
            raise ValueError(f"{name} is what {_COUNTED_ELSEWHERE[name]} says")
        if not _RESOURCE.fullmatch(name):
            raise ValueError("a resource's name has letters, digits and _ . : / - in it, and begins with a letter")
        if amount <= 0 or (amount > 1 and amount != int(amount)):
            raise ValueError(f"{name} must be above 0, and above 1 a whole number")
    return value


def _checked_python(value: str) -> str:
    if not _PYTHON.fullmatch(value) or value.startswith("-"):
        raise ValueError("must be the name or the path of a program, without blanks")
    return value


def _is_port(text: str) -> bool:
    return 1 <= int(text) <= 65_535


Address = Annotated[str, AfterValidator(_checked_address)]
DashboardUrl = Annotated[str, AfterValidator(_checked_dashboard)]
Resources = Annotated[dict[str, float], AfterValidator(_checked_resources)]
Python = Annotated[str, AfterValidator(_checked_python)]


class RayProfile(Profile):
    """A YAML of ``sweeps/`` with ``launcher: ray``."""

    launcher: str = Field("ray", description="Where workers run.")
    address: Address = Field("auto", description="host:port of the head; auto: the cluster of this machine.")
    dashboard: DashboardUrl | None = Field(
        None, description="http://host:port that sweep submit gives the sweep to; default: RAY_API_SERVER_ADDRESS."
    )
    resources: Resources = Field({}, description="Custom resources of Ray that a worker asks for, by name.")
    python: Python = Field("python3", description="The Python with finesweep on the cluster, for sweep submit.")

    @classmethod
    def of(cls, profile: Profile) -> RayProfile:
        """Return a profile as one for a Ray cluster; missing keys get their defaults."""
        return profile if isinstance(profile, cls) else cls.model_validate({**profile.model_dump(), "launcher": "ray"})

    @property
    def jobs_url(self) -> str | None:
        """Address to which jobs are submitted; None if neither profile nor environment names it.

        Raises:
            SpecError: The value in the environment is no such address.
        """
        if self.dashboard is not None or not (named := os.environ.get(DASHBOARD_VARIABLE)):
            return self.dashboard
        try:
            return _checked_dashboard(named)
        except ValueError as error:
            raise SpecError.of(f"environment {DASHBOARD_VARIABLE}", str(error)) from None

    def need(self, numbers: SettledProfile) -> Amounts:
        """Return the resources of a worker that trains."""
        gpus = numbers.gpus_per_trial / numbers.trials_per_gpu
        return Amounts(float(numbers.threads_per_worker), gpus, self.memory_gb or 0.0, self.resources)

    def settled(
        self, machine: Machine, trials: int, workers: int | None = None, trial_gb: float = 0.0
    ) -> SettledProfile:
        """Return this profile with a number for each ``auto``, as the cluster has room.

        The cluster is asked only if a key is ``auto``.

        Args:
            machine: Not used: the workers run elsewhere.
            trials: Number of trials left; there are never more workers.
            workers: Replaces the profile's own number.
            trial_gb: Not used: Ray gets the value of ``memory_gb``.

        Raises:
            LaunchError: The cluster does not answer.
            SpecError: No node could take a worker.
        """
        asked = self.workers if workers is None else workers
        per_gpu, threads = number(self.trials_per_gpu, 1), number(self.threads_per_worker, 1)
        if asked != "auto" and self.gpus_per_trial != "auto" and self.threads_per_worker != "auto":
            return SettledProfile(self, max(1, min(asked, trials)), self.gpus_per_trial, per_gpu, threads)
        # Asked only here: with numbers for all keys the cluster need not be reachable from this machine.
        nodes = self._nodes()
        gpus = number(self.gpus_per_trial, int(any(node.has.gpus >= 1 for node in nodes)))
        return self._fitted(nodes, SettledProfile(self, 1, gpus, per_gpu, threads), asked, trials)

    def notes(self, settled: SettledProfile, machine: Machine) -> list[str]:
        """Return no warnings: workers that do not fit wait for a node, and Ray reports that."""
        return []

    def _fitted(self, nodes: Sequence[RayNode], one: SettledProfile, asked: Auto | int, trials: int) -> SettledProfile:
        """Return the numbers for which nodes have room, given those of one worker with the fewest allowed threads."""
        need = self.need(one)
        if not able(nodes, need):
            raise SpecError.of("launcher: ray", refusal(nodes, need))
        count = max(1, min(number(asked, places(nodes, need)), trials))
        threads = number(self.threads_per_worker, threads_for(nodes, need, count))
        return dataclasses.replace(one, workers=count, threads_per_worker=threads)

    def _nodes(self) -> Sequence[RayNode]:
        url = self.jobs_url
        return nodes_of(self.address) if url is None else _nodes_by(url)


@functools.cache
def _nodes_by(dashboard: str) -> Sequence[RayNode]:
    return Dashboard(dashboard).nodes()


def refusal(nodes: Sequence[RayNode], need: Amounts) -> str:
    """Return the message that no node could ever take a worker."""
    kinds = sorted({str(node.has) for node in nodes})
    return f"no node of the Ray cluster could take a worker: it asks for {need}; nodes have {' | '.join(kinds)}"
