"""Applies ``--set name=value``: puts values from the command line into the values of a YAML."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import Problem, SpecError, printable
from finesweep.spec.yaml_source import MAX_DEPTH, KeyPath, YamlSource, expand, parse_value

DATA_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_SPLITS = ("train", "validation", "test")
_OF_A_DATASET = ("dataset", "config", "revision", *_SPLITS)


def apply_overrides(source: YamlSource, overrides: Sequence[str]) -> tuple[YamlSource, list[Problem], list[str]]:
    """Return the source with values replaced.

    Relative paths in an override start from the current directory; those in the file start from the file's folder. A
    file set as ``data.train`` replaces a Hub dataset, and a dataset replaces files.

    Args:
        overrides: ``dotted.name=value``; the value is read as YAML.
        source: The values of the file; it is not changed.

    Returns:
        The new source, in which replaced values stand at ``--set``; the problems of the overrides; remarks for the
        user.
    """
    changed = YamlSource(source.name, copy.deepcopy(source.values), dict(source.places))
    problems: list[Problem] = []
    for override in overrides:
        try:
            _apply_one(changed, override)
        except SpecError as error:
            problems += error.problems
    notes = _keep_one_source(changed)
    _make_paths_absolute(changed)
    return changed, problems, notes


def _apply_one(source: YamlSource, override: str) -> None:
    where = f"--set {printable(override)}"
    dotted, equals, text = override.partition("=")
    parts = _parts(dotted)
    if not equals or not all(parts) or len(parts) > MAX_DEPTH:
        raise SpecError.of(where, "expected name=value", "as --set budget.trials=5")
    path = _put(source.values, parts, _value(text, where), where)
    for old in [place for place in source.places if place[: len(path)] == path]:
        del source.places[old]
    source.places[path] = "--set"


def _value(text: str, where: str) -> Any:
    try:
        return parse_value(text, where)
    except SpecError as error:
        # The position within an argument ("line 1, column 7") is left out: it means nothing on a command line.
        raise SpecError([Problem(where, problem.message, problem.hint) for problem in error.problems]) from None


def _parts(dotted: str) -> list[str]:
    parts = [part.strip() for part in dotted.split(".")]
    # A setting's own name may hold a dot: space.model.hidden_dropout_prob.high
    names_start = {"space": 1, "fixed": 1, "start": 2}.get(parts[0], len(parts))
    if parts[names_start : names_start + 1] in (["model"], ["data"]) and len(parts) > names_start + 1:
        parts[names_start : names_start + 2] = [".".join(parts[names_start : names_start + 2])]
    return parts


def _put(values: dict[str, Any], parts: list[str], value: Any, where: str) -> KeyPath:
    """Set a value, making the mappings on the way to it; return its path."""
    if parts[0] == "model" and len(parts) > 1 and isinstance(values.get("model"), str):
        values["model"] = {"name": values["model"]}
    path: list[str | int] = []
    container: Any = values
    for part in parts[:-1]:
        key: Any = _key(container, part, where)
        if isinstance(container, dict):
            container.setdefault(key, {})
        if not isinstance(container[key], dict | list):
            container[key] = {}
        container = container[key]
        path.append(key)
    last = _key(container, parts[-1], where)
    container[last] = value
    return (*path, last)


def _key(container: Any, part: str, where: str) -> str | int:
    if not isinstance(container, list):
        return part
    if part.isdecimal() and int(part[:9]) < len(container):
        return int(part)
    raise SpecError.of(where, f"the list has {len(container)} entries, no {printable(part)!r}", "count from 0")


def _keep_one_source(source: YamlSource) -> list[str]:
    """Remove the data source that one from the command line replaces; return a remark about it."""
    data = source.values.get("data")
    if not isinstance(data, dict) or data.get("dataset") is None:
        return []
    if _is_override(source, "data", "dataset"):
        new, replaced = "dataset", [split for split in _SPLITS if is_data_file(data.get(split))]
    elif _is_override(source, "data", "train") and is_data_file(data.get("train")):
        new, replaced = "train", [key for key in _OF_A_DATASET if key in data]
    else:
        return []
    left = [key for key in replaced if not _is_override(source, "data", key)]
    note = f"--set data.{new}={data[new]} takes the place of {', '.join(f'data.{key}' for key in left)}."
    for key in left:
        del data[key]
    return [note] if left else []


def is_data_file(name: object) -> bool:
    """Return whether a text is the name of a data file, not of a dataset or a split."""
    return isinstance(name, str) and name.lower().endswith(DATA_SUFFIXES)


def _make_paths_absolute(source: YamlSource) -> None:
    data = source.values.get("data")
    if isinstance(data, dict) and data.get("dataset") is None:
        for split in _SPLITS:
            if _is_override(source, "data", split) and isinstance(file := data.get(split), str) and "://" not in file:
                data[split] = str(expand(Path(file)).absolute())
    model = source.values.get("model")
    if isinstance(model, str) and _is_override(source, "model"):
        source.values["model"] = _folder_or_id(model)
    elif isinstance(model, dict) and _is_override(source, "model", "name") and isinstance(model.get("name"), str):
        model["name"] = _folder_or_id(model["name"])


def _is_override(source: YamlSource, *path: str) -> bool:
    return source.where(*path).startswith("--set ")


def _folder_or_id(model: str) -> str:
    """Return a model's folder as an absolute path; any other name is a Hub id and stays as it is."""
    folder = expand(Path(model))
    try:
        return str(folder.absolute()) if folder.is_dir() else model
    except OSError:
        return model
