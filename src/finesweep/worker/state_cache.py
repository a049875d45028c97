"""Keeps the saved states of waiting trials within a limit: those of the trials that are most likely to be promoted.

A saved state is a cache. A trial without one is trained again from its first step if its turn comes, with the same
result. All saved states count, but only those of waiting trials are dropped: others are needed soon, or in use.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.folder import SweepFolder, disk, waiting_states
from finesweep.trial import Evaluation, Params
from finesweep.worker.rung_judge import RungJudge


@dataclass(frozen=True)
class StateCache:
    """The saved states of a sweep's waiting trials.

    Attributes:
        sweep_folder: The sweep's folder.
        rung_judge: Knows which trials wait, and which of them are best.
        states_gb: ``limits.states_gb`` of the profile: the limit in 1e9 bytes, None for the default.
    """

    sweep_folder: SweepFolder
    rung_judge: RungJudge
    states_gb: float | None = None

    def make_room(self, trial: int, evaluations: Sequence[Evaluation], params: Params, size: int) -> bool:
        """Drop the states of less likely trials, so that that of a trial which is about to wait may be saved.

        Args:
            trial: The trial.
            evaluations: Its evaluations in order.
            params: Its parameters.
            size: Bytes of its state.

        Returns:
            Whether to save the state; False if more likely trials need the room.

        Raises:
            FolderError: The folder cannot be written.
        """
        sizes = waiting_states.sizes(self.sweep_folder)
        limit = self._limit(sizes)
        # Sizes with this state: it replaces an earlier one of the trial.
        sizes = {**sizes, trial: size}
        if sum(sizes.values()) <= limit:
            return True
        beyond = too_many(sizes, self.rung_judge.by_chance(trial, evaluations, params), limit)
        for other in beyond:
            if other != trial:
                waiting_states.drop(self.sweep_folder, other)
        return trial not in beyond

    def trim(self, trial: int, evaluations: Sequence[Evaluation], params: Params) -> None:
        """Drop states until the rest is within the limit, because several trials may have been saved at a time.

        Args:
            trial: A trial that has begun to wait.
            evaluations: Its evaluations in order.
            params: Its parameters.

        Raises:
            FolderError: The folder cannot be written.
        """
        sizes = waiting_states.sizes(self.sweep_folder)
        limit = self._limit(sizes)
        if sum(sizes.values()) <= limit:
            return
        for other in too_many(sizes, self.rung_judge.by_chance(trial, evaluations, params), limit):
            waiting_states.drop(self.sweep_folder, other)

    def drop_all(self) -> bool:
        """Drop the states of all waiting trials, where room is needed for a result; return whether there were any.

        Raises:
            FolderError: The folder cannot be written.
        """
        dropped = [waiting_states.drop(self.sweep_folder, trial) for trial in waiting_states.sizes(self.sweep_folder)]
        return any(dropped)

    def _limit(self, sizes: Mapping[int, int]) -> float:
        free = shutil.disk_usage(self.sweep_folder.path).free
        return disk.states_limit(self.states_gb, free + sum(sizes.values()))


def too_many(sizes: Mapping[int, int], waiting: Sequence[int], limit: float) -> list[int]:
    """Return the waiting trials whose states have no place within a limit, the least likely first.

    A state that is too large for the place that is left makes way for smaller ones of less likely trials.

    Args:
        sizes: Bytes of each state, by trial.
        waiting: The waiting trials, most likely first; other trials keep their states.
        limit: Bytes of all states.
    """
    left = limit - sum(size for trial, size in sizes.items() if trial not in waiting)
    beyond = []
    for trial in (trial for trial in waiting if trial in sizes):
        if sizes[trial] <= left:
            left -= sizes[trial]
        else:
            beyond.append(trial)
    return beyond[::-1]
