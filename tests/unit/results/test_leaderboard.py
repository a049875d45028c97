from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, WAITING, manifest, record, run
from rich.console import Console

from finesweep.folder import Run, SweepFolder
from finesweep.folder.openings import Opening
from finesweep.results import leaderboard
from finesweep.results.board import Board, read_board
from finesweep.results.leaderboard_facts import sealed_fact
from finesweep.results.winner import EVIDENCE, Evidence
from finesweep.text.format import headings
from finesweep.trial import Divergence, Evaluation, TrialRecord, TrialState
from growth import growth

REQUIRED = (
    *("rank", "trial", "state", "reason", "objective", "best_epoch", "best_step", "metrics", "params", "seconds"),
    *("examples_per_second", "peak_memory_mb"),
)


def written(folder: Path, records: list[TrialRecord]) -> tuple[str, list[dict[str, str]], list[Any]]:
    """Write a leaderboard and read its three files back."""
    sweep_folder = SweepFolder(folder)
    leaderboard.write(read_board(sweep_folder, manifest(), records, [run()]))
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    table = list(csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text(encoding="utf-8"))))
    strict = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    return page, table, strict


def board_of(records: list[TrialRecord], runs: Sequence[Run] = (), folder: Path | None = None) -> Board:
    return read_board(SweepFolder(folder or Path("/nowhere")), manifest(), records, runs)


def diverged(trial: int, **fields: Any) -> TrialRecord:
    found = Divergence("training loss is NaN", 120, 3e-4, 0.6931)
    return record(trial, None, DIVERGED, reason=found.reason, divergence=found, **fields)


def cells(line: str) -> list[str]:
    """Split a Markdown row at its pipes, those that are escaped aside."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_three_files_tell_the_same(tmp_path: Path) -> None:
    page, table, objects = written(tmp_path, [record(0, 0.5), record(1, 0.4), diverged(2), record(3, 0.9, PRUNED)])
    assert [item["trial"] for item in objects] == [1, 0, 3, 2]
    assert [row["trial"] for row in table] == ["1", "0", "3", "2"]
    rows = [cells(line) for line in page.splitlines() if re.match(r"\| +\d", line)]
    assert [row[1] for row in rows[:2]] == ["1", "0"]
    assert [row[0] for row in rows[2:]] == ["3", "2"]


def test_json_holds_what_is_promised(tmp_path: Path) -> None:
    _, _, objects = written(tmp_path, [record(0, 0.5), diverged(1)])
    assert all(set(REQUIRED) <= set(item) for item in objects)
    assert objects[0]["rank"] == 1
    assert objects[0]["params"] == {"learning_rate": 3.21e-5, "num_train_epochs": 3}
    assert objects[0]["metrics"] == {"eval_loss": 0.5, "eval_accuracy": 0.875}
    assert (objects[1]["rank"], objects[1]["state"]) == (None, "DIVERGED")
    assert objects[1]["divergence"]["last_finite_loss"] == 0.6931


def test_json_has_no_nan(tmp_path: Path) -> None:
    crooked = Divergence("gradient norm is infinite", 5, math.inf, math.nan)
    params = {"learning_rate": math.nan}
    _, table, objects = written(tmp_path, [record(0, math.nan, divergence=crooked, params=params)])
    assert objects[0]["objective"] is None
    assert objects[0]["params"] == {"learning_rate": None}
    assert objects[0]["divergence"]["learning_rate"] is None
    assert table[0]["objective"] == table[0]["params.learning_rate"] == ""


@pytest.mark.parametrize(
    "records",
    [[], [record(n, None, FAILED) for n in range(3)], [record(n, 0.5, PRUNED) for n in range(3)], [diverged(0)]],
    ids=["none", "all failed", "all pruned", "one diverged"],
)
def test_files_are_valid_without_a_ranked_trial(tmp_path: Path, records: list[TrialRecord]) -> None:
    page, table, objects = written(tmp_path, records)
    assert len(table) == len(objects) == len(records)
    assert "**no trial ranks yet**" in page
    assert "- Winner: none" in page


def test_ten_times_the_records_take_ten_times_as_long(tmp_path: Path) -> None:
    states = [COMPLETE, COMPLETE, PRUNED, FAILED]
    records = [record(n, 1 / (n + 1), states[n % 4], reason="a | b") for n in range(5_000)]

    def write(count: int) -> None:
        leaderboard.write(read_board(SweepFolder(tmp_path), manifest(), records[:count], [run()]))
        assert (tmp_path / "leaderboard.json").read_bytes().count(b"\n") == count + 2

    # What compares each record with each other takes a hundred times as long.
    assert growth(write, 500, 5_000) < 25


def test_writing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    written(tmp_path, [record(0, 0.5), record(1, 0.4)])
    _, table, _ = written(tmp_path, [record(0, 0.5)])
    assert len(table) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
    ]


def test_page_says_what_the_result_rests_on(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "trial-0001").mkdir(parents=True)
    page, _, _ = written(tmp_path, [record(0, 0.5), record(1, 0.4), record(2, None, FAILED)])
    digest, split = "ab12ab12ab12", "validation 872 rows, split off with seed 7"
    for line in (
        "# sst2",
        "**eval_loss 0.4000 (trial 1), 0.1000 below the untuned default (trial 0: 0.5000)**",
        "- Model: org/encoder@86b5e0934494",
        f"- Data: train 6,920 rows, /data/train.csv ({digest}); {split}; 2 labels: negative, positive",
        "- Objective: eval_loss, minimize",
        "- Search: tpe sampler, median pruner, optuna, seed 7",
        "- Space: learning_rate 1e-05 to 5e-05, log; num_train_epochs 2 to 5",
        "- Fixed: weight_decay 0.01",
        "- Trials: 3 of 20 finished (2 COMPLETE, 1 FAILED)",
        "- Hours: 2.00 of 12",
        "- Made with: finesweep 0.1.0, python 3.11.4, torch 2.13.0",
        "- Winner: trial 1, step 400; weights in checkpoints/trial-0001/; not exported yet",
    ):
        assert line in page.splitlines()


def test_page_says_that_known_good_configurations_were_tried_first(tmp_path: Path) -> None:
    sweep = manifest()
    spec = sweep.spec.model_copy(update={"start": "auto"})
    for count, said in ((0, []), (1, ["- Start: 1 known good configuration was tried first"])):
        planned = [{"learning_rate": 2e-5, "num_train_epochs": 3}] * (1 + count)
        known = dataclasses.replace(sweep, spec=spec, planned=planned)
        leaderboard.write(read_board(SweepFolder(tmp_path), known, [record(0, 0.5)], [run()]))
        page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
        assert [line for line in page.splitlines() if line.startswith("- Start")] == said


def exported(folder: Path, trial: int, ranked: float, test: dict[str, float]) -> None:
    """Leave the evidence that an exported winner carries."""
    evidence = Evidence(trial, "eval_loss", ranked, {"eval_loss": ranked}, test, {})
    (folder / "winner").mkdir(exist_ok=True)
    (folder / "winner" / EVIDENCE).write_text(json.dumps(dataclasses.asdict(evidence)))


def winner_line(page: str) -> str:
    return next(line for line in page.splitlines() if line.startswith("- Winner: "))


def test_page_says_what_the_exported_winner_gave_when_loaded_again(tmp_path: Path) -> None:
    records = [record(0, 0.5), record(1, 0.4)]
    found = "- Winner: trial 1, step 400; exported to winner/, loaded again and evaluated: eval_loss 0.4000"
    exported(tmp_path, 1, 0.4, {})
    assert winner_line(written(tmp_path, records)[0]) == found
    exported(tmp_path, 1, 0.4, {"eval_loss": 0.45})
    assert winner_line(written(tmp_path, records)[0]) == f"{found}; on the test rows: eval_loss 0.4500"


@pytest.mark.parametrize(("trial", "ranked"), [(0, 0.5), (1, 0.39)])
def test_a_winner_exported_from_another_trial_is_not_taken_for_the_best(
    tmp_path: Path, trial: int, ranked: float
) -> None:
    exported(tmp_path, trial, ranked, {})
    page, _, _ = written(tmp_path, [record(0, 0.5), record(1, 0.4)])
    assert winner_line(page) == "- Winner: trial 1, step 400; weights in no folder yet; not exported yet"


def test_page_tells_the_runs_environments_apart(tmp_path: Path) -> None:
    runs = [run(1), run(2), run(3, environment={"torch": "2.12.1"})]
    leaderboard.write(read_board(SweepFolder(tmp_path), manifest(), [], runs))
    page = (tmp_path / "leaderboard.md").read_text()
    assert "torch 2.13.0; then finesweep 0.1.0, torch 2.12.1" in page
    assert "- Hours: 2.00 of 12 in 3 runs" in page, "they ran at the same time"


def test_page_writes_numbers_for_reading(tmp_path: Path) -> None:
    page, _, _ = written(tmp_path, [record(0, 0.123456)])
    row = next(cells(line) for line in page.splitlines() if line.startswith("|    1 |"))
    assert row == ["1", "0", "0.1235", "0.8750", "3.2e-05", "3", "42 s", "2", "123", "812"]


def test_page_says_where_a_trial_diverged(tmp_path: Path) -> None:
    page, _, _ = written(tmp_path, [diverged(0)])
    assert "training loss is NaN (step 120, learning rate 3e-04, last finite loss 0.6931)" in page
    none_before = Divergence("training loss is NaN", 1, None, None)
    page, _, _ = written(tmp_path, [record(0, None, DIVERGED, divergence=none_before)])
    assert "training loss is NaN (step 1, no finite loss before)" in page


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines", "two lines"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[click](javascript:alert)", r"\[click\](javascript:alert)"),
        ("![x](http://x)", r"!\[x\](http://x)"),
        ("`code` *bold* ~~out~~", r"\`code\` \*bold\* \~\~out\~\~"),
        ("__init__() of learning_rate", r"\_\_init\_\_() of learning_rate"),
        ("\x1b[31mred\x1b[0m\x00", "red"),
        ("back\\slash", r"back\\slash"),
        ("&amp;", "&amp;amp;"),
    ],
)
def test_markdown_cells_show_text_as_it_is(tmp_path: Path, reason: str, shown: str) -> None:
    page, _, _ = written(tmp_path, [record(0, None, FAILED, reason=reason)])
    row = next(cells(line) for line in page.splitlines() if "FAILED |" in line)
    assert row[-1] == shown


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60)
def test_no_text_adds_or_removes_a_cell(reason: str, choice: str) -> None:
    records = [record(0, 0.5, params={"optim": choice}), record(1, None, FAILED, reason=reason)]
    board = board_of(records)
    parsed = list(csv.reader(io.StringIO(leaderboard.to_csv(board))))
    assert [len(line) for line in parsed] == [len(parsed[0])] * 3

    page = list(leaderboard._page(board))
    # Two tables of heading, rule and one row.
    counts = [len(cells(line)) for line in page if line.startswith("|")]
    assert counts == [counts[0]] * 3 + [counts[3]] * 3
    assert not any("\n" in line or "\r" in line for line in page)


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1+1",
        "-0.5",
        "@SUM(A1:A2)",
        "\tstarts with a tab",
        "\rstarts with a return",
        '"=1+1',
        "＝1+1",
        "＋1",
        "－1",
        "＠x",
        "\x00=1",
        " =1",
        "\u200b=1",
        "\x1b[0m=1",
    ],
)
def test_csv_texts_are_no_formulas(tmp_path: Path, text: str) -> None:
    params = {"lr_scheduler_type": text}
    _, table, _ = written(tmp_path, [record(0, None, FAILED, reason=text, params=params)])
    assert table[0]["reason"].startswith("'")
    assert table[0]["params.lr_scheduler_type"].startswith("'")


def test_csv_numbers_stay_numbers_in_full_precision(tmp_path: Path) -> None:
    params = {"learning_rate": 3.2109876543210987e-05, "warmup_steps": -1, "bf16": True}
    _, table, _ = written(tmp_path, [record(0, -0.5, params=params)])
    row = table[0]
    assert float(row["objective"]) == -0.5
    assert row["objective"] == "-0.5"
    assert float(row["params.learning_rate"]) == 3.2109876543210987e-05
    assert (row["params.warmup_steps"], row["params.bf16"], row["rank"]) == ("-1", "true", "1")


def test_csv_quotes_texts_so_that_no_separator_splits_them(tmp_path: Path) -> None:
    written(tmp_path, [record(0, None, FAILED, reason="a;=1+1")])
    assert '"a;=1+1"' in (tmp_path / "leaderboard.csv").read_text()


def test_csv_has_a_column_for_each_parameter_of_the_space_even_unused(tmp_path: Path) -> None:
    _, table, _ = written(tmp_path, [record(0, 0.5, params={"learning_rate": 1e-5, "extra": None})])
    columns = [name for name in table[0] if name.startswith("params.")]
    assert columns == ["params.learning_rate", "params.num_train_epochs", "params.extra"]


def test_unpaired_surrogates_do_not_stop_the_writing(tmp_path: Path) -> None:
    page, table, objects = written(tmp_path, [record(0, None, FAILED, reason="file \udcff.txt")])
    assert "file \ufffd.txt" in page
    assert table[0]["reason"] == "file \ufffd.txt"
    assert objects[0]["reason"] == "file \udcff.txt"


def printed(records: list[TrialRecord], width: int, folder: Path | None = None, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, _environ={})
    console.print(leaderboard.console_table(board_of(records, [run()], folder), **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [1, 10, 40, 80, 120, 300])
def test_console_table_fits_any_width(width: int) -> None:
    text = printed([record(0, 0.5), record(1, 0.4), diverged(2)], width)
    assert all(len(line) <= width for line in text.splitlines())


def test_console_table_shows_what_matters_at_80_columns() -> None:
    reason = "halving: eval_loss 0.8387 after 600 examples; kept were the best 1 of trials 1, 2, 3 (0.5835)"
    metrics = {"eval_loss": 0.5, "eval_accuracy": 0.875, "eval_macro_f1": 0.7}
    params = {"learning_rate": 3.21e-5, "num_train_epochs": 3, "per_device_train_batch_size": 16}
    records = [record(0, 0.5, metrics=metrics, params=params), record(1, 0.8387, PRUNED, params=params, reason=reason)]
    lines = printed(records, 80).splitlines()
    headings = next(line for line in lines if line.startswith("rank"))
    assert headings.split()[:8] == ["rank", "trial", "eval_loss", "accuracy", "lr", "epochs", "batch", "time"]
    rest = lines[lines.index("Not ranked") + 1 :]
    start = rest[0].index("reason")
    assert " ".join(line[start:].strip() for line in rest if line[start:]).startswith(f"reason {reason}")


def test_two_parameters_never_share_a_heading() -> None:
    names = ["learning_rate", "model.dropout", "data.max_length", "model.max_length", "lr"]
    assert headings(names) == ["learning_rate", "dropout", "data.max_length", "model.max_length", "lr"]


def test_test_scores_stand_in_every_file_and_on_the_terminal(tmp_path: Path) -> None:
    records = [record(0, 0.5), record(1, 0.4)]
    exported(tmp_path, 1, 0.4, {"eval_loss": 0.45})
    _, table, objects = written(tmp_path, records)
    assert [(row["trial"], row["test.eval_loss"]) for row in table] == [("1", "0.45"), ("0", "")]
    assert [item["test"] for item in objects] == [{"eval_loss": 0.45}, None]
    assert "On the test rows: eval_loss 0.4500 (trial 1)" in printed(records, 80, tmp_path)
    exported(tmp_path, 0, 0.5, {"eval_loss": 0.45})
    assert "On the test rows" not in printed(records, 80, tmp_path), "of another trial's winner"


def test_console_table_keeps_rank_trial_and_objective_when_narrow() -> None:
    text = printed([record(0, 0.5), record(1, 0.4)], 28)
    assert re.search(r"rank +trial +eval_loss\n +1 +1 +0.4000\n +2 +0 +0.5000", text)
    assert "Not shown for lack of width" in text


def test_console_table_shows_everything_when_wide() -> None:
    text = printed([record(0, 0.5), record(1, None, FAILED, reason="[red]boom[/] \x1b[31m")], 200)
    assert "Not shown" not in text
    assert "[red]boom[/]" in text
    assert "\x1b" not in text


def test_console_table_is_limited() -> None:
    text = printed([record(n, n / 100) for n in range(50)], 80, limit=5)
    assert "45 more in leaderboard.md" in text
    assert len(text.splitlines()) < 14


def test_console_table_of_an_empty_sweep() -> None:
    assert printed([], 80).splitlines() == [
        "RED. No trial ranks yet, so there is nothing to take.",
        "",
        "sst2: no trial ranks yet",
    ]


def test_every_state_can_stand_on_the_page(tmp_path: Path) -> None:
    page, table, _ = written(tmp_path, [record(n, None, state) for n, state in enumerate(TrialState)])
    assert {row["state"] for row in table} == set(map(str, TrialState))
    assert all(f"1 {state}" in page for state in TrialState)


def test_page_says_which_trials_were_not_trained_in_one_go(tmp_path: Path) -> None:
    page, _, _ = written(
        tmp_path,
        [
            record(0, 0.5),
            record(1, 0.4, attempt=2, faults=("the trial's process was killed by SIGKILL",)),
            record(2, 0.6, batch_divisor=2, resumed_step=1_234),
        ],
    )
    section = page.partition("## Tried again")[2]
    assert "- Trial 1, attempt 2, after: the trial's process was killed by SIGKILL." in section
    assert "- Trial 2 ran out of GPU memory" in section
    assert "- Trial 2 was interrupted and continued from its saved state at step 1,234." in section
    assert "Trial 0" not in section
    assert "## Tried again" not in written(tmp_path, [record(0, 0.5)])[0]


def went_on(trial: int, at_step: int) -> TrialRecord:
    """A trial that was evaluated at step 19 and went on from a step."""
    at_rung = Evaluation(step=19, epoch=0.5, examples=3_460, metrics={}, objective=0.6)
    return record(trial, 0.5, attempt=2, resumed_step=at_step, evaluations=(at_rung,))


def test_a_promotion_is_no_second_try_but_an_interruption_is(tmp_path: Path) -> None:
    for pruner, at_step, again in (("halving", 19, False), ("halving", 21, True), ("median", 19, True)):
        summed = manifest(pruner=pruner)
        leaderboard.write(read_board(SweepFolder(tmp_path), summed, [record(0, 0.4), went_on(1, at_step)], [run()]))
        assert ("## Tried again" in (tmp_path / "leaderboard.md").read_text()) is again


def test_a_trial_whose_state_was_not_kept_is_told_with_what_that_cost(tmp_path: Path) -> None:
    again = dataclasses.replace(went_on(1, 0), examples=13_840, repeated_examples=3_460)
    given_up = record(2, None, FAILED, repeated_examples=3_460, faults=("killed",))
    page, _, objects = written(tmp_path, [record(0, 0.4, examples=13_840), again, given_up])
    cost = "its state was not kept or not usable: it was trained again, 3,460 examples more."
    assert f"- Trial 1 had waited at a rung and {cost}" in page.splitlines()
    assert "Trial 2 had waited" not in page
    assert [(item["examples"], item["repeated_examples"], item["promoted"]) for item in objects] == [
        (13_840, 0, False),
        (13_840, 3_460, True),
        (0, 3_460, True),
    ]
    assert "34,600 examples" in page


def test_waiting_trials_stand_among_those_that_do_not_rank(tmp_path: Path) -> None:
    reason = "waits after 3,460 examples for other trials to get there"
    page, _, objects = written(tmp_path, [record(0, 0.5), record(1, 0.3, WAITING, reason=reason), record(2, 0.6)])
    assert "- Trials: 2 of 20 finished (2 COMPLETE), 1 WAITING" in page.splitlines()
    assert [(item["trial"], item["rank"]) for item in objects] == [(0, 1), (2, 2), (1, None)]
    assert reason in page.partition("## Not ranked")[2]


def test_page_says_what_pruning_saved_and_what_it_may_have_cost(tmp_path: Path) -> None:
    records = [
        record(0, 0.4, examples=20_760),
        record(1, 0.6, PRUNED, examples=3_460),
        record(2, 0.45, audit="weak", examples=20_760),
    ]
    page, _, objects = written(tmp_path, records)
    trained = "44,980 examples, 72 % of the 62,280 that these trials are in full"
    audited = "1 of 2 pruned trials was finished all the same; 0 would have won (best of them 0.4500 against 0.4000)"
    assert f"- Trained: {trained}" in page.splitlines()
    assert f"- Pruning audit: {audited}" in page.splitlines()
    assert [(item["audit"], item["examples"]) for item in objects] == [
        (None, 20_760),
        ("weak", 20_760),
        (None, 3_460),
    ]
    assert printed(records, 200).splitlines()[-2:] == [f"Trained: {trained}", f"Pruning audit: {audited}"]


def test_page_is_silent_about_an_audit_that_there_was_not(tmp_path: Path) -> None:
    page, _, _ = written(tmp_path, [record(0, 0.4, examples=20_760), record(1, 0.6, FAILED, examples=100)])
    assert "- Trained: 20,860 examples" in page.splitlines()
    assert "audit" not in page


@pytest.mark.parametrize(("rows", "told"), [(400, True), (872, False), (1_000, False)])
def test_page_says_on_how_many_rows_the_ranking_rests(tmp_path: Path, rows: int, told: bool) -> None:
    summed = manifest(spec={"evaluation": {"per_epoch": 1, "rows": rows}})
    leaderboard.write(read_board(SweepFolder(tmp_path), summed, [record(0, 0.4, evaluated_rows=872)], [run()]))
    line = f"- Evaluations: while training on {rows:,} of 872 validation rows; the ranking rests on 872"
    assert (line in (tmp_path / "leaderboard.md").read_text().splitlines()) is told


def test_no_file_holds_a_number_that_is_not_finite(tmp_path: Path) -> None:
    endless = {"best_epoch": math.nan, "examples_per_second": math.inf, "peak_memory_mb": -math.inf}
    page, _, (item,) = written(tmp_path, [record(0, math.inf, metrics={"eval_loss": math.nan}, **endless)])
    assert (item["rank"], item["objective"], item["metrics"]) == (None, None, {"eval_loss": None})
    assert {item[name] for name in endless} == {None}
    for text in (page, (tmp_path / "leaderboard.csv").read_text(), printed([record(0, math.inf, **endless)], 300)):
        assert not re.search(r"\b(nan|inf|infinity)\b", text, re.IGNORECASE)


def test_a_trials_time_is_that_of_all_attempts_that_its_result_comes_from(tmp_path: Path) -> None:
    """A trial that waited at a rung was trained in several; the last one's alone would flatter it."""
    page, _, (item,) = written(tmp_path, [record(0, 0.5, attempt=3, seconds=2.0, earlier_seconds=65.0)])
    assert item["seconds"] == 67.0
    assert "1 min 07 s" in page


def test_json_has_the_keys_that_other_programs_read(tmp_path: Path) -> None:
    _, _, (item,) = written(tmp_path, [record(0, 0.5, DIVERGED, divergence=Divergence("up", 3, math.inf, None))])
    assert list(item) == [
        *("rank", "trial", "attempt", "state", "reason", "objective", "best_epoch", "best_step", "metrics", "params"),
        *("seconds", "examples_per_second", "peak_memory_mb", "divergence", "log", "faults", "batch_divisor"),
        *("resumed_step", "promoted", "examples", "repeated_examples", "model_size"),
        *("evaluated_rows", "audit", "test"),
    ]
    assert item["divergence"] == {"reason": "up", "step": 3, "learning_rate": None, "last_finite_loss": None}


def test_openings_of_the_test_rows_are_counted_and_dated() -> None:
    first, second = Opening("run", 3, 0.0, "ab"), Opening("confirm", 5, 86_400.0, "ab")
    assert sealed_fact(0, []) is None
    assert sealed_fact(1_500, []) == "1,500 rows, sealed; none was evaluated yet"
    once = "1,500 rows, opened once: for trial 3 (run, 1970-01-01 00:00 UTC)"
    assert sealed_fact(1_500, [first]) == once
    twice = sealed_fact(1_500, [first, second]) or ""
    assert twice.startswith("1,500 rows, opened 2 times: for trial 3 (run, 1970-01-01 00:00 UTC), then for trial 5")
    assert "chosen after a test score was known" in twice
    assert "chosen after" not in (sealed_fact(9, [first, first]) or "")
    assert "1e+300" in (sealed_fact(9, [Opening("run", 3, 1e300, "ab")]) or "")


def test_page_shows_openings_of_the_folder(tmp_path: Path) -> None:
    opened = dataclasses.asdict(Opening("run", 3, 0.0, "ab"))
    (tmp_path / "openings").mkdir()
    (tmp_path / "openings" / "0001.json").write_text(json.dumps(opened))
    facts = {"rows": {"train": 6920, "validation": 872, "test": 30}}
    board = read_board(SweepFolder(tmp_path), manifest(data=facts), [record(0, 0.4)], [run()])
    assert "- Test rows: 30 rows, opened once" in leaderboard.to_markdown(board)
