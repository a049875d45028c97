"""What an attempt reports, and what is recorded of one that could not write its own record."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import PRUNED, WAITING, manifest, record

from finesweep.folder import next_attempt
from finesweep.folder.sweep_folder import make_folders
from finesweep.launch import Profile
from finesweep.trial import Evaluation, Report


@pytest.mark.torch
def test_the_time_of_a_trial_whose_process_was_killed_is_that_of_all_its_attempts(tmp_path: Path) -> None:
    from finesweep.worker.bare_record import bare_record

    folder = make_folders(tmp_path / "s")
    first = next_attempt.claim(folder, 1, [0])
    assert first is not None
    folder.record(record(0, 0.5, WAITING, seconds=5.0, earlier_seconds=2.0))
    first.release()
    second = next_attempt.claim(folder, 1, [0])
    assert second is not None
    killed = bare_record(second.claim, folder, 3.0)
    second.release()
    assert (killed.seconds, killed.trained_seconds) == (3.0, 10.0)


@pytest.mark.torch
def test_record_of_a_report_is_made_only_if_the_search_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finesweep.training.callback import TrialContext
    from finesweep.worker.attempt import Attempt
    from finesweep.worker.rung_judge import RungJudge

    folder, made = make_folders(tmp_path / "s"), manifest()
    lease = next_attempt.claim(folder, 1, [0])
    assert lease is not None
    context = TrialContext(folder, made, made.spec, {"learning_rate": 3e-5}, batch_divisor=2)
    attempt = Attempt(context, lease.claim, Profile(), RungJudge(folder, made.spec, 100, 20), lambda: False)
    reports: list[Report] = []
    times: list[float] = []
    monkeypatch.setattr("finesweep.worker.attempt._peak_memory_mb", lambda: times.append(1.0) or 1.0)
    attempt._reported(reports.append, Report(Evaluation(1, 1.0, 100, {}, 0.5), 0.5, last=True))
    lease.release()
    assert not times
    assert reports[0].record is not None
    found = reports[0].record()
    assert (found.state, found.params, len(times)) == (PRUNED, {"learning_rate": 3e-5}, 1)
    assert found.effective["per_device_train_batch_size"] == 4
