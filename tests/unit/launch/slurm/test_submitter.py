"""Submitting, asking and cancelling call Slurm's programs by argv, within a time, and repeat its own words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from slurm_orders import TOKEN, calls, fake_slurm, order

from finesweep.errors import FolderError, LaunchError
from finesweep.launch.protocol import Job, Order
from finesweep.launch.slurm import client, queue, submitter
from finesweep.launch.slurm.client import call
from finesweep.launch.slurm.submitter import SlurmSubmitter

MINE = f"finesweep-{TOKEN}"
SUBMITTED = 'case "$*" in *collect*) echo 8;; *) echo "7;cluster";; esac'


def listing(*lines: str) -> str:
    """Return a stand-in for squeue that lists jobs: id, task, state, reason, nodes, comment."""
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND"


def states(made: Order) -> list[tuple[str, str, str, str]]:
    return [(job.id, job.role, job.state, job.detail) for job in SlurmSubmitter().jobs(made.sweep_folder, made.run)]


def note(made: Order, job: str, *lines: str) -> None:
    text = "".join(f"2026-01-01T00:00:00 n5 {line}\n" for line in lines)
    (made.sweep_folder.path / f"runs/0001.slurm-{job}").write_text(text)


def test_the_array_and_the_job_that_waits_for_it_are_submitted_by_argv(tmp_path, monkeypatch):
    programs = fake_slurm(tmp_path / "bin", monkeypatch, sbatch=SUBMITTED)
    made = order(tmp_path / "a b; touch x")
    submission = SlurmSubmitter().submit(made, dry_run=False)
    path = made.sweep_folder.path
    assert calls(programs, "sbatch") == [
        ["--parsable", f"{path}/submit.sbatch"],
        ["--parsable", "--dependency=afterany:7", f"{path}/collect.sbatch"],
    ]
    assert submission.jobs == {"workers": "7_[1-3]", "collect": "8"}
    said = "\n".join(submission.lines)
    assert "Submitted 3 workers as job array 7." in said
    assert f"sweep status '{path}'" in said
    assert f"sweep cancel '{path}'" in said


def test_a_dry_run_writes_and_shows_both_scripts_and_calls_nobody(tmp_path, monkeypatch):
    programs = fake_slurm(tmp_path / "bin", monkeypatch, sbatch=SUBMITTED)
    made = order(tmp_path / "results")
    submission = SlurmSubmitter().submit(made, dry_run=True)
    assert calls(programs, "sbatch") == []
    assert submission.jobs == {}
    said = "\n".join(submission.lines)
    for name in ("submit.sbatch", "collect.sbatch"):
        assert (made.sweep_folder.path / name).read_text().rstrip("\n") in said
    assert "Nothing was submitted." in said
    assert f"  sbatch --dependency=afterany:ID {made.sweep_folder.path}/collect.sbatch" in said


def test_without_sbatch_it_says_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"sbatch is not on this machine's PATH: .* --dry-run writes") as caught:
        SlurmSubmitter().check(order(tmp_path / "results").profile)
    assert caught.value.exit_code == 3


def test_what_slurm_refuses_is_repeated_with_the_command(tmp_path, monkeypatch):
    refusal = "echo 'sbatch: error: invalid partition specified: nope' >&2; echo -e '\\e[2Jfailed' >&2; exit 1"
    fake_slurm(tmp_path / "bin", monkeypatch, sbatch=refusal)
    made = order(tmp_path / "a b")
    with pytest.raises(LaunchError, match="Slurm refused: sbatch: error: invalid partition specified: nope") as caught:
        SlurmSubmitter().submit(made, dry_run=False)
    assert f"The command: sbatch --parsable '{made.sweep_folder.path}/submit.sbatch'" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_without_the_last_job_the_array_is_taken_back(tmp_path, monkeypatch):
    refusal = 'case "$*" in *collect*) echo "no more jobs" >&2; exit 1;; *) echo 7;; esac'
    programs = fake_slurm(tmp_path / "bin", monkeypatch, sbatch=refusal, scancel="true")
    with pytest.raises(LaunchError, match="no more jobs"):
        SlurmSubmitter().submit(order(tmp_path / "results"), dry_run=False)
    assert calls(programs, "scancel") == [["7"]]


@pytest.mark.parametrize("said", ["", "Submitted batch job 7", "7\n8", "-1", "$(id)"])
def test_what_is_no_id_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, sbatch=f"printf '%s' '{said}'")
    with pytest.raises(LaunchError, match="sbatch printed no job id"):
        SlurmSubmitter().submit(order(tmp_path / "results"), dry_run=False)


def test_a_folder_that_slurm_cannot_take_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    programs = fake_slurm(tmp_path / "bin", monkeypatch, sbatch=SUBMITTED)
    made = order(tmp_path / "100%")
    with pytest.raises(FolderError, match="Slurm takes no path with % in it"):
        SlurmSubmitter().submit(made, dry_run=False)
    assert calls(programs, "sbatch") == []
    assert not list(made.sweep_folder.path.glob("*.sbatch"))


def test_variables_that_go_before_the_script_have_no_say(tmp_path, monkeypatch):
    fake_slurm(tmp_path / "bin", monkeypatch, sbatch=f'env >"{tmp_path}/env"\n{SUBMITTED}')
    ours = {"SBATCH_ARRAY_INX": "0-99", "SBATCH_OUTPUT": "/x", "SBATCH_PARTITION": "other", "SLURM_JOB_ID": "3"}
    theirs = {
        "SBATCH_ACCOUNT": "lab",
        "SBATCH_RESERVATION": "spring",
        "SLURM_CONF": "/etc/slurm.conf",
        "HOME_SWEET": "1",
    }
    for name, value in {**ours, **theirs}.items():
        monkeypatch.setenv(name, value)
    SlurmSubmitter().submit(order(tmp_path / "results", partition="gpu"), dry_run=False)
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert not seen.keys() & ours.keys()
    assert theirs.items() <= seen.items()
    SlurmSubmitter().submit(order(tmp_path / "results", options={"reservation": "autumn"}), dry_run=False)
    assert "SBATCH_RESERVATION" not in (tmp_path / "env").read_text()
    assert "SBATCH_PARTITION=other" in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("PENDING", "Priority", ("queued", "Priority")),
        ("PENDING", "None", ("queued", "")),
        ("REQUEUED", "None", ("queued", "")),
        ("REQUEUE_HOLD", "launch failed requeued held", ("queued", "launch failed requeued held")),
        ("SPECIAL_EXIT", "None", ("queued", "")),
        ("RUNNING", "None", ("running", "on n1")),
        ("COMPLETING", "None", ("running", "on n1")),
        ("SUSPENDED", "None", ("running", "on n1")),
        ("COMPLETED", "None", ("finished", "")),
        ("CANCELLED", "None", ("dead", "CANCELLED on n1")),
        ("NODE_FAIL", "None", ("dead", "NODE_FAIL on n1: the last word")),
        ("TIMEOUT", "TimeLimit", ("dead", "TIMEOUT on n1, TimeLimit: the last word")),
        ("OUT_OF_MEMORY", "OutOfMemory", ("dead", "OUT_OF_MEMORY on n1, OutOfMemory: the last word")),
        ("FAILED", "NonZeroExitCode", ("dead", "FAILED on n1: the last word")),
        ("FAILED", "JobLaunchFailure", ("dead", f"FAILED on n1, JobLaunchFailure: {queue.UNSHARED}")),
        ("A_STATE_TO_COME", "None", ("dead", "A_STATE_TO_COME on n1: the last word")),
    ],
)
def test_each_state_is_told_in_the_words_of_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, reason: str, expected: tuple[str, str]
) -> None:
    made = order(tmp_path / "results")
    fake_slurm(tmp_path / "bin", monkeypatch, squeue=listing(f"7|2|{state}|{reason}|n1|{MINE}"))
    made.sweep_folder.worker_log(1, 1).write_text("more\nerror: the last word\nsrun: error: n1: task 0: Exited\n\n")
    assert states(made) == [("7_2", "worker 2", *expected)]


def test_only_the_runs_own_jobs_are_its_jobs(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    others = ("6|1|RUNNING|None|n1|finesweep-other", "5|N/A|RUNNING|None|n1|(null)", "4|N/A|RUNNING|None|n1|a|b|c")
    lines = (*others, "CLUSTER: one", f"9|N/A|PENDING|Dependency||{MINE}", f"7|10|PENDING|Priority||{MINE}")
    programs = fake_slurm(tmp_path / "bin", monkeypatch, squeue=listing(*lines, f"7|9|RUNNING|None|n2|{MINE}"))
    assert states(made) == [
        ("7_9", "worker 9", "running", "on n2"),
        ("7_10", "worker 10", "queued", "Priority"),
        ("9", "collect", "queued", "Dependency"),
    ]
    (arguments,) = calls(programs, "squeue")
    assert f"--user={os.getuid()}" in arguments


def test_what_the_queue_has_forgotten_is_told_by_its_note(tmp_path, monkeypatch):
    made = order(tmp_path / "results", workers=5)
    fake_slurm(tmp_path / "bin", monkeypatch, squeue="true")
    made.sweep_folder.write_jobs(1, {"workers": "7_[1-5]", "collect": "8"})
    note(made, "7_1", "started", "back to the queue: killed, exit 137", "started", "ended 0")
    note(made, "7_2", "started", "ended 2")
    note(made, "7_3", "started")
    note(made, "7_4", "started", "back to the queue: its time was nearly up")
    note(made, "11_1", "started", "ended 0")  # submitted by hand, later
    made.sweep_folder.worker_log(1, 1).write_text("error: the folder is not shared\n")
    forgotten = "the queue no longer has it, and it left no note in the folder"
    assert states(made) == [
        ("7_1", "worker 1", "finished", ""),
        ("7_2", "worker 2", "dead", "exit code 2 on n5: the folder is not shared"),
        ("7_3", "worker 3", "dead", "it was killed on n5"),
        ("7_4", "worker 4", "dead", "it was killed on n5"),
        ("7_5", "worker 5", "dead", forgotten),
        ("8", "collect", "dead", forgotten),
        ("11_1", "worker 1", "finished", ""),
    ]


def test_what_the_queue_lists_counts_more_than_a_note(tmp_path, monkeypatch):
    made = order(tmp_path / "results", workers=1)
    fake_slurm(tmp_path / "bin", monkeypatch, squeue=listing(f"7|1|PENDING|BeginTime||{MINE}"))
    made.sweep_folder.write_jobs(1, {"workers": "7_[1-1]"})
    note(made, "7_1", "started", "back to the queue: its time was nearly up")
    assert states(made) == [("7_1", "worker 1", "queued", "BeginTime")]


def test_notes_and_logs_that_anybody_may_have_written_are_read_with_care(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    fake_slurm(tmp_path / "bin", monkeypatch, squeue="true")
    runs = made.sweep_folder.path / "runs"
    (tmp_path / "secret").write_text("secret\n")
    (runs / "0001.slurm-1_1").symlink_to(tmp_path / "secret")
    os.mkfifo(runs / "0001.slurm-2_1")
    (runs / "0001.slurm-3_1").write_bytes(b"\xff\0" * 1_000_000 + b"\nx n\x1b[2J ended 5\n")
    (runs / "0001.slurm-4; touch x").write_text("started\n")
    made.sweep_folder.worker_log(1, 0).symlink_to(tmp_path / "secret")
    made.sweep_folder.write_jobs(1, {"workers": "7_[1-999999999]", "collect": "$(id)"})
    found = states(made)
    assert [job[0] for job in found] == ["1_1", "2_1", "3_1"]
    said = "\n".join(job[3] for job in found)
    assert "secret" not in said
    assert said.replace("\n", "").isprintable()
    assert "exit code 5" in found[2][3]


def test_without_squeue_it_is_one_line(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"squeue is not on this machine's PATH: it is on .* login nodes$"):
        SlurmSubmitter().jobs(made.sweep_folder, made.run)


def test_a_controller_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    fake_slurm(tmp_path / "bin", monkeypatch, squeue="exec sleep 30")
    monkeypatch.setattr(queue, "LOOK_SECONDS", 0.2)
    with pytest.raises(LaunchError, match=r"Slurm did not answer within 0.2 seconds: squeue"):
        SlurmSubmitter().jobs(made.sweep_folder, made.run)


def test_a_program_that_cannot_be_started_is_no_traceback(tmp_path, monkeypatch):
    fake_slurm(tmp_path / "bin", monkeypatch, sinfo="true")
    (tmp_path / "bin/sinfo").write_bytes(b"\x7fELF")
    with pytest.raises(LaunchError, match="sinfo could not be started: Exec format error"):
        call(["sinfo"], 1)


QUEUE = """\
if [ -e "{0}/gone" ]; then exit 0; fi
cat <<END
7|1|RUNNING|None|n1|{1}
7|2|PENDING|Priority||{1}
8|N/A|PENDING|Dependency||{1}
6|1|COMPLETED|None|n1|{1}
5|N/A|RUNNING|None|n1|mine, and no sweep
END
"""


def test_cancelling_ends_the_runs_jobs_the_last_one_first(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    made.sweep_folder.write_jobs(1, {"workers": "5", "collect": "5"})  # what a folder says is no reason to end a job
    programs = fake_slurm(
        tmp_path / "bin", monkeypatch, squeue=QUEUE.format(tmp_path, MINE), scancel=f'touch "{tmp_path}/gone"'
    )
    said = SlurmSubmitter().cancel(made.sweep_folder, made.run)
    assert calls(programs, "scancel") == [["8", "7"]]
    assert said == ["job 7_1: cancelled", "job 7_2: cancelled", "job 8: cancelled"]
    assert SlurmSubmitter().cancel(made.sweep_folder, made.run) == []
    assert len(calls(programs, "scancel")) == 1


def test_cancelling_does_not_wait_for_ever(tmp_path, monkeypatch):
    made = order(tmp_path / "results")
    fake_slurm(tmp_path / "bin", monkeypatch, squeue=QUEUE.format(tmp_path, MINE), scancel="true")
    monkeypatch.setattr(submitter, "END_SECONDS", 0.2)
    monkeypatch.setattr(submitter, "POLL_SECONDS", 0.05)
    assert SlurmSubmitter().cancel(made.sweep_folder, made.run)[0] == "job 7_1: ending"


def test_nobody_watches_workers_on_slurm():
    assert SlurmSubmitter.watched is False
    assert client.LOOK_SECONDS <= 10
    assert Job("7_1", "worker 1", "queued").detail == ""
