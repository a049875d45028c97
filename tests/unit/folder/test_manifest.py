"""What a sweep is, what may change under its name, and how many hours its runs ran."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import INTERRUPTED, manifest, record, run

from finesweep.folder.manifest import Manifest, Repeat, Run, changes, hours_ran
from finesweep.spec import BudgetSpec, ConfirmSpec, StopSpec
from finesweep.trial import TrialRecord

HOUR = 3_600.0


def again(made: Manifest) -> Manifest:
    """Return a manifest as the next command reads it."""
    return Manifest.read(json.loads(json.dumps(made.to_json())))


def test_manifest_survives_its_file_with_odd_values() -> None:
    made = manifest(
        spec={
            "space": {
                "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
                "optim": {"choices": ["sgd", "adafactor"]},
                "adam_beta1": {"low": 0.8, "high": 0.9, "when": {"optim": ["sgd", "adafactor"]}},
                "neftune_noise_alpha": {"choices": [None, 5.0]},
            },
            "start": [{"learning_rate": 2e-5, "optim": "sgd", "adam_beta1": 0.85, "neftune_noise_alpha": None}],
            "data": {"train": "/data/ä b.csv", "text": "Text; mit 'Zeichen'"},
        },
        data={"labels": ["", "é", "1"], "text_pair": True},
        model={"path": None, "loading": {"output": ["head"], "rows": [1, 0], "new": [], "notes": ["n"]}},
    )
    planned = ({"learning_rate": 2e-5, "optim": "sgd"}, {"learning_rate": 3e-5, "neftune_noise_alpha": None})
    made = dataclasses.replace(made, planned=list(planned), created=12.5)
    assert again(made) == made
    assert again(again(made)).to_json() == made.to_json()


def test_budget_and_stop_of_a_run_are_no_part_of_the_manifest() -> None:
    made, other = manifest(), run(budget=BudgetSpec(trials=7, hours=1.5), stop=StopSpec(target=0.2))
    spec = made.spec_for(other)
    assert (spec.budget.trials, spec.budget.hours, spec.stop.target) == (7, 1.5, 0.2)
    assert (made.spec.budget, made.spec.stop) == (BudgetSpec(), StopSpec())
    spec = made.spec_for(dataclasses.replace(other, confirm=ConfirmSpec(top=2)))
    assert spec.confirm == ConfirmSpec(top=2)
    assert dataclasses.replace(made, spec=spec).to_json() == made.to_json()
    spec = spec.model_copy(update={"confirm": None})
    assert spec.model_copy(update={"budget": BudgetSpec(), "stop": StopSpec()}) == made.spec
    written = {**made.to_json(), "spec": {**made.to_json()["spec"], "budget": {"trials": 7}, "stop": {"target": 0.2}}}
    assert Manifest.read(written) == made, "a file that has them"


def test_run_is_read_as_it_was_written() -> None:
    made = run(3, budget=BudgetSpec(trials=7), stop=StopSpec(no_gain_trials=2), token="t", watched=False, seconds=0.0)
    values = json.loads(json.dumps(made.to_json()))
    assert Run(**{**values, "budget": BudgetSpec(**values["budget"]), "stop": StopSpec(**values["stop"])}) == made


@pytest.mark.parametrize(
    ("allowed", "scratch", "trusts"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_a_run_can_allow_code_of_a_pretrained_model(allowed: bool, scratch: bool, trusts: bool) -> None:
    made = manifest(model={"from_scratch": scratch})
    assert not made.trusts_code
    assert made.of_run(run(trust_remote_code=allowed)).trusts_code is trusts
    assert not again(made.of_run(run(trust_remote_code=allowed))).trusts_code, "a folder cannot allow it"


def test_run_that_found_the_model_elsewhere_uses_it_there() -> None:
    assert manifest().of_run(run(model_path="/moved")).model.folder == Path("/moved")
    assert manifest().of_run(run()).model.folder == Path("/m")


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"spec": {"fixed": {"weight_decay": 0.02}}}, ["fixed.weight_decay: 0.01 -> 0.02"]),
        ({"spec": {"fixed": {}}}, ["fixed: nothing -> {}", "fixed.weight_decay: 0.01 -> nothing"]),
        ({"spec": {"search": {"pruner": "median", "seed": 8}}}, ["search.seed: 7 -> 8"]),
        ({"spec": {"data": {"train": "/data/train.csv", "max_length": 64}}}, ["data.max_length: nothing -> 64"]),
        ({"spec": {"start": [{"learning_rate": 2e-5}]}}, ["start: [] -> [{'learning_rate': 2e-05}]"]),
        ({"spec": {"objective": {"metric": "f1", "direction": "maximize"}}}, ["objective.direction: m", "objective.m"]),
        ({"spec": {"model": {"name": "org/encoder", "revision": "v2"}}}, []),
        ({"data": {"rows": {"train": 1}, "labels": ["a", "b", "c"]}}, []),
        ({"model": {"name": "other", "path": "/n", "revision": None}}, []),
        ({"model": {"digest": "x" * 900}}, ["model.content: 86b5e0934494bd15c9632b12f734a8a67f723594 -> " + "x" * 50]),
        ({"data": {"sources": {"train": {"place": "/z.csv", "digest": "ab12" * 16, "revision": "r"}}}}, []),
    ],
)
def test_each_change_of_the_search_is_a_line_and_no_other(changed: dict[str, Any], lines: list[str]) -> None:
    found = changes(manifest(), manifest(**changed))
    assert len(found) == len(lines), found
    assert all(one.startswith(begin) for one, begin in zip(found, lines, strict=True)), found
    assert all(len(one) < 150 for one in found)


def test_rows_of_another_split_are_another_sweep() -> None:
    sources = {"train": {"place": "/a", "digest": "ab12" * 16}, "test": {"place": "/b", "digest": "d"}}
    assert changes(manifest(), manifest(data={"sources": sources})) == ["data.content.test: nothing -> d"]


def hours(runs: Iterable[Run], records: Iterable[TrialRecord] = (), running: Any = ()) -> float:
    return hours_ran(list(runs), list(records), running)


def test_run_without_a_command_counts_while_its_trials_run() -> None:
    queued = run(1, watched=False, started=0.0, ended=None, seconds=100 * HOUR)
    records = [
        record(0, run=1, started=50 * HOUR, seconds=HOUR),
        record(1, run=1, started=50.5 * HOUR, seconds=HOUR),
        record(2, run=1, started=60 * HOUR, seconds=HOUR, state=INTERRUPTED),
        record(3, run=2, started=70 * HOUR, seconds=HOUR),
    ]
    assert hours([queued], records) == pytest.approx(1.5 + 1.0)
    assert hours([queued], records, [(60.5 * HOUR, 62 * HOUR)]) == pytest.approx(1.5 + 2.0)
    assert hours([queued]) == 0, "its time in a queue is free"


def test_watched_run_counts_by_its_own_clock_before_any_other() -> None:
    records = [record(0, run=1, started=HOUR, seconds=HOUR)]
    assert hours([run(started=0.0, seconds=3 * HOUR, ended=9 * HOUR)], records) == pytest.approx(3)
    assert hours([run(started=0.0, seconds=0.0, ended=9 * HOUR)], records) == 0
    assert hours([run(started=0.0, seconds=None, ended=9 * HOUR)], records) == pytest.approx(9)
    assert hours([run(started=0.0, seconds=None, ended=None)], records) == pytest.approx(2)
    assert hours([run(started=5 * HOUR, seconds=None, ended=None)], records) == 0, "no hour is negative"


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=6),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_each_hour_in_which_anything_ran_counts_once(runs: Any, running: Any, source: random.Random) -> None:
    made = [run(number, started=start * HOUR, seconds=long * HOUR) for number, (start, long) in enumerate(runs)]
    source.shuffle(made)
    busy = {hour for start, long in (*runs, *running) for hour in range(start, start + long)}
    periods = [(start * HOUR, (start + long) * HOUR) for start, long in running]
    assert hours(made, [], periods) == pytest.approx(len(busy))


def test_confirmation_says_what_each_trial_repeats() -> None:
    plan = [{"learning_rate": 2e-5}, {"learning_rate": 3e-5}]
    made = dataclasses.replace(manifest(), planned=plan, repeats=(Repeat(4, 11), Repeat(0, 11)))
    assert again(made) == made
    assert (made.seed_of(1), manifest().seed_of(1)) == (11, 7)
    with pytest.raises(ValueError, match="repeats: 1, and there are 2 planned trials"):
        Manifest.read({**made.to_json(), "repeats": [{"trial": 4, "seed": 11}]})
