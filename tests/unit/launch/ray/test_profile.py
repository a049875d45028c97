"""A Ray profile holds nothing but addresses, numbers and names, and settles to what the cluster has room for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.launch import profile as profiles
from finesweep.launch.profile import Profile
from finesweep.launch.ray import profile
from finesweep.launch.ray.nodes import Amounts, RayNode
from finesweep.launch.ray.profile import RayProfile
from made_profiles import settled

HEAD = Machine(cores=2, gpus=(), memory_gb=4.0)
NASTY = [
    "a b; touch PWNED",
    "$(touch PWNED)",
    "`id`",
    "a'b",
    'a"b',
    "a\nb",
    "-c",
    "a|b",
    "a&b",
    "a>b",
    "\x1b[31m",
    "é",
    "",
]


def read(folder: Path, **keys) -> Profile:
    file = folder / "p.yaml"
    file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in {"launcher": "ray", **keys}.items()))
    return profiles.load(file)


@pytest.fixture
def cluster(monkeypatch):
    """Say what the cluster has, and count how often it is asked."""
    asked = []

    def of(*sizes: Amounts) -> list[str]:
        nodes = [RayNode(str(number), f"node{number}", size) for number, size in enumerate(sizes)]
        monkeypatch.setattr(profile, "nodes_of", lambda address: asked.append(address) or nodes)
        return asked

    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return of


def test_every_key_is_read_and_survives_its_record(tmp_path):
    keys = {
        "address": "head.cluster:6379",
        "dashboard": "https://ray.example.org/cluster-1/",
        "resources": {"a100": 1, "disk": 0.5},
        "python": "/opt/venv/bin/python",
        "workers": 3,
        "memory_gb": 2.5,
    }
    found = read(tmp_path, **keys)
    assert isinstance(found, RayProfile)
    assert (found.address, found.dashboard) == ("head.cluster:6379", "https://ray.example.org/cluster-1")
    assert (found.resources, found.python, found.memory_gb) == ({"a100": 1.0, "disk": 0.5}, "/opt/venv/bin/python", 2.5)
    numbers = settled(found, workers=3)
    again = profiles.of_run(json.loads(json.dumps(numbers.record())))
    assert again.record() == numbers.record()


@pytest.mark.parametrize(
    "value", [*NASTY, "head", "head:0", "head:65536", "head:6379 --x", "http://head:6379", "[::1:9", "head:６３７９"]
)
def test_an_address_is_a_host_and_a_port(tmp_path, value):
    with pytest.raises(SpecError, match=r"p\.yaml:2 address: must be auto or host:port"):
        read(tmp_path, address=value)


@pytest.mark.parametrize("value", ["auto", "10.0.0.1:6379", "head-0.ray.svc:6379", "[fe80::1]:6379"])
def test_addresses_that_are_ones(tmp_path, value):
    assert read(tmp_path, address=value).address == value


def test_ray_client_is_refused_with_the_reason(tmp_path):
    with pytest.raises(SpecError, match=r"address: Ray Client \(ray://\) is not supported: when its connection breaks"):
        read(tmp_path, address="ray://head:10001")


@pytest.mark.parametrize("value", [*NASTY, "head:8265", "ftp://head", "http://", "http://head:99999", "http://h/?a=b"])
def test_a_dashboard_is_an_address_of_the_web(tmp_path, value):
    with pytest.raises(SpecError, match=r"p\.yaml:2 dashboard: must be http://host:port or https"):
        read(tmp_path, dashboard=value)


def test_credentials_in_the_dashboards_address_are_refused_and_not_repeated(tmp_path):
    with pytest.raises(SpecError, match=r"holds credentials; a token belongs into .* RAY_AUTH_TOKEN") as caught:
        read(tmp_path, dashboard="http://me:secret@head:8265")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [*NASTY, "python3 -c x"])
def test_python_is_one_word(tmp_path, value):
    with pytest.raises(SpecError, match=r"p\.yaml:2 python: must be the name or the path of a program"):
        read(tmp_path, python=value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"GPU": 1}, "GPU is what gpus_per_trial says"),
        ({"CPU": 1}, "CPU is what threads_per_worker says"),
        ({"memory": 1}, "memory is what memory_gb says"),
        ({"a b": 1}, "a resource's name has letters"),
        ({"$(id)": 1}, "a resource's name has letters"),
        ({"a": 0}, "a must be above 0, and above 1 a whole number"),
        ({"a": 1.5}, "a must be above 0, and above 1 a whole number"),
        ("a", "expected a mapping"),
    ],
)
def test_resources_are_names_with_amounts(tmp_path, value, message):
    with pytest.raises(SpecError, match=re.escape(f"resources: {message}")):
        read(tmp_path, resources=value)


def test_a_key_of_ray_elsewhere_is_told_where_it_goes(tmp_path):
    with pytest.raises(SpecError, match=r"dashboard: no such key; .*\(it goes with launcher: ray\)"):
        read(tmp_path, launcher="local", dashboard="http://head:8265")


def test_where_jobs_go_is_said_by_the_profile_or_else_by_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265/")
    assert RayProfile().jobs_url == "http://elsewhere:8265"
    assert RayProfile(dashboard="http://here:8265").jobs_url == "http://here:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "nowhere")
    with pytest.raises(SpecError, match=r"^environment RAY_API_SERVER_ADDRESS: must be http://host:port"):
        _ = RayProfile().jobs_url
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    assert RayProfile().jobs_url is None


def test_numbers_need_no_cluster(cluster):
    asked = cluster()
    found = RayProfile(workers=8, gpus_per_trial=1, threads_per_worker=4).settled(HEAD, trials=5)
    assert (found.workers, found.gpus_per_trial, found.threads_per_worker) == (5, 1, 4)
    assert RayProfile(workers=8, gpus_per_trial=0, threads_per_worker=1).settled(HEAD, 9, workers=2).workers == 2
    assert asked == []


@pytest.mark.parametrize(
    ("keys", "sizes", "expected"),
    [
        ({}, [Amounts(8), Amounts(8)], (16, 0, 1)),
        ({"workers": 4}, [Amounts(8), Amounts(8)], (4, 0, 4)),
        ({"workers": 40}, [Amounts(8), Amounts(8)], (40, 0, 1)),
        ({"threads_per_worker": 3}, [Amounts(8), Amounts(8)], (4, 0, 3)),
        ({}, [Amounts(4), Amounts(16, 2)], (2, 1, 8)),
        ({"trials_per_gpu": 3}, [Amounts(4), Amounts(16, 2)], (6, 1, 2)),
        ({"gpus_per_trial": 0}, [Amounts(4), Amounts(16, 2)], (20, 0, 1)),
        ({"memory_gb": 10.0}, [Amounts(8, 0, 25.0), Amounts(8, 0, 9.0)], (2, 0, 4)),
        ({"resources": {"a": 1.0}}, [Amounts(8, 0, 0, {"a": 1}), Amounts(8)], (1, 0, 8)),
    ],
)
def test_auto_is_what_the_cluster_has_room_for(cluster, keys, sizes, expected):
    cluster(*sizes)
    found = RayProfile(**keys).settled(HEAD, trials=100)
    assert (found.workers, found.gpus_per_trial, found.threads_per_worker) == expected
    assert found.notes(HEAD) == []


def test_there_are_no_more_workers_than_trials(cluster):
    cluster(Amounts(8), Amounts(8))
    assert RayProfile().settled(HEAD, trials=3).workers == 3
    assert RayProfile().settled(HEAD, trials=0).workers == 1


def test_what_no_node_could_take_is_refused_with_what_nodes_have(cluster):
    cluster(Amounts(2), Amounts(2), Amounts(4, 1))
    message = "no node of the Ray cluster could take a worker: it asks for CPU: 8; nodes have CPU: 2 | CPU: 4, GPU: 1"
    with pytest.raises(SpecError, match=re.escape(message)):
        RayProfile(gpus_per_trial=0, threads_per_worker=8).settled(HEAD, 5)


def test_a_worker_asks_for_its_threads_and_its_part_of_a_gpu():
    asked = RayProfile(memory_gb=3.0, resources={"a": 1.0})
    assert asked.need(settled(asked, gpus=1, per_gpu=4, threads=2)) == Amounts(2.0, 0.25, 3.0, {"a": 1.0})
    assert asked.need(settled(asked, per_gpu=4, threads=2)) == Amounts(2.0, 0.0, 3.0, {"a": 1.0})


def test_any_profile_can_be_read_as_one_of_ray():
    assert RayProfile.of(Profile(workers=3, retries=1)) == RayProfile(workers=3, retries=1)
