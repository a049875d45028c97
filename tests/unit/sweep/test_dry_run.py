"""Which configurations of a sweep are tried on two rows, and what their faults are blamed on; needs no torch."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from finesweep.spec.sections import SweepSpec
from finesweep.sweep import dry_run
from finesweep.sweep.dry_run import variants

NAMED = {"name": "google-bert/bert"}
SCRATCH = {"config": "bert", "hidden_size": 64}
SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-4}}


def spec(space: dict[str, Any] | None = None, model: Any = None, **sections: Any) -> SweepSpec:
    values = {"name": "s", "base": Path("/"), "model": model or SCRATCH, "data": {"train": "rows.csv"}}
    return SweepSpec.model_validate({**values, "space": {**SPACE, **(space or {})}, **sections}, strict=False)


def tried(asked: SweepSpec, plan: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    found = variants(asked, plan, 512)
    assert all(one.params["data.max_length"] == 512 for one in found)
    model = [{k.removeprefix("model."): v for k, v in one.params.items() if k.startswith("model.")} for one in found]
    return [(".".join(map(str, one.place)), params) for one, params in zip(found, model, strict=True)]


def test_every_end_and_choice_is_tried_beside_the_first_configuration() -> None:
    space = {"model.dropout": {"low": 0, "high": 0.5}, "model.layers": {"choices": [1, 2, None]}}
    assert tried(spec(space), [{"model.dropout": 0.1, "model.layers": 2}]) == [
        ("model", {"dropout": 0.1, "layers": 2}),
        ("space.model.dropout.low", {"dropout": 0.0, "layers": 2}),
        ("space.model.dropout.high", {"dropout": 0.5, "layers": 2}),
        ("space.model.layers.choices.0", {"dropout": 0.1, "layers": 1}),
        ("space.model.layers.choices.2", {"dropout": 0.1, "layers": None}),
    ]


def test_without_a_plan_the_lower_ends_come_first() -> None:
    space = {"model.dropout": {"low": 0.0, "high": 0.5}, "model.layers": {"low": 1, "high": 3}}
    assert tried(spec(space), []) == [
        ("model", {"dropout": 0.0, "layers": 1}),
        ("space.model.dropout.high", {"dropout": 0.5, "layers": 1}),
        ("space.model.layers.high", {"dropout": 0.0, "layers": 3}),
    ]


def test_a_setting_with_a_when_is_tried_where_it_is_there() -> None:
    space = {
        "model.kind": {"choices": ["a", "b", "c"]},
        "model.width": {"choices": [8], "when": {"model.kind": ["c", "b"]}},
        "model.depth": {"choices": [2], "when": {"model.width": 8}},
    }
    found = tried(spec(space), [{"model.kind": "a"}])
    assert ("space.model.width.choices.0", {"kind": "c", "width": 8}) in found
    assert ("space.model.depth.choices.0", {"kind": "c", "width": 8, "depth": 2}) in found


def test_true_is_another_choice_than_one() -> None:
    found = tried(spec({"model.flag": {"choices": [1, True]}}), [{"model.flag": 1}])
    assert [place for place, _ in found] == ["model", "space.model.flag.choices.1"]


def test_long_inputs_are_tried_up_to_a_limit() -> None:
    asked = spec(data={"train": "rows.csv", "max_length": 100_000})
    assert [one.params["data.max_length"] for one in variants(asked, [], 1_000_000)] == [dry_run.LONGEST]


@pytest.mark.parametrize(
    ("space", "sections", "is_tried"),
    [
        ({}, {}, True),
        ({}, {"model": {"config": "bart", "d_model": 64}}, False),
        ({}, {"model": {"name": "bert"}}, False),
        ({}, {"model": {**SCRATCH, "type_vocab_size": 0}}, False),
        ({}, {"model": {**SCRATCH, "hidden_size": 100_000}}, False),
        ({}, {"fixed": {"model.hidden_act": "gelu"}}, False),
        ({"model.hidden_dropout_prob": {"low": 0.0, "high": 0.1}}, {}, False),
    ],
)
def test_only_a_model_that_differs_from_our_own_in_size_is_not_tried(
    space: dict[str, Any], sections: dict[str, Any], is_tried: bool
) -> None:
    assert dry_run._is_tried(spec(space, **sections)) == is_tried


class Ahead:
    """Stands for the process that is started ahead, which would import PyTorch."""

    def __init__(self, name: str = "", environment: Mapping[str, str] | None = None, *, code: str = "") -> None:
        self.name, self.code, self.is_ended = name, code, False

    def carry_out(self, command: Sequence[str], environment: None, log: int) -> bool:
        self.process = subprocess.Popen([sys.executable, "-c", self.code], stdout=log, stderr=log)
        return True

    def end(self) -> None:
        self.is_ended = True


@pytest.mark.parametrize(
    ("model", "cores", "is_started"),
    [(NAMED, 2, True), (NAMED, 1, False), (SCRATCH, 2, False)],
)
def test_the_process_is_started_ahead_where_it_gains_something_and_ended_in_any_case(
    monkeypatch: pytest.MonkeyPatch, model: Any, cores: int, is_started: bool
) -> None:
    monkeypatch.setattr(dry_run, "ProcessAhead", Ahead)
    monkeypatch.setattr(dry_run, "usable_cores", lambda: cores)
    with dry_run.started_ahead(spec(model=model)) as ahead:
        made: Any = ahead
        assert made is None or not made.is_ended
    assert (made is not None) is is_started
    assert made is None or (made.name, made.is_ended) == ("try-model", True)


def test_a_process_that_cannot_be_started_ahead_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise BlockingIOError

    monkeypatch.setattr(dry_run, "ProcessAhead", refused)
    monkeypatch.setattr(dry_run, "usable_cores", lambda: 2)
    with dry_run.started_ahead(spec(model=NAMED)) as ahead:
        assert ahead is None


def test_its_exit_code_and_its_last_words_are_told(tmp_path: Path) -> None:
    failed: Any = Ahead(code="import sys; sys.exit('no such layer')")
    (fault,) = dry_run._carried_out(tmp_path, failed)
    assert fault["message"] == "two rows could not be tried: no such layer"
    killed: Any = Ahead(code="import os; os.kill(os.getpid(), 9)")
    (fault,) = dry_run._carried_out(tmp_path, killed)
    assert fault["message"] == "the process that tried two rows was killed by SIGKILL"


def test_it_is_killed_when_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "SECONDS", 0.2)
    ahead: Any = Ahead(code="import time; time.sleep(60)")
    (fault,) = dry_run._carried_out(tmp_path, ahead)
    assert fault["message"] == "two rows took longer than 0.2 s"
    assert ahead.process.returncode == -signal.SIGKILL


def test_it_is_killed_when_the_checks_are_interrupted(tmp_path: Path) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    ahead: Any = Ahead(code="import time; time.sleep(60)")
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            dry_run._carried_out(tmp_path, ahead)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
    assert ahead.process.returncode == -signal.SIGKILL
