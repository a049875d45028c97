"""A sweep that is handed over to a cluster is prepared here; what its jobs run is run here by hand."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from slurm_orders import program

from finesweep.folder.sweep_folder import SweepFolder

PROFILE = "launcher: slurm\nworkers: 2\n"
SUBMIT = ("submit", "spec.yaml", "--on", "slurm.yaml")


def commands(script: Path) -> list[list[str]]:
    """Return the commands of finesweep's that a script runs, as `sweep` takes them."""
    lines = script.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line.partition(" -m finesweep ")[2]) for line in lines if " -m finesweep " in line]


def submitted(project, *arguments: str) -> tuple[Sequence[str], Sequence[str]]:
    """Prepare a sweep, and return what its workers and its last job would run."""
    project.write("slurm.yaml", PROFILE)
    out, _ = project.sweep(*SUBMIT, "--dry-run", *arguments)
    assert "Nothing was submitted" in out
    (worker,), (collect,) = (commands(project.results() / name) for name in ("submit.sbatch", "collect.sbatch"))
    return worker, collect


@pytest.mark.slow
def test_what_the_jobs_run_is_the_sweep_of_a_local_run(project, finished_at_random) -> None:
    """Parameters follow from the trial's number, and results from parameters and seed."""
    random = ("--set", "search.sampler=random")
    worker, collect = submitted(project, *random)
    assert list(project.results().glob("data/tokens-*/train")), "tokens are made on the submitting machine"
    out, _ = project.sweep("status", "results/spec", env={"PATH": "/nowhere"})
    assert "jobs     of run 1: squeue" in out
    workers = [project.start(*worker, env={"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    assert [process.wait(timeout=120) for process in workers] == [0, 0]
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 3
    assert project.numbers() == finished_at_random.numbers()
    project.sweep(*collect)
    evidence = json.loads((project.results() / "winner" / "evidence.json").read_text())
    assert evidence["trial"] == project.leaderboard()[0]["trial"]
    out, _ = project.sweep("status", "results/spec")
    assert "ended    all 3 trials of the budget have finished" in out
    out, _ = project.sweep(*SUBMIT, "--dry-run", *random)
    assert "Nothing was submitted: all 3 trials of the budget have finished." in out


@pytest.mark.slow
def test_ctrl_c_while_the_cluster_takes_the_jobs_leaves_none_that_nobody_knows(project, until) -> None:
    """As from a terminal, which sends it to the whole group of processes."""
    project.write("slurm.yaml", PROFILE)
    programs = project.path / "bin"
    program(programs, "sbatch", f"touch '{project.path}/asked'; sleep 1; echo 7")
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    process = project.start(*SUBMIT, env=path, start_new_session=True)
    until((project.path / "asked").exists, "the cluster is asked")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "sweep cancel" in out
    assert SweepFolder(project.results()).jobs(1) == {"workers": "7_[1-2]", "collect": "7"}


@pytest.mark.slow
def test_what_the_jobs_left_is_collected_with_the_reason(project) -> None:
    """No command watches the workers: each of them sees for itself that the hours are used up."""
    long = ("--set", "space.num_train_epochs.low=300", "--set", "space.num_train_epochs.high=301")
    worker, collect = submitted(project, "--set", "budget.hours=0.0005", *long)
    project.sweep(*worker)
    assert [record["state"] for record in project.records()] == ["INTERRUPTED"]
    _, err = project.sweep(*collect, code=1)
    assert "Ended: the budget of 0.0005 hours is used up." in err


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folder_says_where_it_is(project) -> None:
    worker, _ = submitted(project)
    wrong = [word if word != worker[worker.index("--token") + 1] else "another" for word in worker]
    _, err = project.sweep(*wrong, code=2)
    assert "its run 1 has another token; a sweep's folder must lie on a file system that all its machines share" in err
    assert project.records() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "spec.yaml", "--on", "slurm.yaml"), "slurm takes whole sweeps as batches (sweep submit does that)"),
        (("submit", "spec.yaml", "--on", "one_thread.yaml"), "local starts workers and stays with them (sweep run"),
    ],
)
def test_each_launcher_says_which_command_takes_it(project, arguments, message) -> None:
    project.write("slurm.yaml", PROFILE)
    _, err = project.sweep(*arguments, code=2)
    assert message in err
    assert not project.results().exists()


@pytest.mark.slow
def test_shell_lines_of_a_profile_run_only_where_the_user_says_so(project) -> None:
    profile = f"{PROFILE}setup: [module load cuda]\n"
    own = project.path / "config" / "finesweep"
    own.mkdir(parents=True)
    (own / "slurm.yaml").write_text(profile)
    project.write("slurm.yaml", profile)
    _, err = project.sweep(*SUBMIT, "--dry-run", code=2)
    assert "this code would run on the cluster's machines: `module load cuda` (read it, then say --allow-setup" in err
    assert not project.results().exists()
    project.sweep(*SUBMIT, "--dry-run", "--allow-setup")
    home = {"XDG_CONFIG_HOME": str(project.path / "config")}
    project.sweep("submit", "spec.yaml", "--on", str(own / "slurm.yaml"), "--dry-run", "--name", "own", env=home)
    for name in ("spec", "own"):
        assert "\nmodule load cuda\n" in (project.results(name) / "submit.sbatch").read_text()
