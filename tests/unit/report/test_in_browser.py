"""The page in headless Chromium, with the network cut: what is shown, sorted, filtered, opened, printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_boards import HOSTILE, SPACE, made_board, made_records
from playwright.sync_api import Browser, Page

from browser import SCREEN, axe, chromium, opened, started
from finesweep.doctor import Finding
from finesweep.report import write_report
from finesweep.results.answers import Answers, Confusion
from finesweep.results.board import Board
from finesweep.results.worst_rows import ShownRow
from finesweep.trial import TrialRecord, TrialState

pytestmark = pytest.mark.timeout(1_200)


@dataclass(frozen=True)
class Shown:
    """A page in the browser, and what it was made from."""

    board: Board
    file: Path
    page: Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium()
    with started() as browser:
        yield browser


@contextmanager
def shown(browser: Browser, board: Board) -> Iterator[Shown]:
    file = write_report(board)
    with opened(browser, file, charts=True) as page:
        yield Shown(board, file, page)


@pytest.fixture(scope="module")
def of_fifty(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One page for many tests: to draw it costs more than to look at it."""
    folder = tmp_path_factory.mktemp("fifty")
    with shown(browser, made_board(folder, 50)) as found:
        yield found


@pytest.fixture
def fifty(of_fifty: Shown) -> Shown:
    """The page of 50 trials as it is when it has been opened."""
    page = of_fifty.page
    page.set_viewport_size(SCREEN)
    page.click("#reset")
    page.evaluate("all('details[open]').forEach((one) => { one.open = false; })")
    return of_fifty


def shown_trials(page: Page) -> list[int]:
    return page.eval_on_selector_all(
        "#trials > tbody:not([hidden])", "all => all.map(one => Number(one.dataset.trial))"
    )


def filter_by(page: Page, heading: str, text: str) -> None:
    page.get_by_label(f"Filter by {heading}", exact=True).fill(text)


def pages_of_paper(page: Page) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True)))


def test_page_shows_the_decision_and_every_trial(fifty: Shown) -> None:
    page, board = fifty.page, fifty.board
    assert page.inner_text(".say") == " ".join(board.decision.sentences)
    assert page.inner_text(".light").lower().startswith(board.decision.light)
    assert sorted(shown_trials(page)) == sorted(row.record.trial for row in board.rows)
    assert page.inner_text("#count") == "50 of 50 trials"


@pytest.mark.slow
def test_table_sorts_filters_and_opens(fifty: Shown) -> None:
    page, board = fifty.page, fifty.board
    by_loss = [row.record.trial for row in board.ranked]
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
    page.get_by_role("checkbox", name="memory MB").uncheck()


@pytest.mark.slow
def test_charts_are_drawn_and_a_mark_on_an_axis_filters(fifty: Shown) -> None:
    page, board = fifty.page, fifty.board
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
def test_narrow_screen_scrolls_the_table_and_not_the_page(fifty: Shown) -> None:
    page = fifty.page
    page.set_viewport_size({"width": 360, "height": 700})
    page.locator("#trials summary").first.click()
    assert page.evaluate("(t => t.scrollWidth > t.clientWidth)(document.querySelector('#trials').parentElement)")
    page.wait_for_function("() => document.documentElement.scrollWidth === 360")  # charts follow a moment later


@pytest.mark.slow
def test_paper_takes_two_pages(fifty: Shown) -> None:
    assert pages_of_paper(fifty.page) == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 1_000])
def test_any_number_of_trials_is_drawn_and_printed(browser: Browser, tmp_path: Path, count: int) -> None:
    with shown(browser, made_board(tmp_path, count)) as found:
        assert len(shown_trials(found.page)) == count
        assert found.page.evaluate("document.documentElement.scrollHeight") < 7_000, "the table scrolls by itself"
        assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert pages_of_paper(found.page) == 2


@pytest.mark.slow
def test_without_javascript_all_but_charts_is_there(browser: Browser, tmp_path: Path) -> None:
    board = made_board(tmp_path, 20)
    file = write_report(board)
    best = board.ranked[0].record.trial
    text = file.read_text(encoding="utf-8")
    assert text.count("<polyline") == 5
    file.write_text(text.replace("<script>", '<script type="text/plain">'), encoding="utf-8")
    with opened(browser, file) as page:
        assert page.locator("svg.curves").is_visible()
        assert page.locator("svg.bars").is_visible()
        assert page.locator("#answers").is_visible()
        assert not page.locator("#count").is_visible()
        row = page.locator(f"tbody[data-trial='{best}']")
        row.locator("summary").click()
        assert row.locator(".more").is_visible()


@pytest.mark.slow
def test_hostile_texts_are_shown_and_do_nothing(browser: Browser, tmp_path: Path) -> None:
    records = made_records(24)
    for number, text in enumerate(HOSTILE):
        fields = {**vars(records[number]), "reason": text, "host": text, "log": text}
        fields["params"] = {**records[number].params, "lr_scheduler_type": text}
        records[number] = TrialRecord(**fields)
    space = {**SPACE, "lr_scheduler_type": {"choices": ["linear", "cosine", *HOSTILE]}}
    data = {"labels": list(HOSTILE), "sources": {"train": {"place": HOSTILE[0], "digest": "ab"}}}
    cells = tuple(Confusion(text, HOSTILE[0], 7) for text in HOSTILE)
    board = made_board(tmp_path, 24, records, spec={"space": space}, data=data, answers=Answers(cells))
    file = write_report(board, [ShownRow("7", (text, text), text, text, "3.2000") for text in HOSTILE])
    with opened(browser, file, charts=True) as page:
        for place in ("body", "#answers", "#rows"):
            text = page.inner_text(place)
            assert "window.hacked=1" in text
            assert "{{ 7*7 }}" in text
        assert page.locator("a:not(.skip), b, img").count() == 0
        assert page.locator("script").count() == 4, "two of data, the page's own, and Plotly"


@pytest.mark.slow
def test_axe_finds_no_violation(browser: Browser, tmp_path: Path) -> None:
    code, finding = axe(), Finding("best-at-bound", "the best lies at a bound", "2 of 3", "space: {x: 1}", "problem")
    board = made_board(tmp_path, 16, findings=(finding,))
    file = write_report(board, [ShownRow("7", ("a text",), "positive", "negative", "3.2000")])
    with opened(browser, file, charts=True) as page:
        assert page.locator(".plot.drawn").count() == 6
        page.locator("#trials summary").first.click()
        page.get_by_text("Columns", exact=True).click()
        page.evaluate(code)
        found = page.evaluate("axe.run()")
        assert wrong(found) == []
        assert len(found["passes"]) > 20
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "() => getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(230, 233, 237)'"
        )
        grid = page.evaluate("getComputedStyle(document.querySelector('#curves .xgrid')).stroke")
        assert grid == "rgb(44, 50, 58)", "that of the dark scheme"
        found = page.evaluate("axe.run({runOnly: ['color-contrast']})")
        assert wrong(found) == []
        assert len(found["passes"]) == 1


def wrong(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]]


@pytest.mark.slow
def test_keyboard_reaches_the_table_and_opens_a_row(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_report(made_board(tmp_path, 5))) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('#trials summary')"):
                break
        page.keyboard.press("Space")
        assert page.locator("#trials .more").first.is_visible()
