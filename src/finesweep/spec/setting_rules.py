"""Checks the settings of ``space``, ``fixed`` and ``start``, each alone and all together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from finesweep.errors import did_you_mean
from finesweep.spec.messages import SpecFinding, word_hint
from finesweep.spec.search_space import Parameter, SearchSpace, when_problems
from finesweep.spec.training_arguments import OWNED, REPLACED, TRAINING_FIELDS, TrainingField, describe
from finesweep.spec.yaml_source import KeyPath

_MODEL_KEY = re.compile(r"model\.[a-z][a-z0-9_]{0,60}\Z")
_MAX_LENGTH = TrainingField(int, None, low=4, high=1_000_000)

MODEL_KEYS_OWNED: dict[str, str] = {
    **dict.fromkeys(("num_labels", "id2label", "label2id", "problem_type"), "it follows from the data"),
    **dict.fromkeys(("auto_map", "trust_remote_code"), "code that comes with a model is never run"),
    **dict.fromkeys(("attn_implementation", "experts_implementation"), "it could load code from the Hub"),
    **dict.fromkeys(("dtype", "torch_dtype"), "use fixed: {bf16: true}"),
    **dict.fromkeys(("vocab_size", "pad_token_id", "model_type", "architectures"), "it belongs to the model's weights"),
}
"""Fields of a model's config that no spec may set, with the reason."""


def rule(name: str) -> TrainingField | None:
    """Return the rule of a setting; None if it is unknown, or a ``model.*`` that only the model can check."""
    return _MAX_LENGTH if name == "data.max_length" else TRAINING_FIELDS.get(name)


def name_findings(name: str, path: KeyPath) -> Iterator[SpecFinding]:
    """Yield the problems of a setting's name."""
    if rule(name) is not None:
        return
    if name.startswith("model.") and _MODEL_KEY.match(name):
        if reason := MODEL_KEYS_OWNED.get(name.removeprefix("model.")):
            yield path, "cannot be set", reason
    elif name in REPLACED:
        yield path, "no such training argument", REPLACED[name]
    elif name in OWNED:
        yield path, "is set by finesweep", OWNED[name]
    elif name.partition(".")[0] in ("data", "model"):
        yield path, "no such setting", "there are data.max_length and model.NAME for fields of the model's config"
    else:
        hint = did_you_mean(name, [*TRAINING_FIELDS, "data.max_length"])
        yield path, "no such training argument", hint or "or write model.NAME for a field of the model's config"


def parameter_findings(name: str, parameter: Parameter) -> Iterator[SpecFinding]:
    """Yield the problems of one parameter's values, given the setting it is for."""
    path, field = ("space", name), rule(name)
    if field is None:
        return
    if not field.tunable:
        yield path, "is not searched: it changes speed or reporting, not the result", f"put {name} into fixed"
    if parameter.choices is not None:
        for index, choice in enumerate(parameter.choices):
            if problem := field.problem(choice):
                yield (*path, "choices", index), problem, _value_hint(choice, field)
    elif field.kind in (bool, str):
        allowed = ", ".join(field.choices) or "true, false"
        yield path, "needs choices, not a range", f"as choices: [{allowed}]"
    else:
        yield from _range_findings(name, parameter, field)


def _range_findings(name: str, parameter: Parameter, field: TrainingField) -> Iterator[SpecFinding]:
    path = ("space", name)
    for key in ("low", "high", "step"):
        value = getattr(parameter, key)
        if key == "step" and (value is None or field.kind is float):
            continue
        if problem := field.problem(value):
            yield (*path, key), problem, ""
    low, high = parameter.low, parameter.high
    if name == "warmup_steps" and low is not None and high is not None and low < 1 < high and not parameter.is_integer:
        message = "a value below 1 is a share of all steps, from 1 on a number of steps; the range crosses 1"
        yield path, message, "write two integers, or a high of at most 1"


def integer_notes(space: Mapping[str, Parameter]) -> Iterator[str]:
    """Yield a remark for each integer range that was probably meant to be continuous."""
    for name, parameter in space.items():
        field = TRAINING_FIELDS.get(name)
        if field is None or field.kind is not float or not parameter.is_integer:
            continue
        assert parameter.low is not None
        assert parameter.high is not None
        if parameter.low < 1 and name != "warmup_steps":
            yield f"space.{name} has two integer bounds, so only whole numbers are tried; write 0.0 for all between."


def fixed_findings(fixed: Mapping[str, Any], space: Collection[str]) -> Iterator[SpecFinding]:
    """Yield the problems of the fixed settings, each alone and against the names in ``space``."""
    for name, value in fixed.items():
        path, field = ("fixed", name), rule(name)
        yield from name_findings(name, path)
        if name in space:
            yield path, "stands in space and in fixed; keep one", ""
        if field is not None and (problem := field.problem(value)):
            yield path, problem, _value_hint(value, field)
    if "max_steps" in fixed and "num_train_epochs" in {*space, *fixed}:
        yield ("fixed", "max_steps"), "would override num_train_epochs; keep one", ""
    if fixed.get("bf16") and fixed.get("fp16"):
        yield ("fixed", "fp16"), "bf16 and fp16 exclude each other; keep one", ""


def when_findings(space: Mapping[str, Parameter], named: Collection[str]) -> Iterator[SpecFinding]:
    """Yield the problems of the parameters' ``when``.

    Args:
        space: The parameters that are sound by themselves.
        named: All names in the YAML's ``space``; a ``when`` that names a broken parameter is not judged.
    """
    for name, message, near in when_problems(space):
        if near not in named:
            yield ("space", name, "when"), message, did_you_mean(near, space) if near else ""


def start_findings(
    start: Sequence[Mapping[str, Any]], space: Mapping[str, Parameter], named: Collection[str]
) -> Iterator[SpecFinding]:
    """Yield the problems of the configurations in ``start``; arguments as for ``when_findings``."""
    whole = len(space) == len(named) and not any(True for _ in when_problems(space))
    for index, params in enumerate(start):
        for name, value in params.items():
            path = ("start", index, name)
            if name not in named:
                yield path, "is no parameter of the space", did_you_mean(name, named)
            elif name in space and not space[name].contains(value):
                yield path, f"{describe(value)} lies outside the space", _axis(space[name])
        if whole:
            yield from _activity_findings(index, params, SearchSpace(space))


def _activity_findings(index: int, params: Mapping[str, Any], space: SearchSpace) -> Iterator[SpecFinding]:
    active = [name for name in space.parameters if space.is_active(name, params)]
    if missing := [name for name in active if name not in params]:
        yield ("start", index), f"lacks {', '.join(missing)}", "give every parameter of the space"
    for name in params:
        if name in space.parameters and name not in active:
            yield ("start", index, name), "is switched off here by its `when`", "leave it out"


def _axis(parameter: Parameter) -> str:
    if parameter.choices is None:
        step = f" in steps of {parameter.step:g}" if parameter.step else ""
        return f"it goes from {parameter.low:g} to {parameter.high:g}{step}"
    shown = ", ".join(str(choice) for choice in parameter.choices[:10])
    return f"there are {shown}{', ...' if len(parameter.choices) > 10 else ''}"


def _value_hint(value: object, field: TrainingField) -> str:
    if field.choices and isinstance(value, str):
        return did_you_mean(value, field.choices)
    if value is None and field.low == 0:
        return "0 switches it off"
    return word_hint(value, field.kind)
