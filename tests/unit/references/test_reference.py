"""References are kept in the folder; a damaged file is as good as none."""

from __future__ import annotations

from pathlib import Path

from finesweep.folder import SweepFolder
from finesweep.references import Reference, best_reference, read_references, write_references
from finesweep.trial import Direction

ONE = Reference("majority class", {"eval_loss": 0.7}, seconds=0.1, rows=10)


def test_references_are_read_as_written(tmp_path: Path) -> None:
    write_references(SweepFolder(tmp_path), [ONE])
    assert read_references(SweepFolder(tmp_path)) == (ONE,)


def test_a_missing_or_damaged_file_gives_no_reference(tmp_path: Path) -> None:
    assert read_references(SweepFolder(tmp_path)) == ()
    (tmp_path / "references.json").write_text('{"references": [{"name": 1}]}')
    assert read_references(SweepFolder(tmp_path)) == ()


def test_the_best_reference_follows_the_direction() -> None:
    other = Reference("TF-IDF", {"eval_loss": 0.4, "eval_accuracy": 0.9}, 1.0, 10)
    assert best_reference([ONE, other], "eval_loss", Direction.MINIMIZE) is other
    assert best_reference([ONE], "eval_accuracy", Direction.MAXIMIZE) is None
