"""Captures and restores the state of a process's random generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def captured() -> dict[str, Any]:
    """Return the state of every generator that training draws from, as plain values and tensors."""
    kind, words, position, has_normal, normal = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": (str(kind), np.asarray(words).tolist(), position, has_normal, normal),
        "torch": torch.get_rng_state(),
    }
    # Asking for it would start CUDA, and a process that has started CUDA cannot be forked.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: Mapping[str, Any]) -> None:
    """Restore a result of ``captured``; a GPU's state is skipped if there is no GPU."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the generators after the block, however it ends."""
    before = captured()
    try:
        yield
    finally:
        restore(before)
