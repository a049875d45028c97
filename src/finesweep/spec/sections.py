"""Defines the spec: the sections of a YAML as frozen, checked values.

The docstrings of the sections are shown to users: they are descriptions in the JSON Schema.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from finesweep.spec.search_space import Parameter, SearchSpace
from finesweep.spec.training_arguments import describe
from finesweep.trial import Direction, Params, Value

FORMAT = 1
"""Version of the spec and of the results folder; a folder of another version is refused."""

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LabelColumns = ColumnName | Annotated[tuple[ColumnName, ...], Field(min_length=2, strict=False)]
Quoting = Literal["none", "minimal"]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
SweepName = Annotated[str, StringConstraints(pattern=_NAME)]

ON_RUNGS = frozenset({"median", "halving"})
"""Pruners of finesweep itself, which compare trials at rungs."""

AUTO: Final = "auto"
"""Word of the YAML for a value that is decided when the sweep begins."""

LEARNING: Mapping[str, int] = {"tpe": 10, "gp": 5}
"""Samplers that learn to prefer a part of the space, and the number of trials before each begins to.

Until then its draws are random. 10 is Optuna's default; it would be half of a sweep of 20
trials, so ``gp`` takes 5 (``docs/search.md``)."""

FACTOR = 2
"""Reduction factor of ``halving`` for a model from scratch: 1 in FACTOR trials is promoted at a rung."""

PRETRAINED_FACTOR = 3
"""The same for a pretrained model. Its early values say more about its end (``docs/pruning_evidence.md``)."""


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a sweep and its folder."""
    return re.match(_NAME, text) is not None and not text.endswith("\n")


class Section(BaseModel):
    """A mapping of the YAML: closed, frozen, and strict about types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def keys_of(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section as they stand in the YAML."""
    return [field.alias or name for name, field in section.model_fields.items()]


class ModelSpec(Section):
    """A pretrained model: a Hub id or a local folder, at one revision."""

    name: str = Field(min_length=1, description="Hub id (`google-bert/bert-base-uncased`) or local folder.")
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub; default: main.")
    keep_head: bool | None = Field(
        None, description="Keep a checkpoint's head (true), never (false), or where its labels are those of the data."
    )


class ScratchModelSpec(BaseModel):
    """A model made from nothing; keys beside these two are fields of the model's config class."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    config: str = Field(min_length=1, description="Model type as transformers names it: `bert`, `distilbert`, ...")
    vocab_size: int = Field(4000, ge=100, le=1_000_000, description="Size of the tokenizer trained on your texts.")

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the model's config, ``vocab_size`` aside."""
        return dict(self.model_extra or {})


class DataSpec(Section):
    """Where the rows come from and which columns matter."""

    dataset: str | None = Field(None, min_length=1, description="Hub dataset id; leave out for files.")
    train: str | None = Field(None, description="Training file (CSV, TSV, JSON lines, Parquet), or a split's name.")
    validation: str | None = Field(None, description="Validation file or split; none: a split of the training rows.")
    test: str | None = Field(None, description="Test file or split; evaluated once, with the winner.")
    config: str | None = Field(None, description="Configuration of the Hub dataset.")
    revision: str | None = Field(None, description="Revision of the Hub dataset; default: main.")
    text: ColumnName = Field("text", description="Column with the text.")
    text_pair: ColumnName | None = Field(None, description="Column with the second text of a pair.")
    label: LabelColumns = Field("label", description="Column with the label; or a column of 0 and 1 for each label.")
    label_separator: str | None = Field(
        None, min_length=1, max_length=10, description="What stands between the labels of a cell; none: as it looks."
    )
    columns: tuple[ColumnName, ...] | None = Field(
        None, strict=False, min_length=2, description="Names of all columns, for a CSV or TSV without a header."
    )
    header: bool | None = Field(None, description="Whether the first line of a CSV or TSV names its columns.")
    quoting: Quoting | None = Field(
        None, description="none: double quotes are characters; minimal: they enclose fields; default: by their look."
    )
    labels: Literal["as_written"] | None = Field(
        None, description="as_written: each different label is one; default: as people mean them."
    )
    group: ColumnName | None = Field(None, description="Rows with one value here stay on one side of a split.")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="Share split off when there is no validation.")
    max_train_rows: int | None = Field(None, ge=1, description="Train on a seeded sample of this many rows.")
    max_eval_rows: int | None = Field(None, ge=1, description="Validate on a seeded sample of this many rows.")
    max_test_rows: int | None = Field(None, ge=1, description="Test on a seeded sample of this many rows.")
    standardize: bool = Field(True, description="Standardise the targets of a regression while it trains.")
    max_length: int | None = Field(
        None,
        ge=4,
        le=1_000_000,
        description="Longest input in tokens; longer ones are cut. None: the model's limit, at most 512.",
    )

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold the label: one, or one for each label."""
        return (self.label,) if isinstance(self.label, str) else self.label


class ObjectiveSpec(Section):
    """What the trials are ranked by."""

    metric: str = Field("eval_loss", description="Name of an evaluation metric, with its eval_ in front.")
    direction: Direction | None = Field(
        None, strict=False, description="minimize or maximize; default: what fits the metric."
    )


class BudgetSpec(Section):
    """What the whole sweep may use, over all its runs; no part of its identity."""

    trials: int = Field(20, ge=1, le=1_000_000, description="Finished trials.")
    hours: float | None = Field(None, gt=0, description="Wall-clock hours of the sweep, over all its runs.")


class SearchSpec(Section):
    """How parameters are proposed and weak trials stopped."""

    backend: str = Field("optuna", description="Library that runs the search.")
    sampler: str = Field(AUTO, description="How parameters are proposed; auto: gp where the search is small, else tpe.")
    pruner: str = Field("halving", description="How weak trials are stopped early.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of everything: search, splits, weights, data order.")
    baseline: bool = Field(True, description="Whether trial 0 is the untuned default.")


class EvaluationSpec(Section):
    """How often a trial is evaluated."""

    per_epoch: int = Field(1, ge=1, le=1_000, description="Evaluations in each epoch, evenly spaced in examples.")
    rows: int = Field(
        1_000, ge=1, description="Rows of an evaluation while training; the best weights are then ranked on all rows."
    )


_SHARE = r"^[0-9]+(\.[0-9]+)?%$"


def _rung(value: Any) -> Any:
    """Check a rung. A union of types would report only one of the allowed forms."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 10_000:
        return float(value)
    if isinstance(value, str) and re.fullmatch(_SHARE, text := value.replace(" %", "%")) and 0 < float(text[:-1]) < 100:
        return text
    allowed = "must be epochs above 0, as 0.75, or a share of a trial's own length below 100%, as 25%"
    raise ValueError(f"{allowed}, found {describe(value)}")


def _alike(rungs: tuple[Any, ...]) -> tuple[Any, ...]:
    if len({isinstance(rung, str) for rung in rungs}) > 1:
        raise ValueError("must be all epochs or all shares, as [25%, 50%]")
    return rungs


RungPlace = Annotated[
    Annotated[float, Field(gt=0, le=10_000)] | Annotated[str, Field(pattern=_SHARE)], BeforeValidator(_rung)
]


def _factor(value: Any) -> Any:
    """Check a reduction factor. A union of types would report only one of the allowed forms."""
    if value == "auto" or (type(value) is int and 2 <= value <= 10):
        return value
    raise ValueError(f"must be auto, or an integer from 2 to 10, found {describe(value)}")


Factor = Annotated[Literal["auto"] | Annotated[int, Field(ge=2, le=10)], BeforeValidator(_factor)]


class PruningSpec(Section):
    """When weak trials are found out by the pruners `halving` and `median`."""

    rungs: Annotated[tuple[RungPlace, ...], AfterValidator(_alike)] = Field(
        (0.75, 1.5, 2.5),
        strict=False,
        min_length=1,
        max_length=20,
        description="Epochs after which trials are compared, whatever their batch size; or shares of a trial's own "
        "length, as 25%.",
    )
    factor: Factor = Field(
        "auto",
        description="With `halving`, one in this many trials is promoted at a rung; auto: 3, or 2 from scratch.",
    )
    audit: float = Field(
        0.0, ge=0, le=1, description="Share of the pruned trials that train to their end, for the audit."
    )


def _patience(value: Any) -> Any:
    """Check a patience. A union of types would report only one of the allowed forms."""
    if value is None:
        return "none"  # older folders have null, from when that was the default
    if value in ("auto", "none") or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"must be auto, none, or an integer of at least 1, found {describe(value)}")


Patience = Annotated[Literal["auto", "none"] | Annotated[int, Field(ge=1)], BeforeValidator(_patience)]


def _stop_auto(value: Any) -> Any:
    """Check ``stop.auto``. A union of types would report only one of the allowed forms."""
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError(f"must be auto, true or false, found {describe(value)}")


StopAuto = Annotated[Literal["auto"] | bool, BeforeValidator(_stop_auto)]


class StopSpec(Section):
    """When the sweep ends before its budget; no part of its identity."""

    auto: StopAuto = Field(
        "auto",
        description="End when the other trials are expected to gain less than half of the seed noise; "
        "auto: true for a pretrained model, sampler gp, pruner halving and eval_loss.",
    )
    target: float | None = Field(None, description="End when the objective is this good.")
    no_gain_trials: int | None = Field(None, ge=1, description="End after this many trials without a new best.")


class WarmStart(Section):
    """An earlier sweep that the search starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, serialize_by_alias=True)

    folder: str = Field(alias="from", min_length=1, description="Folder of the earlier sweep.")
    top: int = Field(5, ge=0, le=1_000, description="Best configurations of it that are tried first.")


class ConfirmSpec(Section):
    """How the best trials are trained again, on fresh seeds, after the search; no part of its identity."""

    top: int = Field(
        3, ge=1, le=10, description="Most of the tied trials to train again; the untuned default is one more."
    )
    seeds: int = Field(3, ge=2, le=20, description="Most seeds of each; after two, only what is still in question.")


class SweepSpec(Section):
    """One search, checked; nothing in it refers to the file it came from.

    Attributes:
        name: Name of the results folder.
        base: Folder that relative paths in ``data`` and ``model`` start from.
    """

    name: SweepName = Field(description="Name of results/<name>/; default: this file's name.")
    base: Path = Field(exclude=True, strict=False)
    task: str = Field("text-classification", description="What is trained.")
    model: ModelSpec | ScratchModelSpec = Field(
        description="Hub id, local folder, or a config to make one from scratch."
    )
    data: DataSpec = Field(description="Where the rows come from.")
    objective: ObjectiveSpec = Field(ObjectiveSpec(), description="What trials are ranked by.")
    budget: BudgetSpec = Field(BudgetSpec(), description="What the whole sweep may use.")
    search: SearchSpec = Field(SearchSpec(), description="How parameters are proposed and weak trials stopped.")
    pruning: PruningSpec = Field(PruningSpec(), description="When trials are compared and weak ones pruned.")
    evaluation: EvaluationSpec = Field(EvaluationSpec(), description="How often a trial is evaluated.")
    stop: StopSpec = Field(StopSpec(), description="When the sweep ends before its budget.")
    prefer: Literal["best", "cheapest-tied"] = Field(
        "best",
        description="Which trial becomes the winner: rank 1, or the cheapest that is tied with it.",
    )
    confirm: ConfirmSpec | None = Field(None, description="Train the best again on fresh seeds; none: they are not.")
    patience: Patience = Field(
        "auto",
        description="End a trial after this many evaluations without a gain; auto: once its eval_loss rises.",
    )
    start: tuple[dict[str, Value], ...] | WarmStart | Literal["auto"] = Field(
        AUTO, description="Configurations to try first, known good ones (auto), none; or an earlier sweep."
    )
    space: dict[str, Parameter] = Field(
        description="What varies, by name: training arguments, model.*, data.max_length."
    )
    fixed: dict[str, Value] = Field(default_factory=dict, description="Settings equal in all trials.")

    @property
    def direction(self) -> Direction:
        """The objective's direction, which checking has filled in."""
        assert self.objective.direction is not None
        return self.objective.direction

    @property
    def compares_shares(self) -> bool:
        """Whether rungs are shares of a trial's own length, instead of epochs."""
        return isinstance(self.pruning.rungs[0], str)

    @property
    def factor(self) -> int:
        """The reduction factor of ``halving``: 1 in ``factor`` trials is promoted at a rung."""
        if self.pruning.factor != "auto":
            return self.pruning.factor
        return FACTOR if isinstance(self.model, ScratchModelSpec) else PRETRAINED_FACTOR

    @functools.cached_property
    def search_space(self) -> SearchSpace:
        """The parameters that vary.

        Raises:
            ValueError: Their ``when`` conditions form a circle, which no checked spec has.
        """
        return SearchSpace(self.space)

    def merged(self, params: Params) -> dict[str, Value]:
        """Return all settings of one trial, fixed and searched, by dotted name; without defaults."""
        return {**self.fixed, **params}

    def __copy__(self) -> SweepSpec:
        copied = super().__copy__()
        copied.__dict__.pop("search_space", None)  # a changed copy needs a new one
        return copied


_TYPES = typing.get_type_hints(SweepSpec, include_extras=True) | {
    "model": str | ModelSpec | ScratchModelSpec,
    "start": tuple[dict[str, Value], ...] | WarmStart | Literal["auto", "none"],
    "confirm": ConfirmSpec,  # without the None, so that a wrong key is reported as in any other section
}
SECTIONS: dict[str, tuple[Any, str]] = {
    name: (_TYPES[name], field.description or "") for name, field in SweepSpec.model_fields.items() if name != "base"
}
"""Every top-level key with its type and description; checking and the JSON Schema share this list."""

REQUIRED = ("model", "data", "space")
