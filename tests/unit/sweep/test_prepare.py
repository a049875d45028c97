"""What a smoke run makes of a spec."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finesweep.errors import SpecError
from finesweep.sweep import prepare
from finesweep.sweep.prepare import SMOKE_ROWS, check_to_begin, load, profile_of
from finesweep.sweep.request import Request

SPEC = """model: {config: bert}
data: {train: a.csv, test: b.csv, max_test_rows: 900}
space: {adam_beta1: {low: 0.8, high: 0.9}}
"""


def test_a_smoke_run_takes_few_rows_of_every_split(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(SPEC, encoding="utf-8")
    request = Request(tmp_path / "my.yaml", smoke=True, results=tmp_path)
    data = load(request, profile_of(request)).spec.data
    assert (data.max_train_rows, data.max_eval_rows, data.max_test_rows) == (SMOKE_ROWS,) * 3


def test_a_profile_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "here.yaml").write_text("workers: 1\n", encoding="utf-8")
    request = Request(tmp_path / "my.yaml", profile=tmp_path / "here.yaml", results=tmp_path)
    profile = profile_of(request)
    (tmp_path / "here.yaml").unlink()
    assert load(request, profile).spec.name == "my"


@pytest.mark.torch
def test_a_profile_without_place_is_refused_beside_the_problems_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(f"{SPEC}task: translation\n", encoding="utf-8")
    (tmp_path / "here.yaml").write_text("gpus_per_trial: 1\n", encoding="utf-8")
    request = Request(tmp_path / "my.yaml", profile=tmp_path / "here.yaml", results=tmp_path)
    profile = profile_of(request)
    with pytest.raises(SpecError, match=r"(?s)task: .*gpus_per_trial: 1 is asked for, and no GPU was found"):
        load(request, profile)


@pytest.mark.parametrize(("room", "places"), [(3, ["first", "second", "third"]), (1, ["first"]), (0, [])])
def test_workers_have_the_cores_beside_the_checks_first_and_from_the_dry_run_on_what_memory_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, places: list[str]
) -> None:
    (tmp_path / "my.yaml").write_text(SPEC, encoding="utf-8")
    request = Request(tmp_path / "my.yaml", results=tmp_path)
    noted: list[object] = []

    def check(*_: Any) -> SimpleNamespace:
        noted.append("checks")
        return SimpleNamespace(model="the model")

    monkeypatch.setattr(prepare, "foreseen", lambda *_: ["first", "second", "third"])
    monkeypatch.setattr(prepare, "beside_the_checks", lambda busy: 4 - busy)
    monkeypatch.setattr(prepare.dry_run, "started_ahead", lambda _: contextlib.nullcontext(object()))
    monkeypatch.setattr(prepare, "beside_the_step", lambda all_places, *_: all_places[:room])
    monkeypatch.setattr(prepare, "checked_spec", check)
    monkeypatch.setattr(prepare, "try_model", lambda *_: noted.append("dry run"))
    check_to_begin(request, profile_of(request), noted.append)
    assert noted == [["first", "second"], "checks", places, "dry run"]
