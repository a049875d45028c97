"""Real runs that measure, once, how many trials suit a GPU; it is one in name, and they train on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finesweep.host.machine import usable_cores

several_cores = pytest.mark.skipif(usable_cores() < 2, reason="with one core there is nothing to choose")

LONG = (
    *("--set", "space.num_train_epochs.low=900", "--set", "space.num_train_epochs.high=900"),
    *("--set", "budget.trials=30", "--on", "auto.yaml"),
)
"""Arguments of a sweep that is worth some seconds of measuring."""


def calibrations(project) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((project.results() / "calibration.json").read_text())["calibrations"]
    except FileNotFoundError:
        return []
    return found


def last_run(project) -> dict[str, Any]:
    files = sorted((project.results() / "runs").glob("*.json"))
    values: dict[str, Any] = (
        json.loads(files[-1].read_text()) if files else {"number": 0, "profile": {}, "measures": True}
    )
    return values


def stopped(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    return out


def begun(project, until, run: int) -> subprocess.Popen[str]:
    """Start a run and wait until a trial of it trains."""
    process: subprocess.Popen[str] = project.start("run", "spec.yaml", *LONG)
    until(lambda: last_run(project)["number"] == run, f"run {run} begins")
    until(lambda: project.trial_processes() and not last_run(project)["measures"], "it is settled")
    until(lambda: any(project.runs(trial, 1) for trial in range(4)), "a trial trains")
    return process


@pytest.fixture
def gpu_in_name(monkeypatch) -> None:
    """Have the command count a GPU; where PyTorch finds none, trials train on the CPU all the same."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@several_cores
@pytest.mark.slow
@pytest.mark.usefixtures("gpu_in_name")
def test_a_machine_is_measured_once_and_another_one_anew_even_if_the_measuring_worker_is_killed(
    project, until, check_invariants
):
    """Three runs of one sweep; of the last, a worker is killed while it measures, which costs nothing but time."""
    project.write("auto.yaml", "keep_best: 1\n")
    out = stopped(begun(project, until, 1))
    (found,) = calibrations(project)
    assert found["is_done"]
    assert found["remark"] is None
    assert len([speed for speed in found["speeds"] if speed["examples_per_second"]]) >= 1
    profile = last_run(project)["profile"]
    option = {key: profile[key] for key in ("workers", "threads_per_worker")}
    assert option in [{"workers": one["workers"], "threads_per_worker": one["threads"]} for one in found["options"]]
    assert "examples/s" in out

    out = stopped(begun(project, until, 2))
    assert calibrations(project) == [found]
    assert {key: last_run(project)["profile"][key] for key in option} == option
    assert "examples/s" not in out

    file = project.results() / "calibration.json"
    file.write_text(file.read_text().replace(f'"host": "{found["host"]}"', '"host": "elsewhere"'))
    process = project.start("run", "spec.yaml", *LONG)
    until(lambda: len(calibrations(project)) == 2 and project.trial_processes(), "a worker measures")
    before, asked = calibrations(project)
    assert (before["run"], asked["run"], asked["is_done"]) == (1, 3, False)
    (measuring,) = {parent(pid) for pid in project.trial_processes()}
    os.kill(measuring, signal.SIGKILL)
    until(lambda: not last_run(project)["measures"], "the run is settled all the same")
    until(lambda: any(project.runs(trial, 1) for trial in range(4)), "a trial trains")
    _, again = calibrations(project)
    assert (again["run"], again["is_done"]) == (3, True)
    out = stopped(process)
    assert "was killed by SIGKILL; another one is started." in out
    check_invariants(project)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@several_cores
@pytest.mark.slow
@pytest.mark.usefixtures("gpu_in_name")
def test_a_short_sweep_is_not_measured(project, check_invariants):
    project.write("auto.yaml", "keep_best: 1\n")
    out, _ = project.sweep("run", "spec.yaml", "--set", "budget.trials=2", "--on", "auto.yaml")
    (found,) = calibrations(project)
    assert (found["is_done"], found["speeds"]) == (True, [])
    assert "nothing was measured, since the sweep is short" in out
    assert last_run(project)["profile"]["workers"] == 1
    check_invariants(project)


@pytest.mark.slow
def test_on_cores_nothing_is_measured(project, check_invariants):
    project.write("auto.yaml", "keep_best: 1\ngpus_per_trial: 0\n")
    out, _ = project.sweep("run", "spec.yaml", "--set", "budget.trials=2", "--on", "auto.yaml")
    assert calibrations(project) == []
    workers = min(usable_cores(), 2)
    assert last_run(project)["profile"]["workers"] == workers
    assert f"{workers} worker" in out
    assert "no more trials are left" in out or "one for each of" in out
    check_invariants(project)


BENCH = """
import dataclasses, json, os, sys
from pathlib import Path
from finesweep.errors import SweepError
from finesweep.calibration.measurement import Load
from finesweep.calibration.bench import Bench
from finesweep.worker.worker import Worker

worker = Worker.open(Path(sys.argv[1]), 1)
worker.warm_up()
bench = Bench(worker.sweep_folder, worker.manifest, worker.spec)
small, large = ({"per_device_train_batch_size": batch} for batch in (4, 64))
found = {
    "one": bench.measure(Load(small), 1),
    "two": bench.measure(Load(large, steps=5), 1, 2),
    "quick": bench.measure(Load(small, steps=100_000, seconds=0.5, evaluates=False, sizes=False), 1),
    "squeezed": dataclasses.replace(bench, most_gb=0.01).measure(Load(small, steps=100_000), 1),
}
answers = {name: dataclasses.asdict(one) for name, one in found.items()}
for name, broken in (("late", (small, 1)), ("broken", ({"learning_rate": -1.0}, 60))):
    try:
        bench.measure(Load(broken[0], steps=100_000), 1, 1, broken[1])
    except SweepError as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_what_is_measured_is_what_training_takes(finished):
    """Nothing of it is left in the sweep's folder."""
    before = {file: file.stat().st_mtime_ns for file in finished.results().rglob("*")}
    command = [sys.executable, "-c", BENCH, str(finished.results())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    one, two, quick = answers["one"], answers["two"], answers["quick"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert 5 < one["tokens_per_second"] / one["examples_per_second"] < 24, "real tokens, of rows of 5 to 24"
    assert one["rows_per_second"] > one["examples_per_second"] > 0
    assert quick["rows_per_second"] is None
    assert 0 < one["fixed_seconds"] < 30
    assert 50 < one["memory_mb"] < 3000
    assert 0 < one["own_memory_mb"] <= one["memory_mb"]
    assert one["weights_mb"] == pytest.approx(0.13, abs=0.1)
    assert answers["squeezed"]["reason"].endswith("GB of memory, and there are 0.0")
    assert answers["late"] == "a few steps of training took longer than 1 s"
    assert "Invalid learning rate: -1.0" in answers["broken"]
    assert {file: file.stat().st_mtime_ns for file in finished.results().rglob("*")} == before
