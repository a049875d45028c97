"""Checks everything before any compute is spent: YAML, data, model, and how they fit together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep import activity
from finesweep.data import LoadedData
from finesweep.errors import Problem, SpecError
from finesweep.folder import Loading, Manifest
from finesweep.folder.foreign import Foreign
from finesweep.folder.manifest import without_run
from finesweep.host.timeline import phase
from finesweep.model import ResolvedModel, load_check
from finesweep.model import source as model_source
from finesweep.model.config_check import setting_defaults
from finesweep.model.truncation_report import truncation_notes
from finesweep.registry import TASKS
from finesweep.spec import (
    AUTO,
    TRAINING_FIELDS,
    Draft,
    LoadedSpec,
    ModelSpec,
    ScratchModelSpec,
    SweepSpec,
    TrialLength,
    TrialSettings,
    YamlSource,
    in_order,
)
from finesweep.spec.known_good import KNOWN_NAMES
from finesweep.spec.planned_trials import planned_trials
from finesweep.sweep import warm_start
from finesweep.text import setting
from finesweep.trial import Value


@dataclass(frozen=True)
class Checked:
    """A spec with checked data and model.

    Attributes:
        loaded: The spec and its source.
        data: Clean, encoded, split rows.
        model: The model's folder and its limits.
        planned: Parameters of the first trials.
        notes: Remarks for the user, in the order of the checks.
        loading: How a pretrained model is loaded; None for one made from scratch.
        foreign: Trials of an earlier sweep that tell the sampler; None without one.
    """

    loaded: LoadedSpec
    data: LoadedData
    model: ResolvedModel
    planned: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    loading: Loading | None = None
    foreign: Foreign | None = None

    def manifest(self) -> Manifest:
        """Return the manifest for the folder of this sweep."""
        return _manifest(self.loaded.spec, self.data, self.model, self.loading, self.planned)


def check(loaded: LoadedSpec, *, trusted: bool = False) -> Checked:
    """Load the data, inspect the model, and compare both with the spec.

    Args:
        loaded: A spec whose YAML is sound by itself.
        trusted: Whether code that comes with the model may run.

    Raises:
        SpecError: With every problem of data and model.
    """
    spec = loaded.spec
    stages = _Stages(spec, loaded.source, trusted)
    stages.run()
    if stages.problems or stages.data is None or stages.model is None:
        raise SpecError(in_order(stages.problems))
    longest = TrialSettings.of(spec, {}, stages.model.max_tokens).max_length
    data, model = stages.data, stages.model
    loading = stages.loading
    warm = warm_start.read(loaded, _manifest(spec, data, model, loading))
    planned = planned_trials(spec, stages.defaults, longest, warm.best if warm else (), model.width)
    notes = [
        *loaded.notes,
        *data.notes,
        *model.notes,
        *([warm.note] if warm else ()),
        *_known_good(spec, planned),
        *(loading.notes if loading else ()),
        *_large_batches(spec, data.facts().rows["train"]),
        *_long_warmup(spec, data.facts().rows["train"]),
    ]
    with phase("count cut texts"):
        notes += truncation_notes(spec, data.frames, model, trusted=trusted)
    return Checked(loaded, data, model, planned, notes, loading, warm.foreign if warm else None)


def _manifest(
    spec: SweepSpec,
    data: LoadedData,
    model: ResolvedModel,
    loading: Loading | None,
    planned: Sequence[Mapping[str, Any]] = (),
) -> Manifest:
    return Manifest(
        spec=without_run(spec),
        data=data.facts(),
        model=model.facts(loading),
        planned=[dict(params) for params in planned],
        created=time.time(),
    )


def problems(draft: Draft, *, trusted: bool = False) -> list[Problem]:
    """Return every problem of a faulty YAML, and those of the data and the model as far as it names them.

    Args:
        draft: The sound part of the YAML.
        trusted: Whether code that comes with the model may run.
    """
    stages = _Stages(draft.sound(), draft.source, trusted)
    stages.run()
    known = {problem.where for problem in draft.problems}
    return in_order([*draft.problems, *(problem for problem in stages.problems if problem.where not in known)])


class _Stages:
    """Takes each step whose inputs exist, even if others have failed, and collects the problems.

    Attributes:
        problems: All problems.
        data: Clean, encoded, split rows; None if they cannot be loaded.
        model: The model's limits; None if it cannot be used.
        defaults: Values in the model's config of each ``model.*`` of the spec.
        loading: How a pretrained model is loaded; None for one made from scratch.
    """

    def __init__(self, spec: SweepSpec, source: YamlSource, trusted: bool) -> None:
        self.spec, self.source, self.trusted = spec, source, trusted
        self.problems: list[Problem] = []
        self.data: LoadedData | None = None
        self.model: ResolvedModel | None = None
        self.defaults: Mapping[str, Value] = {}
        self.loading: Loading | None = None

    def run(self) -> None:
        """Take the steps; see ``check``."""
        for step in (self._load_data, self._find_model, self._check_settings, self._check_loading):
            try:
                step()
            except SpecError as error:
                self.problems += error.problems

    @phase("read the data")
    def _load_data(self) -> None:
        activity.tell("importing pandas")
        from finesweep.data import loader

        spec = self.spec
        if _has(spec, "data") and spec.task in TASKS.names:
            task = TASKS.load(spec.task)()
            self.data = loader.load(spec.data, task, base=spec.base, seed=spec.search.seed, source=self.source)

    @phase("look at the model")
    def _find_model(self) -> None:
        if _has(self.spec, "model"):
            model = model_source.resolve(self.spec.model, base=self.spec.base, source=self.source, trusted=self.trusted)
            self.problems += _too_long(self.spec, self.source, model)
            self.model = model

    @phase("check the model's settings")
    def _check_settings(self) -> None:
        if self.model is not None:
            self.defaults = setting_defaults(_checkable(self.spec.model, self.model), self.spec, self.source)

    @phase("compare the weights with the model")
    def _check_loading(self) -> None:
        if self.model is not None and self.model.path is not None and self.spec.task in TASKS.names:
            self.loading = load_check.check(self.model, self.spec, self.source, self.data, trusted=self.trusted)


def _has(spec: SweepSpec, section: str) -> bool:
    """Return whether a section exists; a spec made of a faulty YAML may lack it."""
    return getattr(spec, section, None) is not None


def refuse_model_inside(checked: Checked, folder: Path) -> None:
    """Refuse a model inside the folder that the sweep is about to write, or to move aside.

    Raises:
        SpecError: It is inside; a winner must be copied before it is trained further under the same name.
    """
    model = checked.model.path
    if model is not None and model.resolve().is_relative_to(folder.resolve()):
        where = checked.loaded.source.where("model")
        message = f"{model} lies inside {folder}, which this sweep writes"
        raise SpecError.of(where, message, "give the sweep another --name, or copy the model elsewhere")


def _checkable(asked: ModelSpec | ScratchModelSpec, found: ResolvedModel) -> ResolvedModel | ScratchModelSpec:
    """Return the config to check settings against: the one in the folder, or the one that will be made."""
    return asked if isinstance(asked, ScratchModelSpec) else found


def _known_good(spec: SweepSpec, planned: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a remark that lists the known good configurations that are tried first."""
    known = planned[spec.search.baseline :] if spec.start == AUTO else ()
    if known:
        names = [name for name in KNOWN_NAMES if name in spec.space]
        listed = "; ".join(", ".join(setting(one[name]) for name in names if name in one) for one in known)
        yield f"start: auto tries known good values first ({', '.join(names)}): {listed}. start: none turns that off."


def _large_batches(spec: SweepSpec, rows: int) -> Iterator[str]:
    """Yield a remark on a batch of all rows: an epoch is then one step, which is seldom meant."""
    name = "per_device_train_batch_size"
    parameter = spec.space.get(name)
    sizes = parameter.ends().values() if parameter else (spec.fixed.get(name),)
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if largest >= rows:
        yield f"{name}: {largest} is no less than the {rows} training rows, so an epoch is a single step."


def _long_warmup(spec: SweepSpec, rows: int) -> Iterator[str]:
    """Yield a remark on a warmup longer than the training, which then never reaches its learning rate."""
    warmups = [steps for steps in _values(spec, "warmup_steps") if steps >= 1]
    most, least = _steps(spec, rows, max), _steps(spec, rows, min)
    if warmups and min(_values(spec, "warmup_steps")) >= most:
        yield f"warmup_steps: {min(warmups):g} last all of training ({most:,} steps): none gets to its learning_rate."
    elif warmups and max(warmups) >= least:
        yield (
            f"warmup_steps: {max(warmups):g} are no fewer than the steps of the shortest training ({least:,}): "
            "such a trial never reaches its learning_rate."
        )


def _steps(spec: SweepSpec, rows: int, pick: Callable[[Sequence[float]], float]) -> int:
    """Return the steps of the longest training, or of the shortest."""
    other: Callable[[Sequence[float]], float] = min if pick is max else max
    picks = {"num_train_epochs": pick, "per_device_train_batch_size": other, "gradient_accumulation_steps": other}
    values = spec.merged({name: choose(_values(spec, name)) for name, choose in picks.items()})
    return TrialLength.of(values, rows).total_steps


def _values(spec: SweepSpec, name: str) -> list[float]:
    """Return the possible numbers of a setting: its choices, both ends of its range, or the one that is set."""
    parameter = spec.space.get(name)
    one = spec.fixed.get(name, TRAINING_FIELDS[name].default)
    values = parameter.ends().values() if parameter else (one,)
    return [value for value in values if isinstance(value, int | float)]


def _too_long(spec: SweepSpec, source: YamlSource, model: ResolvedModel) -> Iterator[Problem]:
    """Yield every ``max_length`` that exceeds the model's limit."""
    for path, value in _lengths(spec):
        if isinstance(value, int) and value > model.max_tokens:
            message = f"{value} tokens is beyond the model's {model.max_tokens}"
            yield Problem(source.where(*path), message, f"write at most {model.max_tokens}")


def _lengths(spec: SweepSpec) -> Iterator[tuple[tuple[str, ...], Value]]:
    if _has(spec, "data"):
        yield ("data", "max_length"), spec.data.max_length
    yield ("fixed", "data.max_length"), spec.fixed.get("data.max_length")
    parameter = spec.space.get("data.max_length")
    if parameter is not None:
        lengths = (length for length in parameter.ends().values() if isinstance(length, int))
        yield ("space", "data.max_length"), max(lengths, default=None)
