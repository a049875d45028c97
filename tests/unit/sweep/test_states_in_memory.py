"""Plan and announcement say where states of waiting trials lie, and a run keeps them in memory only where it may."""

from __future__ import annotations

import pytest

from finesweep.folder import state_memory
from finesweep.launch import Profile
from finesweep.launch.profile import Limits
from finesweep.spec import SweepSpec
from finesweep.sweep.states_in_memory import SLURM_JOB, holds_states_in_memory, memory_bytes, notes, planned_states
from made_specs import made_spec


def spec(pruner: str = "halving") -> SweepSpec:
    return made_spec(search={"pruner": pruner})


def profile(launcher: str = "local", **limits: object) -> Profile:
    return Profile(launcher=launcher, limits=Limits(**limits))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 40 GB for states."""
    monkeypatch.delenv(SLURM_JOB, raising=False)
    monkeypatch.setattr(state_memory, "is_there", lambda: True)
    monkeypatch.setattr(state_memory, "limit", lambda how: state_memory.SHARES[how] * 40e9)


@pytest.mark.parametrize(
    ("profile", "pruner", "most"),
    [
        (profile(), "halving", 10e9),
        (profile(states="memory", states_gb=30), "halving", 20e9),
        (profile(states_gb=3), "halving", 3e9),
        (profile(states_gb=0), "halving", 0),
        (profile(states="disk"), "halving", 0),
        (profile(), "median", 0),
        (profile(), "none", 0),
        (profile("slurm", states="memory"), "halving", 0),
        (profile("ray"), "halving", 0),
    ],
)
def test_states_lie_in_memory_where_trials_wait_on_this_machine(profile: Profile, pruner: str, most: float) -> None:
    assert memory_bytes(profile, spec(pruner)) == most
    assert holds_states_in_memory(profile, spec(pruner)) == bool(most)
    told = f"States of waiting trials lie in memory, {most / 1e9:.1f} GB at most, then on disk (limits.states)."
    assert (notes(profile, spec(pruner)) == [told]) == bool(most)


def test_a_little_memory_is_told_in_smaller_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_memory, "limit", lambda _: 16e6)
    assert notes(profile(), spec()) == [
        "States of waiting trials lie in memory, 16 MB at most, then on disk (limits.states)."
    ]


def test_who_asks_for_memory_where_there_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(profile("slurm", states="memory"), spec()) == [
        "limits.states: memory: with launcher: slurm, so states of waiting trials lie on disk."
    ]
    monkeypatch.setattr(state_memory, "is_there", lambda: False)
    assert notes(profile(states="memory"), spec()) == [
        "limits.states: memory: this machine has no /dev/shm, so states of waiting trials lie on disk."
    ]
    for quiet in (profile(), profile(states="disk"), profile(states="memory", states_gb=0)):
        assert notes(quiet, spec()) == []
    assert notes(profile(states="memory"), spec("median")) == []


def test_states_in_memory_take_no_disk() -> None:
    def planned(memory: float, **limits: object) -> tuple[float, float | None]:
        found = planned_states(1.0, 8, 2, Limits(**limits), 1e12, memory)
        return found.disk_gb, found.limit_gb

    assert planned(0.0) == (8.0, 10.0)
    assert planned(4.5e9) == (4.0, 5.5)
    assert planned(10e9) == (2.0, 0.0), "only those of interrupted trials"
    # In all there are 5 GB, of which 4 are in memory; two more may be being written.
    assert planned(4e9, states_gb=5.0) == (3.0, 1.0)
    assert planned(0.0, states_gb=0.0) == (2.0, 0.0)
    assert planned_states(1.0, None, 2, Limits(), 1e12, 0.0).limit_gb is None
    assert planned_states(0.0, 8, 2, Limits(), 1e12, 1e9).disk_gb == 0.0


@pytest.mark.parametrize(("states", "is_in_memory"), [("auto", False), ("memory", True), ("disk", False)])
def test_a_job_that_is_killed_soon_after_its_signal_uses_memory_only_if_asked_to(
    states: str, is_in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SLURM_JOB, "17")
    assert holds_states_in_memory(profile(states=states), spec()) == is_in_memory
