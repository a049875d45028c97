"""How sure the ranks are: each number recomputed from the files, and odd rows that must not break a board."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from made_records import manifest, record, run
from rich.console import Console

from finesweep.files.parquet import read_frame
from finesweep.folder import RowScores, SweepFolder
from finesweep.folder.sweep_folder import make_folders
from finesweep.results import leaderboard
from finesweep.results.board import Board, chosen, read_board
from finesweep.results.decision import Light
from finesweep.results.kept_weights import is_among_best
from finesweep.trial import Direction, TrialRecord

ROWS = 300
Numbers = np.ndarray[Any, Any]


def losses(worse: Sequence[float], rows: int = ROWS, seed: int = 0) -> list[Numbers]:
    """Row losses of trials on the same rows; trial n is ``worse[n]`` worse in the mean than a common loss."""
    rng = np.random.default_rng(seed)
    common = rng.gamma(1.0, 0.5, rows)
    own = rng.normal(0.0, 0.1, (len(worse), rows))
    return [common + more + one - one.mean() for more, one in zip(worse, own, strict=True)]


class Sweep:
    """A sweep's folder with trials that keep their rows."""

    def __init__(self, path: Path, **facts: Any) -> None:
        self.folder = make_folders(path / "sweep")
        self.manifest = manifest(**facts)
        self.records: list[TrialRecord] = []

    def add(self, metrics: Mapping[str, Numbers], *, keep: bool = True, labels: Any = None, **fields: Any) -> None:
        trial = len(self.records)
        means = {name: float(values.mean()) for name, values in metrics.items()}
        objective = means[self.manifest.spec.objective.metric]
        made = record(trial, objective, **{"metrics": means, "examples": 100 * (trial + 1), **fields})
        self.records.append(made)
        rows = len(next(iter(metrics.values())))
        scores = RowScores.of(trial, 1, metrics, np.zeros(rows) if labels is None else labels)
        self.folder.record(made, scores if keep else None)

    def board(self, **fields: Any) -> Board:
        return read_board(self.folder, self.manifest, self.folder.records(), [run(**fields)])


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def filled(sweep: Sweep, worse: Sequence[float], **fields: Any) -> Sweep:
    for values in losses(worse):
        sweep.add({"eval_loss": values, "eval_accuracy": (values < 0.5).astype(float)}, **fields)
    return sweep


def shown(board: Board, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, _environ={})
    console.print(leaderboard.console_table(board))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_number_of_the_board_follows_from_the_rows(sweep: Sweep) -> None:
    board = filled(sweep, [0.5, 0.0, 0.001, 0.3]).board()
    leaderboard.write(board)
    file = sweep.folder.leaderboard
    rows = list(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
    objects = json.loads(file.with_suffix(".json").read_text())
    page = file.with_suffix(".md").read_text()
    for row, item in zip(rows, objects, strict=True):
        arrays = {}
        for name, text in json.loads(sweep.folder.row_scores_file(item["trial"]).read_text())["values"].items():
            arrays[name] = np.frombuffer(base64.b64decode(text), "<f4").astype(float)
        bounds = scipy.stats.bootstrap(
            (arrays["eval_loss"],), np.mean, n_resamples=4_000, random_state=np.random.default_rng(5)
        ).confidence_interval
        width = bounds.high - bounds.low
        # Two bootstraps of some thousand resamples know a bound to 2 % of the width.
        assert item["intervals"]["eval_loss"] == pytest.approx(list(bounds), abs=0.08 * width)
        assert [float(row["objective_low"]), float(row["objective_high"])] == item["intervals"]["eval_loss"]
        right = int(arrays["eval_accuracy"].sum())
        theirs = scipy.stats.binomtest(right, ROWS).proportion_ci(method="wilson")
        assert item["intervals"]["eval_accuracy"] == pytest.approx(list(theirs))
        assert item["objective"] == pytest.approx(arrays["eval_loss"].mean(), rel=1e-6)
        assert f"{bounds.low:.1f}" in page
    assert [(item["trial"], item["tied"], item["cheapest"]) for item in objects] == [
        (1, True, True),
        (2, True, False),
        (3, False, False),
        (0, False, False),
    ]
    assert [row["tied"] for row in rows] == ["true", "true", "false", "false"]


def test_marks_stand_in_page_and_terminal_with_what_they_mean(sweep: Sweep) -> None:
    board = filled(sweep, [0.5, 0.0, 0.001]).board()
    text, page = shown(board), leaderboard.to_markdown(board)
    assert " 1=c " in text
    assert "  2= " in text
    assert "|  1=c |" in page
    assert "not one over seeds" in page
    assert "= marks tied trials: the first and one other cannot be told apart on these rows" in page
    assert all(len(line) <= 80 for line in text.splitlines())
    assert page.splitlines()[2].startswith("> **GREEN.** Take trial 1: eval\\_loss") or "**GREEN.**" in page[:200]
    assert text.startswith("GREEN. Take trial 1: eval_loss")


def test_lead_over_the_default_is_that_of_all_trials_together(sweep: Sweep) -> None:
    board = filled(sweep, [0.3, 0.0, 0.1]).board()
    assert board.standing is not None
    found = board.standing.leads[1]
    assert (found.low + found.high) / 2 == pytest.approx(0.3, abs=1e-4)
    assert board.decision.light is Light.GREEN
    assert "0.3000 below the untuned default (95 %: 0.2" in board.decision.text


def test_gain_that_may_be_chance_gives_a_yellow_light(sweep: Sweep) -> None:
    decision = filled(sweep, [0.002, 0.0]).board().decision
    assert decision.light is Light.YELLOW
    assert "which may be chance" in decision.text


def test_old_folder_has_no_intervals_and_no_error(sweep: Sweep) -> None:
    board = filled(sweep, [0.1, 0.0], keep=False).board()
    assert board.standing is None
    assert "95 %" not in leaderboard.to_markdown(board)
    assert "no rows are kept of these trials" in board.decision.text
    assert board.decision.light is Light.YELLOW


def test_trial_with_other_or_missing_rows_is_named_and_not_tied(sweep: Sweep) -> None:
    parts = losses([0.2, 0.0, 0.001, 0.002, 0.001])
    for number, values in enumerate(parts):
        labels = np.ones(ROWS) if number == 2 else np.zeros(ROWS)
        sweep.add({"eval_loss": values}, keep=number != 3, labels=labels)
    standing = sweep.board().standing
    assert standing is not None
    assert (standing.tied, standing.absent) == ((1, 4), (2, 3))
    assert "missing or differ: 2, 3." in leaderboard.to_markdown(sweep.board())


def test_first_without_rows_gives_no_tie_set(sweep: Sweep) -> None:
    for number, values in enumerate(losses([0.1, 0.0])):
        sweep.add({"eval_loss": values}, keep=number == 0)
    board = sweep.board()
    assert board.standing is not None
    assert board.standing.tied == ()
    assert "trial 1, the first, keeps no rows" in board.decision.text


def test_rows_that_do_not_give_the_records_metric_are_not_believed(sweep: Sweep) -> None:
    filled(sweep, [0.1, 0.0])
    other = RowScores.of(1, 1, {"eval_loss": losses([0.0])[0] - 0.2}, np.zeros(ROWS))
    sweep.folder.row_scores_file(1).write_text(json.dumps(dataclasses.asdict(other)))
    standing = sweep.board().standing
    assert standing is not None
    assert standing.absent == (1,)


@pytest.mark.parametrize("value", [0.25, 0.0, 1.0])
def test_rows_that_are_all_equal_are_tied(sweep: Sweep, value: float) -> None:
    for _ in range(3):
        sweep.add({"eval_loss": np.full(20, value)})
    board = sweep.board()
    assert board.standing is not None
    assert board.standing.tied == (0, 1, 2)
    assert board.decision.light is Light.YELLOW
    shown(board)


def test_one_trial_alone_is_neither_marked_nor_tied_with_another(sweep: Sweep) -> None:
    board = filled(sweep, [0.0]).board()
    assert board.standing is not None
    assert board.standing.tied == (0,)
    assert "   1      0" in shown(board)
    assert "no other is as good" in board.decision.text


@pytest.mark.parametrize(("rows", "said"), [(1, "1 row cannot"), (2, "2 rows cannot"), (9, "9 rows cannot"), (10, "")])
def test_few_rows_give_no_interval_and_say_why(sweep: Sweep, rows: int, said: str) -> None:
    for values in losses([0.2, 0.1], rows):
        sweep.add({"eval_loss": values, "eval_accuracy": np.ones(rows)})
    board = sweep.board()
    assert board.standing is not None
    assert bool(board.standing.intervals) is not bool(said)
    assert said in board.decision.text
    shown(board)


def test_one_group_gives_no_interval_and_says_why(tmp_path: Path) -> None:
    import pandas as pd

    sweep = filled(Sweep(tmp_path, spec={"data": {"train": "t.csv", "group": "user"}}), [0.1, 0.0])
    held = pd.DataFrame({"text": ["a"] * ROWS, "label": 0, "group": np.zeros(ROWS, np.int64)})
    held.to_parquet(sweep.folder.data / "validation.parquet")
    board = sweep.board()
    assert board.standing is not None
    assert (board.standing.intervals, board.standing.tied) == ({}, ())
    assert "1 group cannot stand for others; at least 10 are needed" in board.decision.text


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_rows_right_or_wrong_leave_room_for_others(tmp_path: Path, value: float) -> None:
    """Wilson's interval suits shares alone: an error of 1 on each row, or no correlation at all, is none."""
    sweep = Sweep(tmp_path, spec={"objective": {"metric": "eval_accuracy", "direction": "maximize"}})
    for losses_of_one in losses([0.1, 0.0]):
        same = np.full(ROWS, value)
        sweep.add({"eval_loss": losses_of_one, "eval_accuracy": same, "eval_mae": same, "eval_pearson": same})
    board = sweep.board()
    assert board.standing is not None
    found = board.standing.scores[0]
    theirs = scipy.stats.binomtest(int(value * ROWS), ROWS).proportion_ci(method="wilson")
    assert (found["eval_accuracy"].low, found["eval_accuracy"].high) == pytest.approx(tuple(theirs))
    for name in ("eval_mae", "eval_pearson"):
        assert (found[name].low, found[name].high) == (value, value)
    assert board.standing.tied == (0, 1)


def test_metric_that_is_not_finite_on_a_row_has_no_interval(sweep: Sweep) -> None:
    for values in losses([0.3, 0.0]):
        sweep.add({"eval_loss": values})
    spoiled = np.where(np.arange(ROWS) == 5, np.nan, 1.0)
    scores = RowScores.of(1, 1, {"eval_loss": losses([0.3, 0.0])[1], "eval_accuracy": spoiled}, np.zeros(ROWS))
    sweep.folder.row_scores_file(1).write_text(json.dumps(dataclasses.asdict(scores)))
    standing = sweep.board().standing
    assert standing is not None
    assert standing.scores[1].keys() == {"eval_loss"}


def test_all_trials_tied_take_the_cheapest_that_is_preferred(sweep: Sweep) -> None:
    for values, examples in zip(losses([0.0, 0.0002, 0.0001, 0.0003]), (900, 300, 500, 100), strict=True):
        sweep.add({"eval_loss": values}, examples=examples)
    sweep.folder.checkpoint(3).mkdir(parents=True)
    board = sweep.board(prefer="cheapest-tied")
    assert board.standing is not None
    assert set(board.standing.tied) == {0, 1, 2, 3}
    assert (board.standing.cheapest, board.take and board.take.trial) == (3, 3)
    assert "as good on these 300 rows: trials 0, 2, 1; of these it is the cheapest" in board.decision.text


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_rows_that_are_not_finite_are_left_out(sweep: Sweep, bad: float) -> None:
    good, spoiled = losses([0.0, 0.1])
    sweep.add({"eval_loss": good})
    sweep.add({"eval_loss": spoiled})
    with np.errstate(over="ignore"):
        scores = RowScores.of(1, 1, {"eval_loss": np.where(np.arange(ROWS) == 5, bad, spoiled)}, np.zeros(ROWS))
    sweep.folder.row_scores_file(1).write_text(json.dumps(dataclasses.asdict(scores)))
    standing = sweep.board().standing
    assert standing is not None
    assert (standing.tied, standing.absent) == ((0,), (1,))


def test_accuracy_as_objective_ranks_the_larger_first(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, spec={"objective": {"metric": "eval_accuracy", "direction": "maximize"}})
    rng = np.random.default_rng(0)
    hard = rng.random(ROWS)
    for share in (0.5, 0.8, 0.805):
        sweep.add({"eval_loss": hard, "eval_accuracy": (hard < share).astype(float)})
    board = sweep.board()
    assert board.standing is not None
    assert set(board.standing.tied) == {1, 2}
    assert board.standing.leads[board.standing.tied[0]].low > 0
    assert board.decision.light is Light.GREEN
    assert "above the untuned default" in board.decision.text


def test_objective_without_row_scores_says_that_it_has_no_interval(tmp_path: Path) -> None:
    objective = {"objective": {"metric": "eval_spearman", "direction": "maximize"}, "task": "text-regression"}
    sweep = Sweep(tmp_path, spec=objective, data={"labels": None})
    for number, values in enumerate(losses([0.1, 0.0])):
        means = {"eval_loss": float(values.mean()), "eval_spearman": 0.5 + 0.1 * number}
        made = record(number, means["eval_spearman"], metrics=means)
        sweep.folder.record(made, RowScores.of(number, 1, {"eval_loss": values}, np.zeros(ROWS)))
    board = sweep.board()
    assert board.standing is not None
    assert (board.standing.tied, board.standing.intervals) == ((), {})
    assert board.standing.scores[0].keys() == {"eval_loss"}
    assert "eval_spearman is no mean over rows, so it has no interval" in board.decision.text


def test_groups_widen_the_intervals_and_are_counted(tmp_path: Path) -> None:
    import pandas as pd

    by_row = filled(Sweep(tmp_path / "a"), [0.1, 0.0]).board().standing
    sweep = filled(Sweep(tmp_path / "b", spec={"data": {"train": "t.csv", "group": "user"}}), [0.1, 0.0])
    order = np.argsort(losses([0.0])[0])
    groups = np.empty(ROWS, np.int64)
    groups[order] = np.arange(ROWS) // 10  # rows of one group are alike
    pd.DataFrame({"text": ["a"] * ROWS, "label": 0, "group": groups}).to_parquet(
        sweep.folder.data / "validation.parquet"
    )
    assert len(read_frame(sweep.folder.data / "validation.parquet")) == ROWS
    by_group = sweep.board().standing
    assert by_row is not None
    assert by_group is not None
    assert by_group.groups == 30
    assert by_group.intervals[1].high - by_group.intervals[1].low > 2 * (
        by_row.intervals[1].high - by_row.intervals[1].low
    )
    assert "in 30 groups, resampled as a whole" in leaderboard.to_markdown(sweep.board())


def test_accuracy_over_groups_is_resampled_by_group(tmp_path: Path) -> None:
    """Wilson's interval takes the rows as independent, and would be too narrow."""
    import pandas as pd

    sweep = Sweep(tmp_path, spec={"data": {"train": "t.csv", "group": "user"}})
    groups = np.arange(ROWS) // 10
    right = (groups % 3 != 0).astype(float)
    for values in losses([0.1, 0.0]):
        sweep.add({"eval_loss": values, "eval_accuracy": right})
    held = pd.DataFrame({"text": ["a"] * ROWS, "label": 0, "group": groups})
    held.to_parquet(sweep.folder.data / "validation.parquet")
    standing = sweep.board().standing
    assert standing is not None
    found = standing.scores[0]["eval_accuracy"]
    theirs = scipy.stats.binomtest(int(right.sum()), ROWS).proportion_ci(method="wilson")
    assert found.high - found.low > 2 * (theirs.high - theirs.low)


def test_groups_that_the_folder_does_not_say_give_no_interval(tmp_path: Path) -> None:
    sweep = filled(Sweep(tmp_path, spec={"data": {"train": "t.csv", "group": "user"}}), [0.1, 0.0])
    standing = sweep.board().standing
    assert standing is not None
    assert standing.intervals == {}
    assert "of one group" in (standing.why or "")


def test_cheapest_is_that_of_fewest_examples_then_of_the_smallest_model(sweep: Sweep) -> None:
    costs = [(900, 10), (500, 30), (500, 20), (500, None), (100, 1)]
    for values, (examples, size) in zip(losses([0.0, 0.001, 0.001, 0.001, 0.9]), costs, strict=True):
        sweep.add({"eval_loss": values}, examples=examples, model_size=size)
    standing = sweep.board().standing
    assert standing is not None
    assert set(standing.tied) == {0, 1, 2, 3}
    assert standing.cheapest == 2


def test_preferred_cheapest_becomes_the_winner_if_its_weights_are_kept(sweep: Sweep) -> None:
    for values, examples in zip(losses([0.0, 0.001, 0.0005]), (900, 100, 500), strict=True):
        sweep.add({"eval_loss": values}, examples=examples)
    records = sweep.folder.records()

    def taken(prefer: str) -> int | None:
        found = chosen(sweep.folder, sweep.manifest, records, prefer, None)
        board = sweep.board(prefer=prefer)
        assert board.take == (found and found.record)
        return found.trial if found else None

    assert (taken("best"), taken("cheapest-tied")) == (0, 0)
    sweep.folder.checkpoint(2).mkdir(parents=True)
    assert (taken("best"), taken("cheapest-tied")) == (0, 2)
    sweep.folder.checkpoint(1).mkdir(parents=True)
    assert (taken("best"), taken("cheapest-tied")) == (0, 1)
    assert "Take trial 1" in sweep.board(prefer="cheapest-tied").decision.text


def test_interval_beside_a_loss_to_the_default_has_its_sign(sweep: Sweep) -> None:
    for values, examples in zip(losses([0.0, 0.001, 0.4]), (900, 100, 50), strict=True):
        sweep.add({"eval_loss": values}, examples=examples)
    sweep.folder.checkpoint(1).mkdir(parents=True)
    found = re.search(
        r"0.0010 above the untuned default \(95 %: (-?[\d.]+) to ([\d.]+), which may be chance\)",
        (sweep.board(prefer="cheapest-tied").decision.text),
    )
    assert found is not None
    low, high = map(float, found.groups())
    assert (low + high) / 2 == pytest.approx(0.001, abs=1e-4)


def test_weights_are_kept_of_each_trial_that_no_cheaper_one_beats() -> None:
    records = [record(0, 0.3, examples=300), record(1, 0.4, examples=100), record(2, 0.5, examples=200)]
    kept = [one.trial for one in records if is_among_best(one, records, 1, Direction.MINIMIZE, cheap=True)]
    assert kept == [0, 1]


def test_only_the_best_hundred_and_the_default_are_compared(sweep: Sweep) -> None:
    parts = losses([5.0, *np.linspace(0.0, 0.5, 110)], rows=30)
    for values in parts:
        sweep.add({"eval_loss": values})
    standing = sweep.board().standing
    assert standing is not None
    assert len(standing.scores) == 101
    assert 0 in standing.scores


def test_empty_folder_has_a_red_board(sweep: Sweep) -> None:
    board = sweep.board()
    assert (board.standing, board.take, board.decision.light) == (None, None, Light.RED)


def test_folder_of_another_person_is_read_without_harm(sweep: Sweep) -> None:
    filled(sweep, [0.1, 0.0])
    file = sweep.folder.row_scores_file(0)
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target)
    names = json.loads(target.read_text())["values"]
    other = sweep.folder.row_scores_file(1)
    text = next(iter(names.values()))
    values = {**json.loads(other.read_text())["values"], "<script>": text, "=cmd()": "!" * 100}
    other.write_text(json.dumps({**json.loads(other.read_text()), "values": values}))
    board = sweep.board()
    assert board.standing is not None
    assert board.standing.scores.keys() <= {0, 1}
    assert "<script>" not in leaderboard.to_json(board) + leaderboard.to_markdown(board)


def test_sweep_folder_without_the_folder_of_rows_gets_one(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    for name in ("claims", "trials", "progress"):
        (tmp_path / name).mkdir()
    folder.record(record(0, 0.5), RowScores.of(0, 1, {"eval_loss": np.full(3, 0.5)}, np.zeros(3)))
    assert folder.row_scores_file(0).is_file()
