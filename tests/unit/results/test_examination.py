"""The doctor's findings are made from what a sweep's folder holds, and stand on every face of it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

from made_records import manifest, record, run
from rich.console import Console

from finesweep.doctor import RowFacts
from finesweep.files import write_json
from finesweep.folder import SweepFolder, sweep_folder
from finesweep.references import Reference, write_references
from finesweep.results import leaderboard
from finesweep.results.answers import Answers, Confusion
from finesweep.results.board import Board, read_board
from finesweep.results.decision import Light
from finesweep.results.winner import EVIDENCE, Evidence

ROWS = RowFacts((3000, 3920), (400, 472), repeated=0)
WINNER = Evidence(0, "eval_loss", 0.3, {"eval_loss": 0.3}, {}, {}, rows=872)


def folder_of(path: Path, rows: RowFacts = ROWS, loss: float = 0.6, cut: int = 0, winner: Evidence = WINNER) -> Board:
    """A sweep of one trial in a folder, with everything that the doctor reads."""
    folder = sweep_folder.make_folders(path)
    write_json(folder.spec_file, manifest().to_json())
    write_json(folder.record_file(0), record(0, 0.3, effective={"data.max_length": 128}).to_json())
    write_references(folder, [Reference("TF-IDF + logistic regression", {"eval_loss": loss}, 1.5, 6920)])
    rows.write(folder)
    folder.tokens(128).mkdir()
    write_json(folder.tokens(128) / "counts.json", {"train": {"rows": 6920, "cut": cut}})
    folder.winner.mkdir()
    write_json(folder.winner / EVIDENCE, dataclasses.asdict(winner))
    return read_board(folder, runs=[run()])


def names(board: Board) -> list[str]:
    return [finding.name for finding in board.findings]


def test_a_sound_folder_has_no_finding(tmp_path: Path) -> None:
    board = folder_of(tmp_path)
    assert names(board) == []
    assert "0.3000 below TF-IDF + logistic regression (0.6000)" in board.decision.text
    assert "## Findings" not in leaderboard.to_markdown(board)


def test_a_reference_that_is_better_makes_the_light_red(tmp_path: Path) -> None:
    board = folder_of(tmp_path, loss=0.2)
    assert names(board) == ["worse-than-reference"]
    assert board.decision.light is Light.RED
    assert "no better than TF-IDF + logistic regression (0.2000)" in board.decision.text


def test_repeated_texts_are_a_reason_to_look_first(tmp_path: Path) -> None:
    board = folder_of(tmp_path, dataclasses.replace(ROWS, repeated=50))
    assert names(board) == ["repeated-texts"]
    assert board.decision.light is Light.YELLOW
    assert "texts of validation stand in train too" in board.decision.text


def test_cut_texts_are_counted_at_the_length_of_the_winner(tmp_path: Path) -> None:
    assert names(folder_of(tmp_path, cut=2000)) == ["cut-texts"]


def test_labels_that_the_winner_never_gives_are_named(tmp_path: Path) -> None:
    cells = Confusion("negative", "negative", 428), Confusion("positive", "negative", 444)
    winner = dataclasses.replace(WINNER, answers=Answers(cells))
    assert names(folder_of(tmp_path / "never", winner=winner)) == ["never-predicted"]
    winner = dataclasses.replace(winner, same_answer="negative")
    assert names(folder_of(tmp_path / "one", winner=winner)) == ["one-answer"]


def test_a_finding_stands_on_the_page_and_on_the_terminal(tmp_path: Path) -> None:
    board = folder_of(tmp_path, cut=2000)
    line = "Texts are cut off: 2,000 of 6,920 training texts are longer than 128 tokens."
    assert f"- Advice: {line} Try `data: {{max_length: 256}}`." in leaderboard.to_markdown(board)
    stream = io.StringIO()
    Console(file=stream, width=400, _environ={}).print(leaderboard.console_table(board))
    assert f"Advice: {line} Try `data: {{max_length: 256}}`." in stream.getvalue()


def test_damaged_facts_give_no_finding_and_no_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, cut=2000).folder
    (folder / "row_facts.json").write_text("[]")
    write_json(SweepFolder(folder).tokens(128) / "counts.json", {"train": 7})
    assert names(read_board(SweepFolder(folder), runs=[run()])) == []
