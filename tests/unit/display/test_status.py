"""What `sweep status` says of a folder: what runs, what waits for another try, what was set aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from made_records import manifest, record, run, running

from finesweep.display.status import status_lines
from finesweep.errors import LaunchError
from finesweep.files.atomic import write_json
from finesweep.folder import Repeat, claims, next_attempt, sweep_lock
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch import submitted_runs
from finesweep.launch.profile import Profile
from finesweep.launch.protocol import Job
from finesweep.trial import TrialState


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    made = make_folders(tmp_path / "sst2")
    write_json(made.spec_file, manifest().to_json())
    made.write_run(run())
    return made


def said(folder: SweepFolder) -> str:
    return "\n".join(status_lines(folder.path))


def test_a_running_trial_is_told_with_its_worker_and_one_that_died_waits(folder: SweepFolder) -> None:
    leases = [next_attempt.claim(folder, run=1, trials=range(3)) for _ in range(3)]
    folder.write_progress(running(0, step=30))
    assert leases[1] is not None
    leases[1].release()
    text = said(folder)
    assert "running  trial 0, step 30 of 400, loss 0.6123" in text
    assert "retry    trial 1, attempt 2: its worker is gone" in text
    assert "running  trial 2, starting, on " in text
    assert "trials   0 of 20 finished, 2 RUNNING" in text


def test_small_loss_of_a_running_trial_keeps_its_digits(folder: SweepFolder) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    folder.write_progress(running(0, step=30, loss=2.5e-5))
    assert lease is not None
    assert "step 30 of 400, loss 2.5000e-05" in said(folder)


def test_an_earlier_attempt_of_a_trial_that_runs_again_is_not_counted(folder: SweepFolder) -> None:
    for trial in range(2):
        earlier = next_attempt.claim(folder, run=1, trials=[trial])
        assert earlier is not None
        folder.record(record(trial, None, TrialState.INTERRUPTED, reason="stopped"))
        earlier.release()
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert "trials   0 of 20 finished, 1 INTERRUPTED, 1 RUNNING" in said(folder)
    assert lease is not None


def test_a_trial_that_is_tried_again_is_told_with_the_reason(folder: SweepFolder) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    folder.record(record(0, None, TrialState.INTERRUPTED, reason="killed by SIGKILL; to be retried"))
    assert lease is not None
    lease.release()
    assert "retry    trial 0, attempt 2: killed by SIGKILL; to be retried" in said(folder)


def test_a_trial_that_waits_for_its_turn_is_no_failure(folder: SweepFolder) -> None:
    leases = [next_attempt.claim(folder, run=1, trials=range(2)) for _ in range(2)]
    folder.record(record(0, 0.6123, TrialState.WAITING, reason="waits after 3,460 examples", examples=3_460))
    folder.record(record(1, 0.7, TrialState.WAITING, audit="weak", examples=3_460))
    for lease in leases:
        assert lease is not None
        lease.release()
    folder.state(1).mkdir()
    text = said(folder)
    assert "trials   0 of 20 finished, 2 WAITING\n" in text
    again = "and is then trained again from its first step"
    assert f"  waiting  trial 0, 0.6123 at 3,460 examples, for its turn, {again}\n" in text
    assert "  waiting  trial 1, 0.7000 at 3,460 examples, to be finished for the audit\n" in text
    assert "attempt" not in text


def test_a_trial_that_waits_since_a_reboot_or_on_another_machine_does_not_run(folder: SweepFolder, monkeypatch) -> None:
    """Its claim seems alive until it has stood still for a minute, but its attempt is on record."""
    with monkeypatch.context() as there:
        there.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))
        leases = [next_attempt.claim(folder, run=1, trials=range(2)) for _ in range(2)]
    folder.record(record(0, 0.6123, TrialState.WAITING, examples=3_460))
    text = said(folder)
    assert "trials   0 of 20 finished, 1 RUNNING, 1 WAITING\n" in text
    assert "waiting  trial 0, 0.6123 at 3,460 examples, for its turn" in text
    assert "running  trial 1, starting, on elsewhere" in text
    assert len(leases) == 2


def test_what_was_set_aside_is_named(folder: SweepFolder) -> None:
    folder.record_file(3).write_text("{")
    (folder.path / "calibration.json.corrupt").write_text("?")
    text = said(folder)
    assert "note     0003.json could not be read" in text
    assert "note     trials/0003.json.corrupt was damaged and set aside" in text
    assert "note     calibration.json.corrupt was damaged and set aside" in text


def test_a_folder_where_nothing_runs_says_how_it_ended(folder: SweepFolder) -> None:
    folder.record(record(0, 0.5))
    assert "sst2: not running" in said(folder)
    assert "best     trial 0, eval_loss 0.5000" in said(folder)


def test_status_has_the_decision_once_a_trial_ranks(folder: SweepFolder) -> None:
    assert "decision" not in said(folder)
    folder.record(record(0, 0.5))
    assert "decision YELLOW. Take trial 0: eval_loss 0.5000; how sure its rank is, is not known: no rows" in said(
        folder
    )
    lease = next_attempt.claim(folder, run=1, trials=[1])
    assert lease is not None
    with sweep_lock.held(folder.path):
        assert "Take trial 0: eval_loss 0.5000; how sure its rank is, is told when the run ends." in said(folder)


@pytest.fixture
def confirmed(folder: SweepFolder) -> SweepFolder:
    """A sweep whose confirmation has begun: the folder of that one."""
    folder.record(record(3, 0.3))
    folder.record(record(7, 0.31))
    made = make_folders(folder.confirmation.path)
    repeats = tuple(Repeat(trial, seed) for seed in (11, 12, 13) for trial in (3, 7))
    again = dataclasses.replace(manifest(), planned=[record(3, 0.3).params] * 6, repeats=repeats)
    write_json(made.spec_file, again.to_json())
    for number, value in enumerate((0.34, 0.33, 0.36)):
        made.record(record(number, value))
    return made


def test_status_tells_how_far_a_confirmation_is(folder: SweepFolder, confirmed: SweepFolder) -> None:
    lease = next_attempt.claim(confirmed, run=1, trials=[3])
    assert lease is not None
    text = said(folder)
    assert "confirm  3 of at most 6 trainings have ended, 1 RUNNING; means so far: trial 3 0.3500\n" in text
    assert "running  trial 7 again, with seed 12, starting, on " in text
    lease.release()
    confirmed.record(record(3, 0.31))
    lease = next_attempt.claim(confirmed, run=1, trials=[9])
    assert lease is not None
    text = said(folder)
    assert "means so far: trial 7 0.3200, trial 3 0.3500\n" in text
    assert "running  training 9 of the confirmation, starting" in text


class Cluster:
    """A submitter whose queue is a list."""

    queue: ClassVar[list[Job] | Exception] = []

    def jobs(self, sweep_folder: SweepFolder, run: Run, given: Profile | None) -> Sequence[Job]:
        if isinstance(self.queue, Exception):
            raise self.queue
        return self.queue


@pytest.fixture
def submitted(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch):
    """Say what the cluster says of a sweep that it was given."""
    monkeypatch.setattr(submitted_runs, "SUBMITTERS", SimpleNamespace(names=("cluster",), load=lambda _: Cluster))
    folder.write_run(run(2, watched=False, ended=None, profile={"launcher": "cluster"}))

    def says(found: list[Job] | Exception) -> str:
        monkeypatch.setattr(Cluster, "queue", found)
        return said(folder)

    return says


def test_the_jobs_of_a_cluster_are_told_apart(submitted) -> None:
    text = submitted([Job("7_0", "worker 1", "running", "n1"), Job("7_1", "worker 2", "queued", "Priority")])
    assert "sst2: waiting for a cluster\n" in text
    assert "  job      7_0, worker 1: running (n1)\n  job      7_1, worker 2: queued (Priority)" in text
    assert "ended" not in text


def test_a_sweep_that_a_cluster_trains_runs_there(submitted, folder: SweepFolder) -> None:
    lease = next_attempt.claim(folder, run=2, trials=range(3))
    assert lease is not None
    assert "sst2: running (on a cluster)\n" in submitted([Job("7_0", "worker 1", "running")])


def test_a_cluster_that_says_nothing_is_a_line_and_no_failure(submitted) -> None:
    text = submitted(LaunchError("squeue: the controller does not answer\nand more"))
    assert "  jobs     of run 2: squeue: the controller does not answer" in text
    assert "and more" not in text


def test_a_sweep_whose_jobs_are_gone_is_to_be_submitted_again(submitted) -> None:
    assert "ended    never submitted, or its jobs are gone; the same `sweep submit` continues" in submitted([])


def test_a_run_that_has_ended_is_not_asked_about(submitted, folder: SweepFolder) -> None:
    folder.write_run(run(2, watched=False, profile={"launcher": "cluster"}, outcome="all is done"))
    text = submitted(AssertionError("the cluster was asked"))
    assert "ended    all is done" in text


def test_jobs_of_a_confirmation_are_told_apart(submitted, folder: SweepFolder, confirmed: SweepFolder) -> None:
    folder.write_run(run(2, watched=False, profile={"launcher": "cluster"}, outcome="all is done"))
    confirmed.write_run(run(1, watched=False, ended=None, profile={"launcher": "cluster"}))
    assert "  job      7_0, worker 1 of the confirmation: running" in submitted([Job("7_0", "worker 1", "running")])


def test_job_that_went_on_with_the_confirmation_is_known(
    submitted, folder: SweepFolder, confirmed: SweepFolder
) -> None:
    profile = {"launcher": "cluster"}
    folder.write_run(run(2, profile=profile, host="head", pid=5, outcome="all is done"))
    folder.write_jobs(2, {"sweep": "j"})
    for ended, pid, is_known in ((None, 5, True), (None, 6, False), (7200.0, 5, False)):
        confirmed.write_run(run(1, ended=ended, profile=profile, host="head", pid=pid))
        assert ("job      j, sweep: running" in submitted([Job("j", "sweep", "running")])) is is_known
