"""Makes small valid specs for tests that read neither data nor model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finesweep.spec.sections import SweepSpec


def made_spec(**sections: Any) -> SweepSpec:
    """Return a spec that searches the learning rate by ``eval_loss``, with the given sections in place of its own."""
    values: dict[str, Any] = {
        "name": "s",
        "base": Path(),
        "model": {"name": "m"},
        "data": {"train": "t.csv"},
        "objective": {"metric": "eval_loss", "direction": "minimize"},
        "search": {},
        "start": (),
        "space": {"learning_rate": {"low": 1e-5, "high": 1e-3}},
    }
    values |= sections
    # As in the manifest of a sweep without known good configurations.
    values["search"] = {"sampler": "tpe", **values["search"]}
    return SweepSpec.model_validate(values, strict=False)
