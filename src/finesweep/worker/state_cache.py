"""Keeps the saved states of waiting trials within limits: those of the trials that are most likely to be promoted.

A saved state is a cache. A trial without one is trained again from its first step if its turn comes, with the same
result. So states lie in memory first, where a run has a folder there, and then on disk. All saved states count, but
only those of waiting trials are dropped: others are needed soon, or in use.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files.atomic import alone
from finesweep.folder import SweepFolder, disk, next_attempt, state_memory, waiting_states
from finesweep.launch.profile import Limits
from finesweep.trial import Evaluation, Params
from finesweep.worker.rung_judge import RungJudge

POLL_SECONDS = 0.1

LEAVE_SECONDS = 10.0
"""Seconds in which a run that goes on moves states from memory to disk. A process that is asked to stop meanwhile needs
the rest of its time (``launch.deadlines``) to save its own state."""


@dataclass(frozen=True)
class StateCache:
    """The saved states of a sweep's waiting trials.

    Attributes:
        sweep_folder: The sweep's folder.
        rung_judge: Knows which trials wait, and which of them are best.
        limits: Limits of the profile: where states lie, and how much they take in all.
        run: Number of the run, whose folder in memory may take states; 0 for none.
    """

    sweep_folder: SweepFolder
    rung_judge: RungJudge
    limits: Limits = field(default_factory=Limits)
    run: int = 0

    def make_room(
        self, trial: int, evaluations: Sequence[Evaluation], params: Params, size: int, *, in_memory: bool = True
    ) -> Path | None:
        """Drop the states of less likely trials, so that that of a trial which is about to wait may be saved.

        Args:
            trial: The trial.
            evaluations: Its evaluations in order.
            params: Its parameters.
            size: Bytes of its state.
            in_memory: Whether it may lie in memory.

        Returns:
            The folder in which to save the state; None if more likely trials need the room.

        Raises:
            FolderError: The folder cannot be written.
        """
        places = self._places() if in_memory else [self._on_disk]
        # Sizes with this state: it replaces an earlier one of the trial.
        sizes = {place: {**self._sizes(place), trial: size} for place in places}
        limits = {place: self._limit(place, trial) for place in places}
        for place in places:
            if sum(sizes[place].values()) <= limits[place]:
                return place
        order = self.rung_judge.by_chance(trial, evaluations, params)
        beyond = {place: too_many(sizes[place], order, limits[place]) for place in places}
        possible = [place for place in places if trial not in beyond[place]]
        # Where the best one that has to go is least likely to be promoted.
        chosen = max(possible, key=lambda place: min(map(order.index, beyond[place])), default=None)
        for place in places if chosen is None else [chosen]:
            for other in beyond[place]:
                if other != trial:
                    self._evict(other, place, order, coming=0 if chosen is None else size)
        return chosen

    def trim(self, trial: int, evaluations: Sequence[Evaluation], params: Params) -> None:
        """Drop states until the rest is within the limits: several trials may have been saved, or memory be short.

        Args:
            trial: A trial that has begun to wait.
            evaluations: Its evaluations in order.
            params: Its parameters.

        Raises:
            FolderError: The folder cannot be written.
        """
        for place in self._places():
            sizes, limit = self._sizes(place), self._limit(place)
            if sum(sizes.values()) > limit:
                order = self.rung_judge.by_chance(trial, evaluations, params)
                for other in too_many(sizes, order, limit):
                    self._evict(other, place, order)

    def drop_all(self) -> bool:
        """Drop the states of all waiting trials on disk, where room is needed for a result.

        Returns:
            Whether there were any.

        Raises:
            FolderError: The folder cannot be written.
        """
        places = [self._on_disk]
        dropped = [waiting_states.drop(self.sweep_folder, trial, places) for trial in self._sizes(self._on_disk)]
        return any(dropped)

    def save_from_memory(self, deadline: float, *, goes_on: bool = False) -> None:
        """Move states from memory to disk, as far as the limit and the time allow.

        Those of trials that do not wait, such as interrupted ones, go first; then those most likely to be promoted.

        Args:
            deadline: Time of the monotonic clock at which to end.
            goes_on: Whether the run goes on without its memory. States of waiting trials without room on disk are then
                dropped; those for which the time is too short stay.

        Raises:
            FolderError: The folder cannot be written; or the disk or `limits.disk_gb` has no more room, unless the run
                goes on.
        """
        if self._memory is None:
            return
        while time.monotonic() < deadline:
            with alone(self._memory / ".moving") as is_alone:
                if is_alone:
                    self._move_all(self._memory, deadline, goes_on=goes_on)
                    return
            time.sleep(POLL_SECONDS)  # another worker moves them, and may not see the last one of this worker

    def give_up_memory(self) -> None:
        """Move the states of waiting trials from memory to disk, and drop those that cannot be moved in a moment.

        For a run that goes on and is short of memory.

        Raises:
            FolderError: The folder cannot be written.
        """
        if self._memory is None:
            return
        self.save_from_memory(time.monotonic() + LEAVE_SECONDS, goes_on=True)
        for trial in self._sizes(self._memory):
            waiting_states.drop(self.sweep_folder, trial, [self._memory])

    def _move_all(self, memory: Path, deadline: float, *, goes_on: bool) -> None:
        waiting_states.drop_ended(self.sweep_folder)
        order = self.rung_judge.waiting_by_chance()
        there, limit = self._sizes(memory), self._limit(self._on_disk, *self._sizes(memory))
        beyond = too_many({**self._sizes(self._on_disk), **there}, order, limit)
        places = [self._on_disk, memory] if goes_on else [self._on_disk]
        for trial in beyond:
            waiting_states.drop(self.sweep_folder, trial, places)
        chosen = [trial for trial in order if trial in there and trial not in beyond]
        for trial in [*(trial for trial in there if trial not in order), *chosen]:
            try:
                self._move(trial, memory, deadline)
            except FolderError:
                if not goes_on:
                    raise
                waiting_states.drop(self.sweep_folder, trial, [memory])

    def _evict(self, trial: int, place: Path, order: Sequence[int], coming: int = 0) -> None:
        """Drop a waiting trial's state, or move it from memory to disk if it has a place there.

        Args:
            trial: The trial.
            place: Where its state is.
            order: The waiting trials, most likely first.
            coming: Bytes of a state that is about to be saved.
        """
        if place != self._on_disk:
            sizes = {**self._sizes(self._on_disk), trial: self._sizes(place).get(trial, 0)}
            beyond = too_many(sizes, order, self._limit(self._on_disk, trial) - coming)
            if trial not in beyond:
                for other in beyond:
                    waiting_states.drop(self.sweep_folder, other, [self._on_disk])
                with contextlib.suppress(FolderError):  # no room after all
                    self._move(trial, place)
        waiting_states.drop(self.sweep_folder, trial, [place])

    def _move(self, trial: int, memory: Path, deadline: float | None = None) -> None:
        waiting_states.move_to_disk(self.sweep_folder, trial, memory, deadline, self.limits.disk_gb)

    @property
    def _on_disk(self) -> Path:
        return self.sweep_folder.path / "states"

    @functools.cached_property
    def _memory(self) -> Path | None:
        """The folder in memory of this run, if it has one here."""
        run = next((run for run in self.sweep_folder.runs() if run.number == self.run), None)
        return state_memory.folder_of(run.token) if run is not None else None

    def _places(self) -> list[Path]:
        """Return where a state may be saved, in order of preference; first delete, and move, what has no place now."""
        waiting_states.drop_ended(self.sweep_folder)
        if self._memory is None or not self._memory.is_dir():
            return [self._on_disk]
        if self._has_company():
            # In memory they would count, and the other run's machine would train their trials from the first step.
            self.save_from_memory(time.monotonic() + LEAVE_SECONDS, goes_on=True)
            return [self._on_disk]
        return [self._memory, self._on_disk]

    def _has_company(self) -> bool:
        """Return whether another run trains trials too: it may be on a machine that does not see this memory."""
        if self.limits.states == "memory":
            return False
        others = (one for one in next_attempt.holders(self.sweep_folder) if one.claim.run != self.run)
        return any(next_attempt.is_alive(self.sweep_folder, one.claim.trial) for one in others)

    def _sizes(self, place: Path) -> dict[int, int]:
        return waiting_states.sizes(self.sweep_folder, [place])

    def _limit(self, place: Path, *besides: int) -> float:
        """Return how many bytes the states in one place may take now.

        Args:
            place: The place.
            besides: Trials whose states in the other places do not count, because they are about to go from there.
        """
        used = sum(self._sizes(place).values())
        if place == self._on_disk:
            free = shutil.disk_usage(self.sweep_folder.path).free
            own = disk.states_limit(self.limits.states_gb, free + used)
        else:
            own = state_memory.limit(self.limits.states, used)
        elsewhere = [other for other in self.sweep_folder.state_places() if other != place]
        others = waiting_states.sizes(self.sweep_folder, elsewhere)
        return min(own, disk.states_in_all(self.limits.states_gb) - _without(others, besides))


def _without(sizes: Mapping[int, int], besides: Sequence[int]) -> int:
    return sum(size for trial, size in sizes.items() if trial not in besides)


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
