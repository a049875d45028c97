"""The decision that a sweep ends before its budget: what it says, for whom it holds, who makes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from finesweep.folder import SweepFolder
from finesweep.folder.early_end import EarlyEnd, forget_early_end, read_early_end, write_early_end
from finesweep.folder.sweep_folder import make_folders
from finesweep.spec import StopSpec

END = EarlyEnd(begun=12, left=17, wanted=30, best=0.4, gain=0.0004, seeds=0.008)
ON = StopSpec(auto=True)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def test_the_reason_is_one_sentence() -> None:
    assert END.why == (
        "after 13 of 30 trials: the other 17 were expected to gain 0.1 %, the seed noise is an estimated 2 %; "
        "to continue: --set stop.auto=false"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"left": 1}, "after 29 of 30 trials: the other one was expected to gain"),
        ({"gain": 0.0}, "to gain 0 %, the seed noise"),
        ({"gain": 1e-9}, "to gain less than 0.01 %, the seed noise"),
        ({"best": -0.4}, "to gain 0.1 %, the seed noise is an estimated 2 %"),
        ({"best": 0.0}, "to gain 4.0000e-04, the seed noise is an estimated 0.0080;"),
        ({"best": 0.001}, "to gain 4.0000e-04, the seed noise is an estimated 0.0080;"),
        ({"best": 0.4, "seeds": 0.05}, "the seed noise is an estimated 12 %"),
    ],
)
def test_differences_are_told_in_percent_unless_the_objective_is_near_0(changed: dict[str, Any], said: str) -> None:
    assert said in dataclasses.replace(END, **changed).why


def test_it_holds_for_its_budget_and_while_the_rule_is_on(folder: SweepFolder) -> None:
    assert read_early_end(folder, ON, 30) is None
    write_early_end(folder, END)
    assert read_early_end(folder, ON, 30) == END
    assert read_early_end(folder, ON, 40) is None
    assert read_early_end(folder, StopSpec(auto=False), 30) is None
    assert read_early_end(folder, StopSpec(), 30) is None, "the run of an earlier version"


def test_the_first_worker_decides(folder: SweepFolder) -> None:
    write_early_end(folder, END)
    write_early_end(folder, dataclasses.replace(END, gain=0.001))
    assert read_early_end(folder, ON, 30) == END
    other = dataclasses.replace(END, wanted=40)
    write_early_end(folder, other)
    assert read_early_end(folder, ON, 40) == other


def test_runs_with_different_budgets_have_their_own_decisions(folder: SweepFolder) -> None:
    other = dataclasses.replace(END, begun=20, wanted=40)
    for end in (END, other, dataclasses.replace(END, begun=25)):
        write_early_end(folder, end)
    assert [read_early_end(folder, ON, wanted) for wanted in (30, 40)] == [END, other]
    forget_early_end(folder)
    assert [read_early_end(folder, ON, wanted) for wanted in (30, 40)] == [None, None]


def test_the_file_of_an_earlier_version_counts(folder: SweepFolder) -> None:
    (folder.path / "early_end.json").write_text(json.dumps(dataclasses.asdict(END)), encoding="utf-8")
    assert read_early_end(folder, ON, 30) == END
    write_early_end(folder, dataclasses.replace(END, wanted=40))
    assert read_early_end(folder, ON, 30) == END


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"begun": -1}', '{"gain": NaN}', '{"ends": 3}', '{"ends": [{}]}', '{"ends": [], "more": 1}']
)
def test_a_damaged_file_decides_nothing(folder: SweepFolder, text: str) -> None:
    write_early_end(folder, END)
    (folder.path / "early_end.json").write_text(text)
    assert read_early_end(folder, ON, 30) is None
    write_early_end(folder, END)
    assert read_early_end(folder, ON, 30) == END


def test_a_decision_is_forgotten_once(folder: SweepFolder) -> None:
    write_early_end(folder, END)
    forget_early_end(folder)
    forget_early_end(folder)
    assert read_early_end(folder, ON, 30) is None
