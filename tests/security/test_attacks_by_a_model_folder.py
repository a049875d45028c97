"""Model folders and Hub models that want to run code or to read elsewhere: refused before anything is loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers.integrations import hub_kernels

import tiny
from finesweep.errors import SweepError
from finesweep.host.python_process import child_environment, own_environment
from finesweep.spec import reader
from finesweep.sweep import preflight
from security.attacks import Canary, Sweep

CODE = "from pathlib import Path\nPath({!r}).touch()\n"
OWN = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"}


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"auto_map": OWN}, "--trust-remote-code", id="S5-known-type"),
        pytest.param({"auto_map": OWN, "model_type": "own"}, "--trust-remote-code", id="S5-own-type"),
        pytest.param({"text_config": {"auto_map": OWN}}, "--trust-remote-code", id="S5-nested"),
        pytest.param({"custom_pipelines": {"x": {"impl": "code.Pipe"}}}, "--trust-remote-code", id="S5-pipeline"),
        pytest.param({"trust_remote_code": True}, "trust_remote_code is not allowed", id="S5-key"),
        pytest.param({"attn_implementation": "evil-org/evil-kernel"}, "allowed are eager and sdpa", id="S6"),
        pytest.param({"_attn_implementation": "evil-org/evil-kernel:x"}, "allowed are eager and sdpa", id="S6-private"),
        pytest.param({"transformers_weights": "../../outside.safetensors"}, "transformers_weights", id="S7-config"),
    ],
)
@pytest.mark.parametrize("place", ["./model", "someone/model"])
def test_a_config_runs_nothing(
    project: Path, pwned: Path, canary: Canary, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    place: str, changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    folder = project / "model"
    if place != "./model":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        folder = tiny._repository(tmp_path / "cache", "models", place)
        tiny.write_model_files(folder)
        (project / "spec.yaml").write_text((project / "spec.yaml").read_text().replace("./model", place))
    (folder / "code.py").write_text(CODE.format(str(pwned)))
    change(folder / "config.json", **changes)
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "tf_model.h5"])
def test_s3_pickled_weights_are_refused_and_not_opened(
    project: Path, evil_pickle: bytes, sweep: Sweep, name: str
) -> None:
    (project / "model" / "model.safetensors").unlink()
    (project / "model" / name).write_bytes(evil_pickle)
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert "can hold code; only safetensors are read" in said


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "pytorch_model.bin", "rng_state.pth"])
def test_s3_pickles_beside_the_weights_are_left_alone(project: Path, evil_pickle: bytes, name: str) -> None:
    (project / "model" / name).write_bytes(evil_pickle)
    assert preflight.check(reader.draft(project / "spec.yaml").finished()).model.name == "./model"


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "\\\\host\\x.safetensors", "C:\\x.safetensors"]
)
def test_s7_an_index_does_not_lead_out_of_the_folder(project: Path, sweep: Sweep, name: str) -> None:
    tiny.write_safetensors(project / "outside.safetensors", {"embeddings.word_embeddings.weight": (20, 4)})
    (project / "model" / "model.safetensors").unlink()
    index = {"weight_map": {"embeddings.word_embeddings.weight": name}}
    (project / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert "only files of the folder itself are read" in said


def test_trust_is_no_leave_for_pickles_or_kernels(
    project: Path, evil_pickle: bytes, canary: Canary, sweep: Sweep
) -> None:
    folder = project / "model"
    for name in OWN.values():
        (folder / f"{name.split('.')[0]}.py").write_text("")
    change(folder / "config.json", auto_map=OWN, attn_implementation="evil/kernel")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "pytorch_model.bin").write_bytes(evil_pickle)
    code, said = sweep("validate", "spec.yaml", "--trust-remote-code")
    assert code == 2
    assert "only safetensors are read" in said
    assert "allowed are eager and sdpa" in said


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_folder_that_changed_since_it_was_checked_is_not_loaded(project: Path, canary: Canary, file: str) -> None:
    """What lies in a results folder is loaded too, and nobody checked it."""
    from finesweep.model.pretrained import load_tokenizer

    change(project / "model" / file, attn_implementation="evil/kernel")
    with pytest.raises(SweepError, match=r"attn_implementation is 'evil/kernel'; allowed are eager and sdpa"):
        load_tokenizer(project / "model", trusted=True)


@pytest.mark.parametrize("of_a_process", [child_environment, own_environment])
def test_s6_a_process_that_loads_models_takes_no_kernel_from_the_hub(
    of_a_process: Callable[[], dict[str, str]],
) -> None:
    """Without the package `kernels` the library takes none whatever is set, so that starting it would show nothing."""
    assert 'os.environ.get("USE_HUB_KERNELS", "YES").upper()\n' in inspect.getsource(hub_kernels)
    assert of_a_process()["USE_HUB_KERNELS"].upper() not in hub_kernels.ENV_VARS_TRUE_VALUES
