"""A trial's process against the limits of its profile, with a real process and a clock that is moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from finesweep.launch.profile import Profile
from finesweep.worker.watchdog import Watchdog


def profile(**values: object) -> Profile:
    return Profile.model_validate(values)


def test_a_trial_that_gets_on_within_its_limits_is_left_alone(tmp_path: Path, clock: Callable[[float], None]) -> None:
    limits = profile(limits={"trial_minutes": 10.0}, stall_minutes=1.0, memory_gb=100.0)
    watch = Watchdog(limits, os.getpid(), tmp_path / "p")
    for beat in range(9):
        (tmp_path / "p").write_text(str(beat))
        os.utime(tmp_path / "p", (beat, beat))
        clock(55.0)
        assert watch.look() is None


def test_a_trial_over_its_time_is_over_a_limit(tmp_path: Path, clock: Callable[[float], None]) -> None:
    watch = Watchdog(profile(limits={"trial_minutes": 10.0}), os.getpid(), tmp_path / "p")
    clock(599.0)
    assert watch.look() is None
    clock(1.0)
    limit = watch.look()
    assert limit is not None
    assert not limit.is_fault
    assert limit.reason == "it took longer than `limits.trial_minutes` (10)"


def test_the_time_for_what_is_trained_again_does_not_count(tmp_path: Path, clock: Callable[[float], None]) -> None:
    watch = Watchdog(profile(limits={"trial_minutes": 10.0}), os.getpid(), tmp_path / "p", again=300.0)
    clock(899.0)
    assert watch.look() is None
    clock(1.0)
    assert watch.look() is not None


def test_a_trial_that_stands_still_is_a_fault(tmp_path: Path, clock: Callable[[float], None]) -> None:
    watch = Watchdog(profile(stall_minutes=1.0), os.getpid(), tmp_path / "p")
    clock(50.0)
    (tmp_path / "p").write_text("1")
    assert watch.look() is None
    clock(59.0)
    assert watch.look() is None
    clock(1.0)
    limit = watch.look()
    assert limit is not None
    assert limit.is_fault
    assert limit.reason == "it made no progress for longer than `stall_minutes` (1)"


def test_a_trial_that_takes_too_much_memory_is_over_a_limit(tmp_path: Path, clock: Callable[[float], None]) -> None:
    watch = Watchdog(profile(memory_gb=0.001), os.getpid(), tmp_path / "p")
    clock(1.0)
    limit = watch.look()
    assert limit is not None
    assert not limit.is_fault
    assert "more than the 0.001 of `memory_gb`" in limit.reason


def test_a_process_that_is_gone_is_over_no_limit(tmp_path: Path, clock: Callable[[float], None]) -> None:
    watch = Watchdog(profile(memory_gb=0.001), 2**22 + 1, tmp_path / "p")
    clock(1.0)
    assert watch.look() is None
