"""Several `sweep run` in one folder: refused, or joined where that is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest


def epochs(count: int) -> tuple[str, ...]:
    """Return the arguments that give every trial so many epochs."""
    return ("--set", f"space.num_train_epochs.low={count}", "--set", f"space.num_train_epochs.high={count}")


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a sweep's end; return what it said."""
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def runs_of(project) -> list[int]:
    """Return for each trial which `sweep run` it was tried in."""
    return [record["run"] for record in project.records()]


@pytest.mark.slow
def test_a_second_run_of_the_same_folder_says_who_holds_it_and_does_no_harm(project, until):
    process = project.start("run", "spec.yaml", *epochs(200), "--workers", "1")
    until(lambda: project.runs(0), "trial 0 runs")
    began = time.monotonic()
    _, err = project.sweep("run", "spec.yaml", *epochs(200), code=2)
    # Starting Python takes most of it, the longer the busier the machine is.
    assert time.monotonic() - began < 10
    assert f"is in use by another `sweep run`: host {os.uname().nodename}, pid {process.pid}, since 2" in err
    _, err = project.sweep("run", "spec.yaml", *epochs(200), "--fresh", code=2)
    assert f"pid {process.pid}" in err
    assert f"running (host {os.uname().nodename}, pid {process.pid}" in project.sweep("status", "results/spec")[0]
    process.send_signal(signal.SIGINT)
    ends(process, code=130)
    assert [record["attempt"] for record in project.records()] == [1]


@pytest.mark.slow
def test_a_run_that_joins_shares_the_work_and_leaves_the_winner_to_the_owner(project, until, check_invariants):
    command = ("run", "spec.yaml", *epochs(45), "--set", "budget.trials=6", "--workers", "1")
    owner = project.start(*command)
    until(lambda: project.runs(0), "trial 0 runs")
    joined = project.start(*command, "--join")
    _, err = project.sweep(*command, "--join", "--set", "space.learning_rate.high=1e-2", code=2)
    assert "space.learning_rate.high: 0.005 -> 0.01" in err
    out = ends(joined)
    assert f"The winner is exported by the `sweep run` that was joined (host {os.uname().nodename}, pid" in out
    assert "transformers.pipeline(" in ends(owner)
    assert [(record["trial"], record["state"]) for record in project.records()] == [
        (number, "COMPLETE") for number in range(6)
    ]
    assert set(runs_of(project)) == {1, 2}
    assert (project.results() / "winner/evidence.json").is_file()
    check_invariants(project)


@pytest.mark.slow
def test_joining_where_nobody_runs_is_an_ordinary_run(project, check_invariants):
    project.sweep("run", "spec.yaml", "--join", "--set", "budget.trials=1", "--workers", "1")
    assert [record["state"] for record in project.records()] == ["COMPLETE"]
    assert (project.results() / "winner/evidence.json").is_file()
    check_invariants(project)


@pytest.mark.slow
def test_a_run_that_joined_collects_if_the_owner_is_killed(project, until, check_invariants):
    command = ("run", "spec.yaml", *epochs(60), "--set", "budget.trials=3", "--workers", "1")
    owner = project.start(*command)
    until(lambda: project.runs(0), "trial 0 runs")
    joined = project.start(*command, "--join")
    until(lambda: project.runs(1), "trial 1 runs, in the run that joined")
    owner.kill()
    owner.communicate(timeout=10)
    assert "transformers.pipeline(" in ends(joined)
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 3
    assert {fault for record in project.records() for fault in record["faults"]} == set()
    check_invariants(project)


def test_join_does_not_go_with_a_new_folder(project):
    for option in ("--fresh", "--smoke"):
        _, err = project.sweep("run", "spec.yaml", "--join", option, code=2)
        assert f"it does not go with {option}" in err
