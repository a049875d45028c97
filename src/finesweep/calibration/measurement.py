"""Owns what a measurement says of training before any trial runs: how fast it is, how large, or no place for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.trial import Params

STEPS = 20
"""Optimizer steps that are measured where nothing else is said."""


@dataclass(frozen=True)
class Load:
    """What is trained to be measured.

    Attributes:
        params: The trial's parameters.
        steps: Optimizer steps after those that warm up, at most.
        seconds: Measuring ends when it has taken so long, however few steps were done.
        evaluates: Whether evaluations are measured too.
        sizes: Whether memory is measured, with the longest rows that there are.
    """

    params: Params
    steps: int = STEPS
    seconds: float = math.inf
    evaluates: bool = True
    sizes: bool = True


@dataclass(frozen=True)
class Measurement:
    """How training went, in one process or in several at a time.

    Attributes:
        examples_per_second: Training examples, of all processes together.
        tokens_per_second: Tokens of those that are no padding, of all processes together.
        rows_per_second: Evaluated rows, of all processes together; None where no evaluation was measured.
        fixed_seconds: What a trial takes before its first step: model and Trainer.
        memory_mb: Most resident memory of a process, in 1e6 bytes.
        own_memory_mb: How much of that it shares with no other.
        gpu_memory_mb: Most memory of the GPU that one process had reserved, 0 without one.
        weights_mb: What the model's weights take on disk.
        share: For how much of the time the main thread of a process ran; of several, the least. With one thread of
            computation and nobody in its way it is nearly 1.
        processes: How many there were.
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
        """Return what several processes did at the same time as one measurement.

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
    """What was to be measured has no place on this machine.

    Attributes:
        reason: Of what there was too little, for a person.
    """

    reason: str
