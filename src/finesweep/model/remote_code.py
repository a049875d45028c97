"""Finds everything that would make the library run code that comes with a model; it runs only if the user allows it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.registry import TASKS

FLAG = "--trust-remote-code"
"""Option of ``sweep run`` and ``sweep validate``. A YAML or a results folder cannot set it."""

_MAPS = ("auto_map", "custom_pipelines")
_REFERENCE = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)\Z")
_ATTENTION = (None, "eager", "sdpa")


@dataclass(frozen=True)
class Fault:
    """One fault of a folder.

    Attributes:
        message: What was found and what is allowed.
        hint: The nearest fix, or an empty string.
    """

    message: str
    hint: str = ""


def code_files(path: Path, configs: Mapping[str, Mapping[str, Any]]) -> Sequence[Path]:
    """Return a folder's Python files, by name, if one of its configs refers to code; else an empty list."""
    return sorted(path.glob("*.py")) if any(_references(config) for config in configs.values()) else []


def code_faults(
    path: Path, configs: Mapping[str, Mapping[str, Any]], known_types: Collection[str], *, trusted: bool
) -> Iterator[Fault]:
    """Yield faults for code that would run, and for code that is missing.

    Args:
        path: The model's folder.
        configs: Contents of ``config.json`` and ``tokenizer_config.json``, by these names.
        known_types: Model types that the library has code for; empty if they are unknown.
        trusted: Whether the user gave the flag.
    """
    for name, config in configs.items():
        yield from _forbidden(name, config)
        if not (references := _references(config)):
            continue
        if trusted:
            yield from _unusable(path, name, references)
        else:
            yield _untrusted(name, config.get("model_type"), known_types)
    config = configs.get("config.json", {})
    if trusted and _references(config) and config.get("model_type") not in known_types:
        yield from _missing_classes(config)


def _forbidden(file: str, values: Any) -> Iterator[Fault]:
    """Yield what is refused even with the flag, at any depth. JSON from a file has no cycles."""
    if isinstance(values, list):
        for item in values:
            yield from _forbidden(file, item)
    if not isinstance(values, dict):
        return
    if "trust_remote_code" in values:
        yield Fault(f"{file}: trust_remote_code is not allowed", f"only {FLAG} says that code may run")
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        chosen = values.get(name)
        for value in chosen.values() if isinstance(chosen, dict) else [chosen]:
            if value not in _ATTENTION:
                yield Fault(f"{file}: {name} is {value!r}; allowed are eager and sdpa", "it could load foreign code")
    for item in values.values():
        yield from _forbidden(file, item)


def _references(values: Any) -> list[Any]:
    """Return every reference to code as it is written, at any depth."""
    if isinstance(values, list):
        return [found for item in values for found in _references(item)]
    if not isinstance(values, dict):
        return []
    here = [reference for name in _MAPS if name in values for reference in _leaves(values[name])]
    return here + [found for name, item in values.items() if name not in _MAPS for found in _references(item)]


def _leaves(entry: Any) -> Iterator[Any]:
    if isinstance(entry, dict | list):
        # In a pipeline's entry only `impl` is code; the other values are names of the library's own classes.
        inner = entry.values() if isinstance(entry, dict) and "impl" not in entry else entry
        for item in [entry["impl"]] if isinstance(entry, dict) and "impl" in entry else inner:
            yield from _leaves(item)
    elif entry is not None:
        yield entry


def _untrusted(file: str, model_type: Any, known_types: Collection[str]) -> Fault:
    message = f"{file}: the model comes with code of its own (auto_map), which is not run unless you say so"
    spare = f", or take auto_map out of a copy: transformers has code for {model_type}"
    known = isinstance(model_type, str) and model_type in known_types
    return Fault(message, f"read the code, then give {FLAG}{spare if known else ''}")


def _unusable(path: Path, file: str, references: Sequence[Any]) -> Iterator[Fault]:
    for reference in references:
        match = _REFERENCE.match(reference) if isinstance(reference, str) else None
        if isinstance(reference, str) and "--" in reference:
            message = f"{file}: auto_map names code of another repository, {reference!r}"
            yield Fault(message, "copy that code into a local copy of the model, and name it there")
        elif match is None:
            yield Fault(f"{file}: auto_map names {reference!r}; expected FILE.CLASS, of the folder itself")
        elif not (path / f"{match[1]}.py").is_file():
            yield Fault(f"{match[1]}.py, which {file} names, is not in the folder", "copy or download it again")


def _missing_classes(config: Mapping[str, Any]) -> Iterator[Fault]:
    classes = config.get("auto_map")
    heads = dict.fromkeys(TASKS.load(name).model_class for name in TASKS.names)
    for names in (("AutoConfig",), tuple(heads)):
        if not isinstance(classes, dict) or classes.keys().isdisjoint(names):
            yield Fault(f"config.json: auto_map names no {' or '.join(names)}", "the model's code must bring it")
