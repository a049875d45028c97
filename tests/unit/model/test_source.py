import subprocess
import sys

import pytest
from huggingface_hub import constants

import tiny
from finesweep.errors import SpecError
from finesweep.model.source import ResolvedModel, resolve
from finesweep.spec.sections import ModelSpec, ScratchModelSpec
from finesweep.spec.yaml_source import parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def find(name, base, revision=None):
    return resolve(ModelSpec(name=name, revision=revision), base=base, source=parse(f"\nmodel: {name!r}", "bert.yaml"))


@pytest.mark.parametrize("name", ["./models/tiny", "models/tiny", "models/../models/tiny/", "~/tiny", "tiny"])
def test_local_folders(here, name):
    tiny.write_model_files(here / "models" / "tiny")
    (here / "home").mkdir()
    (here / "home" / "tiny").symlink_to(here / "models" / "tiny")
    (here / "tiny").symlink_to(here / "models" / "tiny")
    found = find(name, here)
    assert found.path.is_absolute()
    assert found.path.samefile(here / "models" / "tiny")
    assert (found.name, found.revision, len(found.digest), found.max_tokens) == (name, None, 64, 64)
    assert found.config["hidden_size"] == 4


@pytest.mark.parametrize(
    "name",
    [
        "./nothing",
        "../nothing",
        "/nothing/there",
        "~/nothing",
        "a/b/c",
        "models\\tiny",
        "a\\b",
        "models/",
        "a/",
        "~x/y",
    ],
)
def test_paths_that_do_not_exist(here, name):
    with pytest.raises(SpecError, match=r"bert.yaml:2 model: no such folder: /"):
        find(name, here)


def test_a_slip_in_a_path_suggests_the_folder(here):
    tiny.write_model_files(here / "models" / "my-bert")
    with pytest.raises(SpecError, match=r"no such folder: .*/models/my-brt \(did you mean my-bert\?\)"):
        find("models/my-brt", here)


@pytest.mark.parametrize("name", ["./a\0b", "./" + "x" * 5000])
def test_names_that_no_file_system_has(here, name):
    with pytest.raises(SpecError, match="no such folder"):
        resolve(ModelSpec(name=name), base=here, source=parse("model: m"))


def test_a_file_is_no_folder(here):
    tiny.write_model_files(here / "tiny")
    with pytest.raises(SpecError, match=r"expected a folder, found a file: .*config.json \(did you mean /.*/tiny\?\)"):
        find("tiny/config.json", here)


def test_a_folder_has_no_revision(here):
    tiny.write_model_files(here / "tiny")
    source = parse("model:\n  name: ./tiny\n  revision: main\n", "bert.yaml")
    with pytest.raises(SpecError, match=r"bert.yaml:3 model.revision: a local folder has no revisions"):
        resolve(ModelSpec(name="./tiny", revision="main"), base=here, source=source)


def test_every_fault_of_a_folder_is_a_problem_with_its_line(here):
    tiny.write_model_files(here / "tiny", hidden_size="16")
    (here / "tiny" / "model.safetensors").unlink()
    source = parse("model:\n  name: ./tiny\n", "bert.yaml")
    with pytest.raises(SpecError, match="hidden_size") as caught:
        resolve(ModelSpec(name="./tiny"), base=here, source=source)
    assert [problem.where for problem in caught.value.problems] == ["bert.yaml:2 model.name"] * 2
    assert "no weights in the folder" in caught.value.problems[1].message


def snapshot_folder(here):
    repository = here / "cache" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


def test_hub_snapshots_are_named_by_their_commit(here):
    tiny.write_model_files(snapshot_folder(here))
    found = find("org/tiny", here)
    assert (found.revision, found.digest, found.name) == (COMMIT, COMMIT, "org/tiny")
    assert found.path.name == COMMIT
    assert "HF_HUB_OFFLINE is set; model org/tiny is taken from the cache" in found.notes[0]


def test_a_bad_snapshot_names_the_commit(here):
    (tiny.write_model_files(snapshot_folder(here)) / "tokenizer.json").unlink()
    with pytest.raises(SpecError, match="org/tiny at 01234567: no tokenizer in the folder"):
        find("org/tiny", here)


def test_what_is_neither_folder_nor_on_the_hub(here):
    with pytest.raises(SpecError, match=r"bert.yaml:2 model: HF_HUB_OFFLINE is set.*hf download org/other"):
        find("org/other", here)
    with pytest.raises(SpecError, match="'my model' is no model id"):
        find("my model", here)


def test_a_model_from_scratch_is_described_by_its_settings(here):
    found = resolve(
        ScratchModelSpec(config="bert", hidden_size=64, max_position_embeddings=96), base=here, source=parse("a: 1")
    )
    assert (found.name, found.path, found.digest, found.max_tokens) == ("bert (from scratch)", None, "scratch", 96)
    assert found.config == {
        "model_type": "bert",
        "vocab_size": 4000,
        "hidden_size": 64,
        "max_position_embeddings": 96,
    }
    roberta = ScratchModelSpec(config="roberta", max_position_embeddings=96)
    assert resolve(roberta, base=here, source=parse("a: 1")).max_tokens == 95


def test_a_folder_is_resolved_without_torch(here):
    tiny.write_model_files(here / "tiny")
    code = (
        "import sys; from pathlib import Path; from finesweep.model.source import resolve;"
        "from finesweep.spec.sections import ModelSpec; from finesweep.spec.yaml_source import parse;"
        f"print(resolve(ModelSpec(name='./tiny'), base=Path({str(here)!r}), source=parse('a: 1')).max_tokens);"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["64", "[]"]


@pytest.mark.parametrize(
    ("config", "width"),
    [
        ({"hidden_size": 384, "embedding_size": 128}, 384),
        ({"dim": 768}, 768),
        ({"n_embd": 1024, "hidden_size": None}, 1024),
        ({"hidden_size": "wide", "d_model": 0}, None),
        ({"hidden_size": True}, None),
        ({}, None),
    ],
)
def test_the_width_is_that_of_the_layers(config, width):
    assert ResolvedModel("m", None, None, "scratch", config, 64).width == width
