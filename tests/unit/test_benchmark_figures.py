"""The harness of the benchmarks: texts, figures, goals, the report; none of it trains."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import arms, divergence, metered, report, texts, throughput, whole_sweeps
from benchmarks.figures import Figures, Goal, Spread, Table, number, rounds, shown
from benchmarks.programme import MEASURES, budget, names
from benchmarks.workload import Source, Workload
from hypothesis import given
from hypothesis import strategies as st
from made_outcomes import outcome

from finesweep.host import timeline

OURS, S, T = arms.OURS, arms.ARMS["S"], arms.ARMS["T"]


def goal_of(figures: Figures, measure: str, against: str, what: str = "") -> Goal:
    """Return the first goal of a measure that is called so."""
    goals = (goal for goal in figures.goals if (goal.measure, goal.against) == (measure, against))
    return next(goal for goal in goals if goal.what.startswith(what))


# Texts


@pytest.mark.parametrize("kind", texts.KINDS)
def test_made_up_texts_are_the_same_each_time_and_have_every_label(kind):
    rows = texts.made_up(kind, 700, 1)
    assert rows == texts.made_up(kind, 700, 1)
    assert rows != texts.made_up(kind, 700, 2)
    assert {label for _, label in rows} == set(range(len(texts.KINDS[kind].hints)))


def test_the_kinds_have_the_lengths_that_they_stand_for():
    words = {
        kind: statistics.mean(len(text.split()) for text, _ in texts.made_up(kind, 200, 1)) for kind in texts.KINDS
    }
    assert words["questions"] < 12 < words["sentences"] < 25
    assert min(len(text.split()) for text, _ in texts.made_up("reviews", 100, 1)) > 128
    assert len(texts.KINDS["intents"].hints) == 77


@pytest.mark.parametrize("kind", texts.KINDS)
def test_made_up_labels_can_be_learnt_but_not_from_one_word(kind):
    """Counting whose words occur most often is right far more often than chance, and far from always."""
    hints = texts.KINDS[kind].hints
    words = [[word for part in parts for word in part] for parts in hints]
    rows = texts.made_up(kind, 300, 1)
    guessed = [max(range(len(hints)), key=lambda label: sum(map(text.split().count, words[label]))) for text, _ in rows]
    right = sum(guess == label for guess, (_, label) in zip(guessed, rows, strict=True)) / len(rows)
    assert 2 / len(hints) * 0.6 < right < 0.97


def test_a_csv_is_read_by_its_columns_and_rows_without_text_or_label_are_left_out(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('\ufeffid,q,intent\n1,"a, b",x\n2,,y\n3,c,\n4,d,y\n', encoding="utf-8")
    assert texts.read(file, "q", "intent") == [("a, b", "x"), ("d", "y")]
    with pytest.raises(ValueError, match=r"rows\.csv: no column text; it has"):
        texts.read(file, "text", "intent")


def test_a_tsv_is_read_by_its_suffix(tmp_path):
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\na, b\tx\n", encoding="utf-8")
    assert texts.read(file, "text", "label") == [("a, b", "x")]


def test_a_csv_without_usable_rows_is_refused(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no row has both text and label"):
        texts.read(file, "text", "label")


@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from("abcdef")), min_size=1), st.floats(0.01, 0.9))
def test_a_split_loses_no_row_and_every_label_is_trained_on(rows, share):
    training, validation = texts.split(rows, share, 0)
    assert sorted(training + validation) == sorted(rows)
    assert {label for _, label in training} == {label for _, label in rows}


def test_few_made_up_rows_of_many_labels_are_evaluated_on_labels_that_were_trained_on():
    training, validation = Source("intents").rows(96, 32)
    labels = {label for _, label in training}
    assert labels == set(range(len(labels)))
    assert {label for _, label in validation} <= labels


def test_labels_are_numbered_and_unknown_ones_left_out():
    assert texts.numbered([("a", "y"), ("b", "x")], [("c", "y"), ("d", "z")]) == ([("a", 1), ("b", 0)], [("c", 1)])
    with pytest.raises(ValueError, match="1 labels and 1 validation rows: nothing to learn"):
        texts.numbered([("a", "x")], [("b", "x")])


def test_a_source_is_a_kind_or_names_its_files(tmp_path):
    assert Source.parse("reviews", "text", "label") == Source("reviews")
    found = Source.parse(f"mine={tmp_path}/a.csv,{tmp_path}/b.csv", "q", "intent")
    assert found == Source("mine", tmp_path / "a.csv", tmp_path / "b.csv", "q", "intent")
    for wrong in ("letters", "a b=x.csv", "mine="):
        with pytest.raises(ValueError, match=r"neither NAME=FILE\.csv nor one of questions"):
            Source.parse(wrong, "text", "label")


def test_a_source_of_one_file_splits_rows_off(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"t{number},{'ab'[number % 2]}\n" for number in range(100)))
    training, validation = Source("mine", file).rows(50, 10)
    assert (len(training), len(validation)) == (50, 10)
    assert not {text for text, _ in training} & {text for text, _ in validation}


# Figures


def test_a_spread_of_one_has_no_range():
    assert shown(Spread.of([2.0]), "x") == "2.00x"
    assert shown(Spread.of([3.0, 1.0, 2.0]), " s") == "2.00 (1.00-3.00) s"
    assert shown(None) == "-"


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.0123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")])
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "most", "count"), [(0.0, 5, 1), (60.0, 3, 3), (20.0, 50, 3), (17.9, 50, 2)])
def test_one_round_is_run_in_any_case_and_no_more_than_fit(seconds, most, count, clock):
    found = []
    for turn in rounds(seconds, most):
        found.append(turn)
        clock(6)
    assert found == list(range(count))


@pytest.mark.parametrize(("at_least", "value", "met"), [(True, 2.0, True), (True, 1.9, False), (False, 2.1, False)])
def test_a_goal_is_met_by_its_median(at_least, value, met):
    assert Goal("M1", "", "", 2.0, "x", at_least, Spread.of([value, 0.1, 9.0])).is_met is met


def test_a_goal_without_a_figure_or_at_a_worse_winner_is_not_met():
    assert not Goal("M2", "", "", 2.0, "x", True, None).is_met
    assert not Goal("M2", "", "", 2.0, "x", True, Spread.of([3.0]), is_on_par=False).is_met


def test_figures_survive_json():
    goal = Goal("M1", "time", "S", 3.0, "x", True, Spread.of([1.0, 2.0]), bound=True, note="so")
    figures = Figures("t", "m", [goal], [Table("a", ["b"], [["c"]])], ["n"], {"x": [1]})
    assert Figures.from_json(json.loads(json.dumps(figures.to_json()))) == figures


# What came of an arm


def test_the_time_to_a_target_is_that_of_the_first_evaluation_as_good():
    found = outcome()
    assert (found.seconds_to(0.5), found.seconds_to(0.45), found.seconds_to(0.39)) == (20.0, 60.0, None)
    assert (found.best, found.examples, found.training_seconds) == (0.4, 1_600, 80.0)


def test_evaluations_on_a_subset_count_only_where_they_were_on_all_rows():
    record = {
        "state": "COMPLETE",
        "objective": 0.4,
        "evaluated_rows": 3_000,
        "evaluations": [{"objective": 0.3}, {"objective": None}],
    }
    assert arms.full_losses(record, 3_000) == [0.4]
    assert arms.full_losses({**record, "evaluated_rows": 1_000}, 3_000) == []
    assert arms.full_losses({**record, "evaluated_rows": 800}, 800) == [0.3, 0.4]
    assert arms.full_losses({"evaluations": [{"objective": 0.3}]}, 3_000) == []


METER = {
    "started": 1_000.0,
    "began": 500.0,
    "seconds": 60.0,
    "cpu_seconds": 1.0,
    "wchar": 1,
    "write_bytes": 1,
    "peak": 1,
    "peak_apart": 0,
    "written_apart": 0,
    "peak_rss": 1,
    "command_rss": 1,
    "trainer_pss": 1,
    "code": 0,
    "timed_out": False,
}
"""Of a command that ran for a minute from 1,000 on, which was 500 on the monotonic clock."""


def test_the_start_of_a_peer_is_that_of_its_first_trial_by_its_diary(tmp_path):
    diary = [("a", "begin", 1_007.0), ("a", "end", 1_030.0), ("b", "begin", 1_031.0), ("b", "end", 1_055.0)]
    lines = [
        json.dumps({"event": event, "time": when, "trial": trial, "examples": 1, "eval_loss": None})
        for trial, event, when in diary
    ]
    (tmp_path / "diary.jsonl").write_text("\n".join(lines), encoding="utf-8")
    workload = Workload("x", "a.csv", "b.csv", 2, "model", 128, 2, {}, {})
    found = arms._outcome(S, workload, tmp_path, METER, [], judge=False)
    assert (found.start_seconds, found.end_seconds) == (7.0, 5.0)


def test_the_start_of_a_sweep_is_that_of_its_first_trial_by_its_timeline(tmp_path):
    (tmp_path / "timeline").mkdir()
    notes = [
        timeline.Note("worker", 2, 1, "rehearse", 0, 501.0, 2.0, 1.0),
        timeline.Note("trial 1", 4, 2, timeline.BEGIN_TRAINING, 0, 505.5, 0.5, 0.1),
        timeline.Note("trial 0", 3, 2, timeline.BEGIN_TRAINING, 0, 503.0, 1.0, 0.1),
        timeline.Note("trial 0", 3, 2, timeline.TRAIN_ON, 0, 505.0, 50.0, 40.0),
    ]
    lines = [json.dumps(dataclasses.asdict(note)) for note in notes]
    (tmp_path / "timeline" / "1.jsonl").write_text("\n".join(lines), encoding="utf-8")
    workload = Workload("x", "a.csv", "b.csv", 2, "model", 128, 2, {}, {})
    found = arms._outcome(OURS, workload, tmp_path, METER, [], judge=False)
    assert (found.start_seconds, found.end_seconds) == (4.0, 5.0)
    empty = arms._outcome(OURS, workload, tmp_path / "nowhere", METER, [], judge=False)
    assert (empty.start_seconds, empty.end_seconds) == (None, None)


@pytest.mark.parametrize("ends_early", [True, False])
def test_a_sweep_with_fewer_trials_has_failed_unless_it_has_ended_early(tmp_path, ends_early):
    sweep = tmp_path / "results" / "sweep"
    (sweep / "trials").mkdir(parents=True)
    for trial in range(2):
        record = {"started": 1_000.0, "seconds": 5.0, "examples": 100}
        (sweep / "trials" / f"{trial:04}.json").write_text(json.dumps(record), encoding="utf-8")
    if ends_early:
        (sweep / "early_end.json").write_text("{}", encoding="utf-8")
    workload = Workload("x", "a.csv", "b.csv", 2, "model", 128, 30, {}, {})
    found = arms._outcome(OURS, workload, tmp_path, METER, [], judge=False)
    assert (found.failure, found.examples) == (None if ends_early else "2 of 30 trials", 200)


def test_only_finesweep_notes_a_timeline(tmp_path):
    assert arms.environment(OURS, tmp_path)[timeline.VARIABLE] == str(tmp_path / "timeline")
    assert timeline.VARIABLE not in arms.environment(S, tmp_path)


def test_peers_get_their_own_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in arms.environment(S, tmp_path)
    assert arms.environment(S.on(1), tmp_path)["OMP_NUM_THREADS"] == "1"


def test_finesweep_is_given_nothing_that_is_not_the_workload():
    workload = Workload("x", "a.csv", "b.csv", 2, "model", 128, 30, {"learning_rate": {"low": 1, "high": 2}}, {}, 3)
    assert set(arms.spec_of(workload)) == {"model", "data", "objective", "budget", "search", "space", "fixed"}
    assert arms.spec_of(workload)["search"] == {"seed": 3}


def test_the_ratios_of_whole_sweeps():
    ours = outcome(
        "finesweep", seconds=30.0, reached=((10.0, 0.4),), bytes_written=20_000, bytes_apart=10_000, peak_bytes=5_000
    )
    figures = whole_sweeps.summed_up("x", [OURS, S, T], {"finesweep": [ours], "S": [outcome()], "T": [outcome("T")]})
    assert figures.raw["target"] == pytest.approx(0.404)
    assert goal_of(figures, "M1", "S").found == Spread.of([6.0])
    assert goal_of(figures, "M1", "S").is_met
    assert not goal_of(figures, "M1", "T").is_met
    assert goal_of(figures, "M2", "S").found == Spread.of([1.0])
    assert goal_of(figures, "M5", "T", "bytes").found == Spread.of([50.0])
    assert goal_of(figures, "M5", "T", "bytes written but").found == Spread.of([100.0])
    assert goal_of(figures, "M5", "T", "peak").found == Spread.of([100.0])
    assert goal_of(figures, "M8", "").found == Spread.of([50.0])


def test_a_peer_that_never_got_there_gives_a_lower_bound_and_finesweep_none():
    ours, other = outcome("finesweep", reached=((10.0, 0.3),)), outcome(reached=((50.0, 0.5),))
    goal = goal_of(whole_sweeps.summed_up("x", [OURS, S], {"finesweep": [ours], "S": [other]}), "M1", "S")
    assert (goal.found, goal.bound) == (Spread.of([10.0]), True)
    assert "S did not get there in 1 of 1 rounds" in goal.note
    reverse = whole_sweeps.summed_up("x", [OURS, S], {"finesweep": [dataclasses.replace(other)], "S": [ours]})
    goal = goal_of(reverse, "M1", "S")
    assert goal.found == Spread.of([0.0])
    assert not goal.is_met


def test_a_target_that_no_arm_reached_gives_no_figure():
    found = {"finesweep": [outcome("finesweep")], "S": [outcome()], "T": [outcome("T", reached=((9.0, 0.1),))]}
    goal = goal_of(whole_sweeps.summed_up("x", [OURS, S, T], found), "M1", "S")
    assert goal.found is None
    assert not goal.is_met


def test_the_time_to_what_a_peer_ended_with_stands_beside_that_to_the_best():
    ours, other = outcome("finesweep", reached=((10.0, 0.401),)), outcome(reached=((20.0, 0.5), (50.0, 0.4)))
    lucky = outcome("T", reached=((90.0, 0.2),))
    found = {"finesweep": [ours], "S": [other], "T": [lucky]}
    figures = whole_sweeps.summed_up("x", [OURS, S, T], found)
    assert goal_of(figures, "M1", "S", "wall clock to the best eval_loss of S").found == Spread.of([5.0])
    assert goal_of(figures, "M1", "T", "wall clock to the best eval_loss of T").found == Spread.of([0.0])


def test_fewer_examples_for_a_worse_winner_meet_no_goal():
    few = {"trials": (arms.Trial(0.0, 1.0, 100),)}
    for loss, met in ((0.404, True), (0.41, False), (None, False)):
        ours = outcome("finesweep", winner_loss=loss, **few)
        figures = whole_sweeps.summed_up("x", [OURS, S], {"finesweep": [ours], "S": [outcome()]})
        assert goal_of(figures, "M2", "S").is_met is met


def test_a_failed_arm_is_named_in_the_notes_and_what_it_did_is_a_bound():
    figures = whole_sweeps.summed_up(
        "x", [OURS, S], {"finesweep": [outcome("finesweep")], "S": [outcome(failure="killed after 300 s")]}
    )
    assert figures.notes == ["x: S: stock call, well written, round 1: killed after 300 s"]
    assert goal_of(figures, "M2", "S").bound


def test_tokens_per_second_are_those_of_all_trials_and_none_of_a_failed_arm():
    assert throughput.speeds([outcome(), outcome(failure="no")], 10.0) == [200.0, 0.0]
    goal = throughput.goal("x", 10.0, "S", {"finesweep": [400.0, 300.0], "S": [200.0, 0.0]})
    assert goal.found == Spread.of([2.0])


def test_steps_in_vain_are_those_after_the_first_loss_that_exploded_or_is_no_number():
    calm, nan = [0.7, 0.6, 0.5], [0.7, math.nan, 0.1, 0.1]
    # Ten times the first loss is not enough: twenty times ln 2 is 13.9.
    high = [0.7, 12.0, 14.0, 0.5]
    assert divergence.in_vain([calm, nan, high, [20.0, 150.0, 201.0]], 2) == [(4, 2), (4, 1), (3, 0)]


def test_divergence_is_compared_by_the_steps_in_vain():
    figures = divergence.summed_up({"finesweep": [(10, 8), (10, 6)], "S": [(100, 98), (100, 97)]})
    assert figures.goals[0].found == Spread.of([8 / 97.5, 6 / 97.5])
    assert figures.goals[0].is_met
    nothing = divergence.summed_up({"finesweep": [], "S": [(100, 98)]})
    assert not nothing.goals[0].is_met
    assert nothing.notes == ["not every arm has a trial that diverged"]


# The report and the programme


def test_the_report_says_what_was_found_what_failed_and_what_has_not_run():
    goals = [
        Goal("M2", "examples", "S", 1.6, "x", True, Spread.of([2.0]), is_on_par=False),
        Goal("M1", "time", "T", 8.0, "x", True, Spread.of([9.0]), bound=True, note="T never"),
    ]
    figures = Figures("Sweeps", "How.", goals, [Table("arms", ["a|b", "c"], [["1", "2"]])], ["careful"])
    text = report.results({"machine": "2 cores"}, {"sweeps": figures}, {"throughput": "exit code 1: boom"}, ["later"])
    assert "| M1 | time | T | at least 8.00x | at least 9.00x | yes (T never) |" in text
    assert "| M2 | examples | S | at least 1.60x | 2.00x | **no** (at a worse winner) |" in text
    assert text.index("| M1 |") < text.index("| M2 |")
    assert "**throughput failed:** exit code 1: boom" in text
    assert "Not run: later." in text
    assert "| a/b | c |\n| --- | --- |\n| 1 | 2 |" in text
    assert "* careful" in text
    assert "* machine: 2 cores" in text


@pytest.mark.torch
def test_the_machine_is_described_by_its_cores_and_versions():
    assert "transformers 5" in report.machine()["versions"]
    assert "cores" in report.machine()["machine"]


def test_a_run_without_more_words_takes_about_half_an_hour():
    assert sum(budget(name, full=False, scale=1.0) for name in names(full=False)) <= 1_800
    assert set(names(full=True, model=True)) == set(MEASURES)
    assert "other_seeds" not in [*names(full=True), *names(full=False)]
    assert "other_seeds" in names(full=False, model=True)
    assert "bert_sweeps" not in names(full=False)


# Measuring a command


def test_a_command_is_measured_with_what_it_leaves_behind(tmp_path):
    """Its child outlives it, burns half a second of CPU and writes; all of it is on the account."""
    child = "import time; [None for _ in iter(lambda: time.process_time() < 0.5, False)]"
    child += f"; open({str(tmp_path / 'rest.bin')!r}, 'wb').write(bytes(300_000))"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    code += f"; open({str(tmp_path / 'file.bin')!r}, 'wb').write(bytes(200_000))"
    found = _metered([sys.executable, "-c", code], tmp_path)
    assert found["code"] == 0
    assert not found["timed_out"]
    assert found["cpu_seconds"] >= 0.5
    assert found["wchar"] >= 500_000
    assert 500_000 <= found["peak"] <= 510_000


def test_states_of_waiting_trials_are_counted_apart_each_version_once(tmp_path):
    (tmp_path / "states").mkdir()
    file = tmp_path / "states" / "a"
    watch = metered.FolderWatch(tmp_path)
    for _ in range(2):
        file.unlink(missing_ok=True)
        file.write_bytes(bytes(1_000))
        watch.look()
        watch.look()
    assert (watch.peak, watch.peak_apart, watch.written_apart) == (0, 1_000, 2_000)


def test_a_command_that_takes_too_long_is_killed(tmp_path):
    found = _metered([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, limit=0.5)
    assert found["timed_out"]
    assert found["code"] < 0
    assert found["seconds"] < 50


def _metered(command: list[str], folder: Path, limit: float = 60.0) -> dict[str, float]:
    """Measure in a process of its own: the measuring process adopts orphans for good."""
    out = folder.with_suffix(".json")
    words = ["--out", str(out), "--folder", str(folder), "--limit", str(limit), "--", *command]
    subprocess.run([sys.executable, "-m", "benchmarks.metered", *words], check=True, cwd=Path(__file__).parents[2])
    found: dict[str, float] = json.loads(out.read_text())
    return found


def test_a_folders_size_counts_a_file_once_whatever_names_it_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "one").write_bytes(bytes(300))
    watch = metered.FolderWatch(tmp_path)
    watch.look()
    watch.look()
    assert (watch.peak, watch.peak_apart, watch.written_apart) == (1_000, 300, 300)


def test_files_that_go_away_while_a_folder_is_measured_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(10))
    lstat = Path.lstat

    def vanishing(path: Path) -> os.stat_result:
        if path.name == "b":
            path.unlink()
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    watch = metered.FolderWatch(tmp_path)
    watch.look()
    assert watch.peak == 20


def test_a_measure_that_came_to_no_end_reports_what_it_had_found(tmp_path):
    file = tmp_path / "other_seeds.json"
    assert command.unfinished(file, "ended after 9 s") == "ended after 9 s"
    command.store(Figures("rounds", "how", notes=["round 1: one seed failed"]), file)
    found = command.unfinished(file, "ended after 9 s")
    assert isinstance(found, Figures)
    first, second = found.notes
    assert "ended after 9 s" in first
    assert second == "round 1: one seed failed"
    assert command.stored(file).notes == ["round 1: one seed failed"]
