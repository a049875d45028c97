"""Holds the result of reading a YAML: a draft with its problems, or the checked spec if there are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from finesweep.errors import Problem, SpecError
from finesweep.registry import TASKS
from finesweep.spec.sections import ON_RUNGS, SECTIONS, SweepSpec
from finesweep.spec.yaml_source import YamlSource
from finesweep.trial import Direction

_LINE = re.compile(r":(\d+)(?::\d+)?(?= |$)")


@dataclass(frozen=True)
class LoadedSpec:
    """A checked spec and its source.

    Attributes:
        spec: The checked values.
        source: The YAML with line numbers, for messages about the data and the model.
        defaults: Every default that was used, by dotted name.
        notes: Remarks for the user that are no problems.
    """

    spec: SweepSpec
    source: YamlSource
    defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Draft:
    """The sound part of a YAML, beside its problems.

    Attributes:
        sections: The sections that could be read, by key; of ``space``, ``fixed`` and ``start`` the sound entries.
        base: Folder that relative paths start from.
        source: The YAML with line numbers.
        problems: Every problem of the YAML itself.
        notes: Remarks for the user that are no problems.
    """

    sections: Mapping[str, Any]
    base: Path
    source: YamlSource
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()

    def finished(self) -> LoadedSpec:
        """Return the spec of a YAML without problems.

        Raises:
            SpecError: There are problems; lists all of them.
        """
        if self.problems:
            raise SpecError(in_order(self.problems))
        spec = SweepSpec(base=self.base, **self.sections)
        return LoadedSpec(spec, self.source, _defaults_used(spec, self.source.values), tuple(self.notes))

    def sound(self) -> SweepSpec:
        """Return an unchecked spec of the readable sections; if ``model`` or ``data`` is unreadable, it is missing."""
        return SweepSpec.model_construct(base=self.base, **{"space": {}, **self.sections})


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return each problem once: first those without a line, then by file and line."""
    found = list(dict.fromkeys(problems))
    files = list(dict.fromkeys(_place(problem)[0] for problem in found))

    def order(problem: Problem) -> tuple[int, int, str]:
        file, line = _place(problem)
        return (files.index(file) if line else -1, line, problem.where)

    return sorted(found, key=order)


def _place(problem: Problem) -> tuple[str, int]:
    """Return the file and line of a problem; an empty name and 0 if it has no line."""
    line = _LINE.search(problem.where)
    return (problem.where[: line.start()], int(line[1])) if line else ("", 0)


def _defaults_used(spec: SweepSpec, raw: Mapping[str, Any]) -> dict[str, Any]:
    used: dict[str, Any] = {}
    for key in SECTIONS:
        value, given = getattr(spec, key), raw.get(key)
        if isinstance(value, BaseModel) and key != "model":
            used |= {f"{key}.{name}": default for name, default in _unset(value, given or {})}
        elif given is None and value not in (None, (), {}):
            used[key] = value
    if spec.data.validation is not None:
        used.pop("data.validation_fraction", None)
    if not TASKS.load(spec.task).standardizes:
        used.pop("data.standardize", None)
    if spec.search.sampler == "grid":
        used.pop("search.baseline", None)
    if spec.search.pruner not in ON_RUNGS:
        used = {name: value for name, value in used.items() if not name.startswith("pruning.")}
    return used


def _unset(section: BaseModel, given: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, info in type(section).model_fields.items():
        default, key = getattr(section, name), info.alias or name
        if default is not None and given.get(key) is None:
            yield key, str(default) if isinstance(default, Direction) else default
