"""Several workers at a time: what they share, what ends them, and what the clock may do meanwhile."""

from __future__ import annotations

import json

import pytest

from finesweep.folder.sweep_folder import SweepFolder

JUMPS = """
import os, time

real = time.time
time.time = lambda: real() + 3600 * os.path.exists("later") - 7200 * os.path.exists("earlier")
"""
"""Shifts the wall clock of each process that is started with it, once there are files of these names."""


def epochs(count: int) -> tuple[str, ...]:
    """Return the arguments that give every trial so many epochs."""
    return ("--set", f"space.num_train_epochs.low={count}", "--set", f"space.num_train_epochs.high={count}")


@pytest.mark.slow
def test_a_random_search_draws_the_same_parameters_whatever_the_number_of_workers(project, finished_at_random):
    project.sweep("run", "spec.yaml", "--set", "search.sampler=random", "--workers", "3")
    assert project.numbers() == finished_at_random.numbers()


@pytest.mark.slow
def test_hours_end_all_workers_in_the_middle_of_their_trials(project, until, check_invariants):
    """Stock checks its time limit between trials only. The trials here would take minutes."""
    command = ("run", "spec.yaml", *epochs(900), "--workers", "2")
    _, err = project.sweep(*command, "--set", "budget.hours=0.01", code=1)
    assert "no trial finished" in err
    assert "Ended: the budget of 0.01 hours is used up." in err
    records = project.records()
    assert [record["state"] for record in records] == ["INTERRUPTED", "INTERRUPTED"]
    assert len(list((project.results() / "states").iterdir())) == 2
    assert "the budget of 0.01 hours is used up" in project.sweep("status", "results/spec")[0]
    _, err = project.sweep(*command, "--set", "budget.hours=0.01", code=1)
    assert project.records() == records, "there are no hours left to go on in"
    check_invariants(project)


@pytest.mark.slow
def test_a_trial_that_takes_too_long_has_failed_and_is_not_tried_again(project, check_invariants):
    project.write("limited.yaml", "threads_per_worker: 1\nworkers: 2\nlimits: {trial_minutes: 0.2}\n")
    epochs = ("--set", "space.num_train_epochs={choices: [2, 900]}", "--set", "search.sampler=grid")
    space = (
        "--set",
        "space.learning_rate={choices: [1e-3]}",
        "--set",
        "space.per_device_train_batch_size={choices: [16]}",
    )
    project.sweep("run", "spec.yaml", *epochs, *space, "--set", "budget.trials=2", "--on", "limited.yaml")
    short, long = sorted(project.records(), key=lambda record: record["params"]["num_train_epochs"])
    assert short["state"] == "COMPLETE"
    assert (long["state"], long["attempt"], long["faults"]) == ("FAILED", 1, [])
    assert long["reason"] == "it took longer than `limits.trial_minutes` (0.2)"
    assert 12 <= long["seconds"] < 60
    check_invariants(project)


@pytest.mark.slow
def test_a_clock_that_jumps_by_hours_changes_nothing(project, until, tmp_path, check_invariants):
    """First an hour ahead, then two hours back, each while trials run."""
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    environment = {"PYTHONPATH": str(tmp_path)}
    command = ("run", "spec.yaml", *epochs(40), "--set", "budget.hours=0.5", "--workers", "2")
    process = project.start(*command, env=environment)
    until(lambda: project.runs(0) and project.runs(1), "both trials run")
    project.write("later", "")
    until(lambda: project.runs(2), "trial 2 runs")
    project.write("earlier", "")
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, out + err
    assert [(record["state"], record["attempt"], record["faults"]) for record in project.records()] == [
        ("COMPLETE", 1, [])
    ] * 3
    assert all(0 < record["seconds"] < 300 for record in project.records())
    (run,) = (json.loads(file.read_text()) for file in (project.results() / "runs").glob("*.json"))
    assert abs(run["ended"] - run["started"] + 3600) < 300, "the clock did not jump"
    assert 0 < run["seconds"] < 300
    assert SweepFolder(project.results()).hours_used() * 3600 == pytest.approx(run["seconds"])
    check_invariants(project)
