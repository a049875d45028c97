"""A Ray cluster of our own: what it has, where it lies, and what becomes of one that was left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
import tempfile
import types
from pathlib import Path

import pytest

from finesweep.backends.ray import cluster
from finesweep.launch.profile import Profile
from finesweep.launch.ray import connection_process
from finesweep.launch.ray.profile import RayProfile
from made_profiles import settled


@pytest.mark.parametrize(("workers", "threads", "cpus"), [(3, 2, 6), (1, 1, 1), (1, 4, 4)])
def test_it_has_what_the_profile_shares_out(workers, threads, cpus):
    """Ray counts the machine's cores, of which a container or a batch job may have a few."""
    settings = cluster._own(settled(workers=workers, threads=threads), Path("/tmp/x"))
    assert (settings["num_cpus"], settings["num_gpus"], settings["address"]) == (cpus, 0, "local")


def test_it_has_the_gpus_that_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    settings = cluster._own(settled(workers=3, gpus=1), Path("/tmp/x"))
    assert settings["num_gpus"] == 3


def test_its_folder_has_a_short_name_for_the_sake_of_its_sockets(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "deep/" * 20)
    assert cluster._short_folder() == Path("/tmp")
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert cluster._short_folder() == Path("/var/tmp")


def test_the_longest_folder_leaves_room_for_the_socket_with_the_longest_name(monkeypatch):
    longest = "/" + "x" * (cluster.LONGEST_FOLDER - 1)
    monkeypatch.setattr(tempfile, "tempdir", longest)
    assert cluster._short_folder() == Path(longest)
    assert len(longest + cluster._LONGEST_SOCKET) == 103
    monkeypatch.setattr(tempfile, "tempdir", longest + "x")
    assert cluster._short_folder() == Path("/tmp")


def test_ray_gets_a_folder_inside_of_one_that_only_this_user_can_enter(tmp_path, monkeypatch):
    """Ray opens its own to all users; and a token that the user has for another cluster would go before ours."""
    seen = {}

    @contextlib.contextmanager
    def begun(_where, settings, current):
        seen.update(settings, current=current, token=os.environ.get("RAY_AUTH_TOKEN"))
        seen["modes"] = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (current, *current.iterdir())}
        yield

    monkeypatch.setattr(cluster, "_begun", begun)
    monkeypatch.setattr(cluster, "_short_folder", lambda: tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    before = os.umask(0)
    try:
        with cluster._private(settled()):
            pass
    finally:
        os.umask(before)
    assert Path(seen["_temp_dir"]).parent == seen["current"]
    assert (seen["modes"][seen["current"].name], seen["modes"]["token"]) == (0o700, 0o600)
    assert (seen["token"], os.environ["RAY_AUTH_TOKEN"]) == (None, "of-another-cluster")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["private", "joined", "driver"])
def test_ray_is_never_connected_to_from_the_current_folder(tmp_path, monkeypatch, how):
    """Stock: whatever the current folder is then stands first on the import path of all actors."""
    seen = []
    fake = types.SimpleNamespace(
        init=lambda **settings: seen.append((Path.cwd(), settings)),
        is_initialized=lambda: False,
        shutdown=lambda: None,
        nodes=list,
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if how == "driver":
        monkeypatch.setattr(connection_process, "_leave_signals", lambda: None)
        connection_process.connect({"address": "head:6379", "folder": None}, lambda _: None)
    else:
        if how == "joined":
            monkeypatch.setenv("RAY_ADDRESS", "head:6379")
        profile = Profile if how == "private" else RayProfile
        with cluster.connected(settled(profile())) as folder:
            assert folder == (tmp_path if how == "private" else None)
            assert how == "joined" or os.environ["PYTHONSAFEPATH"] == "1"
    ((current, settings),) = seen
    assert current == (Path(os.__file__).parent if how != "private" else Path(settings["_temp_dir"]).parent)
    assert how != "joined" or settings["runtime_env"]["env_vars"]["PYTHONSAFEPATH"] == "1"
    assert Path.cwd() == tmp_path


def test_the_environment_is_as_before_afterwards(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t")
    with cluster._set({"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": None}):
        assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_TOKEN"] == "t"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


@pytest.mark.parametrize(("shared", "gpu"), [(1, 1.0), (4, 0.25)])
def test_trials_that_share_a_gpu_ask_for_a_fraction(shared, gpu):
    from finesweep.backends.ray.backend import resources

    profile = settled(gpus=1, per_gpu=shared, threads=3)
    assert resources(profile) == {"cpu": 3, "gpu": gpu}
    assert resources(dataclasses.replace(profile, gpus_per_trial=0)) == {"cpu": 3}


def test_a_clusters_memory_and_own_resources_are_asked_for_there():
    from finesweep.backends.ray.backend import resources
    from finesweep.launch.ray.profile import RayProfile

    asked = RayProfile(memory_gb=2.0, resources={"fast": 1.0})
    assert resources(settled(asked, workers=2)) == {"cpu": 1, "memory": 2e9, "fast": 1}
