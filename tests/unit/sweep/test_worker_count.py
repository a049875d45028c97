"""As many workers as cores, trials and memory allow, and the reason in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesweep.host.machine import Machine
from finesweep.launch.profile import Profile
from finesweep.model.source import ResolvedModel
from finesweep.spec.sections import SweepSpec
from finesweep.sweep.worker_count import notes, settled
from made_specs import made_spec


def spec(**fixed) -> SweepSpec:
    return made_spec(space={}, fixed=fixed)


def model(folder: Path, weights: int) -> ResolvedModel:
    file = folder / "model.safetensors"
    with file.open("wb") as stream:
        stream.truncate(weights)
    (folder / "tokenizer.json").write_text("{}")
    files = (file, folder / "tokenizer.json")
    return ResolvedModel("m", folder, None, "d", {}, 512, files=files)


@pytest.fixture
def machine(monkeypatch):
    def use(found: Machine) -> None:
        monkeypatch.setattr(Machine, "probe", lambda: found)

    return use


def test_a_small_model_has_a_worker_for_each_core(machine, tmp_path):
    machine(Machine(8, (), 16.0))
    assert notes(Profile(), spec(), 40, None, model(tmp_path, 10**6)) == [
        "8 workers with 1 thread each: one for each of 8 cores."
    ]


def test_a_large_model_has_as_many_workers_as_memory_holds(machine, tmp_path):
    machine(Machine(8, (), 16.0))
    large = model(tmp_path, 10**9)
    assert settled(Profile(), spec(), 40, None, large).workers == 2
    assert notes(Profile(), spec(), 40, None, large) == [
        "2 workers with 4 threads each: 16.0 GB of memory, about 5.6 GB for each."
    ]
    assert settled(Profile(), spec(), 40, 6, large).workers == 6
    assert notes(Profile(), spec(), 40, 6, large) == []


def test_use_cpu_counts_no_gpu(machine, tmp_path):
    machine(Machine(8, ("0",), 16.0))
    small = model(tmp_path, 10)
    assert settled(Profile(), spec(), 40, None, small).gpus_per_trial == 1
    assert notes(Profile(), spec(), 40, None, small) == []
    assert settled(Profile(), spec(use_cpu=True), 40, None, small).workers == 8
