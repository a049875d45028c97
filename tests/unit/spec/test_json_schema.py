"""The JSON Schema that editors use agrees with what checking accepts."""

import json
from pathlib import Path

import jsonschema
import pytest

from finesweep.errors import SpecError
from finesweep.spec.json_schema import schema
from finesweep.spec.reader import draft
from finesweep.spec.yaml_source import parse

SEARCH_SPACES = Path(__file__).parents[3] / "search_spaces"
SHIPPED = sorted(SEARCH_SPACES.rglob("*.yaml"))
GOOD = """\
model: google-bert/bert-base-uncased
data: {train: train.csv}
space:
  learning_rate: {low: 1e-5, high: 5e-5, log: true}
  model.hidden_dropout_prob: {choices: [0.1, 0.2]}
"""


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_shipped_schema_is_the_current_one() -> None:
    shipped = json.loads((SEARCH_SPACES / "sweep.schema.json").read_text(encoding="utf-8"))
    assert shipped == schema(), "run `sweep schema > search_spaces/sweep.schema.json`"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_schema_accepts_every_shipped_search_space(path: Path) -> None:
    jsonschema.validate(parse(path.read_text(encoding="utf-8")).values, schema())


def test_the_schema_accepts_what_checking_accepts(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GOOD)
    assert draft(tmp_path / "f.yaml").finished().spec.space
    jsonschema.validate(parse(GOOD).values, schema())


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "budgt: {trials: 5}\n",
        GOOD + "budget: {trails: 5}\n",
        GOOD + "budget: {trials: five}\n",
        GOOD + "search: {sampler: tpee}\n",
        GOOD + "task: x\n",
        GOOD.replace("learning_rate", "learning_rat"),
        GOOD.replace("log: true", "log: 1"),
        GOOD + "fixed: {warmup_ratio: 0.1}\n",
        GOOD + "fixed: {optim: adamww}\n",
        GOOD + "fixed: {weight_decay: -1}\n",
        "data: {train: a.csv}\n",
        "model: bert\ndata: {train: a.csv}\nspace: {}\n",
    ],
)
def test_the_schema_rejects_what_checking_rejects(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"f\.yaml:"):
        draft(tmp_path / "f.yaml").finished()
    with pytest.raises(jsonschema.ValidationError, match=r"."):
        jsonschema.validate(parse(text).values, schema())
