"""Searches with Ray: calls ``hyperparameter_search`` once, and its trials run in actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.backends.optuna.backend import sweep_study
from finesweep.backends.protocol import Work
from finesweep.backends.ray.cluster import connected
from finesweep.backends.ray.trial import ActorTrials
from finesweep.host.temporary_folders import temporary_folder
from finesweep.launch import SettledProfile
from finesweep.launch.ray.profile import RayProfile

if TYPE_CHECKING:
    from finesweep.backends.ray.search import TrialSearch


class RayBackend:
    """Runs all trials of a run in one call of ``hyperparameter_search``, several at a time.

    Samplers and their study are those of the Optuna backend. Ray places the trials, keeps their actors warm and stops
    weak trials.
    """

    samplers: ClassVar = ("tpe", "random", "grid")
    pruners: ClassVar = ("none", "median", "halving", "asha")
    single_worker: ClassVar = True

    def search(self, work: Work) -> None:
        """Claim trials and run them in actors, until there are no more claims.

        Raises:
            LaunchError: Ray could not be started or joined.
            FolderError: The folder cannot be written here, or on the node of a trial.
        """
        if not work.over:
            with connected(work.profile) as folder:
                _search(work, folder)


def _search(work: Work, folder: Path | None) -> None:
    from finesweep.backends.ray.scheduler import scheduler_of
    from finesweep.backends.ray.search import Heartbeat, TrialSearch
    from finesweep.backends.search_driver import SearchDriver

    study = sweep_study(work)
    scheduler = scheduler_of(work.spec, work.sweep_folder.records(), study)
    search = TrialSearch(work, study, scheduler)
    asked = resources(work.profile)
    driver = SearchDriver(ActorTrials(work.borrower(), secrets.token_hex(8), sees_gpu="gpu" in asked, folder=folder))
    with temporary_folder() as temporary, search, _passing_over(search):
        driver.hyperparameter_search(
            hp_space=_nothing_to_draw,
            compute_objective=_objective,
            n_trials=-1,  # the search says when it is over
            direction=str(work.spec.direction),
            backend="ray",
            search_alg=search,
            scheduler=scheduler,
            callbacks=[Heartbeat(work)],
            resources_per_trial=asked,
            max_concurrent_trials=work.profile.workers,
            reuse_actors=True,
            raise_on_failed_trial=False,
            # Ray's own files there are never read again: the records have everything.
            storage_path=temporary,
            name="sweep",
            trial_dirname_creator=_dirname,
            progress_reporter=None,
            verbose=0,
        )


def resources(profile: SettledProfile) -> dict[str, float]:
    """Return a trial's resources; the fractions of the trials that share a GPU add up to one.

    Memory and custom resources are requested only from the user's cluster; a private one does not count them.
    """
    gpu = {"gpu": 1 / profile.trials_per_gpu} if profile.gpus_per_trial == 1 else {}
    if profile.asked.launcher != "ray":
        return {"cpu": profile.threads_per_worker, **gpu}
    need = RayProfile.of(profile.asked).need(profile)
    memory = {"memory": need.memory_gb * 1e9} if need.memory_gb else {}
    return {"cpu": need.cpus, **gpu, **memory, **need.resources}


@contextlib.contextmanager
def _passing_over(search: TrialSearch) -> Iterator[None]:
    """Ignore errors of the stock call that finds no best trial: the records count.

    Ray turns an error about the folder into text; the original error is raised instead.
    """
    from ray.tune import TuneError

    try:
        yield
    except TuneError:
        if search.failure is not None:
            raise search.failure from None
        raise
    except (AttributeError, KeyError) as error:
        if not search.is_done or not any(word in str(error) for word in ("trial_id", "objective")):
            raise


def _nothing_to_draw(_: Any) -> dict[str, Any]:
    """Return nothing: the search draws the parameters, because it knows each trial's number."""
    return {}


def _objective(metrics: Mapping[str, float]) -> float:
    """Return the objective, which every trial has; the stock call needs a function."""
    return metrics["objective"]


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)
