"""Sweeps on the workers of a real Ray cluster: what kills nodes, workers and commands costs no trial."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from cluster.ray_cluster import HAS_DASHBOARD, RayCluster
from cluster.sweeps import BUDGET, RANDOM, SHORT, TRIALS, check_same, numbers
from e2e.conftest import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LONG = RANDOM.replace("{low: 16, high: 20}", "{low: 200, high: 200}")
"""Trials of half a minute, which none of these tests waits for."""

needs_dashboard = pytest.mark.skipif(
    not HAS_DASHBOARD, reason="Ray's dashboard is not installed: pip install 'ray[default]'"
)


class OnRay:
    """A project whose sweeps run on a Ray cluster."""

    def __init__(self, project: Project, ray: RayCluster) -> None:
        self.project, self.ray = project, ray
        self.on(address=ray.address)

    def on(self, **keys: Any) -> None:
        """Write the launch profile."""
        given = {"launcher": "ray", "threads_per_worker": 1, "gpus_per_trial": 0, "workers": 2, **keys}
        self.project.write("ray.yaml", "".join(f"{key}: {json.dumps(value)}\n" for key, value in given.items()))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `sweep run` on the cluster."""
        return self.project.start("run", "spec.yaml", "--on", "ray.yaml", *arguments, env=self.ray.environment)

    def sweep(self, *arguments: str, code: int = 0) -> str:
        """Run `sweep`; return all that it printed."""
        return "".join(self.project.sweep(*arguments, code=code, env=self.ray.environment))

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `sweep run` on the cluster to its end."""
        return self.sweep("run", "spec.yaml", "--on", "ray.yaml", *arguments, code=code)

    def left(self) -> list[str]:
        """Return the command lines of what runs for the sweep's folder."""
        folder = str(self.project.results())
        return [words for words in map(_command_line, psutil.process_iter()) if folder in words.split(" ")]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def on_ray(make_project: Callable[..., Project], ray: RayCluster) -> Iterator[OnRay]:
    """Yield a project on the cluster; nothing that a failed test started outlives it."""
    found = OnRay(make_project(SHORT), ray)
    yield found
    for process in found.project.started:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 60
    while found.left() and time.monotonic() < deadline:
        time.sleep(0.2)


def ends(process: subprocess.Popen[str], code: int) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def test_a_test_cluster_listens_on_this_machine_only(ray):
    sockets = [one for process in ray.processes() for one in process.net_connections("inet")]
    listening = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening


def test_a_dead_worker_and_a_dead_node_change_no_result(on_ray, undisturbed, until, check_invariants):
    """First the worker, which is on the other node and is replaced."""
    project, doomed = on_ray.project, 1
    project.write("spec.yaml", RANDOM)
    process = on_ray.start(*BUDGET, "--workers", "4")
    try:
        until(lambda: len(claimed_now(project)) > 2, "three workers are at work")
        trial = max(one for one in claimed_now(project) if not on_ray.ray.runs_on(doomed, project.holder(one)))
        os.kill(project.holder(trial), signal.SIGKILL)
        until(lambda: (project.results() / f"claims/{trial:04d}.2").exists(), "the worker's trial is tried again")
        on_ray.ray.kill_node(doomed)
        said = ends(process, code=0)
    finally:
        on_ray.ray.add_node()
    assert said.count("was killed by SIGKILL; another one is started") >= 3, "of the worker, and of two on the node"
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * TRIALS
    assert project.records()[trial]["attempt"] >= 2
    assert max(record["attempt"] for record in project.records()) <= 3
    check_same(project, undisturbed)
    assert on_ray.left() == []
    check_invariants(project)


def claimed_now(project: Project) -> list[int]:
    """Return the trials that have been claimed and have no result."""
    claimed = {int(file.stem) for file in (project.results() / "claims").glob("0*")}
    return sorted(claimed - {record["trial"] for record in project.records()})


def test_what_ends_the_command_saves_the_trials_and_the_same_command_goes_on(on_ray, until, check_invariants):
    project = on_ray.project
    project.write("spec.yaml", LONG)
    process = on_ray.start()
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials have done a step")
    process.send_signal(signal.SIGINT)
    assert "Ended: stopped by Ctrl-C." in ends(process, code=130)
    are_saved(project)
    until(lambda: on_ray.left() == [], "no worker is left", seconds=20)
    again = on_ray.start()
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials go on")
    assert min(project.progress(trial)["step"] for trial in (0, 1)) > 1
    again.kill()
    again.communicate()
    until(lambda: on_ray.left() == [], "no worker is left without its command", seconds=60)
    are_saved(project)
    assert [(record["attempt"], record["resumed_step"] > 0) for record in project.records()] == [(2, True)] * 2


def are_saved(project: Project) -> None:
    """Fail unless two trials were interrupted, each with a state from which it can go on."""
    assert [(record["state"], record["faults"]) for record in project.records()] == [("INTERRUPTED", [])] * 2
    assert sorted(folder.name for folder in (project.results() / "states").iterdir()) == ["trial-0000", "trial-0001"]


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="only root hides folders from a node")
def test_a_node_that_does_not_see_the_folder_is_named_before_anything_trains(on_ray):
    project = on_ray.project
    (project.path / "results").mkdir()
    hide = f'mount -t tmpfs none {project.path}/results && exec "$@"'
    blind = on_ray.ray.add_node(before=["unshare", "-m", "sh", "-c", hide, "-"])
    try:
        said = on_ray.run(code=3)
    finally:
        on_ray.ray.kill_node(blind)
    assert f"node {socket.gethostname()}: {project.results()}" in said
    assert "must lie on a file system that all its machines share" in said
    assert project.records() == []


def test_nobody_at_the_address_is_said_at_once(on_ray):
    on_ray.on(address="127.0.0.1:9")
    began = time.monotonic()
    said = on_ray.run(code=3)
    assert "error: Ray at 127.0.0.1:9: Connection refused; is the cluster running there?" in said
    assert time.monotonic() - began < 30


def test_somebody_else_at_the_address_is_given_up_after_the_deadline(on_ray):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        on_ray.on(address=address)
        began = time.monotonic()
        said = on_ray.run(code=3)
    assert f"error: Ray at {address} did not answer within 20 s" in said
    assert time.monotonic() - began < 60


def test_a_worker_that_no_node_could_take_is_refused(on_ray):
    on_ray.on(address=on_ray.ray.address, memory_gb=5000)
    said = on_ray.run(code=3)
    assert "no node of the Ray cluster could take a worker: it asks for CPU: 1, memory: 5000.0 GB; nodes have" in said


def test_workers_without_room_wait_and_go_when_nothing_is_left_and_ray_prints_nothing(on_ray):
    on_ray.on(address=on_ray.ray.address, threads_per_worker=2, workers=3)
    on_ray.project.write("spec.yaml", RANDOM)
    said = on_ray.run()
    records, folder = on_ray.project.records(), on_ray.project.results()
    assert [record["state"] for record in records] == ["COMPLETE"] * 3
    run = json.loads((folder / "runs/0001.json").read_text())
    # A worker that nobody tells would be ended after a minute.
    assert run["ended"] - max(record["started"] + record["seconds"] for record in records) < 45
    assert "raylet" not in said
    assert "Ray cluster" not in said
    assert "Connected to Ray cluster" in (folder / "logs/ray.log").read_text()
    logs = [log.read_text() for log in folder.glob("logs/worker-0001-*.log")]
    assert logs
    assert not [log for log in logs if "error" in log]


def submits(on_ray: OnRay, **keys: Any) -> None:
    """Write a profile that submits, to a cluster whose own Python this one is."""
    on_ray.on(address="auto", dashboard=on_ray.ray.dashboard, python=sys.executable, **keys)


def job_line(on_ray: OnRay) -> str:
    """Return what `sweep status` says of the job; nothing once the run has ended."""
    lines = on_ray.sweep("status", str(on_ray.project.results()), "--on", "ray.yaml").splitlines()
    return next((line.removeprefix("  job      ") for line in lines if line.startswith("  job ")), "")


@needs_dashboard
def test_a_submitted_sweep_runs_on_its_own_to_the_winner(on_ray, undisturbed, until, check_invariants):
    project = on_ray.project
    project.write("spec.yaml", RANDOM)
    submits(on_ray, workers="auto", gpus_per_trial="auto")
    said = on_ray.sweep("submit", "spec.yaml", "--on", "ray.yaml", *BUDGET)
    (job,) = re.findall(rf"Submitted to {on_ray.ray.dashboard} as (finesweep-spec-1-\w+)\.", said)
    until(lambda: f"{job}, sweep: running" in job_line(on_ray), "the job runs", seconds=60)
    until(lambda: (project.results() / "winner").exists() and not on_ray.left(), "the sweep has ended", seconds=300)
    assert f"ended    {TRIALS} trials have finished" in on_ray.sweep(
        "status", str(project.results()), "--on", "ray.yaml"
    )
    check_same(project, undisturbed)
    assert f"{TRIALS} trials have finished" in (project.results() / "logs/job-0001.log").read_text()
    check_invariants(project)


@needs_dashboard
def test_a_cancelled_job_leaves_saved_trials_with_which_a_run_here_goes_on(on_ray, until, check_invariants):
    project = on_ray.project
    submits(on_ray)
    project.write("spec.yaml", LONG)
    on_ray.sweep("submit", "spec.yaml", "--on", "ray.yaml")
    until(lambda: project.runs(0, step=1) and project.runs(1, step=1), "both trials have done a step")
    said = on_ray.sweep("cancel", str(project.results()), "--on", "ray.yaml")
    assert re.search(r"finesweep-spec-1-\w+ was stopped", said)
    until(lambda: on_ray.left() == [], "no worker is left", seconds=30)
    are_saved(project)
    assert "no job of this sweep is known" in on_ray.sweep("cancel", str(project.results()))
    process = project.start("run", "spec.yaml", "--workers", "1")
    until(lambda: project.runs(0, step=1), "trial 0 goes on")
    process.send_signal(signal.SIGTERM)
    ends(process, code=143)
    assert project.records()[0]["resumed_step"] > 0


@needs_dashboard
def test_a_job_that_cannot_begin_is_dead_with_the_reason(on_ray, until):
    submits(on_ray)
    on_ray.on(address="auto", dashboard=on_ray.ray.dashboard, python="no-such-python")
    on_ray.sweep("submit", "spec.yaml", "--on", "ray.yaml")
    until(lambda: ": dead" in job_line(on_ray), "the job has failed", seconds=60)
    assert "no-such-python" in job_line(on_ray)


@needs_dashboard
def test_a_dashboard_that_wants_a_token_says_so(on_ray):
    submits(on_ray)
    command = ("submit", "spec.yaml", "--on", "ray.yaml")
    said = "".join(on_ray.project.sweep(*command, code=3, env={"RAY_AUTH_TOKEN": "another"}))
    assert f"Ray's dashboard at {on_ray.ray.dashboard} wants a token: set RAY_AUTH_TOKEN (" in said
    assert "another" not in said
    assert not on_ray.project.results().exists()


def test_rays_own_search_there_goes_on_after_ctrl_c(on_ray, undisturbed, until, check_invariants):
    project, budget = on_ray.project, ("--set", "budget.trials=4")
    project.write("spec.yaml", RANDOM.replace("{pruner: none", "{backend: ray, pruner: none"))
    process = on_ray.start(*budget)
    until(lambda: any(project.runs(trial, step=1) for trial in range(4)), "a trial has done a step", seconds=240)
    process.send_signal(signal.SIGINT)
    ends(process, code=130)
    records = project.records()
    assert "INTERRUPTED" in {record["state"] for record in records}
    assert [record["faults"] for record in records] == [[]] * len(records)
    until(lambda: on_ray.left() == [], "no worker is left", seconds=60)
    check_invariants(project)

    said = on_ray.run(*budget)
    assert numbers(project) == numbers(undisturbed)[:4]
    assert "ray." not in said
    assert on_ray.left() == []
    check_invariants(project)
