"""One sweep that is begun here, goes on on Slurm and ends on a Ray cluster: `--on` changes the launcher only."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.ray_cluster import RayCluster
from cluster.slurm_cluster import SlurmCluster
from e2e.conftest import SPEC, Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TRIALS = 12
BUDGET = ("--set", f"budget.trials={TRIALS}")
RANDOM = SPEC.replace("{pruner: none}", "{pruner: none, sampler: random}").replace(
    "{low: 2, high: 3}", "{low: 20, high: 24}"
)


def finished(project: Project) -> int:
    return sum(record["state"] != "INTERRUPTED" for record in project.records())


def launcher(run: Path) -> str:
    return str(json.loads(run.read_text())["profile"]["launcher"])


def test_one_sweep_on_three_launchers_is_one_folder_and_one_leaderboard(
    make_project: Callable[..., Project],
    slurm: SlurmCluster,
    ray: RayCluster,
    until: Callable[..., None],
    check_invariants: Callable[..., None],
) -> None:
    project = make_project(RANDOM)
    project.write("slurm.yaml", "launcher: slurm\nworkers: 2\n")
    project.write("ray.yaml", f"launcher: ray\naddress: {ray.address}\nworkers: 2\nthreads_per_worker: 1\n")
    begun = project.start("run", "spec.yaml", *BUDGET, "--workers", "1")
    until(lambda: finished(project) >= 2, "two trials have finished here")
    begun.send_signal(signal.SIGINT)
    begun.communicate(timeout=60)
    assert begun.returncode == 130
    here = project.ledger()

    project.sweep("submit", "spec.yaml", "--on", "slurm.yaml", *BUDGET, env=slurm.environment)
    until(lambda: finished(project) >= len(here) + 2, "two more have finished on Slurm")
    project.sweep("cancel", str(project.results()), env=slurm.environment)
    there = project.ledger()
    assert len(there) < TRIALS

    project.sweep("run", "spec.yaml", "--on", "ray.yaml", *BUDGET, env=ray.environment)
    assert project.ledger().items() >= there.items() >= here.items()
    assert [launcher(run) for run in sorted((project.results() / "runs").glob("*.json"))] == ["local", "slurm", "ray"]
    assert len(project.leaderboard()) == TRIALS
    check_invariants(project)

    project.sweep("run", "spec.yaml", *BUDGET, "--workers", "2", "--name", "here")
    assert project.numbers() == [{**row, "attempt": was["attempt"]} for row, was in _paired(project)]


def _paired(project: Project) -> list[tuple[dict, dict]]:
    """Return what each trial is in the sweep that ran here alone, beside what it is in the other one."""
    return list(zip(project.numbers("here"), project.numbers(), strict=True))
