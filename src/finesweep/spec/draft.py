"""Holds what a YAML says: a draft with its problems, and the checked spec that a draft without any becomes."""

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
    """A spec and where it came from.

    Attributes:
        spec: The checked values.
        source: The YAML with line numbers, for messages about the data and the model.
        defaults: ``dotted.name`` and value of every default that was used.
        notes: Remarks for the user that are no problems.
    """

    spec: SweepSpec
    source: YamlSource
    defaults: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Draft:
    """What a YAML says, as far as it is sound.

    Attributes:
        sections: The sections that could be read, by key; of ``space``, ``fixed`` and ``start`` what is sound in them.
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
        """Return the spec of a YAML without a problem.

        Raises:
            SpecError: There are problems; lists all of them.
        """
        if self.problems:
            raise SpecError(in_order(self.problems))
        spec = SweepSpec(base=self.base, **self.sections)
        return LoadedSpec(spec, self.source, _defaults_used(spec, self.source.values), tuple(self.notes))

    def sound(self) -> SweepSpec:
        """Return a spec of the sections that could be read; it lacks ``model`` or ``data`` where those could not."""
        return SweepSpec.model_construct(base=self.base, **{"space": {}, **self.sections})


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return each problem once: those without a line first, then file by file in the order of the lines."""
    found = list(dict.fromkeys(problems))
    files = list(dict.fromkeys(_place(problem)[0] for problem in found))

    def order(problem: Problem) -> tuple[int, int, str]:
        file, line = _place(problem)
        return (files.index(file) if line else -1, line, problem.where)

    return sorted(found, key=order)


def _place(problem: Problem) -> tuple[str, int]:
    """Return the file that a problem stands in, and its line; 0 for one that stands in none."""
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
    for name in type(section).model_fields:
        default = getattr(section, name)
        if default is not None and given.get(name) is None:
            yield name, str(default) if isinstance(default, Direction) else default
