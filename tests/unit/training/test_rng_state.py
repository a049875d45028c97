"""The random generators come back to where they were, each of them, also by way of a file."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def drawn() -> list[float]:
    """Draw from each generator, also numbers that a generator keeps for the next call."""
    import torch

    numbers = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
    return [*numbers, *torch.rand(3).tolist(), *torch.randn(20).tolist()]


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    """Begin with an odd number of normal draws, of which each generator then keeps a second one."""
    import torch

    from finesweep.training import rng_state

    with rng_state.undisturbed():
        random.seed(5)
        np.random.seed(6)
        torch.manual_seed(7)
        random.gauss(0, 1)
        np.random.randn()
        yield


def test_every_generator_draws_the_same_again() -> None:
    from finesweep.training import rng_state

    before = rng_state.captured()
    first = drawn()
    assert all(one != other for one, other in zip(first, drawn(), strict=True))
    rng_state.restore(before)
    assert drawn() == first


def test_state_is_a_copy_that_later_draws_leave_alone() -> None:
    from finesweep.training import rng_state

    before = rng_state.captured()
    first = [drawn() for _ in range(3)]
    for _ in range(2):
        rng_state.restore(before)
        assert [drawn() for _ in range(3)] == first


def test_state_survives_json_and_tensors() -> None:
    from finesweep.training import rng_state, tensor_json

    plain, tensors = tensor_json.split(rng_state.captured())
    first = drawn()
    rng_state.restore(tensor_json.join(json.loads(json.dumps(plain)), tensors))
    assert drawn() == first


def test_block_draws_what_it_likes_and_nothing_changes() -> None:
    from finesweep.training import rng_state

    before = rng_state.captured()
    first = drawn()
    rng_state.restore(before)
    with rng_state.undisturbed():
        assert drawn() == first, "it begins where the generators are"
        random.seed(1)
    assert drawn() == first


def test_block_that_fails_changes_nothing_either() -> None:
    import torch

    from finesweep.training import rng_state

    before = rng_state.captured()
    first = drawn()
    rng_state.restore(before)

    def fail() -> None:
        with rng_state.undisturbed():
            torch.manual_seed(0)
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert drawn() == first


def test_capture_starts_no_cuda_and_a_gpus_state_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from finesweep.training import rng_state

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: pytest.fail("started CUDA"))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda _: pytest.fail("there is no GPU"))
    state = rng_state.captured()
    assert "cuda" not in state, "a process that has started CUDA cannot be forked"
    first = drawn()
    rng_state.restore({**state, "cuda": torch.zeros(16, dtype=torch.uint8)})
    assert drawn() == first


def test_state_of_a_gpu_in_use_is_kept_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from finesweep.training import rng_state

    given: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.arange(3))
    monkeypatch.setattr(torch.cuda, "set_rng_state", given.append)
    rng_state.restore(rng_state.captured())
    assert [state.tolist() for state in given] == [[0, 1, 2]]
