"""Makes the JSON Schema of a spec, with which an editor completes and checks it.

The docstrings of the sections' classes and the descriptions of their fields become the schema's descriptions.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from finesweep.registry import BACKENDS, TASKS
from finesweep.spec.sections import AUTO, REQUIRED, SECTIONS
from finesweep.spec.training_arguments import TRAINING_FIELDS, TrainingField

_KINDS = {float: "number", int: "integer", bool: "boolean", str: "string"}
_MODEL_NAMES = r"^model\.[a-z][a-z0-9_]*$"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a spec."""
    adapters = [(key, "validation", TypeAdapter(kind)) for key, (kind, _) in SECTIONS.items()]
    refs, document = TypeAdapter.json_schemas(adapters, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    definitions = document["$defs"]
    properties = {key: {**refs[(key, "validation")], "description": SECTIONS[key][1]} for key in SECTIONS}
    properties["task"]["enum"] = list(TASKS.names)
    properties["space"] |= _space()
    properties["fixed"] |= _fixed(properties["fixed"]["additionalProperties"])
    definitions["SearchSpec"]["properties"] |= _search_words(definitions["SearchSpec"]["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "finesweep spec",
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": properties,
        "$defs": definitions,
    }


def _space() -> dict[str, Any]:
    parameter = {"$ref": "#/$defs/Parameter"}
    tunable = [name for name, field in TRAINING_FIELDS.items() if field.tunable]
    return {
        "minProperties": 1,
        "properties": dict.fromkeys([*tunable, "data.max_length"], parameter),
        "patternProperties": {_MODEL_NAMES: parameter},
        "additionalProperties": False,
    }


def _fixed(any_value: dict[str, Any]) -> dict[str, Any]:
    names = {name: _field(field) for name, field in TRAINING_FIELDS.items()}
    return {
        "properties": {**names, "data.max_length": {"type": "integer"}},
        "patternProperties": {_MODEL_NAMES: any_value},
        "additionalProperties": False,
    }


def _field(field: TrainingField) -> dict[str, Any]:
    limits = {"minimum": field.low, "maximum": field.high, "exclusiveMinimum": field.above}
    words = {"enum": list(field.choices)} if field.choices else {}
    kind = [_KINDS[field.kind], "null"] if field.nullable else _KINDS[field.kind]
    return {"type": kind, **{key: value for key, value in limits.items() if value is not None}, **words}


def _search_words(properties: dict[str, Any]) -> dict[str, Any]:
    backends = [BACKENDS.load(name) for name in BACKENDS.names]
    words = {
        "backend": list(BACKENDS.names),
        "sampler": [AUTO, *(word for backend in backends for word in backend.samplers)],
        "pruner": [word for backend in backends for word in backend.pruners],
    }
    return {key: {**properties[key], "enum": list(dict.fromkeys(words[key]))} for key in words}
