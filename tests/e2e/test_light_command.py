"""The command that runs a sweep stays small: what reads data and models is a process that ends before training."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import Evaluation, TrialRecord, TrialState

RECORDS = 1_000
MOST_MB = 100
HEAVY = re.compile(r"/(libtorch|_C\.|pandas/|pyarrow/|sklearn/|scipy/|tokenizers/|numpy/|ray/)")
"""Compiled parts of libraries that the command does without, as they are named where they are mapped."""


def fill(folder: SweepFolder, trials: range) -> None:
    """Put trials in place as if they had run: with as many evaluations and settings as real ones have."""
    for trial in trials:
        evaluations = tuple(
            Evaluation(step, step / 100, step * 16, {"eval_loss": 0.9, "eval_accuracy": 0.5}, 0.9) for step in range(6)
        )
        made = TrialRecord(
            trial,
            1,
            TrialState.COMPLETE,
            {"learning_rate": 1e-3, "num_train_epochs": 2, "per_device_train_batch_size": 16},
            1_000.0 + trial,
            1.0,
            f"logs/trial-{trial:04d}.log",
            "here",
            objective=0.9 + trial / 1e6,
            metrics={"eval_loss": 0.9, "eval_accuracy": 0.5},
            evaluations=evaluations,
            effective={f"setting_{number}": number for number in range(40)} | {"data.max_length": 24},
        )
        folder.record_file(trial).write_text(json.dumps(dataclasses.asdict(made)), encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_command_imports_nothing_heavy_and_stays_small_beside_a_thousand_records(copied, until):
    """370 MB before, since it had read the data itself."""
    fill(SweepFolder(copied.results()), range(3, RECORDS))
    claim = copied.results() / f"claims/{RECORDS:04d}.1"
    more = ("--set", f"budget.trials={RECORDS + 20}", "--workers", "1")
    again = copied.start("run", "spec.yaml", *more)
    until(lambda: claim.exists() or again.poll() is not None, "a trial runs beside them")
    assert again.poll() is None, again.communicate()
    maps = Path(f"/proc/{again.pid}/maps").read_text()
    assert sorted(set(HEAVY.findall(maps))) == []
    assert psutil.Process(again.pid).memory_info().rss / 1e6 < MOST_MB
    (worker,) = psutil.Process(again.pid).children()
    assert "worker" in worker.cmdline(), "who has prepared is gone"
    assert HEAVY.search(Path(f"/proc/{worker.pid}/maps").read_text()), "the test knows what to look for"
    again.send_signal(signal.SIGTERM)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 143, out + err


def started_with(project, code: str):
    """Start `sweep run` in a Python that runs some code as soon as pandas is imported, which only the check does."""
    hook = f"""
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            sys.meta_path.remove(self)
            exec({code!r})
sys.meta_path.insert(0, Finder())
"""
    folder = project.path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(hook, encoding="utf-8")
    return project.start("run", "spec.yaml", env={"PYTHONPATH": str(folder)}, start_new_session=True)


def test_a_check_that_is_killed_for_memory_is_named_and_nothing_is_begun(project):
    process = started_with(project, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    assert err.strip() == (
        "error: the process that checks and prepares was killed by SIGKILL; "
        "this is mostly the system, when memory runs out"
    )
    assert not project.results().exists()


@pytest.mark.parametrize(
    ("number", "code", "to_group"),
    [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_signal_during_the_check_ends_both_processes(project, until, number, code, to_group):
    """Ctrl-C reaches both, being sent to the terminal's group; what a cluster sends reaches the command alone."""
    waits = "import time; open('checking', 'w').close(); time.sleep(60)"
    process = started_with(project, waits)
    until((project.path / "checking").exists, "the check has begun")
    (os.killpg if to_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, out + err
    assert "before anything was begun" in err
    assert "Traceback" not in out + err
    assert project.processes() == []
    assert not project.results().exists()


def test_with_debug_the_traceback_of_the_check_is_shown(project):
    project.write("spec.yaml", (project.path / "spec.yaml").read_text().replace("train.csv", "none.csv"))
    process = project.start("--debug", "run", "spec.yaml", "--on", "one_thread.yaml")
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out + err
    assert "preflight.py" in err
    assert "SpecError" in err
