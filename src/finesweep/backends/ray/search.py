"""Answers Ray's requests for trials: each is a claim, and ends as its record says."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.search import Searcher

from finesweep.backends.optuna.backend import drawn
from finesweep.backends.optuna.samplers import draws_of, proposing, sampler_of
from finesweep.backends.optuna.study import SweepStudy
from finesweep.backends.protocol import Work
from finesweep.backends.ray.scheduler import MODES
from finesweep.backends.ray.trial import COMPLAINT, ENDED, OBJECTIVE, PRUNED, compared, config_of
from finesweep.errors import FolderError
from finesweep.files import as_kind
from finesweep.folder import Claim
from finesweep.trial import AttemptOutdated, Params, TrialRecord

if TYPE_CHECKING:
    from finesweep.backends.ray.scheduler import FairScheduler

IDLE_SECONDS = 0.5
"""Seconds to wait before the next try to claim a trial, after none was free."""

Result = Mapping[str, Any]


@dataclass
class _Asked:
    """A claimed trial in Ray.

    Attributes:
        claim: The claim, held here.
        began: Time of the claim, on the monotonic clock.
    """

    claim: Claim
    began: float = field(default_factory=time.monotonic)


class TrialSearch(Searcher):  # type: ignore[misc]
    """Proposes claimed trials.

    Ray's own search with Optuna uses one study and one sampler. Here each trial uses the sampler of its number and a
    study made from the sweep's folder, so that both backends propose the same.

    Args:
        work: Claims and records.
        study: The sweep's trials.
        scheduler: Has the stopped trials, and the errors of others.

    Attributes:
        failure: An error about the folder, here or on the node of a trial.
        is_done: Whether there are no more claims.
    """

    def __init__(self, work: Work, study: SweepStudy, scheduler: FairScheduler) -> None:
        super().__init__(metric=OBJECTIVE, mode=MODES[work.spec.direction])
        self._work, self._study, self._scheduler = work, study, scheduler
        self._asked: dict[str, _Asked] = {}
        self._draws = draws_of(work)
        self._idle_until = 0.0
        self.failure: FolderError | None = None
        self.is_done = False

    def __enter__(self) -> TrialSearch:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the claims that are still held; their trials were cut short together with Ray."""
        for asked in self._asked.values():
            self._work.release(asked.claim)

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """Claim a trial and propose its parameters; None while no trial is free; see Ray."""
        if self.failure is not None:
            raise self.failure  # Ray may have turned it into text where it was raised first
        if time.monotonic() < self._idle_until:
            return None
        claim = self._work.claim(wait=False)
        if claim is None:
            self._idle_until = time.monotonic() + IDLE_SECONDS
            self.is_done = self._work.over
            return str(self.FINISHED) if self.is_done else None
        self._asked[trial_id] = _Asked(claim)
        with self._noting():
            return config_of(claim, self._propose(claim))

    def _propose(self, claim: Claim) -> Params:
        with proposing(self._work):
            storage = self._study.open(claim)
            sampler = sampler_of(self._work, self._study, claim, self._draws)
            return drawn(self._work, claim, self._study.made(storage, sampler=sampler).ask())

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Raise an error that a trial has reported from its node; see Ray.

        Raises:
            FolderError: The folder cannot be written, here or on the trial's node.
        """
        with self._noting():
            if COMPLAINT in result:
                raise FolderError(str(result[COMPLAINT]))

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Write a trial's record if the trial could not; see Ray.

        Raises:
            FolderError: The folder cannot be written.
        """
        asked = self._asked.pop(trial_id, None)
        if asked is None:  # Ray reports a failed trial twice
            return
        try:
            with self._noting():
                self._conclude(trial_id, asked, None if error else self._told(trial_id, result or {}))
        finally:
            self._work.release(asked.claim)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing: a search resumes from the records."""

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep an error, because Ray turns it into text."""
        try:
            yield
        except FolderError as error:
            self.failure = error
            raise

    def _conclude(self, trial_id: str, asked: _Asked, record: TrialRecord | None) -> None:
        if record is not None:
            self._keep(record)
        # When this process stops, trials without a record were cut short together with Ray. That is no fault of theirs.
        elif not self._work.stopping:
            self._work.lost(asked.claim, self._how(trial_id), time.monotonic() - asked.began)

    def _told(self, trial_id: str, result: Result) -> TrialRecord | None:
        """Return the record that a trial has sent: of its end, or the one to use if it is stopped."""
        is_stopped = trial_id in self._scheduler.stopped
        text = result.get(PRUNED if is_stopped else ENDED)
        if text is None:
            return None
        record = as_kind(TrialRecord, json.loads(text))
        return compared(record, self._work.sweep_folder.records(), self._work.spec.direction) if is_stopped else record

    def _keep(self, record: TrialRecord) -> None:
        """Write a trial's record, unless the trial has written it and this machine can see it."""
        # On a shared file system the record of another machine can appear later than Ray's message about it.
        seen = self._work.sweep_folder.read_record(record.trial)
        if seen is None or seen.attempt < record.attempt:
            with contextlib.suppress(AttemptOutdated):
                self._work.sweep_folder.record(record)

    def _how(self, trial_id: str) -> str:
        why = self._scheduler.errors.get(trial_id)
        return f"its process, or the machine that it ran on, died ({why or 'Ray gives no reason'})"


class Heartbeat(Callback):  # type: ignore[misc]
    """Keeps the claims alive while trials run in other processes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._handler = signal.getsignal(signal.SIGUSR1)

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        """Restore the signal handler that Ray has just replaced; see Ray."""
        signal.signal(signal.SIGUSR1, self._handler)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Renew the claims; Ray calls this ten times a second."""
        self._work.renew()
