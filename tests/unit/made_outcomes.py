"""Makes what came of an arm of a benchmark, without running it."""

from __future__ import annotations

import dataclasses

from benchmarks import arms


def outcome(arm: str = "S", **changes: object) -> arms.Outcome:
    """Return what came of a sweep of two trials, which was at 0.5 after 20 s and at 0.4 after 60 s of 100 s."""
    made = arms.Outcome(
        arm=arm,
        seconds=100.0,
        cpu_seconds=150.0,
        bytes_written=1_000_000,
        bytes_apart=0,
        peak_bytes=500_000,
        peak_apart=0,
        trainer_pss=400_000_000,
        command_rss=50_000_000,
        trials=(arms.Trial(10.0, 40.0, 600), arms.Trial(40.0, 90.0, 1_000)),
        reached=((20.0, 0.5), (60.0, 0.4)),
        winner_loss=0.4,
        winner_accuracy=0.8,
        failure=None,
    )
    return dataclasses.replace(made, **changes)
