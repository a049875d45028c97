"""Reads a YAML file into a checked ``SweepSpec``, or collects every problem in it at once.

Only what the YAML itself tells is checked here, without importing torch; ``finesweep.sweep.preflight`` looks at the
data and the model.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from finesweep import __version__
from finesweep.errors import Problem, did_you_mean
from finesweep.registry import BACKENDS, TASKS, Registry, UnknownName
from finesweep.spec import setting_rules
from finesweep.spec.draft import Draft
from finesweep.spec.messages import SpecFinding, example, findings, near_key, unknown_keys
from finesweep.spec.overrides import apply_overrides, is_data_file
from finesweep.spec.search_space import MAX_GRID_POINTS, Parameter, SearchSpace
from finesweep.spec.sections import (
    AUTO,
    ON_RUNGS,
    REQUIRED,
    SECTIONS,
    BudgetSpec,
    DataSpec,
    ModelSpec,
    ObjectiveSpec,
    ScratchModelSpec,
    SearchSpec,
    WarmStart,
    is_name,
    keys_of,
)
from finesweep.spec.training_arguments import REPLACED, TRAINING_FIELDS, describe
from finesweep.spec.yaml_source import KeyPath, YamlSource, read
from finesweep.trial import Direction, Value

MAX_PARAMETERS = 100

CONFIGURATIONS = tuple[dict[str, Value], ...]
"""Type of ``start`` where it lists configurations."""

STARTS: Mapping[str, Any] = {AUTO: AUTO, "none": ()}
"""Words for ``start``, with their values."""


def draft(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> Draft:
    """Read and check a spec.

    Args:
        path: The YAML file.
        overrides: ``dotted.name=value`` as given to ``--set``; relative paths in them start from the current directory,
            those in the file from the file's folder.
        name: Overrides the name of the results folder.

    Returns:
        The sound part of the YAML, and its problems, each with file, line and the nearest fix.

    Raises:
        SpecError: The file cannot be read as YAML.
    """
    source, problems, notes = apply_overrides(read(path), overrides)
    if name is not None:
        source.values["name"] = name
        source.places[("name",)] = "--name"
    return _Reader(source, Path(path), problems, notes).draft()


class _Reader:
    """Checks one source section by section, so that one bad section does not hide the others."""

    def __init__(self, source: YamlSource, path: Path, problems: list[Problem], notes: list[str]) -> None:
        self.source = source
        self.path = path
        self.raw = source.values
        self.problems = problems
        self.notes = notes

    def draft(self) -> Draft:
        self._top_level()
        sections = {key: value for key in SECTIONS if (value := self._section(key)) is not None}
        self._cross_checks(sections)
        return Draft(sections, self.path.parent.absolute(), self.source, tuple(self.problems), tuple(self.notes))

    def _add(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.source.where(*path), message, hint))

    def _add_all(self, found: Iterable[SpecFinding]) -> None:
        for path, message, hint in found:
            self._add(path, message, hint)

    def _add_unknown(self, path: KeyPath, known: Iterable[str], hint: str) -> None:
        # An unknown key that is near no known one may belong to a later version, so the message names this version.
        message = "no such key" if hint else f"finesweep {__version__} has no such key here"
        self._add(path, message, hint or f"there are {', '.join(known)}")

    def _top_level(self) -> None:
        for key in self.raw:
            if key not in SECTIONS:
                self._add_unknown((key,), SECTIONS, _key_elsewhere(key))
        for key in REQUIRED:
            if self.raw.get(key) is None:
                self._add((key,) if key in self.raw else (), f"`{key}:` is missing", SECTIONS[key][1].rstrip("."))

    def _section(self, key: str) -> Any:
        value = self.raw.get(key)
        if key == "name":
            return self._name(value)
        if value is None:
            return None
        if key == "model":
            return self._model(value)
        if key == "space":
            return self._space(value)
        if key == "fixed" and isinstance(value, dict):
            return self._fixed(value)
        if key == "start":
            return self._start(value)
        return self._validated(SECTIONS[key][0], value, (key,))

    def _name(self, value: Any) -> str | None:
        if value is None and not is_name(self.path.stem):
            self._add(("name",), f"the file's name, {self.path.stem!r}, is no name for a folder", "write name: NAME")
            return None
        name: str | None = self._validated(SECTIONS["name"][0], self.path.stem if value is None else value, ("name",))
        return name

    def _model(self, value: Any) -> ModelSpec | ScratchModelSpec | None:
        if isinstance(value, str):
            value = {"name": value}
        kind = ScratchModelSpec if isinstance(value, dict) and "config" in value else ModelSpec
        model: ModelSpec | ScratchModelSpec | None = self._validated(kind, value, ("model",))
        return model

    def _space(self, value: Any) -> dict[str, Parameter] | None:
        if not isinstance(value, dict) or not value:
            self._add(("space",), "expected at least one parameter", "as learning_rate: {low: 1e-5, high: 5e-5}")
            return None
        if len(value) > MAX_PARAMETERS:
            self._add(("space",), f"{len(value)} parameters; at most {MAX_PARAMETERS} are allowed")
            return None
        checked = {name: self._parameter(name, item) for name, item in value.items()}
        return {name: parameter for name, parameter in checked.items() if parameter is not None}

    def _start(self, value: Any) -> Any:
        if isinstance(value, str):
            if value in STARTS:
                return STARTS[value]
            message = (
                f"expected {', '.join(STARTS)}, a list of configurations or {{from, top}}, found {describe(value)}"
            )
            self._add(("start",), message, did_you_mean(value, STARTS))
            return None
        # A union of types would report problems of both.
        is_warm = isinstance(value, dict) and not value.keys().isdisjoint(keys_of(WarmStart))
        return self._validated(WarmStart if is_warm else CONFIGURATIONS, value, ("start",))

    def _fixed(self, value: dict[str, Any]) -> dict[str, Value]:
        """Check each setting by itself, so that a broken one does not hide problems of the others."""
        checked: dict[str, Value] = {}
        for name, item in value.items():
            checked |= self._validated(dict[str, Value], {name: item}, ("fixed",)) or {}
        return checked

    def _parameter(self, name: str, value: Any) -> Parameter | None:
        path = ("space", name)
        self._add_all(setting_rules.name_findings(name, path))
        if isinstance(value, list):
            self._add(path, "expected a mapping, found a list", "as {choices: [...]}")
        elif not isinstance(value, dict):
            hint = f"put one value into fixed, as fixed: {{{name}: {value}}}" if value is not None else ""
            self._add(path, f"expected a mapping, found {describe(value)}", hint or "as {low: ..., high: ...}")
        else:
            parameter: Parameter | None = self._validated(Parameter, value, path)
            return parameter
        return None

    def _validated(self, kind: Any, value: Any, path: KeyPath) -> Any:
        if _is_section(kind) and not isinstance(value, dict):
            self._add(path, f"expected a mapping, found {describe(value)}", example(kind))
            return None
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            for place, key in unknown_keys(error):
                known = [*keys_of(kind), *(["config"] if kind is ModelSpec else [])]
                self._add_unknown((*path, *place), known, near_key(key, known) or _key_elsewhere(key))
            self._add_all(((*path, *place), message, hint) for place, message, hint in findings(error, value))
            return _rest(kind, value, error) if _is_section(kind) else None

    def _cross_checks(self, sections: dict[str, Any]) -> None:
        self._check_settings(sections)
        self._check_objective(sections)
        self._check_model(sections.get("model"))
        self._check_data(sections.get("data"))
        self._check_search(sections)

    def _check_settings(self, sections: Mapping[str, Any]) -> None:
        space: Mapping[str, Parameter] = sections.get("space") or {}
        named = self.raw["space"] if isinstance(self.raw.get("space"), dict) else {}
        for name, parameter in space.items():
            self._add_all(setting_rules.parameter_findings(name, parameter))
        self._add_all(setting_rules.fixed_findings(sections.get("fixed") or {}, named))
        self._add_all(setting_rules.when_findings(space, named))
        start = sections.get("start") or ()
        listed = start if isinstance(start, tuple) else ()
        self._add_all(setting_rules.start_findings(listed, space, named))
        self.notes += setting_rules.integer_notes(space)
        data = sections.get("data")
        for section in ("space", "fixed"):
            if data is not None and data.max_length is not None and "data.max_length" in (sections.get(section) or ()):
                self._add((section, "data.max_length"), f"stands in data and in {section}; keep one")

    def _check_objective(self, sections: dict[str, Any]) -> None:
        task = self._loaded(TASKS, sections.get("task", "text-classification"), ("task",))
        if task is not None:
            settings = [(section, name) for section in ("space", "fixed") for name in sections.get(section) or ()]
            self._add_all(
                ((section, name), f"is of no use in this task: {task.unusable[name]}", "remove it")
                for section, name in settings
                if name in task.unusable and sections[section][name] != 0
            )
            self._check_several(sections.get("data"), takes_several=task.takes_several)
        if task is None or (self.raw.get("objective") is not None and "objective" not in sections):
            return
        objective = sections.get("objective") or ObjectiveSpec()
        natural = task.metrics.get(objective.metric)
        if natural is None:
            names = ", ".join(task.metrics)
            hint = did_you_mean("eval_" + objective.metric.removeprefix("eval_"), task.metrics)
            self._add(("objective", "metric"), f"no evaluation produces {objective.metric!r}; there are {names}", hint)
        elif objective.direction not in (None, natural):
            self._add(("objective", "direction"), f"{objective.metric} is better the other way", f"write {natural}")
        else:
            sections["objective"] = objective.model_copy(update={"direction": Direction(natural)})

    def _check_several(self, data: DataSpec | None, *, takes_several: bool) -> None:
        if data is None or takes_several:
            return
        hint = "for several: `task: multi-label-classification`"
        if len(data.label_columns) > 1:
            self._add(("data", "label"), "a row has one label in this task, which stands in one column", hint)
        if data.label_separator is not None:
            self._add(("data", "label_separator"), "a row has one label in this task", hint)

    def _check_model(self, model: ModelSpec | ScratchModelSpec | None) -> None:
        if isinstance(model, ModelSpec):
            if "://" in model.name:
                self._add(("model",), f"{model.name!r} is an address", "only Hub ids and local folders are read")
            return
        for key, value in model.settings.items() if model is not None else ():
            if reason := setting_rules.MODEL_KEYS_OWNED.get(key):
                self._add(("model", key), "cannot be set", reason)
            elif isinstance(value, dict):
                self._add(("model", key), "expected one value or a list, found a mapping")

    def _check_data(self, data: DataSpec | None) -> None:
        if data is None:
            return
        if data.dataset is None:
            self._check_data_files(data)
        else:
            self._check_dataset(data, data.dataset)
        for key in ("dataset", "train", "validation", "test"):
            value = getattr(data, key) or ""
            if "://" in value:
                self._add(("data", key), f"{value!r} is an address", "only local files and Hub datasets are read")
        self._check_layout(data)
        columns = [name for name in (data.text, data.text_pair, *data.label_columns) if name is not None]
        for name in sorted({name for name in columns if columns.count(name) > 1}):
            self._add(("data",), f"the column {name!r} is named twice", "text, text_pair and label are three columns")

    def _check_layout(self, data: DataSpec) -> None:
        files = [name.lower() for name in (data.train, data.validation, data.test) if name is not None]
        is_text = data.dataset is None and any(name.endswith((".csv", ".tsv")) for name in files)
        for key in ("columns", "header", "quoting"):
            if getattr(data, key) is not None and not is_text and (key != "quoting" or data.dataset is None):
                self._add(("data", key), "is for CSV and TSV files", "leave it out")
        columns = data.columns or ()
        for name in sorted({name for name in columns if columns.count(name) > 1}):
            self._add(("data", "columns"), f"{name!r} stands there twice", "give each column a name of its own")
        if data.header is False and data.columns is None:
            self._add(("data", "header"), "without a header the columns need names", "add `columns: [text, label]`")

    def _check_dataset(self, data: DataSpec, dataset: str) -> None:
        if is_data_file(dataset):
            self._add(("data", "dataset"), f"{dataset!r} is a file; a Hub id is needed", "use data.train")
        for key in ("train", "validation", "test"):
            if is_data_file(value := getattr(data, key)):
                self._add(("data", key), f"{value!r} is a file beside `dataset:`; a split's name is needed", "keep one")

    def _check_data_files(self, data: DataSpec) -> None:
        if data.train is None:
            self._add(("data",), "needs `dataset:` (a Hub id) or `train:` (a file)")
        for key in ("config", "revision"):
            if getattr(data, key) is not None:
                self._add(("data", key), "is for a Hub dataset; files have none")
        if data.train is not None and data.validation == data.train:
            self._add(("data", "validation"), "is the training file itself", "leave it out for a split of those rows")
        if data.test is not None and data.test in (data.train, data.validation):
            self._add(("data", "test"), "is a file that the search already uses", "leave it out")

    def _check_search(self, sections: Mapping[str, Any]) -> None:
        search = sections.get("search") or SearchSpec()
        backend = self._loaded(BACKENDS, search.backend, ("search", "backend"))
        if backend is None:
            return
        for key, names in (("sampler", (AUTO, *backend.samplers)), ("pruner", backend.pruners)):
            if (value := getattr(search, key)) not in names:
                message = f"no {key} of {search.backend} is called {value!r}; there are {', '.join(names)}"
                self._add(("search", key), message, did_you_mean(value, names))
        if self.raw.get("pruning") and search.pruner not in ON_RUNGS:
            self.notes.append(f"pruning: is for the pruners {' and '.join(sorted(ON_RUNGS))}, not for {search.pruner}.")
        if search.sampler == "grid":
            self._check_grid(sections.get("space") or {}, sections.get("budget") or BudgetSpec())

    def _check_grid(self, space: Mapping[str, Parameter], budget: BudgetSpec) -> None:
        for name, parameter in space.items():
            if not parameter.countable:
                self._add(("space", name), "a grid needs choices, integers or a step on every axis")
        if self.problems or not space:
            return
        grid = SearchSpace(space)
        if (size := grid.grid_size()) > MAX_GRID_POINTS:
            self._add(("space",), f"the grid has {size:,} points; at most {MAX_GRID_POINTS:,} are allowed")
        elif (size := len(grid.grid())) > budget.trials:
            self.notes.append(f"The grid has {size} points; budget.trials covers {budget.trials}, drawn by the seed.")

    def _loaded(self, table: Registry, name: str, path: KeyPath) -> Any:
        try:
            return table.load(name)
        except UnknownName as error:
            self._add(path, error.message, error.hint)
            return None


def _rest(kind: Any, section: dict[str, Any], error: ValidationError) -> Any:
    """Return a section without its unknown keys, so that the others are checked further; None if they have errors."""
    unknown = {key for place, key in unknown_keys(error) if len(place) == 1}
    known = {key: value for key, value in section.items() if key not in unknown}
    try:
        return TypeAdapter(kind).validate_python(known) if unknown else None
    except ValidationError:
        return None


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _key_elsewhere(key: str) -> str:
    """Suggest the section that has a key of this or a similar name."""
    known: dict[str, str] = {name: f"fixed.{name} or space.{name}" for name in TRAINING_FIELDS}
    for section, (kind, _) in SECTIONS.items():
        if _is_section(kind):
            known |= {name: f"{section}.{name}" for name in kind.model_fields if name not in known}
    known |= {name: f"{name}: at the top level" for name in SECTIONS}
    if key in ("version", "format", "schema"):
        return "a spec has no version; leave it out"
    if key not in known and key in REPLACED:
        return REPLACED[key]
    near = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.6)
    return f"did you mean {known[near[0]]}?" if near else ""
