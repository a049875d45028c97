"""Foresees the places of a run's first workers, whose processes can then be started while the run is still prepared."""

from __future__ import annotations

from collections.abc import Sequence

from finesweep.folder import SweepFolder
from finesweep.folder.early_end import read_early_end
from finesweep.host.machine import Machine, usable_cores
from finesweep.launch import Profile
from finesweep.launch.local import LocalLauncher, WorkerPlace
from finesweep.model import ResolvedModel
from finesweep.registry import BACKENDS
from finesweep.spec import LoadedSpec, SweepSpec
from finesweep.sweep import worker_count
from finesweep.sweep.request import Request

PREPARATION_GB = 2.0
"""Main memory in 1e9 bytes that is left to the processes that read the data and try a small model."""

CHECKS_GB = 0.6
"""Main memory in 1e9 bytes that is left to the process that checks, beside the one that tries the model."""

EACH_GB = 0.5
"""Main memory in 1e9 bytes of a process that waits to become a worker."""

_ROWS = 1_000
"""Number of training rows, which are not read yet. The places do not depend on it."""


def foreseen(
    loaded: LoadedSpec, request: Request, profile: Profile, folder: SweepFolder | None
) -> Sequence[WorkerPlace]:
    """Return the places that the first workers will have, as far as the spec tells.

    If it turns out otherwise, their processes were started in vain, and others are started as without them. There is no
    place for a worker elsewhere, and none if no trial is left or the sweep has ended early.

    Args:
        loaded: The spec, without problems.
        request: The user's request.
        profile: Its launch profile.
        folder: The sweep's folder if the run continues it, else None.
    """
    if profile.launcher != "local":
        return ()
    spec, trials = loaded.spec, loaded.spec.budget.trials
    if folder is not None:
        if read_early_end(folder, spec.stop, trials) is not None:
            return ()
        trials -= sum(map(folder.is_finished, range(trials)))
    machine = worker_count.machine_for(spec)
    if trials <= 0:
        return ()
    settled, question = worker_count.settled(profile, spec, trials, request.workers), None
    if request.workers is None and not request.smoke:
        known = folder or SweepFolder(request.results / spec.name)
        settled, question = worker_count.measured(settled, spec, known, trials, _ROWS)
    single = bool(BACKENDS.load(spec.search.backend).single_worker)
    count = min(1 if single else settled.workers, _most(machine))
    launcher, measures = LocalLauncher(machine), question is not None
    return [launcher.place(settled, index, measures=measures, single_worker=single) for index in range(count)]


def beside_the_step(places: Sequence[WorkerPlace], spec: SweepSpec, model: ResolvedModel) -> Sequence[WorkerPlace]:
    """Return the places whose processes leave enough memory to a training step, which the dry run takes.

    Args:
        places: The foreseen places.
        spec: The sweep's spec.
        model: The model, whose size tells how much that is.
    """
    if not places:
        return ()
    return places[: _most(worker_count.machine_for(spec), CHECKS_GB + worker_count.trial_gb(model.files))]


def beside_the_checks(busy: int) -> int:
    """Return the number of processes that have cores beside those that check, so that a problem is found as soon.

    Args:
        busy: Number of processes that check, or will.
    """
    return max(usable_cores() - busy, 0)


def _most(machine: Machine, preparation_gb: float = 0.0) -> int:
    """Return the number of processes that can be started ahead without delaying the preparation for long.

    Args:
        machine: The machine.
        preparation_gb: Memory of the processes that check and try the model, if it is known to be more than usual.
    """
    # On a single core the preparation would take longer by as much as is gained.
    room = int((machine.memory_gb - max(PREPARATION_GB, preparation_gb)) / EACH_GB)
    return 0 if machine.cores == 1 else max(0, min(machine.cores, room))
