"""Each finding is shown by a sweep that has the fault, and none by a sound one."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, manifest, record

from finesweep.doctor import Case, CutTexts, RowFacts, findings
from finesweep.doctor.next_spec import next_spec
from finesweep.references import Reference
from finesweep.results.ranking import ranked
from finesweep.spec import reader
from finesweep.trial import Evaluation, TrialRecord

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "num_train_epochs": {"low": 2, "high": 8},
    "per_device_train_batch_size": {"choices": [8, 16, 32, 64]},
    "weight_decay": {"low": 0.0, "high": 0.2},
}


def evaluations(*losses: float) -> tuple[Evaluation, ...]:
    steps = enumerate(losses, start=1)
    return tuple(Evaluation(100 * n, float(n), 800 * n, {"eval_loss": loss}, loss) for n, loss in steps)


def trial(number: int, objective: float | None, params: dict[str, Any], **fields: Any) -> TrialRecord:
    told = {"metrics": {"eval_loss": objective, "eval_accuracy": 1 - objective}} if objective is not None else {}
    given = {"evaluations": evaluations(0.9, 0.5, 0.5), "effective": {"data.max_length": 128}, **told, **fields}
    return record(number, objective, params=params, **given)


def drawn(rng: random.Random) -> dict[str, Any]:
    return {
        "learning_rate": 10 ** rng.uniform(-5, -3),
        "num_train_epochs": rng.randint(2, 8),
        "per_device_train_batch_size": rng.choice([8, 16, 32, 64]),
        "weight_decay": rng.uniform(0.0, 0.2),
    }


def sound_objective(params: dict[str, Any]) -> float:
    """A bowl with its lowest point inside of each axis."""
    far = [
        math.log10(params["learning_rate"]) + 4,
        (params["num_train_epochs"] - 5) / 3,
        (math.log2(params["per_device_train_batch_size"]) - 4.5) / 1.5,
        (params["weight_decay"] - 0.1) / 0.1,
    ]
    return 0.2 + 0.1 * sum(one * one for one in far)


def sound(count: int = 30, seed: int = 0) -> Case:
    rng = random.Random(seed)
    params = [drawn(rng) for _ in range(count)]
    return case([trial(number, sound_objective(one), one) for number, one in enumerate(params)])


def case(records: list[TrialRecord], **fields: Any) -> Case:
    made = manifest(spec={"space": SPACE, "fixed": {}})
    ordered = ranked(records, made.spec.direction)
    values: dict[str, Any] = {
        "references": [Reference("majority class", {"eval_loss": 0.7}, 0.1, 6920)],
        "rows": RowFacts((3000, 3920), (400, 472), repeated=2),
        "cut": CutTexts(12, 6920, 128),
        "answered": {"negative": 380, "positive": 492},
        **fields,
    }
    return Case(made.spec, made.data, records, ordered, **values)


def names(found: Case) -> list[str]:
    return [finding.name for finding in findings(found)]


def lines(found: Case) -> str:
    return "\n".join(finding.line() for finding in findings(found))


@pytest.mark.parametrize("seed", range(40))
def test_a_sound_sweep_has_no_finding(seed: int) -> None:
    assert names(sound(30, seed)) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sweep_of_few_trials_has_no_finding(count: int) -> None:
    assert names(sound(count)) == []


def with_objective(objective: Any, count: int = 30) -> Case:
    rng = random.Random(1)
    params = [drawn(rng) for _ in range(count)]
    return case([trial(number, objective(one), one) for number, one in enumerate(params)])


def test_best_trials_at_a_bound_widen_the_range() -> None:
    found = with_objective(lambda p: sound_objective({**p, "learning_rate": 1e-4}) - 200 * p["learning_rate"])
    assert "at-bound" in names(found)
    assert "learning_rate lies at the upper bound" in lines(found)
    (bound,) = [one for one in findings(found) if one.name == "at-bound"]
    assert yaml.safe_load(bound.cure or "") == {"space": {"learning_rate": {"low": 1e-5, "high": 0.005, "log": True}}}


def test_a_bound_that_cannot_move_is_no_finding() -> None:
    found = with_objective(lambda p: sound_objective({**p, "weight_decay": 0.1}) + 20 * p["weight_decay"])
    assert found.ranked[0].params["weight_decay"] < 0.02
    assert "at-bound" not in names(found)


def test_the_longest_trainings_that_win_are_named() -> None:
    found = with_objective(lambda p: sound_objective({**p, "num_train_epochs": 5}) - 0.04 * p["num_train_epochs"])
    (longest,) = findings(found)
    assert longest.name == "longest-wins"
    assert yaml.safe_load(longest.cure or "")["space"]["num_train_epochs"]["high"] > 8


def test_a_loss_that_still_falls_asks_for_more_epochs() -> None:
    found = sound()
    best = {one.trial for one in found.ranked[:3]}
    falling = [
        dataclasses.replace(one, evaluations=evaluations(0.9, 0.5, 0.4)) if one.trial in best else one
        for one in found.records
    ]
    assert names(case(falling)) == ["still-falling"]
    assert "by 20 % or more" in lines(case(falling))
    assert "num_train_epochs: {low: 2, high: 16}" in lines(case(falling))


def test_a_winner_with_one_answer_is_a_problem() -> None:
    (found,) = findings(dataclasses.replace(sound(), same_answer="negative"))
    assert (found.name, found.weight) == ("one-answer", "problem")


def test_a_label_that_is_never_given_is_named() -> None:
    found = dataclasses.replace(sound(), answered={"negative": 872, "positive": 0})
    assert names(found) == ["never-predicted"]
    assert "never gives 1 of 2 labels: of validation: positive (472 rows)" in lines(found)


def test_a_reference_that_is_better_is_a_problem() -> None:
    better = Reference("TF-IDF + logistic regression", {"eval_loss": 0.1}, 2.0, 6920)
    found = dataclasses.replace(sound(), references=[better])
    assert names(found) == ["worse-than-reference"]
    assert "no better than TF-IDF + logistic regression: eval_loss 0.2" in lines(found)


def test_reference_that_only_one_lucky_seed_beat_is_a_problem() -> None:
    found = sound()
    first = found.ranked[0]
    value = (first.objective or 0.0) + 0.001
    better = Reference("TF-IDF + logistic regression", {"eval_loss": value}, 2.0, 6920)
    one_seed = dataclasses.replace(found, references=[better])
    assert names(one_seed) == []
    confirmed = dataclasses.replace(one_seed, means={first.trial: value + 0.05})
    assert names(confirmed) == ["worse-than-reference"]
    assert f"eval_loss {value + 0.05:.4f} on average over fresh seeds against {value:.4f}" in lines(confirmed)


def test_diverged_trials_give_the_learning_rate_above_which() -> None:
    rates = [10 ** (-5 + n / 10) for n in range(20)]
    records = [
        trial(n, None, {**drawn(random.Random(n)), "learning_rate": rate}, state=DIVERGED, seconds=0.1)
        if rate > 8e-5
        else trial(n, 0.3, {**drawn(random.Random(n)), "learning_rate": rate})
        for n, rate in enumerate(rates)
    ]
    (found,) = [one for one in findings(case(records)) if one.name == "many-diverged"]
    assert found.text == "10 of 20 trials diverged"
    assert found.evidence == "from learning_rate 1e-04 on 10 of 10, below it 0 of 10"
    assert yaml.safe_load(found.cure or "") == {"space": {"learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}}}


def test_a_parameter_that_moves_nothing_becomes_fixed() -> None:
    found = with_objective(lambda p: sound_objective({**p, "weight_decay": 0.1}), count=60)
    assert names(found) == ["no-effect"]
    best = found.ranked[0].params["weight_decay"]
    assert yaml.safe_load(findings(found)[0].cure or "") == {"fixed": {"weight_decay": best}}


def test_noise_alone_is_no_parameter_without_effect() -> None:
    rng = random.Random(3)
    assert "no-effect" not in names(with_objective(lambda _: rng.random(), count=60))


def test_few_validation_rows_say_how_many_would_do() -> None:
    found = sound()
    few = dataclasses.replace(found.data, rows={"train": 100, "validation": 20})
    few_rows = dataclasses.replace(found, data=few, rows=None)
    (one,) = findings(few_rows)
    assert one.name == "few-validation-rows"
    first, middle = (found.ranked[at].metrics["eval_accuracy"] or 0 for at in (0, 15))
    exact = 1.96**2 * (first * (1 - first) + middle * (1 - middle)) / (first - middle) ** 2
    wanted = int(one.evidence.rpartition("; ")[2].split(" ")[0].replace(",", ""))
    assert exact <= wanted <= 1.2 * exact
    assert yaml.safe_load(one.cure or "")["data"].keys() == {"validation_fraction"}
    confirmed = [found.ranked[15], *found.ranked[:15], *found.ranked[16:]]
    (again,) = findings(dataclasses.replace(few_rows, ranked=confirmed, means={confirmed[0].trial: 0.4}))
    assert again.evidence == f"in the search, {one.evidence}"


def test_a_tie_set_with_the_middle_trial_asks_for_more_rows() -> None:
    found = sound()
    best, middle = found.ranked[0], found.ranked[15]
    gap = (middle.objective or 0) - (best.objective or 0)
    widths = {best.trial: 3 * gap, middle.trial: 4 * gap}
    tied = dataclasses.replace(found, tied=(best.trial, middle.trial), half_widths=widths)
    (one,) = findings(tied)
    assert one.evidence.endswith("; 22,000 rows would do")  # 872 rows times the square of 5
    assert names(dataclasses.replace(tied, tied=(best.trial,))) == []
    equal = {best.trial: 30 * gap, middle.trial: 40 * gap}
    assert names(dataclasses.replace(tied, half_widths=equal)) == [], "2,500 times the rows cannot be had"


def test_texts_in_train_and_validation_are_a_problem() -> None:
    rows = RowFacts((3000, 3920), (400, 472), repeated=90)
    (found,) = findings(dataclasses.replace(sound(), rows=rows))
    assert (found.name, found.weight, found.cure) == ("repeated-texts", "problem", None)


def test_cut_texts_ask_for_longer_inputs_up_to_the_model() -> None:
    (found,) = findings(dataclasses.replace(sound(), cut=CutTexts(3000, 6920, 384)))
    assert (found.name, found.cure) == ("cut-texts", "data: {max_length: 512}")
    (found,) = findings(dataclasses.replace(sound(), cut=CutTexts(3000, 6920, 512)))
    assert found.cure is None


def test_rare_labels_and_unseen_labels_are_named() -> None:
    rows = RowFacts((6915, 5), (872, 0), repeated=0)
    found = dataclasses.replace(sound(), rows=rows)
    assert names(found) == ["rare-labels", "unseen-labels"]
    assert "1 of 2 labels have fewer than 8 training rows: positive (5)" in lines(found)


def test_trials_that_cost_most_and_gave_nothing_are_named() -> None:
    records = [*sound().records, trial(30, None, drawn(random.Random(5)), state=FAILED, seconds=2000.0)]
    assert names(case(records)) == ["costly-trials"]
    assert "One trial took 61 % of the time and gave nothing: trials 30 (FAILED, 33 min 20 s)" in lines(case(records))


def test_pruned_trials_are_no_waste() -> None:
    records = [*sound().records, trial(30, 0.9, drawn(random.Random(5)), state=PRUNED, seconds=2000.0)]
    assert names(case(records)) == []


def test_next_spec_has_the_cures_and_starts_from_the_old_sweep(tmp_path: Any) -> None:
    made = manifest(spec={"space": SPACE, "fixed": {"warmup_steps": 0.1}})
    found = with_objective(lambda p: sound_objective({**p, "weight_decay": 0.1}), count=60)
    found = dataclasses.replace(found, cut=CutTexts(3000, 6920, 128))
    text = next_spec(tmp_path / "old", made, (), findings(found))
    values = yaml.safe_load(text)
    assert values["name"] == "sst2-next"
    assert values["start"] == {"from": str(tmp_path / "old"), "top": 5}
    assert "weight_decay" not in values["space"]
    assert values["fixed"].keys() == {"warmup_steps", "weight_decay"}
    assert values["data"] == {"train": "/data/train.csv", "max_length": 256}
    assert "# no-effect: weight_decay moves nothing" in text


FAULTS = {
    "learning rate high": lambda p: sound_objective({**p, "learning_rate": 1e-4}) - 200 * p["learning_rate"],
    "learning rate low": lambda p: sound_objective({**p, "learning_rate": 1e-4}) + math.log10(p["learning_rate"]),
    "large batches": lambda p: sound_objective(p) - 0.05 * p["per_device_train_batch_size"],
    "small batches": lambda p: sound_objective(p) + 0.05 * p["per_device_train_batch_size"],
    "long trainings": lambda p: sound_objective(p) - p["num_train_epochs"],
    "short trainings": lambda p: sound_objective(p) + p["num_train_epochs"],
    "strong decay": lambda p: sound_objective(p) - 50 * p["weight_decay"],
    "no decay": lambda p: sound_objective({**p, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_cure_gives_a_spec_that_can_be_read(tmp_path: Path, fault: str) -> None:
    made = manifest(spec={"space": SPACE, "fixed": {"warmup_steps": 0.1}})
    found = findings(with_objective(FAULTS[fault], count=60))
    assert any(one.cure is not None for one in found)
    file = tmp_path / "next.yaml"
    file.write_text(next_spec(tmp_path / "old", made, (), found))
    spec = reader.draft(file).finished().spec
    assert spec.space.keys() | spec.fixed.keys() == {*SPACE, "warmup_steps"}
    assert (spec.space, spec.fixed) != (made.spec.space, made.spec.fixed)


def test_odd_values_of_a_folder_from_elsewhere_raise_nothing() -> None:
    odd: list[Any] = [math.nan, math.inf, -1.0, 0, "high", None, True, 10**300]
    records = [
        trial(n, 0.3 + n * 1e-300, {"learning_rate": value, "num_train_epochs": value}, state=state, seconds=-1.0)
        for n, (value, state) in enumerate((value, state) for value in odd for state in (COMPLETE, DIVERGED))
    ]
    many = dataclasses.replace(case(records), answered={"other": -3}, rows=RowFacts((), (), -1))
    assert all(len(one.line().splitlines()) == 1 for one in findings(many))


def test_all_states_take_part_in_a_sweep_without_ranked_trials() -> None:
    records = [trial(n, None, drawn(random.Random(n)), state=state) for n, state in enumerate([FAILED, DIVERGED])]
    assert names(case(records)) == ["costly-trials"]
    assert COMPLETE not in {one.state for one in records}
