"""What holds after something went wrong: signals, kills, divergence, a folder that vanishes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

LONG = ("--set", "space.num_train_epochs.low=200", "--set", "space.num_train_epochs.high=200")


def progress(project, trial: int) -> Path:
    return project.results() / f"progress/{trial:04d}.json"


def trial_processes(project) -> list[int]:
    """Return the pids below this sweep's worker: its trial's, if one runs."""
    pids = project.processes()
    return [pid for pid in pids if _parent(pid) in pids and _parent(_parent(pid)) in pids]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_ctrl_c_leaves_a_readable_folder_and_the_next_run_goes_on(project, until):
    epochs = ("--set", "space.num_train_epochs.low=20", "--set", "space.num_train_epochs.high=20")
    process = project.start("run", "spec.yaml", *epochs)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert err == ""
    assert "goes on from here" in out
    (row,) = project.leaderboard()
    assert (row["state"], row["rank"]) == ("INTERRUPTED", None)
    assert not list((project.results() / "progress").iterdir())
    assert project.processes() == []
    (before,) = project.records()

    project.sweep("run", "spec.yaml", *epochs, "--set", "budget.trials=1")
    (after,) = project.records()
    assert (after["trial"], after["attempt"], after["state"]) == (0, 2, "COMPLETE")
    assert after["params"] == before["params"]


def test_a_second_ctrl_c_stops_at_once(project, until):
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert project.leaderboard() == [] or project.leaderboard()[0]["rank"] is None
    until(lambda: project.processes() == [], "all processes are gone", seconds=5)


def test_sigterm_ends_with_143(project, until):
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert project.records()[0]["state"] == "INTERRUPTED"


def test_a_killed_trial_is_one_record_and_the_others_run(project, until):
    process = project.start("run", "spec.yaml", "--set", "space.num_train_epochs.high=20")
    until(lambda: progress(project, 1).exists() and trial_processes(project), "trial 1 runs")
    (pid,) = trial_processes(project)
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    states = {record["trial"]: record["state"] for record in project.records()}
    assert states == {0: "COMPLETE", 1: "FAILED", 2: "COMPLETE"}
    failed = project.records()[1]
    assert failed["reason"] == "the trial's process was killed by SIGKILL"
    assert set(failed["params"]) == {"learning_rate", "num_train_epochs", "per_device_train_batch_size"}


def test_after_a_kill_of_everything_the_same_command_completes_the_sweep(project, until):
    process = project.start("run", "spec.yaml", "--set", "space.num_train_epochs.high=20")
    until(lambda: progress(project, 1).exists(), "trial 1 runs")
    time.sleep(0.5)
    first = project.numbers()
    for pid in project.processes():
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=10)
    until(lambda: project.processes() == [], "all processes are gone", seconds=5)
    assert "killed" in project.sweep("status", "results/spec")[0]
    project.sweep("run", "spec.yaml", "--set", "space.num_train_epochs.high=20")
    assert project.numbers()[: len(first)] == first
    assert [(record["trial"], record["state"]) for record in project.records()] == [
        (0, "COMPLETE"),
        (1, "COMPLETE"),
        (2, "COMPLETE"),
    ]
    assert sorted(row["rank"] for row in project.leaderboard()) == [1, 2, 3]


def test_the_worker_goes_when_its_parent_is_killed(project, until):
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    process.kill()
    process.communicate(timeout=10)
    until(lambda: project.processes() == [], "worker and trial are gone", seconds=10)


def test_a_second_run_of_the_same_folder_says_who_holds_it(project, until):
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    _, err = project.sweep("run", "spec.yaml", *LONG, code=2)
    assert "is in use by another `sweep run`: host" in err
    assert f"pid {process.pid}" in err
    assert f"running (host {os.uname().nodename}, pid {process.pid}" in project.sweep("status", "results/spec")[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_a_folder_that_vanishes_ends_the_run_with_a_message(project, until):
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: progress(project, 0).exists(), "trial 0 runs")
    project.results().rename(project.path / "moved")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, out + err
    assert "removed or renamed while its sweep ran" in err
    assert "Traceback" not in out + err
    assert not project.results().exists()


def test_a_diverged_trial_never_ranks_and_the_search_goes_on(project):
    """Stock: the NaN loss is logged as 0, the best there is, and the trial trains to its end."""
    spec = ("--set", "space.learning_rate={choices: [1e-3, 9.0]}", "--set", "search.sampler=grid")
    fixed = ("--set", "fixed={max_grad_norm: 0.0, optim: sgd, warmup_steps: 0}")
    epochs = ("--set", "space.num_train_epochs={choices: [3]}", "--set", "budget.trials=4")
    project.sweep("run", "spec.yaml", *spec, *fixed, *epochs)
    rows = project.leaderboard()
    ranked, diverged = rows[:2], rows[2:]
    assert [row["rank"] for row in rows] == [1, 2, None, None]
    assert {row["params"]["learning_rate"] for row in ranked} == {1e-3}
    assert {row["state"] for row in diverged} == {"DIVERGED"}
    for row in diverged:
        record = project.records()[row["trial"]]
        assert record["divergence"]["step"] <= 20, "ten steps to diverge at the most, ten to be noticed"
        assert record["divergence"]["learning_rate"] > 1
        assert record["divergence"]["reason"] in row["reason"]
    assert "DIVERGED" in (project.results() / "leaderboard.md").read_text()


def test_when_all_trials_diverge_the_reasons_are_grouped(project):
    spec = ("--set", "space.learning_rate={choices: [9.0, 9.5]}", "--set", "fixed={max_grad_norm: 0.0, optim: sgd}")
    _, err = project.sweep("run", "spec.yaml", *spec, "--set", "budget.trials=2", code=1)
    assert "no trial finished, so there is no winner" in err
    assert "log" in err
    assert {row["state"] for row in project.leaderboard()} == {"DIVERGED"}
    assert not (project.results() / "winner").exists()


def test_a_corrupted_contender_is_no_winner(project):
    """The weights are swapped after the search ended and before they are exported."""
    project.sweep("run", "spec.yaml", "--set", "budget.trials=1")
    results = project.results()
    weights = results / "checkpoints/trial-0000/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2000:] = bytes(2000)
    (results / "winner/evidence.json").unlink()
    weights.unlink()
    weights.write_bytes(data)
    _, err = project.sweep("run", "spec.yaml", "--set", "budget.trials=1", code=1)
    assert "was ranked with eval_loss" in err


def test_results_that_cannot_be_written_are_refused_before_anything_else(project):
    project.write("results", "a file, not a folder")
    _, err = project.sweep("run", "spec.yaml", code=2)
    assert "cannot be written" in err
    assert "--results" in err


def test_a_full_disk_is_named(project, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        _, err = project.sweep("run", "spec.yaml", "--results", str(mount), code=2)
        assert "full" in err
        assert str(mount) in err
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_pipe_that_closes_does_not_end_the_sweep(project):
    command = f"{os.sys.executable} -m finesweep run spec.yaml --set budget.trials=1 | head -1"
    subprocess.run(command, shell=True, cwd=project.path, check=True, capture_output=True, timeout=200)
    deadline = time.monotonic() + 60
    while project.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [record["state"] for record in project.records()] == ["COMPLETE"]
    assert (project.results() / "winner/model.safetensors").is_file()
