"""Chooses the numbers of ``sweep init``: ranges, lengths, rows and a budget for the data and the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesweep.host.machine import Machine

TRIALS = 20
FEWEST_TRIALS = 10
"""Minimum number of trials; below it the rows are reduced instead."""

HOURS = {"CPU": 8.0, "GPU": 12.0}
"""Maximum hours of a proposed sweep, by device."""

FEWEST_ROWS = 2_000
"""Minimum number of training rows, however long they take."""

LENGTHS = (32, 64, 128, 256, 512)
FITTING = 0.95
"""Share of the texts that should not be cut."""

_CORE_FLOPS = 15e9
_GPU_FLOPS = 15e12
"""Floating point operations per second of training, approximately: of a CPU core, and of an older GPU."""

_PRUNED = 0.4
"""Share of the examples that are trained with the pruner `halving` on a pretrained model, approximately.

0.33 to 0.43 on recorded curves (``docs/pruning_evidence.md``)."""

_TRIAL_HOURS = 10 / 3600
"""Hours of a trial beside its training, approximately: start, evaluations, writing."""

_LEEWAY = 2.0
"""Hours of the budget as a multiple of the estimated hours, since machines differ."""

MANY_CLASSES = 20
"""Number of classes above which the head needs larger learning rates."""

_EPOCHS = ((1_000, (4, 12)), (5_000, (3, 8)), (50_000, (2, 5)), (math.inf, (1, 3)))
_BATCHES = ((40, (2, 4)), (2_000, (8, 16)), (50_000, (8, 16, 32)), (math.inf, (16, 32, 64)))
"""Epochs and batch sizes, each for up to so many rows."""

_RATES = ((60, ("1e-5", "5e-5", "1e-4")), (15, ("2e-5", "2e-4", "4e-4")), (0, ("3e-5", "5e-4", "1e-3")))
"""Smallest and largest learning rate, and the largest for many classes, from so many million parameters on."""


@dataclass(frozen=True)
class BaseModel:
    """A model to start from.

    Attributes:
        name: Hub id or folder, as the YAML names it.
        layers: Millions of parameters without the embeddings; they do nearly all of the work.
        memory_gb: Approximate main memory of a trial, in units of 1e9 bytes.
        download_gb: Size of its weights, in units of 1e9 bytes; None if they are on this machine.
        what: Short description.
    """

    name: str
    layers: float
    memory_gb: float
    download_gb: float | None = None
    what: str = ""


ENGLISH = {
    "GPU": BaseModel("google-bert/bert-base-uncased", 85.6, 3.0, 0.44, "BERT-base, English"),
    "CPU": BaseModel("sentence-transformers/all-MiniLM-L6-v2", 10.6, 1.2, 0.09, "6 small layers, English"),
}
MULTILINGUAL = {
    "GPU": BaseModel("FacebookAI/xlm-roberta-base", 85.6, 6.0, 1.1, "XLM-RoBERTa-base, 100 languages"),
    "CPU": BaseModel(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", 21.3, 3.0, 0.47, "12 small layers, 50 languages"
    ),
}
LONG = "answerdotai/ModernBERT-base"
"""A model that reads 8,192 tokens."""

KNOWN = (*ENGLISH.values(), *MULTILINGUAL.values())


@dataclass(frozen=True)
class ProposalFacts:
    """Facts that the choices depend on.

    Attributes:
        rows: Training rows.
        classes: Number of classes; None for a regression.
        lengths: Tokens of each row of a sample, uncut.
        max_tokens: Longest input of the model.
        machine: Machine for the sweep.
        model: Model to be trained.
    """

    rows: int
    classes: int | None
    lengths: Sequence[int]
    max_tokens: int
    machine: Machine
    model: BaseModel

    @property
    def device(self) -> str:
        """The device that trains: ``GPU`` or ``CPU``."""
        return device(self.machine)


@dataclass(frozen=True)
class Proposal:
    """The numbers of a spec.

    Attributes:
        max_length: Longest input in tokens.
        learning_rate: Smallest and largest, as written in the YAML.
        epochs: Fewest and most.
        batches: Batch sizes.
        trials: Number of trials.
        max_train_rows: Number of training rows; None for all.
        hours: Estimated hours on this machine.
        all_hours: Estimated hours with all rows.
    """

    max_length: int
    learning_rate: tuple[str, str]
    epochs: tuple[int, int]
    batches: tuple[int, ...]
    trials: int
    max_train_rows: int | None
    hours: float
    all_hours: float

    @property
    def budget_hours(self) -> int:
        """Whole hours, with room for a slower machine."""
        return max(1, math.ceil(self.hours * _LEEWAY))


def device(machine: Machine) -> str:
    """Return the device that trains on a machine: ``GPU`` or ``CPU``."""
    return "GPU" if machine.gpus else "CPU"


def propose(facts: ProposalFacts) -> Proposal:
    """Choose the numbers of a spec."""
    length = _max_length(facts)
    fewest, most = _of(facts.rows, _EPOCHS)
    tokens = sum(min(tokens, length) for tokens in facts.lengths) / max(len(facts.lengths), 1)
    row_hours = _row_hours(facts, tokens) * (fewest + most) / 2
    limit = HOURS[facts.device]
    trials = min(TRIALS, max(FEWEST_TRIALS, int(limit / (row_hours * facts.rows))))
    affordable = max(FEWEST_ROWS, _rounded(limit / (row_hours * trials)))
    rows = min(facts.rows, affordable)
    return Proposal(
        max_length=length,
        learning_rate=_learning_rate(facts),
        epochs=(fewest, most),
        batches=_of(rows, _BATCHES),
        trials=trials,
        max_train_rows=None if rows == facts.rows else rows,
        hours=(row_hours * rows + _TRIAL_HOURS) * trials,
        all_hours=(row_hours * facts.rows + _TRIAL_HOURS) * trials,
    )


def of_config(name: str, config: Mapping[str, Any]) -> BaseModel:
    """Return a model with the size that its config gives; missing fields are those of BERT-base."""
    width = _first(config, ("hidden_size", "dim", "n_embd", "d_model"), 768)
    layers = _first(config, ("num_hidden_layers", "n_layers", "n_layer", "num_layers"), 12)
    inner = _first(config, ("intermediate_size", "hidden_dim", "n_inner", "d_ff"), 4 * width)
    # Attention has 4 square matrices per layer, the feed-forward part 2 of width and inner width.
    parameters = layers * (4 * width**2 + 2 * width * inner)
    embeddings = width * _first(config, ("vocab_size",), 30_000)
    # 20 bytes per parameter: weights, gradients, two moments, best weights. 0.8 GB for the process itself.
    return BaseModel(name, parameters / 1e6, 0.8 + 20e-9 * (parameters + embeddings))


def _first(config: Mapping[str, Any], names: Sequence[str], default: int) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int and config[name] > 0), default)


def _max_length(facts: ProposalFacts) -> int:
    """Return the power of two that ``FITTING`` of the texts fit into, up to the model's limit."""
    ordered = sorted(facts.lengths) or [0]
    most = ordered[min(math.ceil(len(ordered) * FITTING), len(ordered)) - 1]
    return min(next((length for length in LENGTHS if most <= length), LENGTHS[-1]), facts.max_tokens)


def _learning_rate(facts: ProposalFacts) -> tuple[str, str]:
    """Return the ends of the range: small models need larger rates, and so does a head for many classes."""
    low, high, higher = next(ends for least, ends in _RATES if facts.model.layers >= least)
    return low, higher if has_many_classes(facts) else high


def has_many_classes(facts: ProposalFacts) -> bool:
    """Return whether there are so many classes that larger learning rates are worth a try."""
    return facts.classes is not None and facts.classes > MANY_CLASSES


def _of(rows: int, table: Sequence[tuple[float, tuple[int, ...]]]) -> tuple[int, ...]:
    return next(entry for most, entry in table if rows <= most)


def _row_hours(facts: ProposalFacts, tokens: float) -> float:
    """Return the hours that the whole machine trains on one row once, with pruning taken into account."""
    machine = facts.machine
    speed = _GPU_FLOPS * len(machine.gpus) if machine.gpus else _CORE_FLOPS * machine.cores
    # Training takes 6 operations per parameter and token: 2 in the forward pass, 4 in the backward pass.
    return 6 * facts.model.layers * 1e6 * max(tokens, 1) * _PRUNED / speed / 3600


def _rounded(rows: float) -> int:
    """Round down to one significant digit."""
    size = 10 ** max(int(math.log10(max(rows, 1))), 0)
    return int(rows // size * size)
