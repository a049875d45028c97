"""Ctrl-C, signals, closed terminals and closed pipes: what a user, a shell and a cluster send."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = ("--set", "space.num_train_epochs.low=200", "--set", "space.num_train_epochs.high=200")
"""Trials of half a minute, which none of these tests waits for."""

STOPS = {"Ctrl-C": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143), "SIGUSR1": (signal.SIGUSR1, 138)}
SECONDS = 30.0
"""Less than a worker that does not stop is given before it is killed."""


def stopped(process: subprocess.Popen[str], number: int, code: int, group: bool = False) -> str:
    """Send a signal; return what the sweep said until it ended, in time and with its exit code."""
    began = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    assert time.monotonic() - began < SECONDS
    return out + err


def test_a_signal_saves_the_states_of_all_trials(project, until):
    number, code = STOPS["Ctrl-C"]
    process = project.start("run", "spec.yaml", *LONG, "--workers", "2")
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials have done a step")
    said = stopped(process, number, code)
    assert "continues from here" in said
    assert "Ended: stopped by Ctrl-C." in said
    assert project.processes() == []
    assert [(record["trial"], record["state"], record["faults"]) for record in project.records()] == [
        (0, "INTERRUPTED", []),
        (1, "INTERRUPTED", []),
    ]
    assert {row["rank"] for row in project.leaderboard()} == {None}
    assert sorted(folder.name for folder in (project.results() / "states").iterdir()) == ["trial-0000", "trial-0001"]
    assert not list((project.results() / "progress").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_that_was_interrupted_three_times_ends_like_an_undisturbed_one(
    make_project, project, until, check_invariants
):
    # Long enough for a fast machine to be interrupted three times, each after a second.
    epochs = ("--set", "space.num_train_epochs.low=120", "--set", "space.num_train_epochs.high=120")
    random = ("--set", "search.sampler=random", "--set", "search.baseline=false", "--set", "budget.trials=1")
    command = ("run", "spec.yaml", *epochs, *random, "--workers", "1")
    undisturbed = make_project()
    undisturbed.sweep(*command)
    (expected,) = undisturbed.records()

    step = 0
    for name, (number, code) in STOPS.items():
        process = project.start(*command)
        until(lambda reached=step: project.runs(0, step=reached + 1), "the trial has got further")
        said = stopped(process, number, code)
        assert "continues from here" in said
        assert f"Ended: stopped by {name}." in said
        (record,) = project.records()
        assert record["resumed_step"] == step
        assert record["evaluations"] == expected["evaluations"][: len(record["evaluations"])]
        step = step_of(project)
    project.sweep(*command)
    (record,) = project.records()
    assert (record["state"], record["attempt"], record["resumed_step"]) == ("COMPLETE", 4, step)
    assert step > 0
    same = ("params", "objective", "best_step", "metrics", "evaluations", "examples", "effective", "weights_sha256")
    assert {key: record[key] for key in same} == {key: expected[key] for key in same}
    assert not list((project.results() / "states").iterdir())
    check_invariants(project)


def step_of(project) -> int:
    """Return the step that the saved state of trial 0 was made at."""
    state = json.loads((project.results() / "states/trial-0000/state.json").read_text())
    step: int = dict(state["values"]["dict"])["step"]
    return step


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_the_same_command_completes(project, until, check_invariants):
    command = ("run", "spec.yaml", "--set", "space.num_train_epochs.low=20", "--set", "space.num_train_epochs.high=20")
    command = (*command, "--set", "budget.trials=1", "--workers", "1")
    process = project.start(*command)
    until(lambda: project.trial_processes() and project.runs(0), "trial 0 runs")
    os.kill(project.process(0), signal.SIGSTOP)  # a trial that does not stop at its next step
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, ""), out + err
    assert time.monotonic() - began < 10, "far less than the 25 seconds that a trial has for its step and its state"
    until(lambda: project.processes() == [], "all processes are gone", seconds=5)
    assert project.leaderboard() == []
    assert "0 of 1 finished" in project.sweep("status", "results/spec")[0]
    project.sweep(*command)
    assert [(record["state"], record["faults"]) for record in project.records()] == [("COMPLETE", [])]
    check_invariants(project)


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Say whether a process has taken a signal into its own hands."""
    return bool(mask_of(process.pid, "SigCgt") >> (number - 1) & 1)


def mask_of(pid: int, name: str) -> int:
    """Return a mask of signals of a process, as the kernel names it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))
    return mask


@pytest.mark.slow
def test_a_signal_while_the_data_are_checked_ends_the_command_before_it_begins(project, until):
    name = "Ctrl-C"
    number, code = STOPS[name]
    header, *rows = (project.path / "train.csv").read_text().splitlines(keepends=True)
    project.write("train.csv", "".join([header, *rows * 2_000]))
    process = project.start("run", "spec.yaml")
    until(lambda: catches(process, signal.SIGUSR1), "the data are read, which takes some seconds", seconds=60)
    said = stopped(process, number, code)
    assert f"stopped by {name} before anything was begun" in said
    assert not project.results().exists()


@pytest.mark.slow
def test_a_signal_during_the_rehearsal_leaves_nothing_half_done(project, until, check_invariants):
    process = project.start("run", "spec.yaml", "--set", "budget.trials=1", "--workers", "2")
    until(lambda: (project.results() / "data/tokens-24").exists(), "a worker rehearses")
    # The rest of the rehearsal is short. So the worker waits until the command has passed the signal on.
    (worker,) = project.workers()
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    until(lambda: mask_of(worker, "ShdPnd") >> (signal.SIGTERM - 1) & 1, "it was passed on")
    os.kill(worker, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert project.processes() == []
    assert project.records() == []
    check_invariants(project)


@pytest.mark.slow
def test_ctrl_c_during_the_winners_verification_leaves_it_to_the_next_run(project, until, check_invariants):
    command = ("run", "spec.yaml", "--set", "budget.trials=1", "--workers", "1")
    process = project.start(*command, start_new_session=True)
    until(lambda: (project.results() / "logs/winner.log").exists(), "the winner is being verified")
    stopped(process, signal.SIGINT, 130, group=True)
    assert not (project.results() / "winner").exists()
    check_invariants(project)
    before = project.ledger()
    project.sweep(*command)
    assert (project.results() / "winner/evidence.json").is_file()
    check_invariants(project, before)


@pytest.mark.slow
def test_signals_that_were_ignored_at_birth_are_obeyed_all_the_same(project, until):
    """A background shell starts its children with Ctrl-C ignored, some cluster's shells with more."""
    process = project.start(
        "run", "spec.yaml", *LONG, "--workers", "1", ignored=(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    )
    until(lambda: project.runs(0, step=1), "trial 0 runs")
    stopped(process, signal.SIGINT, 130)
    assert [record["state"] for record in project.records()] == ["INTERRUPTED"]


@pytest.mark.slow
def test_a_terminal_that_is_closed_does_not_end_the_sweep(project, until, check_invariants):
    terminal, inside = pty.openpty()
    epochs = ("--set", "space.num_train_epochs.low=20", "--set", "space.num_train_epochs.high=20")
    command = [sys.executable, "-m", "finesweep", "run", "spec.yaml", *epochs, "--set", "budget.trials=1"]
    login = "import os, pty, sys; os.login_tty(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    process = subprocess.Popen(
        [sys.executable, "-c", login, *command[1:], "--on", "one_thread.yaml"],
        cwd=project.path,
        env={**os.environ, "TERM": "xterm"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    until(lambda: os.read(terminal, 10_000) and project.runs(0), "trial 0 runs")
    os.close(terminal)
    assert process.wait(timeout=120) == 0
    assert [record["state"] for record in project.records()] == ["COMPLETE"]
    check_invariants(project)
    assert (project.results() / "winner/model.safetensors").is_file()


@pytest.mark.slow
def test_a_pipe_that_closes_does_not_end_the_sweep(project, until, check_invariants):
    command = f"{sys.executable} -m finesweep run spec.yaml --on one_thread.yaml --set budget.trials=1 | head -1"
    subprocess.run(command, shell=True, cwd=project.path, check=True, capture_output=True, timeout=200)
    until(lambda: project.processes() == [], "the sweep has ended")
    assert [record["state"] for record in project.records()] == ["COMPLETE"]
    assert (project.results() / "winner/model.safetensors").is_file()
    check_invariants(project)
