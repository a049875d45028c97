"""A trial's state is read as it was written, bit by bit, or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from finesweep.errors import FolderError
from finesweep.trial import Evaluation

pytestmark = pytest.mark.torch


def made(**changes: Any) -> Any:
    """A state in which each field differs from every other one of its type."""
    import torch

    from finesweep.training.saved_state import SavedState, TrainerMemory

    trainer = TrainerMemory(
        account={"global_step": 7, "log_history": [{"loss": math.nan, "epoch": 0.5}], "best": None},
        running_loss=torch.tensor(0.25),
        logged_loss=1.5,
        logged_step=6,
        random={"python": (3, (1, 2**32 - 1), None), "torch": torch.arange(9, dtype=torch.uint8)},
        optimizer={
            "state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(2, 3)}},
            "param_groups": [{"lr": 0.1}],
        },
        scheduler={"last_epoch": 7, "_last_lr": [0.3]},
        scaler={"scale": 65536.0},
        weights={"layer.weight": torch.eye(2), "layer.bias": torch.zeros(2, dtype=torch.bfloat16)},
    )
    values: dict[str, Any] = {
        "params": {"learning_rate": 2e-5, "bf16": True, "num_train_epochs": 3, "optim": None},
        "batch_divisor": 2,
        "step": 7,
        "examples": 112,
        "loss": math.inf,
        "learning_rate": 1e-5,
        "evaluations": (Evaluation(4, 0.5, 64, {"eval_loss": None, "eval_f1": 0.5}, None),),
        "guard": {"first": 0.75, "seen": 3},
        "best": {"layer.weight": torch.ones(2)},
        "trainer": trainer,
    }
    return SavedState(**{**values, **changes})


def outline(value: Any) -> Any:
    """Return a state as plain values in which NaN equals NaN, and tensors are equal by bits and type."""
    import torch

    if dataclasses.is_dataclass(value):
        return [(entry.name, outline(getattr(value, entry.name))) for entry in dataclasses.fields(value)]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: outline(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [outline(item) for item in value]
    return str(value) if isinstance(value, float) else value


@pytest.mark.parametrize(
    "changes", [{}, {"best": {}, "evaluations": (), "loss": None, "guard": {}}], ids=["full", "bare"]
)
def test_state_is_read_as_it_was_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    from finesweep.training.saved_state import read_state, write_state

    state = made(**changes)
    write_state(tmp_path / "state", state)
    assert outline(read_state(tmp_path / "state")) == outline(state)


def test_best_weights_and_current_weights_are_not_mixed_up(tmp_path: Path) -> None:
    from finesweep.training.saved_state import read_state, write_state

    write_state(tmp_path / "state", made())
    found = read_state(tmp_path / "state")
    assert found.trainer.weights["layer.weight"].tolist() == [[1, 0], [0, 1]]
    assert found.best["layer.weight"].tolist() == [1, 1]


def test_state_of_two_trials_is_not_mixed_up(tmp_path: Path) -> None:
    """Each file is whole by itself; only the digests tell that they belong together."""
    from finesweep.training.saved_state import StateDamaged, read_state, write_state

    write_state(tmp_path / "one", made())
    write_state(tmp_path / "other", made(best={}))
    (tmp_path / "other" / "best.safetensors").replace(tmp_path / "one" / "best.safetensors")
    with pytest.raises(StateDamaged, match=r"best.safetensors: is not what was saved"):
        read_state(tmp_path / "one")


def test_values_in_another_order_are_the_same_state(tmp_path: Path) -> None:
    from finesweep.training.saved_state import StateDamaged, read_state, write_state

    write_state(tmp_path / "state", made())
    file = tmp_path / "state" / "state.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(sorted(content.items(), reverse=True)), indent=3))
    assert read_state(tmp_path / "state").step == 7
    content["made_with"]["torch"] += "0"
    file.write_text(json.dumps(content))
    with pytest.raises(StateDamaged, match="another sha256"):
        read_state(tmp_path / "state")


def test_folder_without_its_json_is_no_state(tmp_path: Path) -> None:
    """A kill while the tensors are written leaves such a folder."""
    from finesweep.training.saved_state import StateDamaged, read_state, write_state

    write_state(tmp_path / "state", made())
    (tmp_path / "state" / "state.json").unlink()
    with pytest.raises(StateDamaged, match=r"state.json: cannot be read"):
        read_state(tmp_path / "state")


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_link_in_a_state_is_not_followed(tmp_path: Path, name: str) -> None:
    from finesweep.training.saved_state import StateDamaged, read_state, write_state

    write_state(tmp_path / "state", made())
    file = tmp_path / "state" / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    with pytest.raises(StateDamaged, match=f"{name}: cannot be read"):
        read_state(tmp_path / "state")


def test_state_is_never_written_over_another(tmp_path: Path) -> None:
    from finesweep.training.saved_state import read_state, write_state

    write_state(tmp_path / "state", made())
    with pytest.raises(FolderError, match=r"state.json: cannot be written \(File exists\)"):
        write_state(tmp_path / "state", made(step=8))
    assert read_state(tmp_path / "state").step == 7


def test_value_that_json_cannot_hold_makes_no_folder(tmp_path: Path) -> None:
    from finesweep.training.saved_state import write_state

    with pytest.raises(TypeError, match="set cannot be kept"):
        write_state(tmp_path / "state", made(guard={"seen": {1}}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("params", "divisor", "fits"),
    [
        ({"optim": None, "num_train_epochs": 3, "bf16": True, "learning_rate": 2e-5}, 2, True),
        ({"learning_rate": 2e-5, "bf16": True, "num_train_epochs": 3, "optim": None}, 1, False),
        ({"learning_rate": 2.1e-5, "bf16": True, "num_train_epochs": 3, "optim": None}, 2, False),
        ({"learning_rate": 2e-5, "bf16": True, "num_train_epochs": 3}, 2, False),
    ],
    ids=["other-order", "other-batches", "other-value", "one-absent"],
)
def test_state_fits_its_own_parameters_and_batches_alone(params: dict[str, Any], divisor: int, fits: bool) -> None:
    assert made().fits(params, divisor) is fits
