"""Defines a backend, which proposes hyperparameters and calls ``hyperparameter_search``.

A backend is a package here and a line in ``finesweep.registry.BACKENDS``. It gets ``Work``, which claims trials, trains
them and writes their records. ``Work`` knows nothing of samplers and pruners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from finesweep.folder import Claim, SweepFolder
from finesweep.launch import SettledProfile
from finesweep.spec import SweepSpec
from finesweep.trial import Params, Reporter


class Work(Protocol):
    """A worker's interface for a backend.

    Attributes:
        sweep_folder: The sweep's folder.
        spec: The sweep's spec.
        planned: Parameters of the first trials by number.
        profile: The run's launch profile.
    """

    sweep_folder: SweepFolder
    spec: SweepSpec
    planned: Sequence[Params]
    profile: SettledProfile

    @property
    def rows(self) -> int:
        """Training rows."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether to stop: on a signal, or because the parent process has ended."""
        ...

    @property
    def over(self) -> bool:
        """Whether there will be no more claims: all trials have finished, or the search must end."""
        ...

    def claim(self, wait: bool = True) -> Claim | None:
        """Claim the next trial; None when the sweep is over or was asked to stop.

        Args:
            wait: Whether to wait while other workers run the last trials, since one of them may die and leave its trial
                behind; without, None may also mean that no trial is free at this moment.
        """
        ...

    def isolated(self, claim: Claim, body: Callable[[], None], attend: Callable[[], None] | None = None) -> None:
        """Run ``body`` in its own process; a crash of it becomes the trial's record.

        Args:
            claim: The trial. It was claimed here; in a process that ``borrower`` opened, by the worker that lent it.
            body: The function to run.
            attend: Called in this process several times a second while the body runs.
        """
        ...

    def train(self, claim: Claim, params: Params, report: Reporter) -> float:
        """Train one trial and write its record in any case.

        Returns:
            The objective: the best value of all evaluations.

        Raises:
            TrialStopped: The trial was pruned, diverged or was interrupted; the record says so.
            TrialFailed: It failed; the record says why.
        """
        ...

    def borrower(self) -> Callable[[], Work]:
        """Return a function that opens this sweep in another process; it is small, and can be pickled.

        The work that it returns runs trials that are claimed here (``isolated``, ``train``) and claims none.
        """
        ...

    def renew(self) -> None:
        """Renew the claims that are held here; to be called at least every second."""
        ...

    def release(self, claim: Claim) -> None:
        """Release a claim whose trial has run in another process."""
        ...

    def lost(self, claim: Claim, how: str, seconds: float) -> None:
        """Record that the other process that ran a trial has died, and release its claim.

        Args:
            claim: The trial.
            how: Known facts about its end.
            seconds: Duration of the attempt.
        """
        ...


class Backend(Protocol):
    """Proposes hyperparameters.

    Attributes:
        samplers: Allowed values of ``search.sampler``.
        pruners: Allowed values of ``search.pruner``.
        single_worker: Whether one worker starts all trials of a run, as many at a time as its profile says, in
            processes of the backend.
    """

    samplers: ClassVar[Sequence[str]]
    pruners: ClassVar[Sequence[str]]
    single_worker: ClassVar[bool]

    def search(self, work: Work) -> None:
        """Propose and run trials until ``work`` has no more claims."""
        ...
