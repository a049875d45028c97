"""Owns the Ray backend: one call of ``hyperparameter_search`` whose trials run in actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.backends import Work
from finesweep.backends.optuna import shared_study
from finesweep.backends.ray_cluster import connected
from finesweep.backends.ray_trial import ActorTrials
from finesweep.profile import Profile
from finesweep.ray_profile import RayProfile
from finesweep.scratch import scratch_folder

if TYPE_CHECKING:
    from finesweep.backends.ray_search import TrialSearch
    from finesweep.backends.study import SharedStudy


class RayBackend:
    """Runs all trials of a run in one call of ``hyperparameter_search``, several at a time.

    The study, and with it the samplers, are those of the Optuna backend; Ray places the trials, keeps their
    actors warm and stops the weak ones.
    """

    samplers: ClassVar = ("tpe", "random", "grid")
    pruners: ClassVar = ("none", "median", "halving", "asha")
    coordinates: ClassVar = True

    def search(self, work: Work) -> None:
        """Claim trials and have them run in actors, until there are no more claims.

        Raises:
            LaunchError: Ray could not be started or joined.
            RunDirError: The folder cannot be written here, or not where a trial was to run.
        """
        study = shared_study(work)
        study.settle()
        if not work.over:
            with connected(work.profile) as folder:
                _search(work, study, folder)
        study.settle()


def _search(work: Work, study: SharedStudy, folder: Path | None) -> None:
    from finesweep.backends.driver import SearchDriver
    from finesweep.backends.ray_scheduler import scheduler_of
    from finesweep.backends.ray_search import Heartbeat, TrialSearch

    scheduler = scheduler_of(work.spec, work.run_dir.records(), study)
    search = TrialSearch(work, study, scheduler)
    asked = resources(work.profile)
    driver = SearchDriver(ActorTrials(work.elsewhere(), secrets.token_hex(8), sees_gpu="gpu" in asked, folder=folder))
    with scratch_folder() as scratch, search, _passing_over(search):
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
            max_concurrent_trials=trials_at_a_time(work.profile),
            reuse_actors=True,
            raise_on_failed_trial=False,
            # Nothing of what Ray keeps there is ever read again: the records say all.
            storage_path=scratch,
            name="sweep",
            trial_dirname_creator=_dirname,
            progress_reporter=None,
            verbose=0,
        )


def trials_at_a_time(profile: Profile) -> int:
    """Return how many trials a settled profile runs at a time."""
    return 1 if profile.workers == "auto" else profile.workers


def resources(profile: Profile) -> dict[str, float]:
    """Return what a trial takes of the cluster; as many trials share a GPU as fractions of it add up to one.

    Memory and what else a profile of a Ray cluster asks for is said to that cluster; one of our own has no such
    counts.
    """
    gpu = {"gpu": 1 / profile.per_gpu} if profile.gpus_per_trial == 1 else {}
    if profile.launcher != "ray":
        return {"cpu": profile.threads, **gpu}
    need = RayProfile.of(profile).need()
    memory = {"memory": need.memory_gb * 1e9} if need.memory_gb else {}
    return {"cpu": need.cpus, **gpu, **memory, **need.resources}


@contextlib.contextmanager
def _passing_over(search: TrialSearch) -> Iterator[None]:
    """Pass over what the stock call raises when it looks for the best trial, and finds none: the records say.

    What is wrong with the folder comes out of Ray as text in an error of its own.
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
    """Leave it to the search, which knows each trial's number."""
    return {}


def _objective(metrics: Mapping[str, float]) -> float:
    """Stand in for what the stock call would use if a trial had no objective, which it always has."""
    return metrics["objective"]


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)
