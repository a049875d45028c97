"""What is killed, stopped or frozen from outside, alone or all at once, and what is left of it: nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

KILLED = "the trial's process was killed by SIGKILL"
ELSEWHERE = """
import sys, time
from pathlib import Path
from finesweep.folder import claims, next_attempt
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialRecord, TrialState

claims._here = lambda: ("another machine", "another boot")
claims.LEASE_SECONDS = 1.0
folder = SweepFolder(Path(sys.argv[1]))
while (lease := next_attempt.claim(folder, run=1, trials=range(1))) is None:
    time.sleep(0.2)
(params, *_) = folder.claims.params(0)
facts = {"params": params, "started": time.time(), "seconds": 1.0, "log": "-", "host": "elsewhere"}
folder.record(TrialRecord(trial=0, attempt=lease.claim.attempt, state=TrialState.PRUNED, run=1, **facts))
"""
"""Takes trial 0 over as a worker on another machine does, and is faster."""


def epochs(count: int) -> tuple[str, ...]:
    """Return the arguments that give every trial so many epochs."""
    return ("--set", f"space.num_train_epochs.low={count}", "--set", f"space.num_train_epochs.high={count}")


def ends(process: subprocess.Popen[str], code: int = 0, timeout: float = 280) -> str:
    """Wait for a sweep's end; return what it said."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def states(project) -> list[tuple[int, str]]:
    return [(record["trial"], record["state"]) for record in project.records()]


def kill_all(project, rng: random.Random) -> None:
    """Kill all of a sweep's processes as a power cut would: none sees another one die."""
    while pids := project.processes():
        rng.shuffle(pids)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_trial_is_tried_again_with_its_parameters_until_its_retries_are_used_up(
    project, until, check_invariants
):
    process = project.start("run", "spec.yaml", *epochs(30), "--workers", "1")
    params = {}
    for trial, attempt in ((0, 1), (1, 1), (1, 2), (1, 3)):
        claim = project.results() / f"claims/{trial:04d}.{attempt}"
        until(lambda: claim.exists() and project.progress(trial).get("attempt") == attempt, "the trial runs")  # noqa: B023
        params[trial, attempt] = project.progress(trial)["params"]
        os.kill(project.process(trial), signal.SIGKILL)
    said = ends(process)
    assert states(project) == [(0, "COMPLETE"), (1, "FAILED"), (2, "COMPLETE")]
    once, given_up, undisturbed = project.records()
    assert (once["attempt"], len(once["faults"]), once["resumed_step"]) == (2, 1, 0)
    assert once["faults"][0].startswith(KILLED)
    assert once["params"] == params[0, 1]
    assert (given_up["attempt"], len(given_up["faults"])) == (3, 3)
    assert given_up["reason"].startswith(KILLED)
    assert given_up["reason"].endswith("given up after 3 such faults")
    assert given_up["params"] == params[1, 1] == params[1, 2] == params[1, 3]
    assert (undisturbed["attempt"], undisturbed["faults"]) == (1, [])
    assert "to be retried (1 of 2 retries)" in said
    check_invariants(project)


def test_a_killed_worker_is_replaced_and_its_trial_tried_again(project, until, check_invariants):
    """Two train at a time, and the budget is met exactly."""
    # Long trials: the second worker begins some seconds after the first on two cores.
    process = project.start("run", "spec.yaml", *epochs(60), "--workers", "2")
    until(lambda: project.runs(0) and project.runs(1, step=1), "both trials run")
    params = project.progress(1)["params"]
    os.kill(project.holder(1), signal.SIGKILL)
    said = ends(process)
    assert "was killed by SIGKILL; another one is started." in said
    assert states(project) == [(0, "COMPLETE"), (1, "COMPLETE"), (2, "COMPLETE")]
    assert [record["attempt"] for record in project.records()] == [1, 2, 1]
    assert project.records()[1]["params"] == params
    assert len({json.dumps(record["params"], sort_keys=True) for record in project.records()}) == 3
    (run,) = (json.loads(file.read_text()) for file in (project.results() / "runs").glob("*.json"))
    assert (run["profile"]["workers"], run["profile"]["threads_per_worker"]) == (2, 1)
    assert len(list((project.results() / "logs").glob("worker-0001-*.log"))) == 2
    check_invariants(project)


@pytest.mark.slow
def test_a_trial_and_a_worker_that_are_told_to_stop_save_their_state_and_others_go_on(project, until, check_invariants):
    process = project.start("run", "spec.yaml", *epochs(60), "--set", "budget.trials=2", "--workers", "2")
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials have done a step")
    os.kill(project.process(0), signal.SIGTERM)
    os.kill(project.holder(1), signal.SIGTERM)
    ends(process)
    assert states(project) == [(0, "COMPLETE"), (1, "COMPLETE")]
    assert [(record["attempt"], record["faults"]) for record in project.records()] == [(2, []), (2, [])]
    assert min(record["resumed_step"] for record in project.records()) > 0
    check_invariants(project)


@pytest.mark.slow
def test_workers_go_when_their_parent_is_killed_whenever_that_is(project, until, check_invariants):
    command = ("run", "spec.yaml", *epochs(60), "--set", "budget.trials=1", "--workers", "2")
    process = project.start(*command)
    until(project.workers, "a worker starts")
    process.kill()
    process.communicate(timeout=10)
    until(lambda: project.processes() == [], "the workers are gone", seconds=60)
    assert project.records() == []

    process = project.start(*command)
    until(lambda: project.runs(0, step=1), "trial 0 has done a step")
    process.kill()
    process.communicate(timeout=10)
    until(lambda: project.processes() == [], "worker and trial are gone", seconds=15)
    assert states(project) == [(0, "INTERRUPTED")]
    assert "killed" in project.sweep("status", "results/spec")[0]

    ends(project.start(*command))
    (record,) = project.records()
    assert (record["state"], record["attempt"], record["faults"]) == ("COMPLETE", 2, [])
    assert record["resumed_step"] > 0
    check_invariants(project)


class Reader(threading.Thread):
    """Opens every JSON file of a folder again and again; what it cannot read is found."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.found, self.read, self.done = folder, [], 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.05):
            for file in self._files():
                try:
                    json.loads(file.read_text())
                    self.read += 1
                except FileNotFoundError:
                    continue
                except ValueError as error:
                    self.found.append(f"{file}: {error}")

    def _files(self) -> Iterator[Path]:
        """Yield all but hidden ones and those in hidden folders, which are still being written, and may vanish."""
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name[0] != "."]
            yield from (Path(folder, name) for name in names if name[0] != "." and name.endswith(".json"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_kills_of_everything_at_random_moments_lose_nothing(project, until, check_invariants):
    """Some while the command checks or its workers start, the last one when a trial has ended and others run."""
    rng = random.Random(3)
    budget = ("--set", "budget.trials=6", "--set", "space.num_train_epochs.low=20")
    command = ("run", "spec.yaml", *budget, "--set", "space.num_train_epochs.high=30", "--workers", "2")
    claims = project.results() / "claims"
    reader, ledger, kills = Reader(project.results()), {}, 0
    reader.start()
    for moment in ("claimed", "any", "claimed", "any", "ended"):
        known = set(claims.glob("0*"))
        process = project.start(*command)
        if moment == "any":
            time.sleep(rng.uniform(0.0, 8.0))
        elif moment == "claimed":
            until(lambda: set(claims.glob("0*")) - known, "a trial is claimed")  # noqa: B023
            time.sleep(rng.uniform(0.0, 2.0))
        else:
            until(lambda: len(project.ledger()) > len(ledger), "a trial has ended")  # noqa: B023
        kills += process.poll() is None
        kill_all(project, rng)
        process.communicate(timeout=10)
        now = project.ledger()
        assert {name: now.get(name) for name in ledger} == ledger, "a result was lost or changed"
        ledger = now
    assert ledger
    assert "killed" in project.sweep("status", "results/spec")[0]
    ends(project.start(*command))
    reader.done.set()
    reader.join()
    assert reader.found == []
    assert reader.read > 50
    assert kills == 5, "the sweep was done too early to be killed"
    assert states(project) == [(number, "COMPLETE") for number in range(6)]
    assert {fault for record in project.records() for fault in record["faults"]} == set()
    assert sum(row["rank"] is not None for row in project.leaderboard()) == 6
    check_invariants(project, ledger)


@pytest.mark.slow
def test_a_hung_trial_is_ended_and_tried_again(project, until, check_invariants):
    project.write("impatient.yaml", "threads_per_worker: 1\nworkers: 1\nstall_minutes: 0.15\n")
    command = ("run", "spec.yaml", *epochs(30), "--set", "budget.trials=1", "--on", "impatient.yaml")
    process = project.start(*command)
    until(lambda: project.runs(0, step=1), "trial 0 has done a step")
    os.kill(project.process(0), signal.SIGSTOP)
    ends(process)
    (record,) = project.records()
    assert (record["state"], record["attempt"]) == ("COMPLETE", 2)
    assert record["faults"] == ["it made no progress for longer than `stall_minutes` (0.15)"]
    check_invariants(project)


@pytest.mark.slow
def test_frozen_workers_are_ended_whether_their_trials_go_on_or_not(project, until, check_invariants):
    process = project.start("run", "spec.yaml", *epochs(40), "--workers", "2")
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials run")
    os.kill(project.holder(0), signal.SIGSTOP)
    for pid in (project.process(1), project.holder(1)):
        os.kill(pid, signal.SIGSTOP)
    ends(process)
    assert states(project) == [(0, "COMPLETE"), (1, "COMPLETE"), (2, "COMPLETE")]
    assert [record["attempt"] for record in project.records()] == [1, 2, 1]
    (fault,) = project.records()[1]["faults"]
    assert fault.startswith("its worker on ")
    check_invariants(project)


@pytest.mark.slow
def test_a_worker_that_thaws_too_late_writes_nothing_and_goes_on(project, until, check_invariants):
    process = project.start("run", "spec.yaml", *epochs(60), "--set", "budget.trials=2", "--workers", "1")
    until(lambda: project.runs(0, step=1), "trial 0 runs")
    frozen = (project.process(0), project.holder(0))
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(project.results())], check=True, timeout=60)
    before = project.ledger()
    assert list(before) == ["0000.json"]
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    ends(process)
    assert states(project) == [(0, "PRUNED"), (1, "COMPLETE")]
    assert "attempt 1 was given up" not in (project.results() / "logs/worker-0001-1.log").read_text()
    assert [row["trial"] for row in project.leaderboard()] == [1, 0]
    check_invariants(project, before)
