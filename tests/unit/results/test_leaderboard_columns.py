from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from made_records import FAILED, manifest, record, run

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.results.leaderboard_columns import BoardColumn, Place, columns
from finesweep.results.ranking import Row, rank
from finesweep.results.winner import Evidence
from finesweep.trial import Direction

ROWS = rank([record(0, 0.5), record(1, 0.4), record(2, None, FAILED)], Direction.MINIMIZE)


def test_one_entry_gives_heading_and_cells_in_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_one_more(place: Place, *others: object) -> list[BoardColumn]:
        column = BoardColumn(
            "gpu_hours", Place.ALL, lambda row: row.record.seconds / 3600, "GPU hours", "{:.3f}".format
        )
        return [*columns(place, *others), column]  # type: ignore[arg-type]

    monkeypatch.setattr(leaderboard, "columns", with_one_more)
    leaderboard.write(read_board(SweepFolder(tmp_path), manifest(), [row.record for row in ROWS], [run()]))
    objects = json.loads((tmp_path / "leaderboard.json").read_text())
    head, *rows = csv.reader(io.StringIO((tmp_path / "leaderboard.csv").read_text()))
    lines = [
        line.split("|")[-2].strip() for line in (tmp_path / "leaderboard.md").read_text().splitlines() if "|" in line
    ]
    assert [one["gpu_hours"] for one in objects] == [42 / 3600] * 3
    assert head[-1] == "gpu_hours"
    assert [float(row[len(head) - 1]) for row in rows] == [42 / 3600] * 3
    assert [line for line in lines if not line.startswith("-")] == ["GPU hours", "0.012", "0.012", "GPU hours", "0.012"]


@pytest.mark.parametrize("place", [Place.RANKED, Place.UNRANKED, Place.CSV, Place.JSON])
def test_no_two_columns_of_a_place_share_a_name(place: Place) -> None:
    evidence = Evidence(1, "eval_loss", 0.4, {"eval_loss": 0.4}, {"eval_loss": 0.45}, {})
    names = [column.name for column in columns(place, ROWS, manifest(), evidence)]
    assert len(names) == len(set(names))


def test_parameter_that_a_trial_lacks_is_empty_and_null_is_shown() -> None:
    row = Row(1, record(0, 0.5, params={"seed": None}))
    shown = {column.title: column.text(row) for column in columns(Place.RANKED, [row], manifest())}
    assert (shown["seed"], shown["learning_rate"]) == ("null", "")


def test_test_scores_stand_in_the_row_of_the_winner_alone() -> None:
    evidence = Evidence(1, "eval_loss", 0.4, {"eval_loss": 0.4}, {"eval_loss": 0.45}, {})
    (column,) = (one for one in columns(Place.CSV, ROWS, manifest(), evidence) if one.name == "test.eval_loss")
    assert [column.value(row) for row in ROWS] == [0.45, None, None]
    without = dataclasses.replace(evidence, test={})
    assert not any(one.name.startswith("test.") for one in columns(Place.CSV, ROWS, manifest(), without))
