"""One sweep that is begun here, goes on on Slurm and ends on a Ray cluster: `--on` changes the launcher only."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.ray_cluster import RayCluster
from cluster.slurm_cluster import SlurmCluster
from cluster.sweeps import BUDGET, RANDOM, TRIALS, check_same, finished
from e2e.conftest import Project
from finesweep.folder import SweepFolder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def launcher(run: Path) -> str:
    return str(json.loads(run.read_text())["profile"]["launcher"])


def test_one_sweep_on_three_launchers_is_one_folder_and_one_leaderboard(
    project: Project,
    slurm: SlurmCluster,
    ray: RayCluster,
    until: Callable[..., None],
    check_invariants: Callable[..., None],
    undisturbed: Project,
) -> None:
    project.write("spec.yaml", RANDOM)
    project.write("slurm.yaml", "launcher: slurm\nworkers: 2\n")
    project.write("ray.yaml", f"launcher: ray\naddress: {ray.address}\nworkers: 2\nthreads_per_worker: 1\n")
    begun = project.start("run", "spec.yaml", *BUDGET, "--workers", "1")
    until(lambda: finished(project) >= 1, "a trial has finished here")
    begun.send_signal(signal.SIGINT)
    begun.communicate(timeout=120)
    assert begun.returncode == 130
    here = project.ledger()

    project.sweep("submit", "spec.yaml", "--on", "slurm.yaml", *BUDGET, env=slurm.environment)
    jobs = SweepFolder(project.results()).jobs(2)
    until(lambda: finished(project) >= len(here) + 1, "one more has finished on Slurm")
    cancel(project, slurm, jobs)
    there = project.ledger()
    assert len(there) < TRIALS
    # A trial that had not done a step yet has no state.
    stopped = {int(state.name.removeprefix("trial-")) for state in (project.results() / "states").glob("trial-????")}
    assert stopped, "nothing was saved when the jobs were cancelled"

    project.sweep("run", "spec.yaml", "--on", "ray.yaml", *BUDGET, env=ray.environment)
    assert project.ledger().items() >= there.items() >= here.items()
    assert [launcher(run) for run in sorted((project.results() / "runs").glob("*.json"))] == ["local", "slurm", "ray"]
    runs = {f"{record['trial']:04d}.json": record["run"] for record in project.records()}
    assert [{runs[name] for name in names} for names in (here, there.keys() - here, runs.keys() - there)] == [
        {1},
        {2},
        {3},
    ]
    assert all(project.records()[trial]["resumed_step"] > 0 for trial in stopped)
    assert len(project.leaderboard()) == TRIALS
    check_same(project, undisturbed)
    check_invariants(project)


def cancel(project: Project, slurm: SlurmCluster, jobs: dict[str, str]) -> None:
    """Cancel a sweep; fail if a job of it is left, or if the folder does not say that it was cancelled."""
    array, collect = jobs["workers"].partition("_")[0], jobs["collect"]
    said, _ = project.sweep("cancel", str(project.results()), env=slurm.environment)
    for job in (f"{array}_1", f"{array}_2", collect):
        assert f"job {job}: cancelled" in said
    assert {*slurm.queue(array).values(), *slurm.queue(collect).values()} == {"CANCELLED"}
    assert project.processes() == []
    assert (project.results() / "leaderboard.md").is_file()
    said, _ = project.sweep("cancel", str(project.results()), env=slurm.environment)
    assert "no job of this sweep" in said
    said, _ = project.sweep("status", str(project.results()), env=slurm.environment)
    assert "ended    cancelled" in said
