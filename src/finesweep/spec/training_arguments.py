"""Lists the training arguments that a spec may set, with their types and ranges.

The table is closed for two reasons: ``TrainingArguments`` accepts ``bf16="False"`` and ``"1e-5"`` unchanged, and a
search must not set arguments that decide where files go or which code runs. It is data, so that checking a YAML needs
no torch; a test compares it with the class. Names, types and defaults: ``transformers/training_args.py``, version 5.23.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finesweep.text import shortened
from finesweep.trial import Value


@dataclass(frozen=True)
class TrainingField:
    """Type and range of one training argument.

    Attributes:
        kind: ``float`` accepts integers too; ``int`` and ``bool`` are strict.
        default: The library's default, or finesweep's own where it differs.
        low: Smallest allowed number.
        high: Largest allowed number.
        above: Exclusive lower bound.
        choices: The allowed words of a text argument.
        tunable: Whether it may stand in ``space``; otherwise in ``fixed`` only.
        nullable: Whether null switches it off.
    """

    kind: type
    default: Value
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    tunable: bool = True
    nullable: bool = False

    def problem(self, value: object) -> str:
        """Return what is wrong with a value; an empty string if nothing is."""
        if value is None and self.nullable:
            return ""
        if not self._is_kind(value):
            return f"expected {self._expected()}, found {describe(value)}"
        if self.choices and value not in self.choices:
            return f"{value!r} is none of {', '.join(self.choices)}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._range_problem(value)
        return ""

    def _is_kind(self, value: object) -> bool:
        if self.kind is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        return type(value) is self.kind

    def _expected(self) -> str:
        names = {float: "a number", int: "an integer", bool: "true or false", str: "text"}
        return names[self.kind]

    def _range_problem(self, value: float) -> str:
        if not math.isfinite(value):
            return f"{value} is not a finite number"
        if self.above is not None and value <= self.above:
            return f"{value:g} must be above {self.above:g}"
        if self.low is not None and value < self.low:
            return f"{value:g} must be at least {self.low:g}"
        if self.high is not None and value > self.high:
            return f"{value:g} must be at most {self.high:g}"
        return ""


def describe(value: object) -> str:
    """Return a value with its type for a message, shortened: ``text '1e-5'``."""
    names = {str: "text", bool: "boolean", int: "integer", float: "number", list: "list", dict: "mapping"}
    return f"{names[type(value)]} {shortened(repr(value), 40)}" if type(value) in names else "nothing"


_SCHEDULERS = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")


def _number(default: float, **limits: Any) -> TrainingField:
    return TrainingField(float, default, **limits)


def _integer(default: int, **limits: Any) -> TrainingField:
    return TrainingField(int, default, **limits)


def _switch() -> TrainingField:
    return TrainingField(bool, False, tunable=False)


TRAINING_FIELDS: dict[str, TrainingField] = {
    "learning_rate": _number(5e-5, above=0, high=10),
    "num_train_epochs": _number(3.0, above=0, high=10_000),
    "per_device_train_batch_size": _integer(8, low=1, high=65_536),
    "gradient_accumulation_steps": _integer(1, low=1, high=65_536),
    "weight_decay": _number(0.0, low=0, high=10),
    # Below 1 it is a share of all steps, from 1 on a number of steps. The Trainer decides by the value alone.
    "warmup_steps": _number(0, low=0, high=1_000_000),
    "lr_scheduler_type": TrainingField(str, "linear", choices=_SCHEDULERS),
    "optim": TrainingField(str, "adamw_torch_fused", choices=_OPTIMIZERS),
    "adam_beta1": _number(0.9, low=0, high=0.999999),
    "adam_beta2": _number(0.999, low=0, high=0.999999),
    "adam_epsilon": _number(1e-8, above=0, high=1),
    "max_grad_norm": _number(1.0, low=0, high=1e6),
    "label_smoothing_factor": _number(0.0, low=0, high=0.999),
    "neftune_noise_alpha": TrainingField(float, None, low=0, high=1_000, nullable=True),
    "train_sampling_strategy": TrainingField(
        str, "group_by_length", choices=("random", "sequential", "group_by_length"), tunable=False
    ),
    "max_steps": _integer(-1, low=1, high=10**9, tunable=False),
    "per_device_eval_batch_size": _integer(64, low=1, high=65_536, tunable=False),
    "logging_steps": _integer(10, low=1, high=1_000, tunable=False),
    "dataloader_num_workers": _integer(0, low=0, high=64, tunable=False),
    "dataloader_drop_last": _switch(),
    # None: the trial uses it if the hardware has it (``training.precision``).
    "bf16": TrainingField(bool, None, tunable=False),
    "fp16": _switch(),
    "tf32": TrainingField(bool, None, tunable=False),
    "gradient_checkpointing": _switch(),
    "torch_compile": _switch(),
    "use_cpu": _switch(),
}

REPLACED: dict[str, str] = {
    "warmup_ratio": "use warmup_steps: a value below 1 is a share of all steps",
    "evaluation_strategy": "use evaluation: {per_epoch: 1}",
    "group_by_length": "use train_sampling_strategy: group_by_length",
    "logging_dir": "leave it out: scalars go to results/<name>/tensorboard/",
    "per_gpu_train_batch_size": "use per_device_train_batch_size",
    "per_gpu_eval_batch_size": "use per_device_eval_batch_size",
    "no_cuda": "use use_cpu",
    "lr": "use learning_rate",
    "epochs": "use num_train_epochs",
    "batch_size": "use per_device_train_batch_size",
    "max_length": "use data.max_length",
}
"""Names that transformers no longer has, or that users write by habit, with the name to write instead."""

OWNED: dict[str, str] = {
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"), "use evaluation: {per_epoch: 1}"),
    **dict.fromkeys(("seed", "data_seed", "full_determinism"), "use search: {seed: 0}; a seed is not searched"),
    **dict.fromkeys(
        (
            "save_strategy",
            "save_steps",
            "save_total_limit",
            "save_only_model",
            "load_best_model_at_end",
            "enable_jit_checkpoint",
            "resume_from_checkpoint",
        ),
        "finesweep keeps the best weights itself",
    ),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better"), "use objective: {metric, direction}"),
    "output_dir": "use --results and --name",
    "logging_nan_inf_filter": "it is always off, so that a NaN is seen",
    "logging_strategy": "use logging_steps",
    "report_to": "scalars go to results/<name>/tensorboard/",
    "auto_find_batch_size": "it would change the batch size that is recorded",
    "average_tokens_across_devices": "it would multiply eval_loss by the number of devices",
    "deepspeed": "a trial runs on one device",
    "fsdp": "a trial runs on one device",
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_model_id"), "finesweep never uploads anything"),
}
"""Arguments that finesweep sets itself, with the key to use instead."""


def training_value(values: Mapping[str, Value], name: str) -> Any:
    """Return the value of a training argument: the one that is set, or its default."""
    return values.get(name, TRAINING_FIELDS[name].default)
