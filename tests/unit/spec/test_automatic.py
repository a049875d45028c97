"""What `sampler: auto` stands for."""

from __future__ import annotations

from typing import Any

import pytest

from finesweep.spec import automatic_sampler
from finesweep.text import setting
from made_specs import made_spec

RATE: dict[str, Any] = {"low": 1e-5, "high": 1e-4, "log": True}


def spaced(count: int) -> dict[str, Any]:
    """Return a space of so many parameters."""
    return {"learning_rate": RATE, **{f"model.p{number}": RATE for number in range(count - 1)}}


@pytest.mark.parametrize(
    ("parameters", "trials", "more", "sampler", "why"),
    [
        (1, 1, {}, "gp", "few parameters and trials"),
        (10, 100, {}, "gp", "few parameters and trials"),
        (11, 20, {}, "tpe", "more than 10 parameters"),
        (3, 101, {}, "tpe", "more than 100 trials"),
        (3, 20, {"backend": "ray"}, "tpe", "the backend is ray"),
    ],
)
def test_a_small_search_gets_the_gaussian_process(
    parameters: int, trials: int, more: dict[str, Any], sampler: str, why: str
) -> None:
    spec = made_spec(space=spaced(parameters), budget={"trials": trials}, search={"sampler": "auto", **more})
    assert automatic_sampler(spec) == (sampler, why)
    assert setting(shown := f"{sampler} (auto: {why})") == shown, "the screen has room for it"


def test_a_space_with_conditions_is_left_to_tpe() -> None:
    space = {
        "learning_rate": RATE,
        "optim": {"choices": ["adamw_torch", "sgd"]},
        "adam_beta1": {"low": 0.8, "high": 0.9, "when": {"optim": "adamw_torch"}},
    }
    assert automatic_sampler(made_spec(space=space)) == ("tpe", "a parameter has a `when`")
