"""Makes launch profiles with numbers, as a run has them."""

from __future__ import annotations

from finesweep.launch.profile import Profile, SettledProfile


def settled(
    asked: Profile | None = None, *, workers: int = 1, gpus: int = 0, per_gpu: int = 1, threads: int = 1
) -> SettledProfile:
    """Return a profile as it was asked for, with numbers that no machine has a say in."""
    return SettledProfile(asked or Profile(), workers, gpus, per_gpu, threads)
