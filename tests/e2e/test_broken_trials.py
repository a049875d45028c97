"""Trials that go wrong from inside: each is one record with its cause and its log, and the others run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Project, filled
from finesweep.folder.sweep_folder import SweepFolder
from shared import made_once

ONE, TWO = ("--workers", "1"), ("--workers", "2")


@dataclass(frozen=True)
class Broken:
    """A fault of one trial that is the trial's own, and what its record must say of it."""

    fault: Mapping[str, Any]
    state: str
    reason: str
    log: str


OWN_FAULTS = (
    Broken(
        {"where": "loader", "do": "raise", "step": 9, "text": "no such row"},
        "FAILED",
        "ValueError: no such row",
        "Traceback",
    ),
    Broken(
        {"where": "model", "do": "raise", "step": 7, "text": "wrong shape"},
        "FAILED",
        "ValueError: wrong shape",
        "Traceback",
    ),
    Broken({"where": "metric", "do": "raise"}, "FAILED", "ValueError: provoked", "Traceback"),
    Broken({"where": "model", "do": "memory", "step": 2}, "FAILED", "MemoryError", "Traceback"),
    Broken({"where": "model", "do": "nan", "step": 12}, "DIVERGED", "training loss is nan at step ", "provoked"),
    Broken({"where": "model", "do": "segv", "step": 5}, "FAILED", "crashed with SIGSEGV", "Segmentation fault"),
    Broken({"where": "metric", "do": "abort"}, "FAILED", "crashed with SIGABRT", "Aborted"),
    Broken({"where": "loader", "do": "exit"}, "FAILED", "exit code 3 without a record", "provoked"),
    Broken({"where": "model", "do": "swell", "most": 900}, "FAILED", "more than the 1.2 of `memory_gb`", "provoked"),
)
"""Of the trials from ``FIRST`` on. The three errors say different things: three that are alike would end the sweep."""

BATCHES = (16, 32, 32, 17)
"""Of the trials from 1 on: the first fits, the second with half the batch, the third not even then, the last is odd."""

FIRST = 1 + len(BATCHES)
TRIALS = FIRST + len(OWN_FAULTS) + 1


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, provoke: Callable[..., dict[str, str]]) -> Any:
    """One sweep in which nearly every trial breaks in its own way."""

    def sweep(folder: Path) -> None:
        project = filled(folder)
        project.write("profile.yaml", "{threads_per_worker: 1, memory_gb: 1.2}")
        faults = [{**broken.fault, "trial": trial} for trial, broken in enumerate(OWN_FAULTS, start=FIRST)]
        faults += [
            {"where": "model", "do": "oom", "trial": 2, "step": 3, "most": 16},
            {"where": "model", "do": "oom", "trial": 3, "most": 8},
            {"where": "model", "do": "oom", "trial": 4, "most": 8},
        ]
        same = "learning_rate: 1e-3, num_train_epochs: 2, per_device_train_batch_size"
        start = ", ".join(f"{{{same}: {batch}}}" for batch in BATCHES)
        project.sweep(
            "run",
            "spec.yaml",
            *(*ONE, "--on", "profile.yaml", "--set", f"budget.trials={TRIALS}", "--set", f"start=[{start}]"),
            *("--set", "space.per_device_train_batch_size={choices: [16, 17, 32]}"),
            env=provoke(*faults),
        )

    return Project(made_once(tmp_path_factory, "broken", sweep))


@pytest.mark.parametrize(
    ("trial", "expected"),
    list(enumerate(OWN_FAULTS, start=FIRST)),
    ids=[" ".join(map(str, b.fault.values())) for b in OWN_FAULTS],
)
def test_what_a_trial_does_to_itself_is_one_record_with_its_cause_and_its_log(broken, trial, expected):
    record = broken.records()[trial]
    assert (record["trial"], record["attempt"], record["faults"]) == (trial, 1, []), "its own faults are not retried"
    assert record["state"] == expected.state
    assert expected.reason in record["reason"]
    assert expected.log in (broken.results() / record["log"]).read_text()
    assert set(record["params"]) == {"learning_rate", "num_train_epochs", "per_device_train_batch_size"}
    if expected.state == "DIVERGED":
        assert record["divergence"]["step"] in (13, 20)


def test_the_other_trials_run_and_the_folder_is_sound(broken, check_invariants):
    states = [record["state"] for record in broken.records()]
    assert (states[0], states[-1], len(states)) == ("COMPLETE", "COMPLETE", TRIALS)
    check_invariants(broken)


def test_a_batch_that_is_too_large_for_the_device_is_halved_once(broken):
    """One fits, one fits with half the batch, one not even then, and one cannot be halved."""
    fits, halved, too_large, odd = broken.records()[1:FIRST]
    assert (fits["state"], fits["batch_divisor"]) == ("COMPLETE", 1)
    assert (halved["state"], halved["attempt"], halved["batch_divisor"], halved["faults"]) == ("COMPLETE", 2, 2, [])
    assert halved["params"]["per_device_train_batch_size"] == 32
    assert halved["effective"]["per_device_train_batch_size"] == 16
    assert halved["effective"]["gradient_accumulation_steps"] == 2
    steps_per_epoch = -(-400 // 32)
    assert halved["evaluations"][-1]["step"] == steps_per_epoch * halved["params"]["num_train_epochs"]
    assert (too_large["state"], too_large["attempt"]) == ("FAILED", 2)
    assert "out of GPU memory with batches of 16" in too_large["reason"]
    assert (odd["state"], odd["attempt"]) == ("FAILED", 1)
    assert "out of GPU memory with batches of 17" in odd["reason"]


@pytest.mark.slow
def test_what_happens_in_a_loaders_own_process_is_named(project, provoke, check_invariants):
    """An exception there is the trial's own fault, the loss of that process is none."""
    faults = (
        {"where": "loader", "do": "raise", "trial": 1, "step": 3, "text": "row 9 is\nbroken"},
        {"where": "loader", "do": "kill", "trial": 2, "attempt": 1, "step": 3},
    )
    project.sweep("run", "spec.yaml", *ONE, "--set", "fixed.dataloader_num_workers=2", env=provoke(*faults))
    fine, failed, lost = project.records()
    assert (fine["state"], lost["state"]) == ("COMPLETE", "COMPLETE"), lost["reason"]
    assert (failed["state"], failed["attempt"]) == ("FAILED", 1)
    assert failed["reason"] == "ValueError: row 9 is broken (in a DataLoader worker process)"
    assert lost["attempt"] == 2
    assert lost["faults"] == ["a process that loads the data died without a message (out of memory?)"]
    check_invariants(project)


@pytest.mark.slow
def test_what_kills_a_trial_is_no_fault_of_its_own(project, provoke, check_invariants):
    """At its start, with half of its weights written, with its record written but not in place, with it in place."""
    kills = [
        {"where": where, "do": "kill", "trial": trial, "attempt": 1}
        for trial, where in enumerate(("weights", "start", "record", "recorded"))
    ]
    project.sweep("run", "spec.yaml", *ONE, "--set", "budget.trials=5", env=provoke(*kills))
    records = project.records()
    assert [record["state"] for record in records] == ["COMPLETE"] * 5
    assert [record["attempt"] for record in records] == [2, 2, 2, 1, 1]
    for record in records[:3]:
        assert record["faults"] == [
            "the trial's process was killed by SIGKILL, which finesweep did not send (out of memory?)"
        ]
    check_invariants(project)
    _check_same_params(project, [record["trial"] for record in records[:3]])


def _check_same_params(project: Any, trials: list[int]) -> None:
    """Fail if an attempt that was killed had other parameters than the last one."""
    folder = SweepFolder(project.results())
    params = {record["trial"]: record["params"] for record in project.records()}
    for trial in trials:
        assert list(folder.claims.params(trial)) == [params[trial]] * 2


@pytest.mark.slow
def test_a_trial_that_is_killed_while_it_saves_its_state_starts_anew(project, provoke, until, check_invariants):
    epochs = ("--set", "space.num_train_epochs.low=15", "--set", "space.num_train_epochs.high=15")
    arguments = ("run", "spec.yaml", *ONE, *epochs, "--set", "budget.trials=1")
    process = project.start(*arguments, env=provoke({"where": "state", "do": "kill"}))
    until(lambda: (project.results() / "progress/0000.json").exists(), "trial 0 runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert [record["state"] for record in project.records()] == ["INTERRUPTED"]
    project.sweep(*arguments)
    (record,) = project.records()
    assert (record["state"], record["attempt"], record["resumed_step"]) == ("COMPLETE", 2, 0)
    check_invariants(project)


@pytest.mark.slow
def test_the_same_failure_in_every_trial_does_not_burn_the_budget(project, provoke, check_invariants):
    arguments = ("run", "spec.yaml", *ONE, "--set", "budget.trials=10")
    broken = provoke({"where": "metric", "do": "raise", "text": "no metric for trial {trial}"})
    for count in (3, 6):
        before = project.ledger()
        out, err = project.sweep(*arguments, env=broken, code=1)
        assert "the first 3 trials failed alike: ValueError: no metric for trial" in out + err
        assert [record["state"] for record in project.records()] == ["FAILED"] * count
        check_invariants(project, before)


@pytest.mark.slow
def test_without_a_single_complete_trial_the_reasons_are_grouped(project, provoke, check_invariants):
    faults = (
        *({"where": "model", "do": "raise", "trial": trial} for trial in (0, 2)),
        {"where": "loader", "do": "exit", "trial": 1},
        {"where": "model", "do": "prune", "text": "weak", "trial": 3},
        {"where": "model", "do": "nan", "step": 3, "trial": 4},
    )
    out, err = project.sweep("run", "spec.yaml", *TWO, "--set", "budget.trials=5", env=provoke(*faults), code=1)
    assert "no trial finished, so there is no winner" in err
    for line in (
        "2 x FAILED: ValueError: provoked",
        "1 x FAILED: the trial's process ended with exit code 3 without a record",
        "1 x PRUNED: weak",
        "1 x DIVERGED: training loss is nan at step 10",
    ):
        assert line in err, out + err
    assert "logs/trial-0000.log" in err
    states = ["FAILED"] * 3 + ["PRUNED", "DIVERGED"]
    assert [record["state"] for record in project.records()] == states
    assert sorted(row["state"] for row in project.leaderboard()) == sorted(states)
    assert {row["rank"] for row in project.leaderboard()} == {None}
    page = (project.results() / "leaderboard.md").read_text()
    assert all(state in page for state in states)
    assert not (project.results() / "winner").exists()
    check_invariants(project)
