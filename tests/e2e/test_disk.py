"""A disk that is full, read-only or gone: one clear message, nothing half written, and the sweep can go on."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ONE, TWO = ("--workers", "1"), ("--workers", "2")
LONG = ("--set", "space.num_train_epochs.low=200", "--set", "space.num_train_epochs.high=200")


def mounted(*arguments: Any) -> None:
    """Mount something, or skip the test."""
    result = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"mounting a file system needs root ({result.stderr.strip()})")


@pytest.fixture
def small_disk(project: Any) -> Iterator[Callable[[], None]]:
    """Give the project's results a disk of their own, of 8 MB; yield what makes room on it."""
    results = project.path / "results"
    results.mkdir()
    mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", results)
    yield lambda: mounted("-o", "remount,size=64m", results)
    subprocess.run(["umount", "--lazy", results], check=True)


def fill(file: Path) -> None:
    """Take all space that is left on a file's disk."""
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    assert shutil.disk_usage(file).free == 0


def assert_all_complete(project: Any, count: int) -> None:
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * count


def stops_at_a_full_disk(project: Any, provoke: Any, *arguments: str, **fault: Any) -> Path:
    """Let a fault fill the disk; return the file that did it."""
    filler: Path = project.path / "results/filler"
    _, err = project.sweep(
        "run", "spec.yaml", *arguments, env=provoke({**fault, "do": "fill", "text": str(filler)}), code=2
    )
    assert "the disk is full" in err
    assert str(project.path / "results") in err
    assert "make room and run the same command again" in err
    assert "FAILED" not in {record["state"] for record in project.records()}
    return filler


def test_a_disk_that_fills_up_stops_the_sweep_and_costs_no_trial(project, provoke, small_disk, check_invariants):
    arguments = (*TWO, "--set", "budget.trials=4")
    stops_at_a_full_disk(project, provoke, *arguments, where="weights")
    before = project.ledger()
    small_disk()
    project.sweep("run", "spec.yaml", *arguments)
    assert_all_complete(project, 4)
    check_invariants(project, before)


@pytest.mark.slow
def test_a_disk_that_fills_up_at_a_record_a_claim_and_a_leaderboard_costs_no_trial(
    project, provoke, small_disk, check_invariants
):
    """Three runs of one sweep, each of which goes on where the disk stopped the one before."""
    ledger: dict[str, bytes] = {}
    for done, fault in (
        (1, {"where": "staging", "trial": 1}),  # the record of trial 1 cannot be written
        (2, {"where": "recorded", "trial": 1}),  # the claim of trial 2 cannot
        (3, {"where": "recorded", "trial": 2}),  # no trial is left to claim: the leaderboard cannot
    ):
        filler = stops_at_a_full_disk(project, provoke, *ONE, **fault)
        now = project.ledger()
        assert len(now) == done
        assert now.items() >= ledger.items(), "a result was lost or changed"
        ledger = now
        filler.unlink()
    small_disk()
    project.sweep("run", "spec.yaml", *ONE)
    assert_all_complete(project, 3)
    check_invariants(project, ledger)


@pytest.mark.slow
def test_a_disk_that_is_full_before_the_first_trial_stops_the_sweep(project, small_disk, until, check_invariants):
    """The worker has just been started; the next thing to be written are the tokens."""
    process = project.start("run", "spec.yaml", *TWO)
    until(lambda: (project.results() / "logs/worker-0001-2.log").exists(), "the workers are started")
    fill(project.path / "results/filler")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "the disk is full" in err
    assert str(project.results()) in err
    assert "Traceback" not in out + err
    small_disk()
    project.sweep("run", "spec.yaml", *ONE)
    assert_all_complete(project, 3)
    check_invariants(project)


@pytest.mark.slow
def test_a_disk_without_room_for_the_rows_is_named(project, small_disk):
    fill(project.path / "results/filler")
    _, err = project.sweep("run", "spec.yaml", code=2)
    assert "the disk is full" in err
    assert str(project.path / "results") in err
    small_disk()
    project.sweep("run", "spec.yaml", "--set", "budget.trials=1")
    assert_all_complete(project, 1)


@pytest.mark.slow
def test_a_trial_whose_state_cannot_be_saved_starts_anew(project, provoke, small_disk, until, check_invariants):
    epochs = ("--set", "space.num_train_epochs.low=15", "--set", "space.num_train_epochs.high=15")
    arguments = ("run", "spec.yaml", *ONE, *epochs, "--set", "budget.trials=1")
    fault = {"where": "saving", "do": "fill", "text": str(project.path / "results/filler")}
    process = project.start(*arguments, env=provoke(fault))
    until(lambda: (project.results() / "progress/0000.json").exists(), "trial 0 runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, out + err
    assert "the disk is full" in err
    assert "Traceback" not in out + err
    small_disk()
    project.sweep(*arguments)
    (record,) = project.records()
    assert (record["state"], record["resumed_step"], record["faults"]) == ("COMPLETE", 0, [])
    check_invariants(project)


@pytest.mark.slow
def test_a_sweep_that_would_overrun_its_disk_limit_stops_and_goes_on_with_a_larger_one(project, check_invariants):
    """Rows, tokens, logs and the first trial's weights take more than 0.12 MB."""
    project.write("little.yaml", "{threads_per_worker: 1, limits: {disk_gb: 0.00012}}")
    arguments = ("run", "spec.yaml", *ONE, "--set", "budget.trials=2")
    _, err = project.sweep(*arguments, "--on", "little.yaml", code=2)
    assert "limits.disk_gb" in err
    assert str(project.results()) in err
    assert " MB" in err
    assert "FAILED" not in {record["state"] for record in project.records()}
    check_invariants(project)
    project.write("more.yaml", "{threads_per_worker: 1, limits: {disk_gb: 0.01}}")
    project.sweep(*arguments, "--on", "more.yaml")
    assert_all_complete(project, 2)
    check_invariants(project)


@pytest.fixture
def read_only(project: Any) -> Iterator[Callable[[], Callable[[], None]]]:
    """Yield what makes the project's results read-only; that returns what makes them writable again."""
    results = project.path / "results"
    results.mkdir()

    def make() -> Callable[[], None]:
        # A mount of its own on top: one that has files open for writing could not be made read-only.
        mounted("--bind", results, results)
        undo.callback(subprocess.run, ["umount", "--lazy", results], check=True)
        mounted("-o", "remount,ro,bind", results)
        return undo.close

    with contextlib.ExitStack() as undo:
        yield make


def test_results_that_are_read_only_are_refused_before_a_model_is_loaded(project, read_only):
    read_only()
    _, err = project.sweep("run", "spec.yaml", code=2, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert " finesweep.cli\n" in err, "the test sees what is imported"
    assert " torch\n" not in err
    results = project.path / "results"
    assert f"{results}: cannot be written (Read-only file system); use --results DIR" in err
    assert list(results.iterdir()) == []


@pytest.mark.slow
def test_results_that_become_read_only_stop_the_sweep(project, read_only, until, check_invariants):
    epochs = ("--set", "space.num_train_epochs.low=40", "--set", "space.num_train_epochs.high=40")
    arguments = ("run", "spec.yaml", *TWO, *epochs, "--set", "budget.trials=2")
    process = project.start(*arguments)
    until(lambda: list((project.results() / "progress").glob("0*.json")), "a trial runs")
    make_writable = read_only()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "cannot be written (Read-only file system)" in err
    assert str(project.results()) in err
    assert "Traceback" not in out + err
    until(lambda: project.processes() == [], "all processes are gone", seconds=5)
    make_writable()
    project.sweep(*arguments)
    assert_all_complete(project, 2)
    check_invariants(project)


@pytest.mark.slow
def test_results_that_vanish_stop_the_sweep_and_are_not_made_again(project, until):
    process = project.start("run", "spec.yaml", *TWO, *LONG)
    until(lambda: len(list((project.results() / "progress").glob("0*.json"))) == 2, "two trials run")
    moved = project.path / "elsewhere"
    project.results().rename(moved)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, out + err
    assert f"{project.results()}: the folder was removed or renamed while its sweep ran" in err
    assert "Traceback" not in out + err
    until(lambda: project.processes() == [], "all processes are gone", seconds=5)
    assert not project.results().exists()
    assert {file.suffix for file in (moved / "trials").iterdir()} <= {".json"}
    assert json.loads((moved / "runs/0001.json").read_text())["number"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("files", [6, 10])
def test_too_few_open_files_are_named(project, files):
    """With 6 no worker can be started, with 10 a worker cannot work; 16 are enough."""
    limit = ["prlimit", f"--nofile={files}:{files}"]
    command = [*limit, sys.executable, "-m", "finesweep", "run", "spec.yaml", *ONE]
    result = subprocess.run(command, cwd=project.path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "Too many open files" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert project.processes() == []
