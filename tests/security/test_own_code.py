"""A model that comes with code of its own: never run unasked, run where the command line says so, and exported."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import constants

import tiny
from finesweep.errors import WinnerMismatch
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.model.remote_code import FLAG
from finesweep.results import winner
from security.attacks import Canary, Sweep
from security.own_code import own_code_model

TOKEN = "hf_" + "a1" * 17
REPOSITORY = "someone/own-bert"
SPEC = """\
model: {model}
data: {{train: train.csv, validation: validation.csv, max_length: 24}}
budget: {{trials: 2}}
search: {{pruner: none}}
fixed: {{per_device_train_batch_size: 32, num_train_epochs: 1}}
space: {{learning_rate: {{low: 5e-4, high: 5e-3, log: true}}}}
"""
CODE = ("configuration_own.py", "layers_own.py", "modeling_own.py")


@dataclass(frozen=True)
class OwnCode:
    """A user's folder with such a model, and what shows that its code was run."""

    path: Path
    witness: Path

    @property
    def results(self) -> Path:
        return self.path / "results" / "spec"

    def python(self, *arguments: str) -> tuple[int, str]:
        # Libraries keep copies of such code under HF_HOME.
        environment = {**os.environ, "HF_HOME": str(self.path / "hf"), "HF_TOKEN": TOKEN, "COLUMNS": "160"}
        result = subprocess.run(
            [sys.executable, *arguments], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        return result.returncode, result.stdout + result.stderr

    def run(self, *options: str) -> tuple[int, str]:
        return self.python("-m", "finesweep", "run", "spec.yaml", "--on", "profile.yaml", *options)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> OwnCode:
    folder = tmp_path_factory.mktemp("own")
    tiny.write_csv(folder / "train.csv", tiny.review_rows(100, seed=1))
    tiny.write_csv(folder / "validation.csv", tiny.review_rows(40, seed=2))
    own_code_model(folder / "model", folder / "WITNESS")
    (folder / "spec.yaml").write_text(SPEC.format(model="./model"))
    (folder / "profile.yaml").write_text("workers: 1\nthreads_per_worker: 1\n")
    return OwnCode(folder, folder / "WITNESS")


@pytest.fixture(scope="module")
def swept(own: OwnCode) -> OwnCode:
    """One whole sweep of it, with leave to run its code; tests leave it as it is."""
    code, said = own.run()
    assert code == 2, said
    assert FLAG in said
    assert not own.witness.exists()
    assert not own.results.exists()
    code, said = own.run(FLAG)
    assert code == 0, said
    assert "Runs code that comes with the model: configuration_own.py, layers_own.py, modeling_own.py." in said
    return own


def test_its_code_is_run_only_where_the_command_line_says_so(swept: OwnCode) -> None:
    assert swept.witness.exists()
    manifest, [run] = SweepFolder(swept.results).manifest(), SweepFolder(swept.results).runs()
    assert not manifest.trusts_code
    assert run.trust_remote_code


def test_the_leave_is_not_kept_for_the_next_run(swept: OwnCode) -> None:
    code, said = swept.run()
    assert code == 2
    assert FLAG in said
    assert len(SweepFolder(swept.results).runs()) == 1


@pytest.mark.slow
def test_the_winner_brings_the_code_and_works_with_it(swept: OwnCode) -> None:
    folder = swept.results / "winner"
    assert sorted(file.name for file in folder.glob("*.py")) == sorted(CODE)
    for name in CODE:
        assert (folder / name).read_bytes() == (swept.path / "model" / name).read_bytes()
    card = (folder / "README.md").read_text()
    assert 'pipeline("text-classification", "path/to/this/folder", trust_remote_code=True)' in card
    assert "The model runs code of its own: the Python files in this folder." in card
    script = (
        "import sys, transformers\n"
        "answer = transformers.pipeline('text-classification', sys.argv[1], trust_remote_code=sys.argv[2] == '1')\n"
        "print(type(answer.model).__name__, answer('a moving film')[0]['label'])\n"
    )
    code, said = swept.python("-c", script, str(folder), "1")
    assert code == 0, said
    assert "OwnClassifier " in said
    assert swept.python("-c", script, str(folder), "0")[0] != 0


def test_s26_the_users_token_is_nowhere_in_the_folder(swept: OwnCode) -> None:
    files = [file for file in swept.results.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pkl", ".pth")]


def copied(swept: OwnCode, folder: Path) -> OwnCode:
    """Return a copy that a test may spoil; the model stays where it is."""
    for name in ("train.csv", "validation.csv", "profile.yaml"):
        shutil.copy(swept.path / name, folder)
    shutil.copytree(swept.results, folder / "results" / "spec")
    shutil.copytree(swept.path / "model", folder / "model")
    (folder / "spec.yaml").write_text((swept.path / "spec.yaml").read_text())
    return OwnCode(folder, swept.witness)


@pytest.mark.slow
def test_code_that_has_changed_is_another_sweeps(swept: OwnCode, tmp_path: Path) -> None:
    spoiled = copied(swept, tmp_path)
    (spoiled.path / "model" / "layers_own.py").write_text("def doubled(output):\n    return output\n")
    code, said = spoiled.run(FLAG)
    assert code == 2
    assert "holds another sweep" in said
    assert "model.content" in said


def test_code_in_a_results_folder_is_not_run_whoever_is_trusted(swept: OwnCode, tmp_path: Path, pwned: Path) -> None:
    spoiled = copied(swept, tmp_path)
    evidence = json.loads((spoiled.results / "winner" / "evidence.json").read_text())
    shutil.rmtree(spoiled.results / "winner")
    file = spoiled.results / f"checkpoints/trial-{evidence['trial']:04d}/layers_own.py"
    file.write_text(f"from pathlib import Path\nPath({str(pwned)!r}).touch()\ndoubled = lambda output: output\n")
    code, said = spoiled.run(FLAG)
    assert code == 1, said
    assert "this code is not the model's own; nothing is run" in said
    assert not (spoiled.results / "winner").exists()


def test_code_beside_the_model_s_own_is_refused_though_that_is_trusted(swept: OwnCode, tmp_path: Path) -> None:
    manifest = SweepFolder(swept.results).manifest()
    trusting = dataclasses.replace(manifest, trusts_code=True)
    shutil.copytree(swept.results / "winner", tmp_path / "winner")
    winner._check_code(tmp_path / "winner", trusting)
    (tmp_path / "winner" / "more.py").touch()
    with pytest.raises(WinnerMismatch, match=r"more\.py: this code is not the model's own"):
        winner._check_code(tmp_path / "winner", trusting)


def test_code_in_the_winner_of_a_model_without_code_is_refused(tmp_path: Path, swept: OwnCode) -> None:
    (tmp_path / "modeling.py").touch()
    with pytest.raises(WinnerMismatch, match=r"modeling\.py: this code is not the model's own"):
        winner._check_code(tmp_path, SweepFolder(swept.results).manifest())


@pytest.mark.parametrize(("options", "code"), [((), 2), ((FLAG,), 0)])
def test_a_model_on_the_hub_is_treated_like_a_folder(
    project: Path, tmp_path: Path, canary: Canary, sweep: Sweep, monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str], code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tiny._repository(tmp_path / "cache", "models", REPOSITORY)
    own_code_model(snapshot, tmp_path / "WITNESS")
    tiny._move_to_blobs(snapshot)
    (project / "spec.yaml").write_text(SPEC.format(model=REPOSITORY))
    found, said = sweep("validate", "spec.yaml", *options)
    assert found == code, said
    assert (FLAG in said) == (code == 2)
    assert ("Runs code that comes with the model" in said) == (code == 0)
    assert (tmp_path / "WITNESS").exists() == (code == 0)  # the model is made, to compare its weights


def test_a_setting_of_its_config_cannot_be_searched(project: Path, tmp_path: Path, sweep: Sweep) -> None:
    own_code_model(project / "own", tmp_path / "WITNESS")
    text = SPEC.format(model="./own").replace("fixed: {", "fixed: {model.hidden_dropout_prob: 0.2, ")
    (project / "spec.yaml").write_text(text)
    code, said = sweep("validate", "spec.yaml", FLAG)
    assert code == 2
    assert "the config of a model that comes with code of its own cannot be set here" in " ".join(said.split())
