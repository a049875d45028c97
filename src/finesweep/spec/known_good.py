"""Gives configurations that are known to be good for pretrained models, fitted into a search space.

The values are for encoders of the width of BERT-base. ``docs/search.md`` names their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finesweep.spec.sections import AUTO, LEARNING, ScratchModelSpec, SweepSpec
from finesweep.trial import Params

WIDTH = 768
"""Width of the models that the learning rates are for."""

RATE, EPOCHS, BATCH = "learning_rate", "num_train_epochs", "per_device_train_batch_size"
KNOWN_NAMES = (RATE, EPOCHS, BATCH)
"""The parameters of which good values are known."""

_ACCUMULATION, _OPTIMIZER = "gradient_accumulation_steps", "optim"


@dataclass(frozen=True)
class KnownGood:
    """Values that often are near the best.

    Attributes:
        rate: Learning rate of AdamW.
        epochs: Passes over the rows.
        rows: Rows of an optimizer step.
    """

    rate: float
    epochs: int
    rows: int


KNOWN_GOOD = (KnownGood(3e-5, 3, 16), KnownGood(3e-5, 4, 8), KnownGood(4.3e-5, 3, 32), KnownGood(2e-5, 4, 8))
"""In the order in which they are tried."""


def may_start_well(spec: SweepSpec) -> bool:
    """Return whether ``start: auto`` can mean anything in a spec whose sampler is known.

    Only pretrained models have known good learning rates. A search at random or over a grid is to be just that.
    """
    learns, is_pretrained = spec.search.sampler in LEARNING, not isinstance(spec.model, ScratchModelSpec)
    return spec.start == AUTO and learns and is_pretrained and RATE in spec.space


def known_good(spec: SweepSpec, defaults: Params, width: int | None) -> Iterator[Params]:
    """Yield the known good configurations, each at the nearest point of the space; some may be equal.

    Only learning rate, epochs and batch size are known. Every other parameter has its default, or the middle of its
    axis. There are none for another optimizer than AdamW.

    Args:
        spec: The sweep's spec.
        defaults: The defaults of all parameters by dotted name.
        width: Width of the model's layers; None if it is not known. The wider the model, the smaller the learning rate.
    """
    space = spec.search_space
    usual = {**defaults, **spec.merged(space.untuned(defaults))}
    accumulation = usual.get(_ACCUMULATION)
    steps = accumulation if isinstance(accumulation, int) else 1
    if not str(usual.get(_OPTIMIZER)).startswith("adamw"):
        return
    for one in KNOWN_GOOD:
        rate = float(f"{one.rate * WIDTH / (width or WIDTH):.3g}")  # two digits are known
        wanted = {RATE: rate, EPOCHS: one.epochs, BATCH: one.rows / steps}
        near = {name: space.parameters[name].nearest(value) for name, value in wanted.items() if name in spec.space}
        params = space.untuned({**defaults, **near})
        if RATE in params:
            yield params
