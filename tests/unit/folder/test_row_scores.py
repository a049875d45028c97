"""What a finished trial keeps of each row: written with its record, and never believed blindly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_records import record

from finesweep.folder import RowScores, SweepFolder
from finesweep.folder.sweep_folder import make_folders

LABELS = np.array([0, 1, 1])


def scores(attempt: int = 1, **values: list[float]) -> RowScores:
    arrays = {name: np.array(one) for name, one in (values or {"eval_loss": [0.1, 0.2, 0.6]}).items()}
    return RowScores.of(3, attempt, arrays, LABELS)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "sweep")


def test_numbers_come_back_in_single_precision(folder: SweepFolder) -> None:
    folder.record(record(3, 0.3), scores())
    found = folder.read_row_scores(record(3, 0.3))
    assert found is not None
    assert found.rows == 3
    assert found.arrays()["eval_loss"].tolist() == [float(np.float32(value)) for value in (0.1, 0.2, 0.6)]


def test_scores_of_another_attempt_or_of_none_are_none(folder: SweepFolder) -> None:
    folder.record(record(3, 0.3), scores())
    assert folder.read_row_scores(record(3, 0.3, attempt=2)) is None
    assert folder.read_row_scores(record(4, 0.3)) is None


def test_digest_tells_rows_with_other_labels() -> None:
    assert scores().labels == scores(2).labels
    assert scores().labels != RowScores.of(3, 1, {}, np.array([1, 0, 1])).labels


@pytest.mark.parametrize("text", ["", "AAAA", "?", "AAAAAAAAAAAAAAAAAAAA" * 10])
def test_metric_without_a_number_for_each_row_is_left_out(folder: SweepFolder, text: str) -> None:
    folder.record(record(3, 0.3), scores())
    file = folder.row_scores_file(3)
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "values": {"eval_loss": text}}))
    found = folder.read_row_scores(record(3, 0.3))
    assert found is not None
    assert found.arrays() == {}


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"trial": 3, "attempt": 1, "rows": -1}'])
def test_damaged_file_is_as_good_as_none(folder: SweepFolder, content: str) -> None:
    folder.record(record(3, 0.3), scores())
    folder.row_scores_file(3).write_text(content)
    assert folder.read_row_scores(record(3, 0.3)) is None


def test_size_is_a_few_kilobytes(folder: SweepFolder) -> None:
    rng = np.random.default_rng(0)
    many = RowScores.of(3, 1, {"eval_loss": rng.random(872), "eval_accuracy": np.ones(872)}, np.zeros(872))
    folder.record(record(3, 0.3), many)
    assert folder.row_scores_file(3).stat().st_size < 10_000
