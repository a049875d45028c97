"""Owns what a sweep is and what its runs were: the two things that ``spec.json`` and ``runs/`` hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesweep import __version__
from finesweep.spec import FORMAT
from finesweep.trial import Params


@dataclass(frozen=True)
class Manifest:
    """What a sweep is: everything that two runs of it must have in common.

    Attributes:
        name: The sweep's name.
        spec: The spec's sections as plain values, without ``budget`` and ``stop``.
        data: Facts of the prepared data: ``sources`` (split to file or dataset with its digest or
            commit), ``rows`` (split to count), ``labels`` (names in the order of their ids, or None),
            ``text_pair`` (bool).
        model: Facts of the resolved model: ``name``, ``path`` (absolute folder), ``revision``,
            ``digest``, ``max_tokens``.
        plan: Parameters of the first trials, which no sampler proposes: baseline, ``start``, grid.
        created: Unix time.
        format: Version of this folder's layout.
        version: finesweep's version.
    """

    name: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Sequence[Params]
    created: float
    format: int = FORMAT
    version: str = __version__

    def identity(self) -> dict[str, Any]:
        """Return what must not change under one name, flat by dotted name.

        Where files lie is no part of it; what is in them is.
        """
        spec = {key: value for key, value in self.spec.items() if key not in ("data", "model")}
        places = ("dataset", "train", "validation", "test", "revision")
        data = {key: value for key, value in self.spec["data"].items() if key not in places}
        digests = {split: source["digest"] for split, source in self.data["sources"].items()}
        model = {key: value for key, value in self.spec["model"].items() if key not in ("name", "revision")}
        whole = {**spec, "data": {**data, "content": digests}, "model": {**model, "content": self.model["digest"]}}
        return dict(_flat(whole))


@dataclass(frozen=True)
class Run:
    """One ``sweep run`` of a sweep.

    Attributes:
        number: From 1.
        budget: ``trials`` and ``hours``.
        stop: ``target`` and ``no_gain_trials``.
        profile: The launch profile.
        environment: Versions and device.
        host: Machine that the command ran on.
        pid: Process id of the command.
        started: Unix time.
        ended: Unix time, None while it runs or if it was killed.
        outcome: One line: why it ended.
    """

    number: int
    budget: Mapping[str, Any]
    stop: Mapping[str, Any]
    profile: Mapping[str, Any]
    environment: Mapping[str, Any]
    host: str
    pid: int
    started: float
    ended: float | None = None
    outcome: str | None = None


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Say what differs between two identities, a line each: ``space.learning_rate.high: 5e-05 -> 0.0001``."""
    before, after = old.identity(), new.identity()
    lines = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}")
    return lines


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
