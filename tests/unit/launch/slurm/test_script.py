"""The batch scripts ask for what the profile says, run one quoted command, and decide by its exit code what follows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurm_orders import TOKEN, calls, environment, fake_slurm, order, program

from finesweep.errors import FolderError
from finesweep.host.python_process import FOR_TRAINING, THREAD_COUNTS
from finesweep.launch.commands import run_command
from finesweep.launch.protocol import Order
from finesweep.launch.slurm.profile import SlurmProfile
from finesweep.launch.slurm.script import by_hand, collect_script, refuse_folder, workers_script

AWKWARD = "a b; touch x/$(touch y)/`touch z`/it's #1/&|<>*?~{}[]!"


def profile_of(made: Order) -> SlurmProfile:
    assert isinstance(made.profile.asked, SlurmProfile)
    return made.profile.asked


def workers(made: Order) -> str:
    return workers_script(made, profile_of(made))


def asked(script: str) -> dict[str, str]:
    """Return what a script asks Slurm for."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE)
    return {name: value.strip('"') for name, value in found}


def test_a_worker_asks_for_what_the_profile_says(tmp_path):
    made = order(
        tmp_path,
        workers=8,
        at_once=3,
        partition="gpu",
        account="lab",
        qos="long",
        constraint="a100|h100",
        minutes=90,
        cpus=6,
        gpus=1,
        gpu_type="a100",
        memory_gb=24,
        signal_seconds=300,
        options={"nice": 5, "exclusive": True, "mail-user": "me@example.org"},
    )
    assert asked(workers(made)) == {
        "job-name": "finesweep-spec",
        "comment": f"finesweep-{TOKEN}",
        "array": "1-8%3",
        "signal": "USR1@300",
        "output": f"{tmp_path}/logs/worker-0001-%a.log",
        "open-mode": "append",
        "requeue": "",
        "export": "ALL",
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "constraint": "a100|h100",
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": "6",
        "gres": "gpu:a100:1",
        "mem": "22889M",  # 24e9 bytes in units of 2**20, rounded up
        "time": "90",
        "nice": "5",
        "exclusive": "",
        "mail-user": "me@example.org",
    }


def test_what_the_profile_leaves_out_is_the_clusters_to_say(tmp_path):
    made = asked(workers(order(tmp_path)))
    assert not made.keys() & {"partition", "account", "qos", "constraint", "gres", "mem", "time"}
    assert made["array"] == "1-3"


def test_the_last_job_asks_for_what_a_worker_has_and_is_no_array(tmp_path):
    made = order(tmp_path, gpus=1, cpus=4, memory_gb=8, minutes=60, partition="gpu")
    of_workers, of_last = asked(workers(made)), asked(collect_script(made, profile_of(made)))
    own = {"array", "signal", "output"}
    assert {name: value for name, value in of_workers.items() if name not in own} == {
        name: value for name, value in of_last.items() if name != "output"
    }
    assert of_last["output"] == f"{tmp_path}/logs/collect-0001.log"


def test_a_task_writes_the_log_that_a_local_worker_would_write(tmp_path):
    made = order(tmp_path)
    assert asked(workers(made))["output"].replace("%a", "3") == str(made.sweep_folder.worker_log(1, 2))


def test_one_worker_that_runs_all_trials_asks_for_the_share_of_each(tmp_path):
    script = workers(order(tmp_path, single_worker=True, workers=4, cpus=2, gpus=1, memory_gb=2))
    found = asked(script)
    assert (found["array"], found["cpus-per-task"], found["gres"], found["mem"]) == ("1-1", "8", "gpu:4", "7630M")
    assert "OMP_NUM_THREADS" not in script


@pytest.mark.parametrize("folder", ["plain", "a b", AWKWARD])
def test_the_scripts_hold_the_folder_as_one_word(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder
    made = order(path)
    for script, command in (
        (workers(made), run_command("worker", made.sweep_folder, made.run)),
        (collect_script(made, profile_of(made)), run_command("collect", made.sweep_folder, made.run)),
    ):
        joined = script.replace("\\\n", " ")
        (line,) = (line for line in joined.splitlines() if line.startswith("srun "))
        words = shlex.split(line)
        assert words[-len(command) :] == command
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert [shlex.split(line)[-1] for line in by_hand(path)] == [f"{path}/submit.sbatch", f"{path}/collect.sbatch"]


@pytest.mark.parametrize("name", ["a%j", "a\\b", 'a"b', "a\nb", "a\x1b[2Jb"])
def test_a_folder_that_slurm_reads_in_its_own_way_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FolderError, match=r"Slurm takes no path with .* in it; use another --results"):
        refuse_folder(tmp_path / name)


@given(name=st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=40))
def test_a_folder_is_refused_or_one_word_to_bash_and_one_line_to_sbatch(name: str) -> None:
    path = Path("/results", name)
    try:
        refuse_folder(path)
    except FolderError:
        return
    assert shlex.split(by_hand(path)[0], comments=True) == ["sbatch", f"{path}/submit.sbatch"]
    assert str(path).isprintable()
    assert not set(str(path)) & set('%"\\')


def carried_out(
    made: Order,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    srun: str,
    sleep: str = "true",
    script: str | None = None,
    **env: str,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the real script, with stand-ins for Slurm's programs."""
    programs = fake_slurm(tmp_path / "bin", monkeypatch, srun=srun, scontrol="true", sleep=sleep)
    done = subprocess.run(
        ["bash", "-c", script or workers(made)],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, programs


def note_of(made: Order, job: str = "7_2") -> list[str]:
    lines = (made.sweep_folder.path / f"runs/0001.slurm-{job}").read_text().splitlines()
    return [line.split(maxsplit=2)[2] for line in lines]


@pytest.mark.parametrize(
    ("code", "end"),
    [
        *((code, f"ended {code}") for code in (0, 1, 2, 3)),
        (138, "back to the queue: its time was nearly up"),
        (143, "back to the queue: it was asked to stop"),
        *((code, f"back to the queue: killed, exit {code}") for code in (134, 137, 139, 159)),
    ],
)
def test_what_follows_a_workers_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, end: str) -> None:
    made = order(tmp_path / "results")
    done, programs = carried_out(made, tmp_path, monkeypatch, srun=f"exit {code}")
    assert done.returncode == code
    # By array and task: the plain id of one task is that of its whole array.
    assert calls(programs, "scontrol") == ([["requeue", "7_2"]] if end.startswith("back") else [])
    assert note_of(made) == ["started", end]


def test_a_folder_of_any_name_is_one_word_to_bash_and_to_sbatch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = order(tmp_path / AWKWARD)
    done, programs = carried_out(made, tmp_path, monkeypatch, srun="exit 0")
    assert (done.returncode, done.stderr) == (0, "")
    assert note_of(made) == ["started", "ended 0"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [AWKWARD.split("/")[0], "bin"]
    (arguments,) = calls(programs, "srun")
    assert str(made.sweep_folder.path) in arguments
    # sbatch reads quotes as bash does, and nothing else.
    assert f'#SBATCH --output="{made.sweep_folder.path}/logs/worker-0001-%a.log"\n' in workers(made)


def test_a_killed_worker_goes_back_only_so_often(tmp_path, monkeypatch):
    made = order(tmp_path / "results", requeues=2)
    for expected in (1, 2, 2):
        done, programs = carried_out(made, tmp_path, monkeypatch, srun="exit 137")
        assert len(calls(programs, "scontrol")) == expected
    assert note_of(made)[-1] == "ended 137"
    # A time limit is no fault and is not counted.
    done, programs = carried_out(made, tmp_path, monkeypatch, srun="exit 138")
    assert len(calls(programs, "scontrol")) == 3
    assert done.returncode == 138


@pytest.mark.parametrize("code", [143, 138, 137, 0])
def test_a_job_that_is_cancelled_does_not_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    made = order(tmp_path / "results")
    # scancel signals the script while it waits for its worker to save.
    done, programs = carried_out(made, tmp_path, monkeypatch, srun=f"kill -TERM $PPID; exit {code}")
    assert done.returncode == code
    assert calls(programs, "scontrol") == []
    assert note_of(made) == ["started", f"ended {code}"]


@pytest.mark.parametrize("code", [143, 138, 137])
def test_a_cancellation_after_the_workers_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    made = order(tmp_path / "results")
    done, programs = carried_out(made, tmp_path, monkeypatch, srun=f"exit {code}", sleep="kill -TERM $PPID")
    assert done.returncode == code
    assert calls(programs, "sleep") == [["2"]]
    assert calls(programs, "scontrol") == []
    assert note_of(made) == ["started", f"ended {code}"]


def test_a_job_that_cannot_go_back_says_so(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    programs = tmp_path / "bin"
    script = workers(made)
    program(programs, "refusing", "exit 1")
    done, _ = carried_out(made, tmp_path, monkeypatch, srun="exit 138", script=script.replace("scontrol", "refusing"))
    assert done.returncode == 138
    assert "error: 7_2 could not go back to the queue" in done.stdout
    assert note_of(made)[-1] == "ended 138"


def test_the_worker_gets_the_environment_that_a_local_one_gets(tmp_path, monkeypatch):
    made = order(tmp_path / "results", cpus=4)
    done, _ = carried_out(made, tmp_path, monkeypatch, srun="env", GOMP_SPINCOUNT="7", CUDA_VISIBLE_DEVICES="0,1")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    expected = {
        **FOR_TRAINING,
        **dict.fromkeys(THREAD_COUNTS, "4"),
        "GOMP_SPINCOUNT": "7",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["PYTHONSAFEPATH"] == "1"


def test_a_worker_with_a_gpu_keeps_the_one_that_slurm_gives_it(tmp_path, monkeypatch):
    made = order(tmp_path / "results", gpus=1)
    done, _ = carried_out(made, tmp_path, monkeypatch, srun="env", CUDA_VISIBLE_DEVICES="3")
    assert "\nCUDA_VISIBLE_DEVICES=3\n" in done.stdout


def test_setup_lines_run_before_the_worker_as_they_stand(tmp_path, monkeypatch):
    made = order(tmp_path / "results", setup=["export LOADED='a  b'", '[ -n "$NOT_THERE" ] || export MORE=1'])
    done, _ = carried_out(made, tmp_path, monkeypatch, srun='echo "$LOADED $MORE"')
    assert "a  b 1\n" in done.stdout


def test_a_node_without_this_python_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/it's here/python")
    made = order(tmp_path / "results")
    done, programs = carried_out(made, tmp_path, monkeypatch, srun="exit 0")
    assert done.returncode == 127
    assert re.search(r"^error: \S+ has no /nowhere/it's here/python; it must lie on", done.stdout, re.MULTILINE)
    assert calls(programs, "srun") == []
    assert note_of(made)[-1] == "ended 127"


@pytest.mark.parametrize("name", ["SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID"])
def test_without_slurm_a_script_says_how_it_is_run(tmp_path: Path, name: str) -> None:
    made = order(tmp_path)
    script = workers(made) if name == "SLURM_ARRAY_TASK_ID" else collect_script(made, profile_of(made))
    done = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert f"{name}: submit this file with sbatch" in done.stderr


def test_the_last_job_notes_its_own_id(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    script = collect_script(made, profile_of(made))
    done, programs = carried_out(made, tmp_path, monkeypatch, srun="exit 0", script=script, SLURM_JOB_ID="8")
    assert done.returncode == 0
    (arguments,) = calls(programs, "srun")
    assert arguments[-7:] == worker_and_token(made)
    assert note_of(made, "8") == ["started", "ended 0"]


def worker_and_token(made: Order) -> Sequence[Any]:
    return ["finesweep", "collect", str(made.sweep_folder.path), "--run", "1", "--token", TOKEN]


def test_no_secret_of_the_environment_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PGPASSWORD", "hf_secret")
    made = order(tmp_path)
    assert "hf_secret" not in workers(made) + collect_script(made, profile_of(made))
