"""Records that are gone while leaderboard or winner tell of their trials: said, and given up only when asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import made_records
import pytest

from finesweep.errors import FolderError
from finesweep.folder import lost_records
from finesweep.folder.sweep_folder import SweepFolder, make_folders

STATES = {0: "COMPLETE", 1: "PRUNED", 2: "DIVERGED", 3: "INTERRUPTED", 4: "WAITING"}


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep's folder of which the leaderboard tells five trials, three of them ended."""
    folder = make_folders(tmp_path / "demo")
    for trial in (0, 1, 2):
        folder.record(made_records.record(trial, 0.5))
    rows = [{"trial": trial, "state": state} for trial, state in STATES.items()]
    folder.leaderboard.with_suffix(".json").write_text(json.dumps(rows))
    folder.winner.mkdir()
    (folder.winner / "evidence.json").write_text('{"trial": 0}')
    return folder


def test_nothing_is_lost_where_every_ended_trial_has_its_record(folder):
    lost_records.refuse(folder)
    assert lost_records.lost(folder) == []


@pytest.mark.parametrize(
    ("gone", "named"), [([1], "0001.json are"), ([0, 1, 2], "0000.json, 0001.json, 0002.json are")]
)
def test_lost_records_are_refused_with_what_to_do(folder, gone, named):
    for trial in gone:
        folder.record_file(trial).unlink()
    with pytest.raises(FolderError, match=rf"{named} gone.*--rerun-lost.*--fresh"):
        lost_records.refuse(SweepFolder(folder.path))


def test_a_deleted_folder_of_records_is_refused(folder):
    shutil.rmtree(folder.path / "trials")
    with pytest.raises(FolderError, match=r"0002\.json are gone"):
        lost_records.refuse(make_folders(folder.path))


def test_the_winner_tells_of_its_trial_where_the_leaderboard_is_gone_too(folder):
    folder.leaderboard.with_suffix(".json").unlink()
    folder.record_file(0).unlink()
    folder.record_file(1).unlink()
    assert lost_records.lost(SweepFolder(folder.path)) == [0]


def test_a_damaged_record_is_no_loss(folder):
    folder.record_file(1).write_text("no record")
    lost_records.refuse(SweepFolder(folder.path))


def test_what_is_given_up_runs_again_and_is_named(folder):
    folder.record_file(1).unlink()
    fresh = SweepFolder(folder.path)
    lost_records.refuse(fresh, rerun=True)
    assert fresh.set_aside() == ["trials/0001.json.corrupt"]
    lost_records.refuse(fresh)
    assert not fresh.is_finished(1)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"trial": "x", "state": "COMPLETE"}]', '[{"state": []}]'])
def test_a_leaderboard_that_is_none_tells_nothing(folder, text):
    folder.leaderboard.with_suffix(".json").write_text(text)
    lost_records.refuse(folder)
