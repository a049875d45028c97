"""The page in headless Chromium, with the network cut: what is shown, sorted, filtered, opened, printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_boards import HOSTILE, SPACE, made_board, made_records
from playwright.sync_api import Page

from browser import axe, chromium, opened
from finesweep.report import write_report
from finesweep.results.board import Board
from finesweep.trial import TrialRecord, TrialState

pytestmark = pytest.mark.timeout(1_200)


@pytest.fixture(autouse=True)
def browser() -> str:
    return chromium()


def made(folder: Path, count: int, records: list[TrialRecord] | None = None, **facts: object) -> tuple[Board, Path]:
    board = made_board(folder, count, records, **facts)
    return board, write_report(board)


def shown_trials(page: Page) -> list[int]:
    return page.eval_on_selector_all(
        "#trials > tbody:not([hidden])", "all => all.map(one => Number(one.dataset.trial))"
    )


def filter_by(page: Page, heading: str, text: str) -> None:
    page.get_by_label(f"Filter by {heading}", exact=True).fill(text)


def test_page_shows_the_decision_and_every_trial(tmp_path: Path) -> None:
    board, file = made(tmp_path, 50)
    with opened(file) as page:
        assert page.inner_text(".say") == " ".join(board.decision.sentences)
        assert page.inner_text(".light").lower().startswith(board.decision.light)
        assert shown_trials(page) == [row.record.trial for row in board.rows]
        assert page.inner_text("#count") == "50 of 50 trials"


@pytest.mark.slow
def test_table_sorts_filters_and_opens(tmp_path: Path) -> None:
    board, file = made(tmp_path, 50)
    by_loss = [row.record.trial for row in board.ranked]
    with opened(file) as page:
        head = page.get_by_role("button", name="eval_loss")
        head.click()
        assert [trial for trial in shown_trials(page) if trial in by_loss] == by_loss
        head.click()
        assert [trial for trial in shown_trials(page) if trial in by_loss] == by_loss[::-1]
        assert page.get_attribute("#trials th[aria-sort]", "aria-sort") == "descending"
        page.locator("input[value=PRUNED]").uncheck()
        left = {row.record.trial for row in board.rows if row.record.state is not TrialState.PRUNED}
        assert set(shown_trials(page)) == left
        filter_by(page, "lr", "1e-5..1e-4")
        inside = {trial for trial in left if 1e-5 <= board.records[trial].params["learning_rate"] <= 1e-4}
        assert set(shown_trials(page)) == inside
        filter_by(page, "epochs", ">= 4")
        assert set(shown_trials(page)) == {n for n in inside if board.records[n].params["num_train_epochs"] >= 4}
        page.click("#reset")
        assert len(shown_trials(page)) == 50
        row = page.locator(f"tbody[data-trial='{by_loss[0]}']")
        assert not row.locator(".more").is_visible()
        row.locator("summary").press("Enter")
        assert "1,600" in row.locator(".more").inner_text()
        assert "logs/trial-" in row.locator(".more").inner_text()
        page.get_by_text("Columns", exact=True).click()
        page.get_by_role("checkbox", name="memory MB").check()
        assert page.locator("#trials th", has_text="memory MB").is_visible()


@pytest.mark.slow
def test_charts_are_drawn_and_a_mark_on_an_axis_filters(tmp_path: Path) -> None:
    board, file = made(tmp_path, 50)
    with opened(file, charts=True) as page:
        assert page.locator(".plot.drawn").count() == 6
        assert not page.locator("svg.curves").is_visible()
        page.locator("#parallel").scroll_into_view_if_needed()
        # The lower half of the objective, which is the last axis.
        page.evaluate("brush(one('#parallel'), {x: [4.8, 5.2], y: [-0.05, 0.5]})")
        values = {row.record.trial: row.record.objective or 0.0 for row in board.ranked}
        middle = (min(values.values()) + max(values.values())) / 2
        assert set(shown_trials(page)) == {trial for trial, value in values.items() if value <= middle}
        page.click("#reset")
        assert len(shown_trials(page)) == 50
        page.locator("#parallel").scroll_into_view_if_needed()
        box = page.locator("#parallel .nsewdrag").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + box["height"] * 0.3)
        page.mouse.down()
        page.mouse.move(box["x"] + 40, box["y"] + box["height"] * 0.7, steps=5)
        page.mouse.up()
        page.wait_for_function("() => !document.querySelector('#count').textContent.startsWith('50 ')")
        assert 0 < len(shown_trials(page)) < len(values)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 1_000])
def test_any_number_of_trials_is_drawn_without_a_fault(tmp_path: Path, count: int) -> None:
    _, file = made(tmp_path, count)
    with opened(file, charts=True) as page:
        assert len(shown_trials(page)) == count
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_without_javascript_all_but_charts_is_there(tmp_path: Path) -> None:
    board, file = made(tmp_path, 20)
    _, with_charts = made(tmp_path, 20)
    assert file == with_charts
    best = board.ranked[0].record.trial
    text = file.read_text(encoding="utf-8")
    assert text.count("<polyline") == 5
    file.write_text(text.replace("<script>", '<script type="text/plain">'), encoding="utf-8")
    with opened(file) as page:
        assert page.locator("svg.curves").is_visible()
        assert page.locator("svg.bars").is_visible()
        assert not page.locator("#count").is_visible()
        row = page.locator(f"tbody[data-trial='{best}']")
        row.locator("summary").click()
        assert row.locator(".more").is_visible()


@pytest.mark.slow
def test_hostile_texts_are_shown_and_do_nothing(tmp_path: Path) -> None:
    records = made_records(24)
    for number, text in enumerate(HOSTILE):
        fields = {**vars(records[number]), "reason": text, "host": text, "log": text}
        fields["params"] = {**records[number].params, "lr_scheduler_type": text}
        records[number] = TrialRecord(**fields)
    space = {**SPACE, "lr_scheduler_type": {"choices": ["linear", "cosine", *HOSTILE]}}
    data = {"labels": list(HOSTILE), "sources": {"train": {"place": HOSTILE[0], "digest": "ab"}}}
    _, file = made(tmp_path, 24, records, spec={"space": space}, data=data)
    with opened(file, charts=True) as page:
        body = page.inner_text("body")
        assert "window.hacked=1" in body
        assert "{{ 7*7 }}" in body
        assert page.locator("a:not(.skip), b, img").count() == 0
        assert page.locator("script").count() == 4, "two of data, the page's own, and Plotly"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("count", [3, 50])
def test_axe_finds_no_violation(tmp_path: Path, scheme: str, count: int) -> None:
    _, file = made(tmp_path, count)
    code = axe()
    with opened(file, charts=True, color_scheme=scheme) as page:
        page.locator("#trials summary").first.click()
        page.get_by_text("Columns", exact=True).click()
        page.evaluate(code)
        found = page.evaluate("axe.run()")
        wrong = [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]]
        assert wrong == []
        assert len(found["passes"]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 50, 1_000])
def test_paper_takes_two_pages(tmp_path: Path, count: int) -> None:
    _, file = made(tmp_path, count)
    with opened(file) as page:
        assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 2


@pytest.mark.slow
def test_narrow_screen_scrolls_the_table_and_not_the_page(tmp_path: Path) -> None:
    _, file = made(tmp_path, 50)
    with opened(file, charts=True, viewport={"width": 360, "height": 700}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("(t => t.scrollWidth > t.clientWidth)(document.querySelector('#trials').parentElement)")
        page.locator("#trials summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.slow
def test_keyboard_reaches_the_table_and_opens_a_row(tmp_path: Path) -> None:
    _, file = made(tmp_path, 5)
    with opened(file) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('#trials summary')"):
                break
        page.keyboard.press("Space")
        assert page.locator("#trials .more").first.is_visible()
