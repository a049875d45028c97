"""Trials that wait at a rung, in real sweeps: nothing is trained twice, nothing is left, the best goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from finesweep.folder import state_memory, waiting_states
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialState

HALVING = (
    *("--set", "search={pruner: halving, baseline: false, sampler: random, seed: 2}"),
    *("--set", "pruning={rungs: [0.5, 1], factor: 3}"),
    *("--set", "space.num_train_epochs={choices: [2]}", "--set", "space.per_device_train_batch_size={choices: [16]}"),
    # So far apart, and so drawn, that the best are told apart from the others at the first rung.
    *("--set", "space.learning_rate={low: 1e-4, high: 3e-2, log: true}"),
)


def assert_one_of_six_is_finished(project, name: str) -> None:
    """Fail if not two of six trials went on from the first rung, and one of these from the second."""
    records = project.records(name)
    assert [record["state"] for record in records].count("COMPLETE") == 1
    assert [record["state"] for record in records].count("PRUNED") == 5
    assert sorted(len(record["evaluations"]) for record in records) == [1, 1, 1, 1, 2, 3]
    best = next(record for record in records if record["state"] == "COMPLETE")
    assert best["resumed_step"] > 0
    assert best["earlier_seconds"] > 0
    assert best["faults"] == []
    assert list((project.results(name) / "states").iterdir()) == []


def memory(project) -> list[Path]:
    """Return the folders in memory of the sweep's runs."""
    return state_memory.folders(run.token for run in SweepFolder(project.results()).runs())


def in_memory(project) -> set[int]:
    """Return the waiting trials whose state is in memory."""
    folder = SweepFolder(project.results())
    states = waiting_states.sizes(folder, memory(project))
    return {trial for trial in states if (record := folder.read_record(trial)) and record.state is TrialState.WAITING}


@pytest.mark.slow
def test_whatever_is_killed_while_others_wait_every_trial_ends_where_it_would_have(project, until, check_invariants):
    arguments = ("run", "spec.yaml", *HALVING, "--set", "budget.trials=6", "--workers", "1")
    out, _ = project.sweep(*arguments, "--name", "undisturbed")
    assert "WAITING" in out
    assert_one_of_six_is_finished(project, "undisturbed")
    expected = [(r["trial"], r["state"], r["objective"]) for r in project.records("undisturbed")]
    process = project.start(*arguments)
    # Once a worker in the middle of it, once everything while somebody goes on from a rung.
    until(lambda: in_memory(project), "nobody waits")
    os.kill(project.workers()[0], signal.SIGKILL)
    until(lambda: list((project.results() / "claims").glob("*.2")), "nobody has gone on")
    for pid in (process.pid, *project.processes()):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    project.sweep(*arguments)
    assert [(r["trial"], r["state"], r["objective"]) for r in project.records()] == expected
    assert memory(project) == [], "also what the kill has left"
    check_invariants(project)


@pytest.mark.slow
def test_who_stops_a_sweep_or_kills_its_command_finds_the_states_of_waiting_trials_on_disk(
    project, until, check_invariants
):
    arguments = ("run", "spec.yaml", *HALVING, "--set", "budget.trials=6", "--workers", "1")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = project.start(*arguments)
        until(lambda: in_memory(project), "nobody waits")
        waiting = in_memory(project)
        os.kill(process.pid, number)
        process.communicate()
        until(lambda: not project.processes(), "a worker stays")
        assert memory(project) == []
        on_disk = {state.name for state in (project.results() / "states").iterdir()}
        assert {f"trial-{trial:04d}" for trial in waiting} <= on_disk
    project.sweep(*arguments)
    assert_one_of_six_is_finished(project, "spec")
    assert not any(record["repeated_examples"] for record in project.records())
    assert memory(project) == []
    check_invariants(project)


@pytest.mark.slow
def test_without_the_states_of_waiting_trials_a_sweep_costs_more_and_ends_the_same(project, check_invariants):
    arguments = ("run", "spec.yaml", *HALVING, "--set", "budget.trials=6", "--workers", "1")
    project.write("none.yaml", "threads_per_worker: 1\nlimits: {states_gb: 0}")
    out, _ = project.sweep(*arguments, "--name", "without", "--on", "none.yaml")
    assert "RUNNING again from an earlier step, as its state was not kept" in out
    assert list((project.results("without") / "states").iterdir()) == []
    project.sweep(*arguments)
    same = ("trial", "attempt", "state", "reason", "params", "objective", "metrics", "evaluations", "examples")
    without, kept = ([[one[key] for key in same] for one in project.records(name)] for name in ("without", "spec"))
    assert without == kept
    again = [record["repeated_examples"] for record in project.records("without")]
    assert sorted(examples > 0 for examples in again) == [False] * 4 + [True] * 2
    assert not any(record["repeated_examples"] for record in project.records())
    check_invariants(project)


@pytest.mark.slow
def test_several_workers_halve_too(project, check_invariants):
    project.sweep("run", "spec.yaml", *HALVING, "--set", "budget.trials=9", "--workers", "2")
    states = [record["state"] for record in project.records()]
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert "COMPLETE" in states
    assert all(record["audit"] is None for record in project.records())
    check_invariants(project)


@pytest.mark.slow
def test_an_audit_finishes_what_would_have_been_pruned_and_says_what_it_found(project, check_invariants):
    changes = ("--set", "budget.trials=6", "--set", "pruning.audit=1.0", "--workers", "1")
    project.sweep("run", "spec.yaml", *HALVING, *changes)
    records = project.records()
    assert {record["state"] for record in records} == {"COMPLETE"}
    spared = [record for record in records if record["audit"]]
    assert len(spared) == 5
    assert all("kept were the best" in record["audit"] for record in spared)
    assert "Pruning audit: 5 of 5" in (project.results() / "leaderboard.md").read_text()
    check_invariants(project)


@pytest.mark.slow
def test_a_trial_is_ranked_on_all_rows_where_it_was_steered_by_some(project, check_invariants):
    project.sweep("run", "spec.yaml", "--set", "evaluation.rows=20", "--set", "budget.trials=2", "--workers", "1")
    rows = project.manifest()["data"]["rows"]["validation"]
    for record in project.records():
        assert record["evaluated_rows"] == rows > 20
        steered = next(e for e in record["evaluations"] if e["step"] == record["best_step"])
        assert record["metrics"]["eval_loss"] == record["objective"] != steered["objective"]
    check_invariants(project)  # the winner, loaded again, has the same loss on all rows
