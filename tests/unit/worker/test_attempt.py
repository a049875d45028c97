"""What is recorded of an attempt that could not write its own record."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import WAITING, record

from finesweep.folder.sweep_folder import make_folders


@pytest.mark.torch
def test_the_time_of_a_trial_whose_process_was_killed_is_that_of_all_its_attempts(tmp_path: Path) -> None:
    from finesweep.worker.attempt import bare_record

    folder = make_folders(tmp_path / "s")
    first = folder.claim(1, [0])
    assert first is not None
    folder.record(record(0, 0.5, WAITING, seconds=5.0, earlier_seconds=2.0))
    first.release()
    second = folder.claim(1, [0])
    assert second is not None
    killed = bare_record(second.claim, folder, 3.0)
    second.release()
    assert (killed.seconds, killed.trained_seconds) == (3.0, 10.0)
