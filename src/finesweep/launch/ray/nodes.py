"""Compares what the nodes of a Ray cluster have with what a worker asks for, and counts how many workers fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OWN = ("CPU", "GPU", "memory")
_LEFT_OUT = ("node:", "object_store_memory", "accelerator_type:")
"""What Ray counts among a node's resources and no worker asks for."""

_ROUNDING = 1e-9
"""Ray counts in ten-thousandths; two halves of a GPU are one."""

_WITHOUT_END = 1_000_000
"""Most workers that are counted."""


@dataclass(frozen=True)
class Amounts:
    """What a node has, or what a worker takes of it.

    Attributes:
        cpus: CPUs in Ray's count.
        gpus: GPUs; of a fraction several share one.
        memory_gb: Main memory in units of 1e9 bytes.
        resources: Custom resources by name.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gb: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_ray(cls, resources: Mapping[str, Any]) -> Amounts:
        """Read what Ray says of a node."""
        numbers = {name: float(value) for name, value in resources.items() if not name.startswith(_LEFT_OUT)}
        cpus, gpus, memory = (numbers.pop(name, 0.0) for name in _OWN)
        return cls(cpus, gpus, memory / 1e9, numbers)

    def options(self) -> dict[str, Any]:
        """Return this as options of a Ray actor; Ray takes no memory of zero."""
        memory = {"memory": int(self.memory_gb * 1e9)} if self.memory_gb else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources), **memory}

    def times_in(self, other: Amounts) -> int:
        """Return how often this fits into another one; a GPU is shared only by trials that fit on it together.

        What asks for nothing fits without end, which is a million times here.
        """
        pairs = [(self.cpus, other.cpus), (self.memory_gb, other.memory_gb)]
        pairs += [(amount, other.resources.get(name, 0.0)) for name, amount in self.resources.items()]
        counts = [math.floor(has / asked + _ROUNDING) for asked, has in pairs if asked]
        if self.gpus:
            counts.append(math.floor(other.gpus) * math.floor(1 / self.gpus + _ROUNDING))
        return min(counts, default=_WITHOUT_END)

    def __str__(self) -> str:
        named = [("CPU", self.cpus), ("GPU", self.gpus), *sorted(self.resources.items())]
        shown = [f"{name}: {amount:g}" for name, amount in named if amount]
        shown += [f"memory: {self.memory_gb:.1f} GB"] if self.memory_gb else []
        return ", ".join(shown) or "nothing"


@dataclass(frozen=True)
class RayNode:
    """One living node of a Ray cluster.

    Attributes:
        id: Ray's name for it.
        host: What a person calls it: its host name or address.
        has: Its resources, used or not.
    """

    id: str
    host: str
    has: Amounts

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> RayNode:
        """Rebuild a node from plain values."""
        return cls(str(values["id"]), str(values["host"]), Amounts(**values["has"]))

    def values(self) -> dict[str, Any]:
        """Return this node as plain values."""
        return dataclasses.asdict(self)


def places(nodes: Iterable[RayNode], need: Amounts) -> int:
    """Return how many workers fit on an otherwise idle cluster."""
    return min(sum(need.times_in(node.has) for node in nodes), _WITHOUT_END)


def able(nodes: Iterable[RayNode], need: Amounts) -> list[RayNode]:
    """Return the nodes that could take a worker once they are idle."""
    return [node for node in nodes if need.times_in(node.has)]


def threads_for(nodes: Sequence[RayNode], need: Amounts, workers: int) -> int:
    """Return the most CPUs that each of so many workers can have, at least 1.

    Args:
        nodes: The cluster.
        need: What a worker asks for besides CPUs.
        workers: How many workers there are to be.
    """
    most = int(max((node.has.cpus for node in nodes), default=1))
    fitting = (cpus for cpus in range(most, 1, -1) if places(nodes, dataclasses.replace(need, cpus=cpus)) >= workers)
    return next(fitting, 1)
