"""Measures how much more processor time a call takes for more input, since seconds depend on the machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def growth(call: Callable[[int], object], small: int, large: int) -> float:
    """Return how many times as long ``call(large)`` takes as ``call(small)``.

    Each counts as the shortest of three. Garbage collection leaves out the objects of other tests; else it would
    decide the result in a process that holds many.
    """
    gc.collect()
    gc.freeze()
    try:
        return min(_seconds(call, large) for _ in range(3)) / min(_seconds(call, small) for _ in range(3))
    finally:
        gc.unfreeze()


def _seconds(call: Callable[[int], object], size: int) -> float:
    began = time.process_time()
    call(size)
    return time.process_time() - began
