"""The table of training arguments against the class that it stands for."""

import dataclasses
import typing
from typing import Any

import pytest
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from finesweep.spec.training_arguments import OWNED, REPLACED, TRAINING_FIELDS

FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}
HINTS = typing.get_type_hints(TrainingArguments)
LEFT_TO_THE_HARDWARE = {"bf16", "tf32"}
OUR_DEFAULTS = {
    "logging_steps": 10,
    "per_device_eval_batch_size": 64,
    "train_sampling_strategy": "group_by_length",
}


def _kinds(annotation: Any) -> set[type]:
    members = typing.get_args(annotation) or (annotation,)
    return {member for member in members if isinstance(member, type)}


def test_every_name_is_a_field_of_that_type() -> None:
    for name, field in TRAINING_FIELDS.items():
        kinds = _kinds(HINTS[name])
        # A text argument may be an enum of texts there, and logging_steps also a share of all steps.
        narrower = (field.kind is str and any(issubclass(kind, str) for kind in kinds)) or name == "logging_steps"
        assert field.kind in kinds or narrower, name


def test_every_default_is_the_librarys_or_a_known_one_of_ours() -> None:
    for name, field in TRAINING_FIELDS.items():
        ours, theirs = field.default, FIELDS[name].default
        if name in OUR_DEFAULTS:
            assert ours == OUR_DEFAULTS[name] != theirs, name
        elif field.kind is bool:
            assert ours is (None if name in LEFT_TO_THE_HARDWARE else False), name
            assert not theirs, name
        else:
            assert ours == getattr(theirs, "value", theirs), name


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("lr_scheduler_type", {item.value for item in SchedulerType}),
        ("optim", {item.value for item in OptimizerNames}),
        ("train_sampling_strategy", {"random", "sequential", "group_by_length"}),
    ],
)
def test_every_word_is_one_that_transformers_knows(name: str, known: set[str]) -> None:
    assert set(TRAINING_FIELDS[name].choices) <= known


@pytest.mark.parametrize("name", [name for name, field in TRAINING_FIELDS.items() if field.choices])
def test_every_word_is_accepted_by_the_class(name: str, tmp_path: Any) -> None:
    for word in TRAINING_FIELDS[name].choices:
        made = getattr(TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **{name: word}), name)
        assert getattr(made, "value", made) == word


def test_every_replaced_name_is_gone_and_every_owned_one_exists() -> None:
    assert not set(REPLACED) & set(FIELDS)
    assert set(OWNED) <= set(FIELDS)
