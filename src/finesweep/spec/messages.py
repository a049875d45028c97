"""Translates pydantic's errors into this project's messages, one finding for each place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from finesweep.errors import did_you_mean, printable
from finesweep.spec.training_arguments import describe
from finesweep.spec.yaml_source import KeyPath

SpecFinding = tuple[KeyPath, str, str]
"""Place of a problem, its description, and the nearest fix (or an empty string)."""

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
}
_HABITS = {
    "min": "low",
    "max": "high",
    "values": "choices",
    "options": "choices",
    "grid_search": "choices",
    "log_uniform": "log",
    "n_trials": "trials",
    "max_trials": "trials",
    "name_or_path": "name",
    "text_column": "text",
    "label_column": "label",
}
"""Keys of other tools, with the key that is meant here."""


def findings(error: ValidationError, value: Any) -> Iterator[SpecFinding]:
    """Yield pydantic's errors, one finding for each place.

    Args:
        error: Error from validating ``value``; unknown keys are skipped.
        value: The validated value; it shows which parts of pydantic's locations are keys.
    """
    grouped: dict[KeyPath, list[Mapping[str, Any]]] = {}
    for item in error.errors():
        if item["type"] != "extra_forbidden":
            grouped.setdefault(_place(item, value), []).append(dict(item))
    for path, items in grouped.items():
        yield path, _sentence(items), _fix(items)


def unknown_keys(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Yield the place and the name of every unknown key."""
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            yield item["loc"], str(item["loc"][-1])


def near_key(key: str, known: Sequence[str]) -> str:
    """Suggest a key of a section for an unknown one; an empty string if none is near."""
    if (meant := _HABITS.get(key)) in known:
        return f"did you mean {meant}?"
    return did_you_mean(key, known)


def example(kind: type[BaseModel]) -> str:
    """Show the first keys of a section: ``as {name: ..., revision: ...}``."""
    return "as {" + ", ".join(f"{name}: ..." for name in list(kind.model_fields)[:3]) + "}"


def word_hint(value: object, kind: type) -> str:
    """Explain how to write a value that is text but should be something else.

    Args:
        value: The value that was found.
        kind: The expected type: ``bool``, ``int``, ``float`` or ``str``.
    """
    if not isinstance(value, str) or kind is str:
        return "YAML writes null" if value == "None" else ""
    word = value.strip().lower()
    if word in ("none", "nil"):
        return "YAML writes null"
    if kind is bool:
        return "YAML writes true and false" if word in _BOOLEANS else ""
    return "leave out the quotes" if _is_number(word) else ""


_BOOLEANS = ("yes", "no", "on", "off", "true", "false", "y", "n")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _place(item: Mapping[str, Any], value: Any) -> KeyPath:
    """Return the keys of a location without the labels that pydantic adds for the members of a union."""
    path: list[str | int] = []
    for part in item["loc"]:
        there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if there:
            path.append(part)
            value = value[part]
        elif item["type"] == "missing":
            path.append(part)
    return tuple(path)


def _sentence(items: list[Mapping[str, Any]]) -> str:
    kinds = [_EXPECTED[item["type"]] for item in items if item["type"] in _EXPECTED]
    if kinds:
        if "a number" in kinds and "an integer" in kinds:
            kinds.remove("an integer")
        expected = " or ".join(dict.fromkeys(kinds)) if len(kinds) < 3 else "one value (number, text, true or false)"
        return f"expected {expected}, found {describe(items[0]['input'])}"
    item = items[0]
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "string_pattern_mismatch":
        allowed = "letters, digits, `_`, `.` and `-`, at most 100, a letter or digit first"
        return f"{describe(item['input'])} is no name; allowed are {allowed}"
    if item["type"] in ("value_error", "assertion_error"):
        return str(item["ctx"]["error"])
    message = str(item["msg"]).replace("Input should be ", "must be ").replace("greater than or equal to", "at least")
    message = message.replace("less than or equal to", "at most").replace("greater than", "above")
    message = message.replace("String should have at least 1 character", "must not be empty")
    return f"{printable(message, 300)}, found {describe(item['input'])}"


def _fix(items: list[Mapping[str, Any]]) -> str:
    types = {item["type"] for item in items}
    value = items[0]["input"]
    if "enum" in types and isinstance(value, str):
        return did_you_mean(value, items[0]["ctx"]["expected"].replace("'", "").split(" or "))
    for name, kind in (("bool_type", bool), ("float_type", float), ("int_type", int)):
        if name in types:
            return word_hint(value, kind)
    is_text = "string_type" in types and types <= {"string_type", "tuple_type"}
    return "put it in quotes" if is_text and isinstance(value, bool | int | float) else ""
