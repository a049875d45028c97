"""What the page says, without a browser; what it does is in test_in_browser."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_boards import HOSTILE, SPACE, WIDE, made_board, made_records
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, WAITING, record

from finesweep.confidence import Interval
from finesweep.doctor import Finding
from finesweep.report import write_report
from finesweep.report.page import page
from finesweep.report.sections import spec_yaml, top
from finesweep.report.table import SHOWN, table
from finesweep.results.answers import Answers, Confusion
from finesweep.results.confirmation import Candidate, Confirmation
from finesweep.results.decision import Decision, Light
from finesweep.results.worst_rows import ShownRow
from finesweep.spec.reader import draft
from finesweep.trial import Direction, TrialRecord

MB = 1_000_000


def written(folder: Path, count: int, records: list[TrialRecord] | None = None, **facts: Any) -> str:
    return write_report(made_board(folder, count, records, **facts)).read_text(encoding="utf-8")


def without_bundle(text: str) -> str:
    return re.sub(r'<script type="text/plain" id="plotly">[^<]*</script>', "", text)


def figures(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">([^<]*)</script>', text)
    assert found is not None
    return json.loads(found[1])


def test_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    text = without_bundle(written(tmp_path, 20))
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert re.findall(r"(?:src|href|action)=[\"']?([^\"' >]*)", text) == ["data:,", "#table"]
    assert "@import" not in text
    assert "url(" not in text


def test_policy_allows_only_the_scripts_of_the_page(tmp_path: Path) -> None:
    text = written(tmp_path, 5)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    packed = re.search(r'id="plotly">([^<]*)<', text)[1]  # type: ignore[index]
    own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    codes = [own[0].encode(), gzip.decompress(base64.b64decode(packed))]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(code).digest()).decode()}'" for code in codes]
    assert len(own) == 1
    assert rules["script-src"].split() == hashes
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "connect-src" not in rules


@pytest.mark.parametrize(("count", "most"), [(3, 2.3), (100, 3.0), (1_000, 5.0)])
def test_page_stays_small(tmp_path: Path, count: int, most: float) -> None:
    assert len(written(tmp_path, count).encode()) < most * MB


def test_page_of_many_parameters_and_long_reasons_stays_small(tmp_path: Path) -> None:
    records = made_records(1_000, wide=True)
    long = [TrialRecord(**{**vars(one), "reason": one.reason and one.reason.ljust(300, "x")}) for one in records]
    text = written(tmp_path, 1_000, long, spec={"space": WIDE})
    assert len(text.encode()) < 5 * MB
    assert "adam_beta2" in text


def test_two_pages_of_a_board_differ_in_nothing_but_the_time(tmp_path: Path) -> None:
    board = made_board(tmp_path, 12)
    first, second = (re.sub(r"written [\d\-: ]+UTC", "", page(board)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("text", HOSTILE)
def test_no_foreign_text_becomes_markup(tmp_path: Path, text: str) -> None:
    records = [record(n, 0.4 + n / 100, reason=text, params={"lr_scheduler_type": text}) for n in range(11)]
    records.append(record(11, None, FAILED, reason=text, host=text, log=text, faults=(text,)))
    space = {**SPACE, "lr_scheduler_type": {"choices": [text, "linear"]}}
    data = {"labels": [text, "b"], "sources": {"train": {"place": text, "digest": "ab"}}}
    shown = without_bundle(written(tmp_path, 12, records, spec={"space": space}, data=data))
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", shown, flags=re.DOTALL)
    assert "hacked=1>" not in markup
    assert "<b onmouseover" not in markup
    assert "49" not in re.findall(r"emoji (\w*)", markup)
    assert markup.count("<") == len(re.findall(r"</?(?!b |img|script)[a-z!][^<>]*>", markup))


def test_plotly_gets_texts_without_tags(tmp_path: Path) -> None:
    text = "<a href='https://example.org'>x</a>"
    records = [record(n, 0.4 + n / 100, params={"optim": text if n % 2 else "b"}) for n in range(12)]
    space = {"optim": {"choices": [text, "b"]}}
    found = json.dumps(figures(written(tmp_path, 12, records, spec={"space": space})))
    assert "<a" not in found
    assert "&lt;a href" in found


def test_charts_need_enough_trials(tmp_path: Path) -> None:
    few, enough = (figures(written(tmp_path, count, made_records(count))) for count in (3, 40))
    assert "importances" not in few
    assert {"curves", "parallel", "importances", "slices", "progress", "timeline"} == set(enough)


@pytest.mark.parametrize("records", [[], [record(0, None, FAILED, reason="x")], [record(0, 0.5, PRUNED)]])
def test_page_without_a_ranked_trial_is_red(tmp_path: Path, records: list[TrialRecord]) -> None:
    text = written(tmp_path, 3, records)
    assert 'class="decision red"' in text
    assert "No trial ranks yet" in text


def test_one_trial_without_evaluations_has_a_page(tmp_path: Path) -> None:
    assert ">0.5000<" in written(tmp_path, 1, [record(0, 0.5, COMPLETE)])


def test_nan_and_infinity_reach_no_script(tmp_path: Path) -> None:
    odd = [
        record(n, value, params={"learning_rate": value}) for n, value in enumerate((0.5, float("nan"), float("inf")))
    ]
    found = figures(written(tmp_path, 3, odd))
    assert "NaN" not in json.dumps(found)


def test_findings_and_references_are_shown(tmp_path: Path) -> None:
    found = Finding("best-at-bound", "the best </li> lies at a bound", "2 of 3 trials", "space: {x: 1}", "problem")
    text = written(tmp_path, 12, findings=(found,))
    assert '<li class="problem"><strong>Problem: <bdi>the best &lt;/li&gt; lies at a bound</bdi>.</strong>' in text
    assert '<pre tabindex="0">space: {x: 1}</pre>' in text
    assert re.search(r"TF-IDF \+ logistic regression</bdi></th><td class=\"right\">0.4800<", text)
    assert "Nothing that is wrong with this sweep." not in text
    assert "Nothing that is wrong with this sweep." in written(tmp_path, 12)


def test_confirmation_is_recomputed_from_its_values(tmp_path: Path) -> None:
    values = {101: 0.31, 102: 0.33}
    one = Candidate(3, 0.30, values, chance=0.9, interval=Interval(0.29, 0.35), best=record(0, 0.31))
    found = Confirmation((one, Candidate(0, 0.40, {}, has_diverged=True)), Direction.MINIMIZE, planned=4, ended=3)
    text = page(dataclasses.replace(made_board(tmp_path, 12), confirmation=found))
    table = re.search(r'<table id="confirmed">.*?</table>', text, re.DOTALL)[0]  # type: ignore[index]
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.split("<tr>")[2:]]
    assert cells[0] == ["3", "0.3000", "0.3200", "0.2900 to 0.3500", "0.0200", "0.3100, 0.3300"]
    assert cells[1][:3] == ["0", "0.4000", "diverged"]


@pytest.mark.parametrize("light", Light)
def test_only_a_winner_that_may_be_shipped_is_to_be_used(tmp_path: Path, light: Light) -> None:
    board = made_board(tmp_path, 12)
    assert board.evidence is not None
    steps = [step.text for step in top(dataclasses.replace(board, decision=Decision(light, ("So.",)))).steps]
    assert ("Use the winner" in steps) == (light is not Light.RED)
    assert any("Do not use the winner" in step for step in steps) == (light is Light.RED)


def test_table_shows_the_means_that_it_is_ranked_by(tmp_path: Path) -> None:
    one = Candidate(3, 0.30, {101: 0.31, 102: 0.33}, interval=Interval(0.29, 0.35), best=record(0, 0.31))
    board = made_board(tmp_path, 12)
    plain = table(board)
    found = Confirmation((one,), Direction.MINIMIZE, planned=2, ended=2)
    confirmed = table(dataclasses.replace(board, confirmation=found))
    names = [column.name for column in confirmed.columns]
    (row,) = (row for row in confirmed.rows if row.trial == 3)
    assert row.cells[names.index("mean")].text == "0.3200"
    shown = [[column.name for column in of.columns if column.shown] for of in (plain, confirmed)]
    assert set(shown[1]) - set(shown[0]) == {"mean", "95 % over seeds", "race"}
    assert [len(of) for of in shown] == [SHOWN, SHOWN]


def test_spec_on_the_page_is_read_as_the_same_spec(tmp_path: Path) -> None:
    board = made_board(tmp_path, 12)
    (tmp_path / "sst2.yaml").write_text(spec_yaml(board), encoding="utf-8")
    again = draft(tmp_path / "sst2.yaml").finished().spec
    asked = board.manifest.spec_for(board.runs[-1])
    assert again.model_dump(exclude={"base"}) == asked.model_dump(exclude={"base"})


def cells_of(text: str, table: str) -> list[list[str]]:
    """The texts of a table's lines, without its head."""
    found = re.search(rf'<table id="{table}">.*?</table>', text, re.DOTALL)
    assert found is not None
    rows = found[0].split("<tr>")[2:]
    return [
        [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows
    ]


def test_confusion_matrix_has_labels_as_lines_and_answers_as_columns(tmp_path: Path) -> None:
    text = written(tmp_path, 12)
    assert cells_of(text, "answers") == [
        ["negative", "360", "40", "90.0 %"],
        ["positive", "100", "372", "78.8 %"],
    ]
    assert "The answer is not the label for 140 of 872 validation rows (16.1 %)." in text


def test_of_many_labels_the_largest_confusions_are_listed(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(30)]
    cells = [Confusion(one, one, 10) for one in names] + [
        Confusion(one, names[0], place) for place, one in enumerate(names) if place
    ]
    text = written(tmp_path, 12, answers=Answers(tuple(cells)), data={"labels": names})
    lines = cells_of(text, "answers")
    assert len(lines) == 20
    assert lines[0] == ["label 29", "label 0", "29", "74.4 %"]
    assert "435 of 735 validation rows (59.2 %). These are the 20 largest of 29 confusions." in text


def test_several_labels_are_counted_one_by_one(tmp_path: Path) -> None:
    cells = (Confusion("a", "a", 5), Confusion("a", None, 2), Confusion(None, "b", 4), Confusion("b", "b", 1))
    spec = {"task": "multi-label-classification"}
    text = written(tmp_path, 12, answers=Answers(cells), data={"labels": ["a", "b"]}, spec=spec)
    assert cells_of(text, "answers") == [["b", "1", "1", "0", "4"], ["a", "7", "5", "2", "0"]]


def test_numbers_have_no_table_of_answers(tmp_path: Path) -> None:
    assert 'id="answers"' not in written(tmp_path, 12, answers=Answers())


def test_rows_are_shown_only_if_they_are_given(tmp_path: Path) -> None:
    rows = [ShownRow("7", (text, "the second text"), text, "positive", "3.2000") for text in HOSTILE]
    board = made_board(tmp_path, 12)
    assert "holds texts of the data" not in page(board)
    text = page(board, rows)
    assert "holds texts of the data" in text
    found = re.findall(
        r"Row 7, loss 3.2000, label <bdi>(.*?)</bdi>, answer <bdi>positive</bdi></p><p[^>]*>(.*?)</p>", text
    )
    assert [tuple(map(html.unescape, one)) for one in found] == [(text, text) for text in HOSTILE]
    assert "<img" not in without_bundle(text)


def test_cost_adds_up_to_the_records(tmp_path: Path) -> None:
    records = made_records(30)
    text = written(tmp_path, 30, records)
    table = re.search(r'<table id="cost">.*?</table>', text, re.DOTALL)[0]  # type: ignore[index]
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.split("<tr>")[2:]]
    assert sum(int(row[1]) for row in cells) == 30
    assert sum(int(row[4].replace(",", "")) for row in cells) == sum(one.examples for one in records)
    complete = sum(one.trained_seconds for one in records if one.state is COMPLETE) / 3600
    assert cells[0][:3] == ["COMPLETE", str(sum(one.state is COMPLETE for one in records)), f"{complete:.1f} h"]


def test_timeline_has_the_numbers_and_states_of_the_sweep(tmp_path: Path) -> None:
    states = [COMPLETE, WAITING, PRUNED, DIVERGED, FAILED, COMPLETE]
    records = [record(n, 0.5 if state is COMPLETE else None, state) for n, state in enumerate(states)]
    bars = figures(written(tmp_path, 6, records))["timeline"]["data"]
    assert {bar["name"]: bar["y"] for bar in bars} == {
        "COMPLETE": [0, 5],
        "PRUNED": [2],
        "DIVERGED": [3],
        "FAILED": [4],
    }
    assert [bar["x"] for bar in bars] == [[42_000.0] * len(bar["y"]) for bar in bars]


def test_best_so_far_is_recomputed_from_the_records(tmp_path: Path) -> None:
    records = made_records(30)
    data = figures(written(tmp_path, 30, records))["progress"]["data"]
    ranked = [one.objective for one in sorted(records, key=lambda one: one.ended) if one.state is COMPLETE]
    assert data[1]["y"][-1] == pytest.approx(min(ranked), rel=1e-5)
    assert data[0]["y"] == pytest.approx(ranked, rel=1e-5)
    assert data[0]["x"][-1] <= sum(one.examples for one in records)
    assert data[7]["x"][-1] == max(place for place, one in enumerate(records, 1) if one.state is not None)
