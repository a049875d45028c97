"""Values, means, intervals and optimism of the trials that were trained again, and which model they make the winner."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, manifest, record, run
from scipy import stats

from finesweep.confidence import Interval
from finesweep.folder import Manifest, Repeat, SweepFolder
from finesweep.folder.sweep_folder import make_folders
from finesweep.references import Reference, write_references
from finesweep.results.board import read_board
from finesweep.results.choice import choose
from finesweep.results.confirmation import Confirmation, confirmation_of
from finesweep.results.leaderboard import to_csv, to_json, to_markdown
from finesweep.results.ranking import rank, summarize
from finesweep.spec import ConfirmSpec
from finesweep.trial import Direction, TrialRecord, TrialState

MIN = Direction.MINIMIZE
SEARCH = [record(0, 0.50), record(3, 0.30), record(7, 0.31)]
"""The untuned default and the two best trials."""

PARAMS = SEARCH[0].params
Outcome = float | TrialState | None
"""What one training gave: a value, an end without one, or nothing yet."""


def again_of(plan: dict[int, list[Outcome]]) -> tuple[Manifest, list[TrialRecord]]:
    """The manifest and the records of a confirmation, from what each candidate's seeds (100, 101, ...) gave."""
    rounds = max(map(len, plan.values()))
    runs = [(one, seed) for seed in range(rounds) for one in plan if seed < len(plan[one])]
    repeats = tuple(Repeat(one, 100 + seed) for one, seed in runs)
    made = dataclasses.replace(manifest(), planned=[PARAMS] * len(runs), repeats=repeats)
    records = []
    for number, (one, seed) in enumerate(runs):
        outcome = plan[one][seed]
        if outcome is not None:
            ended: Any = (None, outcome) if isinstance(outcome, TrialState) else (outcome, COMPLETE)
            records.append(record(number, *ended, effective={"seed": 100 + seed, "data.max_length": 64}))
    return made, records


def confirmed(plan: dict[int, list[Outcome]], search: list[TrialRecord] | None = None) -> Confirmation:
    found = confirmation_of(*again_of(plan), SEARCH if search is None else search)
    assert found is not None
    return found


def test_means_and_optimism_are_those_of_the_records():
    found = confirmed({3: [0.34, 0.36, 0.35], 7: [0.32, 0.33, 0.31], 0: [0.51, 0.49]})
    assert [one.trial for one in found.candidates] == [7, 3, 0]
    assert found.means == {7: pytest.approx(0.32), 3: pytest.approx(0.35), 0: pytest.approx(0.50)}
    best, second, _ = found.candidates
    assert best.values == {100: 0.32, 101: 0.33, 102: 0.31}
    assert (best.best.trial, best.best.objective) == (7, 0.31)
    assert best.optimism(MIN) == pytest.approx(0.01)
    assert second.optimism(MIN) == pytest.approx(0.05)
    assert second.optimism(Direction.MAXIMIZE) == pytest.approx(-0.05)
    assert (found.planned, found.ended, found.is_complete) == (8, 8, True)


def test_intervals_share_the_spread_of_all_candidates():
    rows = {3: [0.34, 0.36, 0.35], 7: [0.32, 0.33, 0.31], 0: [0.51, 0.49]}
    squares = sum((value - statistics.fmean(row)) ** 2 for row in rows.values() for value in row)
    half = stats.t.ppf(0.975, 5) * (squares / 5) ** 0.5
    for one in confirmed(dict(rows)).candidates:
        width = half / len(rows[one.trial]) ** 0.5
        assert (one.interval.low, one.interval.high) == pytest.approx((one.mean - width, one.mean + width))


def test_equal_seeds_have_an_interval_of_no_width():
    (only,) = confirmed({3: [0.34, 0.34]}).candidates
    assert only.interval == Interval(0.34, 0.34)


def test_candidate_that_diverged_has_no_mean_and_comes_last():
    found = confirmed({3: [0.30, 0.30, DIVERGED], 7: [0.32, 0.33, 0.31]})
    assert found.means.keys() == {7}
    assert found.candidates[-1].has_diverged
    assert found.candidates[-1].is_out
    assert found.candidates[-1].mean is None
    assert found.best.trial == 7


def test_failed_seed_leaves_the_mean_of_the_others():
    found = confirmed({3: [0.34, FAILED, 0.36], 7: [0.40, 0.42, FAILED]})
    assert found.means == {3: pytest.approx(0.35), 7: pytest.approx(0.41)}
    lone = confirmed({3: [0.34, FAILED], 7: [0.40, 0.42]})
    assert lone.means.keys() == {7}, "one seed is no mean"


def test_nothing_is_confirmed_before_each_candidate_had_its_first_seeds():
    begun = confirmed({3: [0.34, None], 7: [0.40, 0.42]})
    assert (begun.means, begun.best, begun.is_complete) == ({}, None, False)
    assert confirmed({3: [0.34, 0.36, None], 7: [0.40, 0.42, None]}).best.trial == 3


def test_trials_that_all_diverge_again_leave_the_search_its_winner():
    found = confirmed({3: [DIVERGED, PRUNED], 7: [DIVERGED, PRUNED]})
    assert (found.means, found.best, found.is_complete) == ({}, None, True)
    choice = choose(SweepFolder(Path("s")), SEARCH[1], found)
    assert (choice.trial, choice.folder.path, choice.candidate) == (3, Path("s"), None)


def test_candidate_whose_trial_has_changed_is_left_out():
    other = [record(0, 0.5), record(3, 0.3, params={"learning_rate": 1.0}), record(7, None, DIVERGED)]
    assert confirmed({3: [0.34, 0.36], 7: [0.3, 0.3], 0: [0.5, 0.5]}, other).means.keys() == {0}
    assert confirmation_of(*again_of({3: [0.3, 0.3]}), []) is None


def test_confirmed_trials_rank_first_by_mean():
    found = confirmed({3: [0.34, 0.36], 0: [0.33, 0.33]})
    rows = rank([*SEARCH, record(9, 0.1), record(4, None, FAILED)], MIN, list(found.means))
    assert [(row.rank, row.record.trial) for row in rows] == [(1, 0), (2, 3), (3, 9), (4, 7), (None, 4)]


def test_headline_compares_means_of_fresh_seeds():
    found = confirmed({3: [0.34, 0.36], 0: [0.51, 0.49]})
    text = summarize(manifest(), SEARCH, [], found.fresh).headline()
    expected = "eval_loss 0.3500 on average over 2 fresh seeds (trial 3), 0.1500 below the untuned default"
    assert text == f"{expected} (trial 0: 0.5000)"
    without = summarize(manifest(), SEARCH, [], confirmed({3: [0.34, 0.36]}).fresh)
    assert without.headline().endswith("; the untuned default (trial 0) was not confirmed")
    beaten = summarize(manifest(), SEARCH, [], confirmed({3: [0.6, 0.6], 0: [0.51, 0.49]}).fresh)
    assert beaten.headline().endswith("(trial 0); no trial beat the untuned default")


def test_state_in_the_race_is_that_of_its_rule():
    found = confirmed({3: [0.34, 0.36], 7: [0.345, 0.352], 0: [0.9, 0.91]})
    assert {one.trial: found.race(one) for one in found.candidates} == {7: "in question", 3: "in question", 0: "out"}
    found = confirmed({3: [0.340, 0.341], 7: [0.60, 0.61], 0: [0.9, DIVERGED]})
    assert {one.trial: found.race(one) for one in found.candidates} == {3: "best", 7: "out", 0: "diverged"}
    found = confirmed({3: [0.34, None], 7: [FAILED, 0.3]})
    assert {one.trial: found.race(one) for one in found.candidates} == {3: "begun", 7: "no mean"}


def written(path: Path, plan: dict[int, list[Outcome]]) -> SweepFolder:
    """A sweep's folder with a confirmation."""
    folder = make_folders(path / "sweep")
    make_folders(folder.confirmation.path)
    made, records = again_of(plan)
    folder.confirmation.spec_file.write_text(json.dumps(made.to_json()))
    for one in records:
        folder.confirmation.record_file(one.trial).write_text(json.dumps(one.to_json()))
    return folder


def test_each_face_shows_the_numbers_of_the_records(tmp_path):
    folder = written(tmp_path, {3: [0.34, 0.36], 7: [0.33, 0.29], 0: [0.51, 0.49]})
    board = read_board(folder, manifest(), [*SEARCH, record(9, 0.305), record(4, 0.32), record(5, None, FAILED)], [])
    rows = {row["trial"]: row for row in json.loads(to_json(board))}
    half = stats.t.ppf(0.975, 3) * ((2 * 0.01**2 + 2 * 0.02**2 + 2 * 0.01**2) / 3) ** 0.5 / 2**0.5
    assert rows[7]["rank"] == 1
    assert rows[7]["seed_values"] == {"100": 0.33, "101": 0.29}
    assert (rows[7]["objective"], rows[7]["seed_mean"]) == (0.31, pytest.approx(0.31))
    assert (rows[3]["objective"], rows[3]["seed_mean"], rows[3]["seeds"]) == (0.30, pytest.approx(0.35), 2)
    assert (rows[3]["seed_low"], rows[3]["seed_high"]) == pytest.approx((0.35 - half, 0.35 + half))
    assert (rows[3]["optimism"], rows[0]["optimism"]) == pytest.approx((0.05, 0.0))
    assert sum(rows[trial]["chance"] for trial in (7, 3, 0)) == pytest.approx(1)
    assert (rows[0]["race"], rows[9]["race"], rows[4]["race"], rows[5]["race"]) == ("out", "unconfirmed", None, None)
    assert rows[9]["seed_mean"] is None
    text = to_markdown(board)
    head, _, first, *_ = (line for line in text.splitlines() if line.startswith("|"))
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (head, first)), strict=True))
    assert cells["mean over seeds"] == "0.3100"
    assert cells["95 % over seeds"] == f"{0.31 - half:.4f}-{0.31 + half:.4f}"
    assert "Trial 9: unconfirmed; the value of one seed is better than the mean of trial 7" in text
    csv_rows = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert float(next(row for row in csv_rows if row["trial"] == "3")["optimism"]) == pytest.approx(0.05)


def test_sweep_without_a_confirmation_has_no_columns_on_seeds(tmp_path):
    board = read_board(make_folders(tmp_path / "sweep"), manifest(), SEARCH, [])
    assert not {"seed_mean", "seeds", "optimism", "race"} & json.loads(to_json(board))[0].keys()
    assert "fresh seeds" not in to_markdown(board)


def test_board_without_comparison_loads_neither_numpy_nor_scipy(tmp_path):
    folder = written(tmp_path, {3: [0.34, 0.36], 7: [0.33, 0.29], 0: [0.51, 0.49]})
    folder.spec_file.write_text(json.dumps(manifest().to_json()))
    for one in SEARCH:
        folder.record_file(one.trial).write_text(json.dumps(one.to_json()))
    code = """
import sys
from pathlib import Path
from finesweep.folder import SweepFolder
from finesweep.references import Reference, write_references
from finesweep.results.board import read_board
from finesweep.results.leaderboard import to_markdown
board = read_board(SweepFolder(Path(sys.argv[1])), compare=False)
print(to_markdown(board).splitlines()[2])
print(board.choice.trial, board.confirmation.is_complete, sorted({"numpy", "scipy"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=True)
    decision, facts = ran.stdout.splitlines()
    assert facts == "7 True []"
    assert "how likely another one is better, is told when the run ends" in decision


def test_board_and_page_of_few_trials_load_no_slow_libraries(tmp_path):
    folder = written(tmp_path, {3: [0.34, 0.36], 7: [0.33, 0.29], 0: [0.51, 0.49]})
    folder.spec_file.write_text(json.dumps(manifest().to_json()))
    for one in SEARCH:
        folder.record_file(one.trial).write_text(json.dumps(one.to_json()))
    code = """
import sys
from pathlib import Path
from finesweep.folder import SweepFolder
from finesweep.report.optuna_charts import optuna_charts
from finesweep.results.board import read_board
board = read_board(SweepFolder(Path(sys.argv[1])))
print([chart.name for chart in optuna_charts(board)], all(one.interval for one in board.confirmation.candidates))
print(sorted({"scipy.special", "scipy.stats", "sklearn", "pandas"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["['timeline'] True", "['scipy.special']"]


def test_decision_while_a_run_lasts_does_not_say_that_rows_are_missing():
    board = read_board(SweepFolder(Path("no-such-folder")), manifest(), SEARCH, [run()], compare=False)
    assert "Take trial 3: eval_loss 0.3000; how sure its rank is, is told when the run ends." in board.decision.text
    board = read_board(SweepFolder(Path("no-such-folder")), manifest(), SEARCH, [run()])
    assert "is not known: no rows are kept of these trials" in board.decision.text


def test_board_takes_the_best_seed_of_the_best_mean_from_the_folder(tmp_path):
    folder = written(tmp_path, {3: [0.34, 0.36], 7: [0.33, 0.29]})
    board = read_board(folder, manifest(), SEARCH, [])
    assert [row.record.trial for row in board.ranked] == [7, 3, 0]
    assert (board.choice.trial, board.choice.record.trial, board.choice.record.objective) == (7, 3, 0.29)
    assert board.choice.folder.path == folder.confirmation.path
    folder.confirmation.checkpoint(3).mkdir()
    assert read_board(folder, manifest(), SEARCH, []).weights == Path("confirm/checkpoints/trial-0003")


def test_only_candidate_is_not_compared_with_others(tmp_path):
    board = read_board(written(tmp_path, {3: [0.34, 0.36]}), manifest(), SEARCH, [])
    assert "fresh seeds (95 % over seeds: 0.2229 to 0.4771); no other trial has a mean over fresh seeds." in (
        board.decision.text
    )


def test_board_of_a_confirmation_names_its_sweep_and_what_it_repeats(tmp_path):
    folder = written(tmp_path, {3: [0.34, None], 7: [0.33, 0.29]})
    board = read_board(folder.confirmation)
    page = to_markdown(board)
    assert board.decision.text == (
        "YELLOW. This confirms the sweep sweep: 3 of at most 4 trainings on fresh seeds have ended. "
        "Which trial to take stands on the board of sweep, one folder above."
    )
    assert "- Winner: that of the sweep sweep, one folder above" in page
    assert not any(word in page for word in ("untuned default", "exported", "sampler", "Findings", "too good"))
    rows = {row["trial"]: (row["repeats"], row["seed"], row["objective"]) for row in json.loads(to_json(board))}
    assert rows == {0: (3, 100, 0.34), 1: (7, 100, 0.33), 3: (7, 101, 0.29)}


def test_confirmation_that_has_not_begun_is_a_reason_to_look_first():
    folder = SweepFolder(Path("no-such-folder"))
    asked = run(confirm=ConfirmSpec())
    text = read_board(folder, manifest(), SEARCH, [asked]).decision.text
    assert "it is not confirmed on fresh seeds yet (sweep confirm does that)" in text
    assert "confirm" not in read_board(folder, manifest(), SEARCH, [run()]).decision.text


def test_doctor_looks_at_means_where_there_are_some(tmp_path):
    """By one seed trial 3 is better than the reference; by its mean no trial is."""
    folder = written(tmp_path, {3: [0.34, 0.36], 7: [0.33, 0.35]})
    write_references(folder, [Reference("TF-IDF", {"eval_loss": 0.32}, 1.0, 100)])
    found = {one.name: one for one in read_board(folder, manifest(), SEARCH, []).findings}
    worse = found["worse-than-reference"]
    assert worse.text == "The best trial (7) is no better than TF-IDF"
    assert worse.evidence.startswith("eval_loss 0.3400 on average over fresh seeds against 0.3200")
