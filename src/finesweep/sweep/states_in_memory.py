"""Says where the saved states of a sweep's waiting trials lie on this machine, and how much they may take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from finesweep.folder import disk, state_memory
from finesweep.launch import Profile
from finesweep.launch.profile import Limits
from finesweep.spec import SweepSpec

SLURM_JOB = "SLURM_JOB_ID"
"""Variable in the environment of a job."""


def holds_states_in_memory(profile: Profile, spec: SweepSpec) -> bool:
    """Return whether a run on this machine keeps states in memory, if there is a place for them."""
    limits = profile.limits
    # Slurm kills a job 30 seconds after its signal, by default. That is too soon to move gigabytes to disk.
    is_wanted = limits.states == "memory" or (limits.states == "auto" and SLURM_JOB not in os.environ)
    waits = spec.search.pruner == "halving" and limits.states_gb != 0
    return is_wanted and waits and profile.launcher == "local"


def memory_bytes(profile: Profile, spec: SweepSpec) -> float:
    """Return how many bytes of states a run would keep in this machine's memory now; 0 for none."""
    if not holds_states_in_memory(profile, spec) or not state_memory.is_there():
        return 0.0
    return min(state_memory.limit(profile.limits.states), disk.states_in_all(profile.limits.states_gb))


def notes(profile: Profile, spec: SweepSpec) -> list[str]:
    """Return where the states of waiting trials lie, for the announcement of a run; nothing if that is the disk."""
    if most := memory_bytes(profile, spec):
        size = f"{most / 1e9:.1f} GB" if most >= 1e8 else f"{most / 1e6:.0f} MB"
        return [f"States of waiting trials lie in memory, {size} at most, then on disk (limits.states)."]
    if profile.limits.states == "memory" and spec.search.pruner == "halving" and profile.limits.states_gb != 0:
        why = "this machine has no /dev/shm" if profile.launcher == "local" else f"with launcher: {profile.launcher}"
        return [f"limits.states: memory: {why}, so states of waiting trials lie on disk."]
    return []


@dataclass(frozen=True)
class PlannedStates:
    """Most that saved states take, in 1e9 bytes.

    Attributes:
        disk_gb: On disk at the peak, also of interrupted trials.
        limit_gb: Most that those of waiting trials may take on disk; None if no trial waits.
        memory_gb: Most that they may take in memory.
    """

    disk_gb: float
    limit_gb: float | None = None
    memory_gb: float = 0.0


def planned_states(
    each_gb: float, waiting: int | None, running: int, limits: Limits, free_bytes: float, in_memory: float
) -> PlannedStates:
    """Plan the states of a sweep.

    Args:
        each_gb: Size of one state in 1e9 bytes.
        waiting: Most trials that wait at a time; None if no trial waits.
        running: Most trials that run at a time.
        limits: Limits of the profile.
        free_bytes: Free space on the disk.
        in_memory: What ``memory_bytes`` says.
    """
    interrupted = each_gb * running
    if waiting is None:
        return PlannedStates(interrupted)
    left = max(disk.states_in_all(limits.states_gb) - in_memory, 0.0)
    limit = min(disk.states_limit(limits.states_gb, free_bytes), left) / 1e9
    there = min(waiting, int(in_memory / 1e9 / each_gb)) if each_gb else 0
    # Each worker may be about to write one, and those of interrupted trials have no limit.
    states = min(each_gb * (waiting - there), limit + interrupted)
    return PlannedStates(max(states, interrupted), limit, in_memory / 1e9)
