"""Owns what a backend is: who proposes hyperparameters, and how ``hyperparameter_search`` is called.

A backend is one file here and one line in ``finesweep.registry.BACKENDS``. It is handed ``Work`` and
knows nothing of processes, training or records; ``Work`` knows nothing of samplers and pruners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from finesweep.claims import Claim
from finesweep.run_dir import RunDir
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation, Params

Report = Callable[[Evaluation, float, bool], None]
"""Tells the search of an evaluation, the best objective so far, and whether training ends here.

Raises ``TrialPruned`` where the trial should stop; never at its end, where nothing is left to save.
"""


class Work(Protocol):
    """What a worker offers to a backend.

    Attributes:
        run_dir: The sweep's folder.
        spec: The sweep's spec.
        plan: Parameters of the first trials by number.
    """

    run_dir: RunDir
    spec: SweepSpec
    plan: Sequence[Params]

    def claim(self) -> Claim | None:
        """Take the next trial; None when the sweep is over or was told to stop."""
        ...

    def isolated(self, claim: Claim, body: Callable[[], None]) -> None:
        """Run ``body`` in a process of its own; a crash of it becomes the trial's record."""
        ...

    def train(self, claim: Claim, params: Params, report: Report) -> float:
        """Train one trial and write its record, whatever happens.

        Returns:
            The objective: the best value of all evaluations.

        Raises:
            TrialStopped: The trial was pruned, diverged or was interrupted; the record says so.
            TrialFailed: It failed; the record says why.
        """
        ...


class Backend(Protocol):
    """Who proposes hyperparameters.

    Attributes:
        samplers: Names that ``search.sampler`` may have.
        pruners: Names that ``search.pruner`` may have.
    """

    samplers: ClassVar[Sequence[str]]
    pruners: ClassVar[Sequence[str]]

    def search(self, work: Work) -> None:
        """Propose and run trials until ``work`` has no more claims."""
        ...
