"""Values, means, intervals and optimism of the trials that were trained again, and which model they make the winner."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, manifest, record
from scipy import stats

from finesweep.folder import Manifest, Repeat, SweepFolder
from finesweep.folder.sweep_folder import make_folders
from finesweep.results.board import read_board
from finesweep.results.choice import choose
from finesweep.results.confirmation import Confirmation, confirmation_of
from finesweep.results.ranking import rank, summarize
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
        assert one.interval == pytest.approx((one.mean - width, one.mean + width))


def test_equal_seeds_have_an_interval_of_no_width():
    (only,) = confirmed({3: [0.34, 0.34]}).candidates
    assert only.interval == (0.34, 0.34)


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


def test_board_takes_the_best_seed_of_the_best_mean_from_the_folder(tmp_path):
    folder = make_folders(tmp_path / "sweep")
    make_folders(folder.confirmation.path)
    made, records = again_of({3: [0.34, 0.36], 7: [0.33, 0.29]})
    folder.confirmation.spec_file.write_text(json.dumps(made.to_json()))
    for one in records:
        folder.confirmation.record_file(one.trial).write_text(json.dumps(one.to_json()))
    board = read_board(folder, manifest(), SEARCH, [])
    assert [row.record.trial for row in board.ranked] == [7, 3, 0]
    assert (board.choice.trial, board.choice.record.trial, board.choice.record.objective) == (7, 3, 0.29)
    assert board.choice.folder.path == folder.confirmation.path
    folder.confirmation.checkpoint(3).mkdir()
    assert read_board(folder, manifest(), SEARCH, []).weights == Path("confirm/checkpoints/trial-0003")
