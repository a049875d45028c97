"""Sweeps on a real Slurm: what kills workers, nodes and jobs costs no trial, and nobody has to look after it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.slurm_cluster import SlurmCluster
from cluster.sweeps import BUDGET, RANDOM, TRIALS, check_same, finished
from e2e.conftest import Project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LONG = RANDOM.replace("{low: 16, high: 20}", "{low: 6, high: 9}")
SLOW = LONG.replace("  num_train_epochs: {low: 6, high: 9}\n", "").replace("space:", "fixed: {max_steps: 200}\nspace:")

FIRST_WORDS = re.compile(r"Submitted \d+ workers? as job array (\d+)\.\nJob (\d+) exports")


class OnSlurm:
    """A project whose sweeps run on a Slurm."""

    def __init__(self, project: Project, slurm: SlurmCluster) -> None:
        self.project, self.slurm = project, slurm
        self.on(workers=2)

    def on(self, **keys: Any) -> None:
        """Write the launch profile."""
        lines = [f"{key}: {json.dumps(value)}" for key, value in {"launcher": "slurm", **keys}.items()]
        self.project.write("slurm.yaml", "\n".join(lines) + "\n")

    def sweep(self, *arguments: str, code: int = 0) -> str:
        """Run `sweep` where Slurm's programs are; return all that it printed."""
        return "".join(self.project.sweep(*arguments, code=code, env=self.slurm.environment))

    def submit(self, *arguments: str) -> tuple[str, str]:
        """Submit the sweep; return the ids of the array and of the last job."""
        said = self.sweep("submit", "spec.yaml", "--on", "slurm.yaml", *arguments)
        match = FIRST_WORDS.search(said)
        assert match, said
        return match[1], match[2]

    def status(self) -> list[str]:
        """Return the lines on jobs."""
        said = self.sweep("status", str(self.project.results()))
        return [line.strip().removeprefix("job      ") for line in said.splitlines() if line.startswith("  job ")]

    def ended(self, job: str, seconds: float = 300) -> None:
        """Wait until a job has ended well."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.slurm.wait(lambda: self.slurm.queue(job).get(job) in over, f"job {job} has ended", seconds)
        logs = [log.read_text()[-2000:] for log in self.project.results().glob("logs/[cw]*.log")]
        assert self.slurm.queue(job)[job] == "COMPLETED", "\n".join(logs)


@pytest.fixture
def on_slurm(project: Project, slurm: SlurmCluster) -> Iterator[OnSlurm]:
    """Yield a project; no job of it outlives the test."""
    project.write("spec.yaml", LONG)
    yield OnSlurm(project, slurm)
    slurm.call("scancel", "--user", str(os.getuid()))
    slurm.call("scancel", "--signal=KILL", "--user", str(os.getuid()))
    slurm.revive()


def test_what_dies_on_the_cluster_costs_no_trial(
    on_slurm: OnSlurm, slurm: SlurmCluster, check_invariants: Callable[..., None], undisturbed: Project
) -> None:
    project = on_slurm.project
    project.write("spec.yaml", RANDOM)
    on_slurm.on(workers=4)
    array, collect = on_slurm.submit(*BUDGET)
    slurm.wait(lambda: finished(project) >= 1, "a trial has finished")
    assert set(slurm.queue(array).values()) == {"RUNNING"}

    before = project.ledger()
    slurm.call("scancel", "--signal=KILL", f"{array}_1.0")
    slurm.call("scontrol", "requeue", f"{array}_2")
    lost = slurm.node_of(f"{array}_4")
    slurm.kill_daemon(lost)
    # What the controller would find out by itself in half a minute; the workers there live on all the same.
    slurm.call("scontrol", "update", f"nodename={lost}", "state=down", "reason=lost")
    on_slurm.ended(collect)

    check_invariants(project, before)
    assert [record["trial"] for record in project.records()] == list(range(TRIALS))
    notes = "\n".join(file.read_text() for file in project.results().glob("runs/*.slurm-*"))
    assert "back to the queue: killed, exit 137" in notes
    assert notes.count(" started\n") >= 4 + 2 + 2  # killed or requeued, and two on the node that was lost
    assert {line.rpartition(": ")[2] for line in on_slurm.status()} == set()  # the run has ended
    check_same(project, undisturbed)


def test_a_trial_goes_on_in_the_next_job_when_the_time_is_nearly_up(on_slurm: OnSlurm, slurm: SlurmCluster) -> None:
    """The sweep was cancelled before, while its worker waited, and is submitted again."""
    project = on_slurm.project
    project.write("spec.yaml", SLOW)
    on_slurm.on(workers=1)
    slurm.call("scontrol", "update", "partitionname=main", "state=down")
    array, _ = on_slurm.submit("--set", "budget.trials=2")
    assert f"job {array}_1: cancelled" in on_slurm.sweep("cancel", str(project.results()))
    slurm.call("scontrol", "update", "partitionname=main", "state=up")
    array, collect = on_slurm.submit("--set", "budget.trials=2")
    slurm.wait(lambda: project.runs(0, step=50), "the first trial trains")
    slurm.call("scancel", "--signal=USR1", f"{array}_1.0")
    slurm.wait(lambda: slurm.queue(array)[f"{array}_1"] == "PENDING", "the task is back in the queue", 60)
    assert project.records()[0]["state"] == "INTERRUPTED"
    assert any(line.startswith(f"{array}_1, worker 1: queued") for line in on_slurm.status())
    on_slurm.ended(collect)
    first, second = project.records()
    assert first["resumed_step"] >= 50
    assert second["resumed_step"] is None or second["resumed_step"] == 0
    note = (project.results() / f"runs/0002.slurm-{array}_1").read_text()
    assert note.count("its time was nearly up") == 1
    assert note.splitlines()[-1].endswith("ended 0")


def test_the_status_tells_queued_running_dead_and_finished_apart(on_slurm: OnSlurm, slurm: SlurmCluster) -> None:
    project = on_slurm.project
    on_slurm.on(workers=3, at_once=2, requeues=0)
    array, collect = on_slurm.submit("--set", "budget.trials=4")
    slurm.wait(lambda: project.runs(0), "a trial runs")
    assert on_slurm.status() == [
        f"{array}_1, worker 1: running (on n1)",
        f"{array}_2, worker 2: running (on n1)",
        f"{array}_3, worker 3: queued (JobArrayTaskLimit)",
        f"{collect}, collect: queued (Dependency)",
    ]
    slurm.call("scancel", "--signal=KILL", f"{array}_1.0")
    slurm.wait(lambda: slurm.queue(array)[f"{array}_2"] == "COMPLETED", "a worker has nothing left to do")
    said = on_slurm.status()
    assert said[0].startswith(f"{array}_1, worker 1: dead (FAILED on n1")
    assert said[1] == f"{array}_2, worker 2: finished"


def test_jobs_submitted_by_hand_are_known_and_a_controller_that_is_down_is_one_line(
    on_slurm: OnSlurm, slurm: SlurmCluster
) -> None:
    project = on_slurm.project
    project.write("spec.yaml", LONG + "confirm: {top: 1, seeds: 2}\n")
    said = on_slurm.sweep("submit", "spec.yaml", "--on", "slurm.yaml", "--dry-run", "--set", "budget.trials=2")
    assert "Nothing was submitted" in said
    assert slurm.queue() == {} or all(state not in ("PENDING", "RUNNING") for state in slurm.queue().values())
    for name in ("submit", "collect"):
        text = (project.results() / f"{name}.sbatch").read_text()
        assert text in said
    # Exactly what a person would copy from the screen.
    first, second = (shlex.split(line) for line in said.splitlines() if line.startswith("  sbatch "))
    slurm.call("scontrol", "update", "partitionname=main", "state=down")
    array = slurm.call(*first).split()[-1]
    collect = slurm.call(*(word.replace("ID", array) for word in second)).split()[-1]
    assert [line.partition(" (")[0] for line in on_slurm.status()] == [
        f"{array}_1, worker 1: queued",
        f"{array}_2, worker 2: queued",
        f"{collect}, collect: queued",
    ]
    unreachable = project.write(
        "none.conf", re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", (slurm.path / "etc/slurm.conf").read_text())
    )
    environment = {**slurm.environment, "SLURM_CONF": str(unreachable)}
    out, _ = project.sweep("status", str(project.results()), env=environment, timeout=30)
    (line,) = (line for line in out.splitlines() if line.startswith("  jobs "))
    assert "Slurm did not answer within 8 seconds" in line or "Slurm refused" in line
    slurm.call("scontrol", "update", "partitionname=main", "state=up")
    on_slurm.ended(collect)
    assert [record["state"] for record in project.records()] == ["COMPLETE", "COMPLETE"]
    confirmation_is_cancelled_and_goes_on(on_slurm)


def confirmation_is_cancelled_and_goes_on(on_slurm: OnSlurm) -> None:
    """Check that the last job has submitted the confirmation, cancel that, and submit what is left of it."""
    folder = on_slurm.project.results()
    assert not (folder / "winner").exists()
    assert "its confirmation was submitted" in json.loads((folder / "runs/0001.json").read_text())["outcome"]
    jobs = [line.partition(":")[0] for line in on_slurm.status()]
    assert [job.partition(", ")[2] for job in jobs] == [
        "worker 1 of the confirmation",
        "worker 2 of the confirmation",
        "collect of the confirmation",
    ]
    said = on_slurm.sweep("cancel", str(folder))
    assert all(f"job {job.partition(', ')[0]}: cancelled" in said for job in jobs)
    assert "sweep confirm continues from here" in said
    match = FIRST_WORDS.search(on_slurm.sweep("confirm", str(folder), "--on", "slurm.yaml"))
    assert match
    on_slurm.ended(match[2])
    trainings = on_slurm.project.records("spec/confirm")
    assert [record["state"] for record in trainings] == ["COMPLETE"] * len(trainings)
    assert len(trainings) in (2, 4)
    evidence = json.loads((folder / "winner/evidence.json").read_text())
    assert evidence["ranked"] in [record["objective"] for record in trainings]
    assert f"confirm  {len(trainings)} of at most {len(trainings)} trainings" in on_slurm.sweep("status", str(folder))


def test_a_partition_that_does_not_exist_is_refused_in_slurms_own_words(on_slurm: OnSlurm) -> None:
    on_slurm.on(workers=1, partition="nope")
    said = on_slurm.sweep("submit", "spec.yaml", "--on", "slurm.yaml", code=3)
    assert "error: Slurm refused: " in said
    assert "invalid partition specified: nope" in said.lower()
    assert "sbatch --parsable" in said
    assert on_slurm.status() == []


def hidden(slurm: SlurmCluster, node: str, folder: Path, instead: Path) -> None:
    """Start a node's daemon again so that it sees another folder in place of one."""
    slurm.kill_daemon(node)
    spool = slurm.path / "spool" / node
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir()
    script = 'mount --bind "$1" "$2" && exec slurmd -N "$3"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(instead), str(folder), node]
    subprocess.run(command, env={**os.environ, **slurm.environment}, check=True, timeout=60)
    slurm.call("scontrol", "update", f"nodename={node}", "state=resume")
    slurm.wait(lambda: node in slurm.idle(), f"{node} is idle", 60)


@pytest.fixture
def lonely(slurm: SlurmCluster) -> Iterator[str]:
    """Yield a node whose daemon may be started anew."""
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("a folder can be hidden from one node only by root")
    yield "n3"
    pid = int((slurm.path / "run/slurmd.n3.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    slurm.wait(lambda: not slurm._pid("slurmd.n3"), "the daemon is gone", 10)


@pytest.mark.parametrize("has_copy", [False, True], ids=["nothing there", "another folder there"])
def test_a_folder_that_the_nodes_do_not_share_is_named(
    on_slurm: OnSlurm, slurm: SlurmCluster, lonely: str, tmp_path: Path, has_copy: bool
) -> None:
    project = on_slurm.project
    on_slurm.on(workers=1, options={"nodelist": lonely})
    (project.path / "results").mkdir()
    (tmp_path / "other").mkdir()
    if has_copy:
        on_slurm.sweep("submit", "spec.yaml", "--on", "slurm.yaml", "--dry-run", "--set", "budget.trials=1")
        shutil.copytree(project.results(), tmp_path / "other/spec")
    hidden(slurm, lonely, project.path / "results", tmp_path / "other")
    array, _ = on_slurm.submit("--set", "budget.trials=1")
    slurm.wait(lambda: slurm.queue(array)[f"{array}_1"] == "FAILED", "the worker has failed", 60)
    (line,) = (line for line in on_slurm.status() if "worker 1" in line)
    assert "dead" in line
    if has_copy:
        said = next((tmp_path / "other/spec/logs").glob("worker-*.log")).read_text()
        assert "must lie on a file system that all its machines share" in said
    else:
        assert "do the nodes share the sweep's folder?" in line
