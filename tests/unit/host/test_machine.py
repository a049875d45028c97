"""What a machine has is found also where a container, a job or a broken driver hides it."""

import os
import sys
import time
from pathlib import Path

import pytest

from finesweep.host import machine
from finesweep.host.machine import Machine, usable_cores, usable_memory_gb, visible_gpus

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MEMORY_GB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch, tmp_path):
    """Hide this machine's own GPUs, so that a test finds those that it makes."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(machine, "_cores", lambda: 64)


def system(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """Write a root folder that tells this process its control groups and their limits."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": t for n, t in limits.items()}}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", errors="surrogateescape")
    return root


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_this_machine_has_cores_and_memory():
    found = Machine.probe()
    assert 1 <= found.cores <= CORES
    assert 0.1 < found.memory_gb <= MEMORY_GB
    assert found.gpus == ()


def test_without_control_groups_everything_may_be_used(tmp_path):
    assert Machine.probe(tmp_path) == Machine(CORES, (), MEMORY_GB)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs an affinity")
def test_cores_are_those_that_the_process_may_run_on(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert usable_cores(tmp_path) == 3


def test_without_an_affinity_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores(tmp_path) == 5


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("9900000 100000", 64)],
)
def test_a_quota_limits_the_cores(tmp_path, many_cores, quota, cores):
    assert usable_cores(system(tmp_path, "0::/job", {"job/cpu.max": quota})) == cores


def test_a_limit_of_a_group_above_holds_too(tmp_path, many_cores):
    above = {"slice/cpu.max": "300000 100000", "slice/memory.max": "2000000000"}
    own = {"slice/job/cpu.max": "max 100000", "slice/job/memory.max": "max"}
    root = system(tmp_path, "0::/slice/job", above | own)
    assert usable_cores(root) == 3
    assert usable_memory_gb(root) == min(2.0, MEMORY_GB)


def test_in_a_container_the_group_is_named_as_the_host_sees_it(tmp_path, many_cores):
    root = system(tmp_path, "0::/docker/8f3c", {"cpu.max": "200000 100000", "memory.max": "500000000"})
    assert usable_cores(root) == 2
    assert usable_memory_gb(root) == 0.5


def first_version(root: Path, quota: str, memory: str) -> Path:
    """Write control groups of the first version, in which each controller has a tree of its own."""
    limits = {
        "cpu/docker/8f3c/cpu.cfs_quota_us": quota,
        "cpu/docker/8f3c/cpu.cfs_period_us": "50000",
        "memory/memory.limit_in_bytes": memory,
        "cpu/of_others/cpu.cfs_quota_us": "50000",
        "cpu/of_others/cpu.cfs_period_us": "50000",
    }
    return system(root, "6:blkio:/of_others\n5:cpu,cpuacct:/docker/8f3c\n4:memory:/docker/8f3c\n0::/", limits)


def test_the_first_version_of_control_groups_is_read(tmp_path, many_cores):
    root = first_version(tmp_path, quota="150000", memory="500000000")
    assert usable_cores(root) == 3
    assert usable_memory_gb(root) == 0.5


def test_the_first_version_without_limits_limits_nothing(tmp_path, many_cores):
    root = first_version(tmp_path, quota="-1", memory="9223372036854771712")
    assert usable_cores(root) == 64
    assert usable_memory_gb(root) == MEMORY_GB


@pytest.mark.parametrize(
    "text", ["", "garbage", "0 100000", "100000", "100000 0", "-5 100000", "\udcff\0", "1e5 100000"]
)
def test_a_limit_that_makes_no_sense_is_none(tmp_path, many_cores, text):
    root = system(tmp_path, "0::/\nno colons\n\n7:", {"cpu.max": text, "memory.max": "?" + text})
    assert usable_cores(root) == 64
    assert usable_memory_gb(root) == MEMORY_GB


@pytest.mark.parametrize(
    ("named", "gpus"),
    [
        ("0", ("0",)),
        ("2,0, 1", ("2", "0", "1")),
        ("GPU-8f3c-11aa,MIG-77", ("GPU-8f3c-11aa", "MIG-77")),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("NoDevFiles", ()),
        ("1,,2", ("1",)),
    ],
)
def test_gpus_are_those_that_the_user_lets_be_seen(tmp_path, monkeypatch, named, gpus):
    nvidia_smi(tmp_path, "echo 5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == gpus


def test_gpus_are_those_that_the_driver_lists(tmp_path):
    nvidia_smi(tmp_path, '[ "$*" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n 2\\n"')
    assert visible_gpus() == Machine.probe(tmp_path).gpus == ("0", "1", "2")


@pytest.mark.parametrize("script", ["echo 0; exit 9", "echo No devices were found", "printf '\\377\\n'", "kill -9 $$"])
def test_a_driver_that_lists_nothing_means_no_gpu(tmp_path, script):
    nvidia_smi(tmp_path, script)
    assert visible_gpus() == ()


def test_a_driver_that_cannot_be_started_means_no_gpu(tmp_path):
    nvidia_smi(tmp_path, "")
    (tmp_path / "bin/nvidia-smi").write_bytes(b"\x7fELF")
    assert visible_gpus() == ()


def test_a_driver_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, "echo 0; exec /bin/sleep 120")
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.2)
    started = time.monotonic()
    assert visible_gpus() == ()
    assert time.monotonic() - started < 60


def test_a_mac_has_no_gpu_for_trials(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, "echo 0")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == ()
