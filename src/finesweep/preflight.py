"""Owns everything that is checked before any compute is spent: YAML, data, model, and how they fit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep import model_source
from finesweep.errors import Problem, SpecError
from finesweep.loaded_data import LoadedData
from finesweep.manifest import Manifest
from finesweep.model_settings import setting_defaults
from finesweep.model_source import ResolvedModel
from finesweep.plan import planned_trials
from finesweep.registry import TASKS
from finesweep.settings import Settings
from finesweep.spec import ModelSpec, ScratchModelSpec, SweepSpec
from finesweep.spec_reader import LoadedSpec
from finesweep.trial import Value


@dataclass(frozen=True)
class Checked:
    """A spec whose data and model have been looked at.

    Attributes:
        loaded: The spec and its source.
        data: Clean, encoded, split rows.
        model: Where the model is and what it can take.
        plan: Parameters of the first trials.
        notes: Remarks for the user, in the order in which they came up.
    """

    loaded: LoadedSpec
    data: LoadedData
    model: ResolvedModel
    plan: Sequence[Mapping[str, Any]]
    notes: Sequence[str]

    def without_rows(self) -> Checked:
        """Return the same without the rows, small enough to be sent to another process."""
        return dataclasses.replace(self, data=self.data.without_rows())

    def manifest(self) -> Manifest:
        """Return what the folder of this sweep has to hold on to."""
        spec = self.loaded.spec
        return Manifest(
            name=spec.name,
            spec=spec.model_dump(mode="json", exclude={"name", "budget", "stop"}),
            data=self.data.facts(),
            model={
                "name": self.model.name,
                "path": str(self.model.path) if self.model.path else None,
                "revision": self.model.revision,
                "digest": self.model.digest,
                "max_tokens": self.model.max_tokens,
                "from_scratch": self.model.path is None,
            },
            plan=[dict(params) for params in self.plan],
            created=time.time(),
        )


def check(loaded: LoadedSpec, *, trusted: bool = False) -> Checked:
    """Load the data, look at the model, and hold both against the spec.

    Args:
        loaded: A spec that has been read; its YAML is sound by itself.
        trusted: Whether code that comes with the model may be run.

    Raises:
        SpecError: With every problem of data and model.
    """
    from finesweep import data as data_module

    spec, source = loaded.spec, loaded.source
    problems: list[Problem] = []
    data = model = None
    try:
        task = TASKS.load(spec.task)()
        data = data_module.load(spec.data, task, base=spec.base, seed=spec.search.seed, source=source)
    except SpecError as error:
        problems += error.problems
    try:
        model = model_source.resolve(spec.model, base=spec.base, source=source, trusted=trusted)
        problems += _too_long(loaded, model)
        defaults = setting_defaults(_checkable(spec.model, model), spec, source)
    except SpecError as error:
        problems += error.problems
    if problems or data is None or model is None:
        raise SpecError(problems)
    longest = Settings.of(spec, {}, model.max_tokens).max_length
    plan = planned_trials(spec, defaults, longest)
    notes = [*loaded.notes, *data.notes, *model.notes, *_large_batches(spec, data.facts()["rows"]["train"])]
    return Checked(loaded, data, model, plan, notes)


def refuse_model_inside(checked: Checked, folder: Path) -> None:
    """Refuse a model that lies in the folder which the sweep is about to write, or to move aside.

    Raises:
        SpecError: It does; a winner is best copied before it is tuned further under the same name.
    """
    model = checked.model.path
    if model is not None and model.resolve().is_relative_to(folder.resolve()):
        where = checked.loaded.source.where("model")
        message = f"{model} lies inside {folder}, which this sweep writes"
        raise SpecError([Problem(where, message, "give the sweep another --name, or copy the model elsewhere")])


def _checkable(asked: ModelSpec | ScratchModelSpec, found: ResolvedModel) -> ResolvedModel | ScratchModelSpec:
    """Return what a setting is held against: the config in the folder, or the one that is being made."""
    return asked if isinstance(asked, ScratchModelSpec) else found


def _large_batches(spec: SweepSpec, rows: int) -> Iterator[str]:
    """Note a batch that holds all rows: it makes one step an epoch, which is seldom meant."""
    name = "per_device_train_batch_size"
    parameter = spec.space.get(name)
    sizes = (parameter.choices or (parameter.high,)) if parameter else (spec.fixed.get(name),)
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest >= rows:
        yield f"{name}: {largest} is no less than the {rows} training rows, so an epoch is a single step."


def _too_long(loaded: LoadedSpec, model: ResolvedModel) -> Iterator[Problem]:
    """Yield every ``max_length`` that goes beyond what the model can take."""
    for path, value in _lengths(loaded):
        if isinstance(value, int) and value > model.max_tokens:
            message = f"{value} tokens is beyond the model's {model.max_tokens}"
            yield Problem(loaded.source.where(*path), message, f"write at most {model.max_tokens}")


def _lengths(loaded: LoadedSpec) -> Iterator[tuple[tuple[str, ...], Value]]:
    spec = loaded.spec
    yield ("data", "max_length"), spec.data.max_length
    yield ("fixed", "data.max_length"), spec.fixed.get("data.max_length")
    parameter = spec.space.get("data.max_length")
    if parameter is not None:
        values = list(parameter.choices or ()) or [parameter.high]
        yield ("space", "data.max_length"), max((v for v in values if isinstance(v, int)), default=None)
