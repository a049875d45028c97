"""Holds the result of a measurement of training: its speed and its memory, or that it does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.trial import Params

STEPS = 20
"""Default number of measured optimizer steps."""


@dataclass(frozen=True)
class Load:
    """A training to be measured.

    Attributes:
        params: The trial's parameters.
        steps: Maximum number of optimizer steps after the warm-up.
        seconds: Duration after which measuring ends, however few steps were done.
        evaluates: Whether evaluations are measured too.
        sizes: Whether memory is measured, with the longest rows of the data.
    """

    params: Params
    steps: int = STEPS
    seconds: float = math.inf
    evaluates: bool = True
    sizes: bool = True


@dataclass(frozen=True)
class Measurement:
    """Speed and memory of training, in one process or in several at a time.

    Attributes:
        examples_per_second: Training examples, of all processes together.
        tokens_per_second: Tokens without padding, of all processes together.
        rows_per_second: Evaluated rows, of all processes together; None if no evaluation was measured.
        fixed_seconds: Time of a trial before its first step, to make model and Trainer.
        memory_mb: Peak resident memory of a process, in 1e6 bytes.
        own_memory_mb: The part of it that is not shared with other processes.
        gpu_memory_mb: Peak GPU memory that one process had reserved, 0 without a GPU.
        weights_mb: Size of the model's weights on disk.
        share: CPU time of the main thread / wall clock, 0 to 1; of several processes the minimum. Below 1, a core was
            shared with something else, or several threads computed.
        processes: Number of processes.
    """

    examples_per_second: float
    tokens_per_second: float
    rows_per_second: float | None
    fixed_seconds: float
    memory_mb: float
    own_memory_mb: float
    gpu_memory_mb: float
    weights_mb: float
    share: float = 1.0
    processes: int = 1

    @classmethod
    def together(cls, each: Sequence[Measurement]) -> Measurement:
        """Combine the measurements of processes that ran at the same time.

        Args:
            each: One for each process, at least one.
        """
        rows = [one.rows_per_second for one in each if one.rows_per_second is not None]
        return cls(
            examples_per_second=sum(one.examples_per_second for one in each),
            tokens_per_second=sum(one.tokens_per_second for one in each),
            rows_per_second=sum(rows) if rows else None,
            fixed_seconds=max(one.fixed_seconds for one in each),
            memory_mb=max(one.memory_mb for one in each),
            own_memory_mb=max(one.own_memory_mb for one in each),
            gpu_memory_mb=max(one.gpu_memory_mb for one in each),
            weights_mb=max(one.weights_mb for one in each),
            share=min(one.share for one in each),
            processes=sum(one.processes for one in each),
        )


@dataclass(frozen=True)
class Misfit:
    """The training does not fit on this machine.

    Attributes:
        reason: The resource that is too small, for the user.
    """

    reason: str
