"""Owns the way from a YAML file to a checked ``SweepSpec``, or to every problem in it at once.

Only what the YAML itself tells is checked here, without importing torch; ``finesweep.preflight`` looks
at the data and the model.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from finesweep.errors import Problem, SpecError, did_you_mean
from finesweep.registry import BACKENDS, TASKS, Table, UnknownName
from finesweep.search_space import MAX_GRID_POINTS, Parameter, SearchSpace, when_problems
from finesweep.spec import REQUIRED, SECTIONS, DataSpec, ModelSpec, ScratchModelSpec, SearchSpec, SweepSpec
from finesweep.training_fields import OWNED, REPLACED, TRAINING_FIELDS, TrainingField, describe
from finesweep.trial import Direction
from finesweep.yaml_source import KeyPath, YamlSource, parse_value, read

MAX_PARAMETERS = 100
_MODEL_KEY = re.compile(r"model\.[a-z][a-z0-9_]{0,60}\Z")
_MODEL_KEYS_OWNED = {
    **dict.fromkeys(("num_labels", "id2label", "label2id", "problem_type"), "it follows from the data"),
    **dict.fromkeys(("auto_map", "trust_remote_code"), "code that comes with a model is never run"),
    "attn_implementation": "it could load code from the Hub",
    **dict.fromkeys(("vocab_size", "pad_token_id", "model_type", "architectures"), "it belongs to the model's weights"),
}
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")


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


def load(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> LoadedSpec:
    """Read and check a search space YAML.

    Args:
        path: The YAML file.
        overrides: ``dotted.name=value`` as given to ``--set``; relative paths in them start from the
            current directory, those in the file from the file's folder.
        name: Overrides the name of the results folder.

    Returns:
        The spec, its source and the defaults that were used.

    Raises:
        SpecError: With every problem found, each with file, line and the nearest fix.
    """
    source = _overridden(read(path), overrides)
    if name is not None:
        source.values["name"] = name
        source.places[("name",)] = "--name"
    return _Reader(source, Path(path).expanduser()).spec()


def _overridden(source: YamlSource, overrides: Sequence[str]) -> YamlSource:
    values, places = copy.deepcopy(source.values), dict(source.places)
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise SpecError([Problem(f"--set {override}", "expected name=value", "as budget.trials=5")])
        path = _override_path(dotted)
        value = parse_value(text, f"--set {override}")
        if path[:2] in (("data", "train"), ("data", "validation"), ("data", "test")) and "dataset" not in (
            values.get("data") or {}
        ):
            value = str(Path(str(value)).expanduser().absolute()) if value is not None else None
        _put(values, path, value, f"--set {override}")
        places[path] = "--set"
    return YamlSource(source.name, values, places)


def _override_path(dotted: str) -> KeyPath:
    parts = dotted.split(".")
    # The names in `space` and `fixed` may hold a dot themselves: model.hidden_dropout_prob.
    if parts[0] in ("space", "fixed") and len(parts) > 2 and parts[1] in ("model", "data"):
        parts[1:3] = [".".join(parts[1:3])]
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _put(values: Any, path: KeyPath, value: Any, where: str) -> None:
    for part in path[:-1]:
        if isinstance(values, dict):
            values[part] = values.get(part) if isinstance(values.get(part), dict | list) else {}
        elif not (isinstance(values, list) and isinstance(part, int) and part < len(values)):
            raise SpecError([Problem(where, f"there is nothing called {part!r} to set a value in")])
        values = values[part]
    if isinstance(values, list) and not (isinstance(path[-1], int) and path[-1] < len(values)):
        raise SpecError([Problem(where, f"the list has no position {path[-1]!r}")])
    values[path[-1]] = value


class _Reader:
    """Checks one source section by section, so that one bad section does not hide the others."""

    def __init__(self, source: YamlSource, path: Path) -> None:
        self.source = source
        self.path = path
        self.raw = source.values
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def spec(self) -> LoadedSpec:
        self._unknown_keys()
        sections = {key: value for key in SECTIONS if (value := self._section(key)) is not None}
        self._cross_checks(sections)
        if self.problems:
            raise SpecError(sorted(set(self.problems), key=self._line_order))
        spec = SweepSpec(base=self.path.parent.absolute(), **sections)
        return LoadedSpec(spec, self.source, _defaults_used(spec, self.raw), tuple(self.notes))

    def _line_order(self, problem: Problem) -> tuple[int, str]:
        line = re.search(r":(\d+)\b", problem.where)
        return (int(line[1]) if line else 0, problem.where)

    def _add(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.source.where(*path), message, hint))

    def _unknown_keys(self) -> None:
        for key in self.raw:
            if key not in SECTIONS:
                self._add((key,), "no such key", _key_hint(key) or f"there are {', '.join(SECTIONS)}")
        for key in REQUIRED:
            if self.raw.get(key) is None:
                self.problems.append(Problem(self.source.name, f"`{key}:` is missing", SECTIONS[key][1]))

    def _section(self, key: str) -> Any:
        value = self.raw.get(key)
        if key == "name":
            value = self.path.stem if value is None else value
        if value is None:
            return None
        if key == "model":
            return self._model(value)
        if key == "space":
            return self._space(value)
        return self._validated(SECTIONS[key][0], value, (key,))

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
        checked = {name: self._validated(Parameter, item, ("space", name)) for name, item in value.items()}
        return {name: parameter for name, parameter in checked.items() if parameter is not None}

    def _validated(self, kind: Any, value: Any, path: KeyPath) -> Any:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not isinstance(value, dict):
            self._add(path, f"expected a mapping, found {describe(value)}", _example(kind))
            return None
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            for item in error.errors():
                self._add_pydantic(item, path, kind)
            return None

    def _add_pydantic(self, item: Any, path: KeyPath, kind: Any) -> None:
        loc = tuple(part for part in item["loc"] if not _is_union_tag(part))
        here = (*path, *loc)
        if item["type"] == "extra_forbidden":
            known = _field_names(kind)
            hint = did_you_mean(str(loc[-1]), known) or _key_hint(str(loc[-1]))
            self._add(here, f"no such key; there are {', '.join(known)}", hint)
        elif item["type"] == "missing":
            self._add(here, "is missing")
        else:
            self._add(here, _sentence(item))

    def _cross_checks(self, sections: Mapping[str, Any]) -> None:
        space: Mapping[str, Parameter] = sections.get("space") or {}
        fixed = sections.get("fixed") or {}
        for name, parameter in space.items():
            self._check_parameter(name, parameter)
        for name, value in fixed.items():
            self._check_fixed(name, value, space)
        self._check_together(space, fixed)
        self._check_when(space)
        self._check_task_and_objective(sections)
        self._check_data(sections.get("data"))
        search = sections.get("search") or SearchSpec()
        self._check_search(search, space, sections)
        self._check_start(sections.get("start") or (), space)

    def _check_parameter(self, name: str, parameter: Parameter) -> None:
        path = ("space", name)
        rule = self._rule(name, path)
        if rule is None:
            return
        if not rule.tunable:
            self._add(path, "is not searched: it changes speed or reporting, not the result", f"put {name} into fixed")
        if parameter.choices is not None:
            for index, choice in enumerate(parameter.choices):
                if problem := rule.problem(choice):
                    self._add((*path, "choices", index), problem, _word_hint(choice))
            return
        if rule.kind in (bool, str):
            allowed = ", ".join(rule.choices) or "true, false"
            self._add(path, "needs choices, not a range", f"as choices: [{allowed}]")
            return
        for bound in ("low", "high"):
            if problem := rule.problem(getattr(parameter, bound)):
                self._add((*path, bound), problem)

    def _check_fixed(self, name: str, value: Any, space: Mapping[str, Parameter]) -> None:
        path = ("fixed", name)
        if name in space:
            self._add(path, "stands in space and in fixed; keep one")
        rule = self._rule(name, path)
        if rule is not None and (problem := rule.problem(value)):
            self._add(path, problem, _word_hint(value))

    def _rule(self, name: str, path: KeyPath) -> TrainingField | None:
        """Return what a setting accepts; None where it is unknown (noted) or checked later (model.*)."""
        if name == "data.max_length":
            return TrainingField(int, None, low=4, high=1_000_000)
        if name.startswith("model.") and _MODEL_KEY.match(name):
            if reason := _MODEL_KEYS_OWNED.get(name.removeprefix("model.")):
                self._add(path, "cannot be set", reason)
            return None
        if name in TRAINING_FIELDS:
            return TRAINING_FIELDS[name]
        if name in REPLACED:
            self._add(path, "no such training argument", REPLACED[name])
        elif name in OWNED:
            self._add(path, "is set by finesweep", OWNED[name])
        else:
            hint = did_you_mean(name, [*TRAINING_FIELDS, "data.max_length"])
            self._add(path, "no such training argument", hint or "or write model.NAME for the model's config")
        return None

    def _check_together(self, space: Mapping[str, Parameter], fixed: Mapping[str, Any]) -> None:
        if "max_steps" in fixed and "num_train_epochs" in {*space, *fixed}:
            self._add(("fixed", "max_steps"), "would override num_train_epochs; keep one")
        if fixed.get("bf16") and fixed.get("fp16"):
            self._add(("fixed", "fp16"), "bf16 and fp16 exclude each other; keep one")

    def _check_when(self, space: Mapping[str, Parameter]) -> None:
        for name, message, near in when_problems(space):
            self._add(("space", name, "when"), message, did_you_mean(near, space) if near else "")

    def _check_task_and_objective(self, sections: dict[str, Any] | Mapping[str, Any]) -> None:
        task = self._loaded(TASKS, sections.get("task", "text-classification"), ("task",))
        objective = sections.get("objective") or SweepSpec.model_fields["objective"].default
        if task is None or (self.raw.get("objective") is not None and "objective" not in sections):
            return
        natural = task.metrics.get(objective.metric)
        if natural is None:
            hint = did_you_mean(objective.metric, task.metrics)
            names = ", ".join(task.metrics)
            self._add(("objective", "metric"), f"no evaluation produces {objective.metric!r}; there are {names}", hint)
        elif objective.direction not in (None, natural):
            self._add(("objective", "direction"), f"{objective.metric} is better the other way", f"write {natural}")
        elif isinstance(sections, dict):
            sections["objective"] = objective.model_copy(update={"direction": natural})

    def _check_data(self, data: DataSpec | None) -> None:
        if data is None:
            return
        if data.dataset is None and data.train is None:
            self._add(("data",), "needs `dataset:` (a Hub id) or `train:` (a file)")
        if data.dataset is None:
            for key in ("config", "revision"):
                if getattr(data, key) is not None:
                    self._add(("data", key), "is for a Hub dataset; files have none")
        for key in ("dataset", "train", "validation", "test"):
            value = getattr(data, key) or ""
            if _REMOTE.match(value) or "::" in value:
                self._add(("data", key), f"{value!r} is an address", "only local files and Hub datasets are read")

    def _check_search(self, search: SearchSpec, space: Mapping[str, Parameter], sections: Mapping[str, Any]) -> None:
        backend = self._loaded(BACKENDS, search.backend, ("search", "backend"))
        if backend is None:
            return
        for key, names in (("sampler", backend.samplers), ("pruner", backend.pruners)):
            if (value := getattr(search, key)) not in names:
                message = f"no {key} of {search.backend} is called {value!r}; there are {', '.join(names)}"
                self._add(("search", key), message, did_you_mean(value, names))
        if search.sampler == "grid":
            self._check_grid(space, sections)

    def _check_grid(self, space: Mapping[str, Parameter], sections: Mapping[str, Any]) -> None:
        continuous = [name for name, parameter in space.items() if not parameter.countable]
        for name in continuous:
            self._add(("space", name), "a grid needs choices, integers or a step on every axis")
        if continuous or any(True for _ in when_problems(space)):
            return
        size, budget = SearchSpace(space).grid_size(), sections.get("budget")
        trials = budget.trials if budget is not None else 20
        if size > MAX_GRID_POINTS:
            self._add(("space",), f"the grid has {size:,} points; at most {MAX_GRID_POINTS:,} are allowed")
        elif size > trials:
            self.notes.append(f"The grid has {size} points; budget.trials covers {trials} of them, drawn by the seed.")

    def _check_start(self, start: Sequence[Mapping[str, Any]], space: Mapping[str, Parameter]) -> None:
        if any(True for _ in when_problems(space)):
            return
        known = SearchSpace(space)
        for index, params in enumerate(start):
            for name, value in params.items():
                path = ("start", index, name)
                if name not in space:
                    self._add(path, "is no parameter of the space", did_you_mean(name, space))
                elif not space[name].contains(value):
                    self._add(path, f"{describe(value)} lies outside the space")
            missing = [name for name in known.parameters if known.is_active(name, params) and name not in params]
            if missing:
                self._add(("start", index), f"lacks {', '.join(missing)}", "give every parameter of the space")

    def _loaded(self, table: Table, name: str, path: KeyPath) -> Any:
        try:
            return table.load(name)
        except UnknownName as error:
            self._add(path, error.message, error.hint)
            return None


def _defaults_used(spec: SweepSpec, raw: Mapping[str, Any]) -> dict[str, Any]:
    used: dict[str, Any] = {}
    for key in SECTIONS:
        value = getattr(spec, key)
        given = raw.get(key)
        if isinstance(value, BaseModel) and key != "model":
            for name in type(value).model_fields:
                default = getattr(value, name)
                if default is not None and name not in (given or {}):
                    used[f"{key}.{name}"] = str(default) if isinstance(default, Direction) else default
        elif given is None and value not in (None, (), {}):
            used[key] = value
    return used


def _key_hint(key: str) -> str:
    """Point at the section that has a key of this name, or a near one at the top."""
    for section, (kind, _) in SECTIONS.items():
        if key in _field_names(kind):
            return f"did you mean {section}.{key}?"
    if key in TRAINING_FIELDS:
        return f"did you mean fixed.{key} or space.{key}?"
    return did_you_mean(key, SECTIONS) or REPLACED.get(key, "")


def _field_names(kind: Any) -> list[str]:
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and part in {
        "int",
        "float",
        "bool",
        "str",
        "none",
        "tuple[union[bool,int,float,str,none],...]",
    }


def _example(kind: type[BaseModel]) -> str:
    return "as {" + ", ".join(f"{name}: ..." for name in list(kind.model_fields)[:3]) + "}"


def _word_hint(value: Any) -> str:
    if value == "None":
        return "YAML writes null"
    if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "true", "false"):
        return "YAML writes true and false"
    try:
        float(value)
    except (TypeError, ValueError):
        return ""
    return "leave out the quotes" if isinstance(value, str) else ""


_EXPECTED = {
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping",
}


def _sentence(item: Any) -> str:
    """Put one pydantic error into the house's words."""
    if item["type"] in _EXPECTED:
        return f"expected {_EXPECTED[item['type']]}, found {describe(item['input'])}"
    if item["type"] == "string_pattern_mismatch":
        return f"{item['input']!r} may hold letters, digits, `_`, `.` and `-` only, at most 100"
    if item["type"] in ("value_error", "assertion_error"):
        return str(item["ctx"]["error"])
    message = item["msg"].replace("Input should be", "must be")
    return f"{message}, found {describe(item['input'])}"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a search space YAML, for editors."""
    adapters = [(key, "validation", TypeAdapter(kind)) for key, (kind, _) in SECTIONS.items()]
    refs, document = TypeAdapter.json_schemas(adapters, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    properties = {key: {**refs[(key, "validation")], "description": SECTIONS[key][1]} for key in SECTIONS}
    properties["task"]["enum"] = list(TASKS.names)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "finesweep search space",
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": properties,
        "$defs": document.get("$defs", {}),
    }
