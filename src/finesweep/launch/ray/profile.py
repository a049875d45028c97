"""Owns the launch profile of a Ray cluster: its address, what a worker asks of a node, and how many fit."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from finesweep.errors import Problem, SpecError
from finesweep.host.machine import Machine
from finesweep.launch.profile import Auto, Profile
from finesweep.launch.ray.dashboard import Dashboard
from finesweep.launch.ray.link import nodes_of
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
    """A YAML of ``sweeps/`` that says ``launcher: ray``."""

    launcher: str = Field("ray", description="Where workers run.")
    address: Address = Field("auto", description="host:port of the head; auto: the cluster of this machine.")
    dashboard: DashboardUrl | None = Field(
        None, description="http://host:port that sweep submit gives the sweep to; default: RAY_API_SERVER_ADDRESS."
    )
    resources: Resources = Field({}, description="Custom resources of Ray that a worker asks for, by name.")
    python: Python = Field("python3", description="The Python with finesweep on the cluster, for sweep submit.")

    @classmethod
    def of(cls, profile: Profile) -> RayProfile:
        """Return a profile as one of a Ray cluster; what it does not say has its default."""
        return profile if isinstance(profile, cls) else cls.model_validate({**profile.model_dump(), "launcher": "ray"})

    @property
    def jobs_url(self) -> str | None:
        """Where the cluster takes jobs, None if nobody has said so.

        Raises:
            SpecError: The environment names no such address.
        """
        if self.dashboard is not None or not (named := os.environ.get(DASHBOARD_VARIABLE)):
            return self.dashboard
        try:
            return _checked_dashboard(named)
        except ValueError as error:
            raise SpecError([Problem(f"environment {DASHBOARD_VARIABLE}", str(error))]) from None

    def need(self, *, coordinates: bool = False) -> Amounts:
        """Return what a worker takes of its node; one that runs its trials elsewhere takes nothing.

        Args:
            coordinates: Whether it runs its trials elsewhere.
        """
        if coordinates:
            return Amounts(resources=self.resources)
        gpus = 0.0 if self.gpus_per_trial in ("auto", 0) else 1 / self.per_gpu
        return Amounts(float(self.threads), gpus, self.memory_gb or 0.0, self.resources)

    def settled(self, machine: Machine, trials: int, workers: int | None = None) -> RayProfile:
        """Return this profile with a number wherever it says ``auto``, as the cluster has room.

        The cluster is asked only where something is ``auto``.

        Args:
            machine: Not looked at: the workers run elsewhere.
            trials: How many trials are left; more workers than that would have nothing to do.
            workers: Replaces the profile's own number.

        Raises:
            LaunchError: The cluster does not answer.
            SpecError: No node could take a worker.
        """
        asked = self.workers if workers is None else workers
        if "auto" not in (asked, self.gpus_per_trial, self.threads_per_worker):
            assert asked != "auto"
            return self.model_copy(update={"workers": max(1, min(asked, trials))})
        return self._fitted(self._nodes(), asked, trials)

    def notes(self, machine: Machine) -> list[str]:
        """Say nothing: workers that do not fit wait for their place, and Ray says so."""
        return []

    def _fitted(self, nodes: Sequence[RayNode], asked: Auto | int, trials: int) -> RayProfile:
        gpus = int(any(node.has.gpus >= 1 for node in nodes)) if self.gpus_per_trial == "auto" else self.gpus_per_trial
        chosen = {"gpus_per_trial": gpus}
        threads = 1 if self.threads_per_worker == "auto" else self.threads_per_worker
        one = self.model_copy(update={**chosen, "threads_per_worker": threads}).need()
        if not able(nodes, one):
            raise SpecError([Problem("launcher: ray", refusal(nodes, one))])
        count = max(1, min(places(nodes, one) if asked == "auto" else asked, trials))
        if self.threads_per_worker == "auto":
            threads = threads_for(nodes, one, count)
        return self.model_copy(update={**chosen, "workers": count, "threads_per_worker": threads})

    def _nodes(self) -> Sequence[RayNode]:
        url = self.jobs_url
        return nodes_of(self.address) if url is None else _nodes_by(url)


@functools.cache
def _nodes_by(dashboard: str) -> Sequence[RayNode]:
    return Dashboard(dashboard).nodes()


def refusal(nodes: Sequence[RayNode], need: Amounts) -> str:
    """Say that no node could ever take a worker."""
    kinds = sorted({str(node.has) for node in nodes})
    return f"no node of the Ray cluster could take a worker: it asks for {need}; nodes have {' | '.join(kinds)}"
