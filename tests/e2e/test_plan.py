"""`sweep plan` says what a sweep will take and leaves nothing behind, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import SPEC

PRUNED = SPEC.replace("search: {pruner: none, sampler: tpe}", "search: {pruner: median, sampler: tpe}")


@pytest.fixture
def scratch(project) -> Path:
    """Return a folder for temporary files, which shows what was left in it."""
    folder: Path = project.path / "tmp"
    folder.mkdir()
    return folder


def environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch)}


def left(project, scratch: Path) -> list[str]:
    """Return what is there that was not there before."""
    known = {"train.csv", "validation.csv", "spec.yaml", "one_thread.yaml", "small.yaml", scratch.name}
    return sorted({str(path.relative_to(project.path)) for path in project.path.rglob("*")} - known)


def test_a_plan_for_machines_is_one_object_and_for_people_a_table(project, scratch):
    project.write("spec.yaml", PRUNED)
    command = ("plan", "spec.yaml", "--workers", "2")
    out, _ = project.sweep(*command, "--json", env=environment(scratch))
    plan: dict[str, Any] = json.loads(out)
    assert [one["batch"] for one in plan["readings"]] == [16, 32]
    assert all(one["measurement"]["processes"] == 2 for one in plan["readings"])
    assert all(one["measurement"]["examples_per_second"] > 0 for one in plan["readings"])
    assert (plan["workers"], plan["threads"], plan["trials"], plan["problems"]) == (2, 1, 3, [])
    assert plan["examples_unpruned"]["low"] >= 3 * 2 * 400
    assert plan["examples_unpruned"]["high"] <= 3 * 3 * 400
    for name in ("hours", "hours_unpruned"):
        low, middle, high = (plan[name][key] for key in ("low", "middle", "high"))
        assert 0 < low <= middle <= high < 1
    assert plan["hours"]["middle"] <= plan["hours_unpruned"]["middle"]
    assert plan["memory"]["total_gb"] > 2 * plan["memory"]["worker_gb"] > 0.1
    assert 0 < plan["disk"]["total_gb"] < 0.1
    assert left(project, scratch) == []


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_what_would(project, scratch):
    project.write("small.yaml", "workers: 1\nmemory_gb: 0.1\nlimits: {disk_gb: 0.000001}\n")
    out, _ = project.sweep("plan", "spec.yaml", "--on", "small.yaml", env=environment(scratch))
    assert "per_device_train_batch_size: 16 takes 0." in out
    assert "GB, more than memory_gb: 0.1 (memory_gb: 0." in out
    assert "at its peak, more than limits.disk_gb: 1e-06 (limits: {disk_gb: 0.1} would do)" in out
    assert "examples/s" in out
    assert "Everything fits" not in out
    assert left(project, scratch) == []


def test_a_plan_finds_what_validate_finds(project, scratch):
    _, err = project.sweep("plan", "spec.yaml", "--set", "budget.trials=0", code=2, env=environment(scratch))
    assert "budget.trials: must be at least 1" in err
    assert left(project, scratch) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_does_not_want_to_know_any_more_finds_nothing_left(project, scratch, until, number):
    process = project.start("plan", "spec.yaml", "--workers", "2", env=environment(scratch))
    until(lambda: len(project.processes()) > 1, "it measures")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "before anything was begun" in err
    until(lambda: project.processes() == [], "its processes end", 10)
    assert left(project, scratch) == []


INTERRUPTED_AT_BIRTH = """
import os, runpy, signal, subprocess
born = subprocess.Popen.__init__
def interrupted(self, command, *arguments, **options):
    born(self, command, *arguments, **options)
    if "survey" in command:
        os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen.__init__ = interrupted
runpy.run_module("finesweep", run_name="__main__", alter_sys=True)
"""


def test_ctrl_c_in_the_moment_in_which_the_measuring_process_is_born_ends_that_too(project, scratch):
    command = [sys.executable, "-c", INTERRUPTED_AT_BIRTH, "plan", "spec.yaml", "--workers", "2"]
    done = subprocess.run(
        command, cwd=project.path, env=environment(scratch), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, project.processes()) == (130, []), done.stderr
    assert "before anything was begun" in done.stderr
    assert left(project, scratch) == []


@pytest.mark.slow
def test_a_plan_that_is_killed_takes_its_processes_along(project, scratch, until):
    process = project.start("plan", "spec.yaml", "--workers", "2", env=environment(scratch))
    until(lambda: len(project.processes()) > 1, "it measures")
    process.kill()
    until(lambda: project.processes() == [], "its processes end", 60)
