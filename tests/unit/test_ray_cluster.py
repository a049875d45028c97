"""A Ray cluster of our own: what it has, where it lies, and what becomes of one that was left behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from finesweep.backends import ray_cluster
from finesweep.profile import Profile


@pytest.mark.parametrize(("workers", "threads", "cpus"), [(3, 2, 6), (1, 1, 1), ("auto", 4, 4)])
def test_it_has_what_the_profile_shares_out(workers, threads, cpus):
    """Ray counts the machine's cores, of which a container or a batch job may have a few."""
    settings = ray_cluster._own(Profile(workers=workers, threads_per_worker=threads, gpus_per_trial=0), "/tmp/x")
    assert (settings["num_cpus"], settings["num_gpus"], settings["address"]) == (cpus, 0, "local")


def test_it_has_the_gpus_that_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    settings = ray_cluster._own(Profile(workers=3, threads_per_worker=1, gpus_per_trial=1), "/tmp/x")
    assert settings["num_gpus"] == 3


def test_its_folder_has_a_short_name_for_the_sake_of_its_sockets(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "deep/" * 20)
    assert ray_cluster._short_folder() == Path("/tmp")
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert ray_cluster._short_folder() == Path("/var/tmp")


def test_a_folder_that_was_left_behind_is_removed_and_one_in_use_is_not(tmp_path):
    used, left, other, fresh = (tmp_path / name for name in ("fs-ray-used", "fs-ray-left", "data", "fs-ray-fresh"))
    for folder in (used, left, other, fresh):
        folder.mkdir()
    for folder in (left, other):
        (folder / "lock").touch()
    with ray_cluster._owned(used):
        ray_cluster.remove_abandoned(tmp_path)
        # One without a lock is being made at this moment.
        assert sorted(tmp_path.iterdir()) == sorted([used, other, fresh])


def test_the_environment_is_as_before_afterwards(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    with ray_cluster._set({"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}):
        assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


@pytest.mark.parametrize(("shared", "gpu"), [(1, 1.0), (4, 0.25)])
def test_trials_that_share_a_gpu_ask_for_a_fraction(shared, gpu):
    from finesweep.backends.ray import resources

    profile = Profile(workers=1, threads_per_worker=3, gpus_per_trial=1, trials_per_gpu=shared)
    assert resources(profile) == {"cpu": 3, "gpu": gpu}
    assert resources(profile.model_copy(update={"gpus_per_trial": 0})) == {"cpu": 3}


def test_a_clusters_memory_and_own_resources_are_asked_for_there():
    from finesweep.backends.ray import resources
    from finesweep.ray_profile import RayProfile

    values = {"workers": 2, "threads_per_worker": 1, "gpus_per_trial": 0, "memory_gb": 2.0, "resources": {"fast": 1.0}}
    assert resources(RayProfile(**values)) == {"cpu": 1, "memory": 2e9, "fast": 1}
