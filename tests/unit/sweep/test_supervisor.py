"""Watching workers: frozen ones end, killed ones are replaced as long as there is work, signals end or are counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import made_records
import pytest
from hypothesis import strategies as st

from finesweep.folder import claims, next_attempt
from finesweep.folder.claims import LEASE_SECONDS, RENEW_SECONDS, Lease
from finesweep.folder.early_end import EarlyEnd, write_early_end
from finesweep.folder.manifest import hours_ran
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host import signals
from finesweep.host.signals import Signals
from finesweep.launch import deadlines
from finesweep.spec import StopSpec
from finesweep.sweep import open_sweep, stop_stages, supervisor
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.supervisor import INSPECT_SECONDS, Supervisor
from made_profiles import settled
from made_specs import made_spec

SPACE = {"learning_rate": {"low": 1e-5, "high": 5e-5, "log": True}}


@dataclass
class Worker:
    """A worker that runs until it is ended."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.code = 143

    def kill(self) -> None:
        self.code = -signal.SIGKILL if self.code is None else self.code


@dataclass
class Obstinate(Worker):
    """A worker that may not do what it is told."""

    obeys: bool = True

    def stop(self) -> None:
        if self.obeys:
            super().stop()


@dataclass
class Notes:
    """A display that remembers what it was to say."""

    said: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.said.append(text)

    def update(self, *_: Any) -> None:
        """Show nothing."""


@dataclass
class Clock:
    """A monotonic clock that is wound by hand."""

    now: float = 1_000.0

    def wind(self, watch: Supervisor, seconds: float, lease: Lease | None = None) -> None:
        """Let time pass, with the supervisor looking and a lease being renewed at their usual intervals."""
        for _ in range(round(seconds / RENEW_SECONDS)):
            self.now += RENEW_SECONDS
            if lease is not None:
                lease.renew()
            watch._enforce()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    assert RENEW_SECONDS == INSPECT_SECONDS
    clock = Clock()
    frozen = SimpleNamespace(monotonic=lambda: clock.now, time=time.time, sleep=time.sleep)
    for module in (supervisor, open_sweep, claims, stop_stages, signals):
        monkeypatch.setattr(module, "time", frozen)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


@pytest.fixture
def make_watch(folder, clock) -> Callable[[Callable[[int], Worker]], Supervisor]:
    """Make a supervisor of one worker in a sweep of two trials, given what starts a worker."""
    spec = made_spec(space=SPACE, budget={"trials": 2})
    profile = settled()
    run = made_records.run(1, ended=None)
    folder.write_run(run)

    def make(start: Callable[[int], Worker]) -> Supervisor:
        sweep = OpenSweep(folder, made_records.manifest(), spec, profile, run, began=clock.now)
        return Supervisor(sweep, Signals(), Notes(), start=start)  # type: ignore[arg-type]

    return make


@pytest.fixture
def watch(make_watch) -> Supervisor:
    """Return a supervisor whose one worker's claims are this process's."""
    watch: Supervisor = make_watch(lambda index: Worker(pid=1_000_000 + index))
    watch.handles[0] = Worker(os.getpid())  # type: ignore[assignment]
    return watch


@pytest.fixture
def lease(folder) -> Iterator[Lease]:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    yield lease
    lease.release()


def test_a_worker_that_renews_its_claim_is_left_alone(watch, clock, lease):
    clock.wind(watch, 10 * LEASE_SECONDS, lease)
    assert watch.handles[0].poll() is None


def test_a_worker_that_does_not_renew_its_claim_is_ended(watch, clock, lease):
    clock.wind(watch, LEASE_SECONDS - RENEW_SECONDS)
    assert watch.handles[0].poll() is None
    clock.wind(watch, 3 * RENEW_SECONDS)
    assert watch.handles[0].poll() == -signal.SIGKILL


def test_a_worker_that_froze_while_its_trial_ended_is_ended_too(watch, clock, folder, lease):
    """Otherwise the sweep would wait for it for ever: its trial has a result, so nobody misses it."""
    folder.record(made_records.record(0, 0.5))
    clock.wind(watch, LEASE_SECONDS + 2 * RENEW_SECONDS)
    assert watch.handles[0].poll() == -signal.SIGKILL


def test_claims_that_were_let_go_say_nothing_of_a_worker(watch, clock, folder, lease):
    folder.record(made_records.record(0, 0.5))
    lease.release()
    clock.wind(watch, 10 * LEASE_SECONDS)
    assert watch.handles[0].poll() is None, "it may prepare, or wait for another one's trial"


def test_a_worker_that_lingers_when_nothing_is_left_to_do_is_ended(watch, clock, folder):
    clock.wind(watch, 10 * LEASE_SECONDS)
    assert watch.handles[0].poll() is None
    for trial in range(2):
        folder.record(made_records.record(trial, 0.5))
    clock.wind(watch, LEASE_SECONDS)
    assert watch.handles[0].poll() is None
    clock.wind(watch, 2 * RENEW_SECONDS)
    assert watch.handles[0].poll() == -signal.SIGKILL


@pytest.fixture
def elsewhere(watch, folder, lease) -> Supervisor:
    """Return a supervisor of a worker on another machine, which trains while the target is reached already."""
    folder.record(made_records.record(1, 0.5))
    watch.sweep.spec = watch.sweep.spec.model_copy(update={"stop": StopSpec(target=0.6)})
    watch.handles[0] = Worker(None)  # type: ignore[arg-type]
    assert not watch.sweep.has_work()
    return watch


@pytest.mark.parametrize("ends", [True, False])
def test_a_worker_elsewhere_that_trains_when_no_trial_is_left_is_not_ended(elsewhere, clock, folder, lease, ends):
    clock.wind(elsewhere, 10 * LEASE_SECONDS, lease)
    assert elsewhere.handles[0].poll() is None
    if ends:
        folder.record(made_records.record(0, 0.7))
    lease.release()
    clock.wind(elsewhere, LEASE_SECONDS - RENEW_SECONDS)
    assert elsewhere.handles[0].poll() is None
    clock.wind(elsewhere, 3 * RENEW_SECONDS)
    assert elsewhere.handles[0].poll() == -signal.SIGKILL, "it hangs"


def test_a_worker_elsewhere_that_froze_with_its_trial_is_ended_when_no_trial_is_left(elsewhere, clock):
    clock.wind(elsewhere, LEASE_SECONDS + RENEW_SECONDS)
    assert elsewhere.handles[0].poll() is None
    clock.wind(elsewhere, LEASE_SECONDS + RENEW_SECONDS)
    assert elsewhere.handles[0].poll() == -signal.SIGKILL


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_killed_worker_is_replaced_as_long_as_there_are_trials(watch, folder, finished):
    for trial in range(finished):
        folder.record(made_records.record(trial, 0.5))
    watch.handles[0].kill()
    watch._reap()
    assert list(watch.handles) == ([0] if finished < 2 else [])
    assert len(watch.display.said) == (finished < 2)


def test_a_worker_that_somebody_else_told_to_stop_is_replaced(watch):
    """The kernel's helpers against memory shortage send SIGTERM first."""
    watch.handles[0].stop()
    watch._reap()
    assert list(watch.handles) == [0]
    assert watch.display.said == ["Worker 1 got a signal from elsewhere; another one is started."]


@pytest.mark.parametrize(
    ("finished", "code", "used"),
    [(2, 0, 1), (1, 0, 1), (2, -signal.SIGKILL, 1), (1, -signal.SIGKILL, 0), (2, 3, 0)],
    ids=["all have ended", "the other trains the last", "killed at the end", "replaced", "its own error"],
)
def test_the_place_of_a_worker_without_a_trial_is_used(watch, folder, finished, code, used):
    uses: list[int] = []
    watch.use_place = lambda: uses.append(1)
    watch.handles[1] = Worker(1_000_001)  # type: ignore[assignment]
    for trial in range(finished):
        folder.record(made_records.record(trial, 0.5))
    watch.handles[0].code = code  # type: ignore[attr-defined]
    watch._reap()
    assert len(uses) == used


def test_the_place_is_used_as_soon_as_the_last_trial_has_a_record_unless_the_run_stops(
    watch, folder, clock, monkeypatch
):
    """The worker needs half a second more to end."""
    monkeypatch.setattr(OpenSweep, "write_leaderboard", lambda *_, **__: None)
    folder.spec_file.write_text("{}", encoding="utf-8")
    watch.display.starting = lambda _: None  # type: ignore[method-assign]
    uses: list[int] = []
    watch.use_place = lambda: uses.append(1)
    folder.record(made_records.record(0, 0.5))
    watch._look()
    assert uses == []
    folder.record(made_records.record(1, 0.5))
    watch._look()
    assert uses == [1]
    receive(watch, signal.SIGINT)
    watch._enforce()
    watch._look()
    watch._reap()
    assert uses == [1]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_place_of_an_idle_worker_is_used_when_a_sweep_ends_early(watch, folder, lease, monkeypatch, workers):
    """It lingers while the other one trains."""
    watch.handles.update({index: Worker(1_000_001) for index in range(1, workers)})
    monkeypatch.setattr(OpenSweep, "write_leaderboard", lambda *_, **__: None)
    folder.spec_file.write_text("{}", encoding="utf-8")
    watch.display.starting = lambda _: None  # type: ignore[method-assign]
    watch.sweep.spec = watch.sweep.spec.model_copy(update={"stop": StopSpec(auto=True)})
    uses: list[int] = []
    watch.use_place = lambda: uses.append(1)
    watch._look()
    assert uses == []
    write_early_end(folder, EarlyEnd(begun=1, left=1, wanted=2, best=0.5, gain=0.0, seeds=0.1))
    watch._look()
    assert uses == [1] * (workers - 1)
    folder.record(made_records.record(0, 0.5))
    watch._look()
    assert uses == [1] * workers


def test_workers_that_keep_dying_end_the_sweep(watch):
    deaths = 0
    while watch.handles:
        watch.handles[0].kill()
        watch._reap()
        deaths += 1
        assert deaths < 20
    assert deaths == supervisor.MOST_DEATHS + watch.sweep.workers + 1
    assert "workers keep dying, the last one was killed by SIGKILL" in str(watch.shutdown.failure)


def test_how_long_a_run_ran_is_known_when_it_was_killed(watch, clock, folder):
    clock.wind(watch, 3_600)
    assert hours_ran(folder.runs(), folder.records()) == pytest.approx(1)
    (run,) = folder.runs()
    assert (run.ended, run.outcome) == (None, None)


def receive(watch: Supervisor, *numbers: int) -> None:
    for number in numbers:
        watch.shutdown.signals._receive(number, None)


def test_signals_in_one_burst_are_one_request_to_stop(watch, clock):
    receive(watch, signal.SIGINT, signal.SIGINT, signal.SIGINT)
    watch._enforce()
    assert watch.handles[0].poll() == 143, "it was told, and can save its trial's state"
    watch._reap()
    assert watch.handles == {}, "nothing was started in its place"
    assert watch._why() == "stopped by Ctrl-C"


def test_a_second_request_kills_and_nothing_is_started_again(watch, clock, monkeypatch):
    monkeypatch.setattr(Worker, "stop", lambda _: None)
    receive(watch, signal.SIGTERM)
    watch._enforce()
    clock.now += 1
    receive(watch, signal.SIGINT)
    watch._enforce()
    watch._reap()
    assert (watch.handles, watch._why()) == ({}, "stopped by SIGTERM")


@hypothesis.given(
    moments=st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from([signal.SIGINT, signal.SIGTERM])), min_size=1, max_size=6
    ),
    obeys=st.booleans(),
)
@hypothesis.settings(
    max_examples=30, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_whatever_signals_come_the_run_ends_in_time(make_watch, clock, moments, obeys):
    """No worker is started after the first signal, and the stage never goes back."""
    started: list[int] = []
    watch = make_watch(lambda index: started.append(index) or Obstinate(1_000_000 + index, obeys=obeys))
    watch._start_missing()
    began, stages = clock.now, [watch.shutdown.stage]
    due = sorted(moments)
    while watch.handles and watch.shutdown.stage is not stop_stages.Stage.ENDED:
        while due and began + due[0][0] <= clock.now:
            receive(watch, due.pop(0)[1])
        watch._enforce()
        watch._reap()
        stages.append(watch.shutdown.stage)
        clock.now += 0.5
        assert clock.now - began < 5 + deadlines.COMMAND_SECONDS + deadlines.KILLED_SECONDS + 1
    assert stages == sorted(stages)
    assert started == [0]
    assert watch._why().startswith("stopped by")


def test_a_signal_that_came_before_the_workers_starts_none(make_watch, clock):
    watch = make_watch(lambda _: pytest.fail("a worker was started"))
    receive(watch, signal.SIGTERM)
    watch._start_missing()
    assert (watch.handles, watch._why()) == ({}, "stopped by SIGTERM")


def test_the_command_goes_on_at_once_when_its_last_worker_has_ended(make_watch, folder, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(supervisor.time, "sleep", slept.append)
    monkeypatch.setattr(OpenSweep, "has_work", lambda _: False)
    monkeypatch.setattr(OpenSweep, "write_leaderboard", lambda *_, **__: None)
    folder.spec_file.write_text("{}", encoding="utf-8")

    class Ending(Worker):
        """A worker that ends before the third look at it."""

        looks = 0

        def poll(self) -> int | None:
            self.looks += 1
            return 0 if self.looks == 3 else None

    watch = make_watch(lambda index: Ending(1_000_000 + index))
    watch.display.starting = lambda _: None  # type: ignore[method-assign]
    assert watch.wait() == "0 trials have finished"
    assert slept == [supervisor.POLL_SECONDS] * 2
