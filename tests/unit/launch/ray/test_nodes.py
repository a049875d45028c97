"""How many workers fit on a cluster is counted node by node, and a GPU is shared only as far as it goes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.launch.ray.nodes import Amounts, RayNode, able, places, threads_for


def node(cpus: float = 0, gpus: float = 0, memory_gb: float = 0, **resources: float) -> RayNode:
    return RayNode("id", "host", Amounts(cpus, gpus, memory_gb, resources))


def test_what_ray_says_of_a_node_is_read_without_what_nobody_asks_for():
    said = {
        "CPU": 8.0,
        "GPU": 2.0,
        "memory": 4e9,
        "object_store_memory": 1e9,
        "node:10.0.0.1": 1.0,
        "node:__internal_head__": 1.0,
        "accelerator_type:A100": 1.0,
        "fast_disk": 3.0,
    }
    assert Amounts.of_ray(said) == Amounts(8, 2, 4, {"fast_disk": 3.0})
    assert Amounts.of_ray({}) == Amounts()


def test_what_a_worker_asks_becomes_options_of_an_actor():
    assert Amounts(2, 0.5, 1.5, {"a": 1}).options() == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "memory": 1_500_000_000,
        "resources": {"a": 1},
    }
    assert Amounts(1).options() == {"num_cpus": 1, "num_gpus": 0.0, "resources": {}}


@pytest.mark.parametrize(
    ("need", "count"),
    [
        (Amounts(1), 8),
        (Amounts(3), 2),
        (Amounts(9), 0),
        (Amounts(1, 1), 2),
        (Amounts(1, 1 / 3), 6),
        (Amounts(4, 1 / 3), 2),
        (Amounts(1, 0, 5), 3),
        (Amounts(1, 0, 0, {"disk": 0.5}), 2),
        (Amounts(1, 0, 0, {"tape": 1}), 0),
    ],
)
def test_a_worker_fits_as_often_as_its_scarcest_resource_allows(need, count):
    assert need.times_in(Amounts(8, 2, 16, {"disk": 1.0})) == count


def test_two_workers_that_need_three_fifths_of_a_gpu_do_not_share_one():
    assert Amounts(gpus=0.6).times_in(Amounts(gpus=3)) == 3


def test_places_are_counted_node_by_node():
    cluster = [node(3), node(3), node(1)]
    assert places(cluster, Amounts(2)) == 2
    assert places(cluster, Amounts(1)) == 7
    assert places([], Amounts(1)) == 0
    assert able(cluster, Amounts(2)) == cluster[:2]
    assert able(cluster, Amounts()) == cluster


def test_threads_are_as_many_as_all_workers_can_have():
    cluster = [node(8), node(8), node(2)]
    assert [threads_for(cluster, Amounts(), workers) for workers in (1, 2, 3, 4, 9, 18, 99)] == [8, 8, 4, 4, 2, 1, 1]
    assert threads_for([], Amounts(), 1) == 1
    assert threads_for([node(8, gpus=4)], Amounts(gpus=1), 4) == 2


def test_amounts_are_shown_as_ray_names_them():
    assert str(Amounts(2, 0.5, 1.25, {"a": 1})) == "CPU: 2, GPU: 0.5, a: 1, memory: 1.2 GB"
    assert str(Amounts()) == "nothing"


AMOUNTS = st.builds(
    Amounts,
    cpus=st.integers(0, 64).map(float),
    gpus=st.integers(0, 8).map(float),
    memory_gb=st.floats(0, 500),
    resources=st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0.1, 9)),
)


@given(AMOUNTS)
def test_a_node_survives_the_way_to_another_process(has):
    sent = RayNode("id", "host", has)
    assert RayNode.of_values(json.loads(json.dumps(sent.values()))) == sent


@given(st.lists(AMOUNTS, max_size=4), st.integers(1, 16), st.integers(1, 8), st.integers(1, 100))
def test_what_is_counted_as_fitting_can_be_placed(sizes, cpus, shared_by, workers):
    cluster = [RayNode(str(number), "host", size) for number, size in enumerate(sizes)]
    need = Amounts(float(cpus), 1 / shared_by)
    for one in cluster:
        count = need.times_in(one.has)
        assert count * cpus <= one.has.cpus
        assert count <= one.has.gpus * shared_by
    threads = threads_for(cluster, Amounts(), workers)
    assert threads == 1 or places(cluster, Amounts(float(threads))) >= workers
