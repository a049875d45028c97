"""Compares the resources of a Ray cluster's nodes with those of a worker, and counts the workers that fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_OWN = ("CPU", "GPU", "memory")
_LEFT_OUT = ("node:", "object_store_memory", "accelerator_type:")
"""Resources that Ray lists for a node and no worker asks for."""

_ROUNDING = 1e-9
"""Tolerance in counting: Ray counts in ten-thousandths, and two halves of a GPU are one."""

_WITHOUT_END = 1_000_000
"""Maximum count of workers."""


@dataclass(frozen=True)
class Amounts:
    """Resources of a node, or of a worker.

    Attributes:
        cpus: CPUs in Ray's count.
        gpus: GPUs; a fraction means that several workers share one.
        memory_gb: Main memory in units of 1e9 bytes.
        resources: Custom resources by name.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gb: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_ray(cls, resources: Mapping[str, Any]) -> Amounts:
        """Read a node's resources as Ray lists them."""
        numbers = {name: float(value) for name, value in resources.items() if not name.startswith(_LEFT_OUT)}
        cpus, gpus, memory = (numbers.pop(name, 0.0) for name in _OWN)
        return cls(cpus, gpus, memory / 1e9, numbers)

    def options(self) -> dict[str, Any]:
        """Return these as options of a Ray actor; Ray accepts no memory of zero."""
        memory = {"memory": int(self.memory_gb * 1e9)} if self.memory_gb else {}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources), **memory}

    def times_in(self, other: Amounts) -> int:
        """Return how many workers with these needs fit into another amount.

        Workers share a GPU only if they fit on it together. Workers that need nothing fit a million times.
        """
        pairs = [(self.cpus, other.cpus), (self.memory_gb, other.memory_gb)]
        pairs += [(amount, other.resources.get(name, 0.0)) for name, amount in self.resources.items()]
        counts = [math.floor(has / asked + _ROUNDING) for asked, has in pairs if asked]
        if self.gpus:
            # By whole GPUs: Ray takes a worker's share from a single one, so what is left of two does not add up.
            counts.append(math.floor(other.gpus) * math.floor(1 / self.gpus + _ROUNDING))
        return min(counts, default=_WITHOUT_END)

    def __str__(self) -> str:
        named = [("CPU", self.cpus), ("GPU", self.gpus), *sorted(self.resources.items())]
        shown = [f"{name}: {amount:g}" for name, amount in named if amount]
        shown += [f"memory: {self.memory_gb:.1f} GB"] if self.memory_gb else []
        return ", ".join(shown) or "nothing"


@dataclass(frozen=True)
class RayNode:
    """One live node of a Ray cluster.

    Attributes:
        id: Ray's id of the node.
        host: Its host name or address.
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
    """Return the number of workers that fit on an otherwise idle cluster."""
    return min(sum(need.times_in(node.has) for node in nodes), _WITHOUT_END)


def able(nodes: Iterable[RayNode], need: Amounts) -> list[RayNode]:
    """Return the nodes that could take a worker when idle."""
    return [node for node in nodes if need.times_in(node.has)]


def threads_for(nodes: Sequence[RayNode], need: Amounts, workers: int) -> int:
    """Return the maximum number of CPUs that each worker can have, at least 1.

    Args:
        nodes: The cluster.
        need: Resources of a worker besides CPUs.
        workers: Number of workers.
    """
    most = int(max((node.has.cpus for node in nodes), default=1))
    fitting = (cpus for cpus in range(most, 1, -1) if places(nodes, dataclasses.replace(need, cpus=cpus)) >= workers)
    return next(fitting, 1)
