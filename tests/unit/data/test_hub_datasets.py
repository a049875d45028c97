"""Hub data sets of every layout, read from a snapshot folder as the Hub's cache lays it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finesweep.data import hub_datasets, loader
from finesweep.data.loader import LoadedData
from finesweep.errors import SpecError
from finesweep.hub import HubError, Snapshot
from finesweep.registry import TASKS
from finesweep.spec.sections import DataSpec
from finesweep.spec.yaml_source import parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TRAIN = pd.DataFrame({"sentence": ["good", "NA", "bad", "fine"], "label": [1, 1, 0, 1]})
EVAL = pd.DataFrame({"sentence": ["poor", "great"], "label": [0, 1]})
SECRET = pd.DataFrame({"sentence": ["who", "knows"], "label": [-1, -1]})
CONFIGS = """---
configs:
- config_name: sst2
  data_files:
  - {split: train, path: sst2/train-*}
  - {split: validation, path: sst2/validation-*}
  - {split: test, path: sst2/test-*}
- config_name: cola
  data_files:
  - {split: train, path: cola/train-*}
dataset_info:
- config_name: sst2
  features: &features
  - {name: sentence, dtype: string}
  - {name: label, dtype: {class_label: {names: {'0': negative, '1': positive}}}}
- config_name: cola
  features: *features
---
"""
CONFIG_FILES = {
    "sst2/train-0.parquet": TRAIN,
    "sst2/validation-0.parquet": EVAL,
    "sst2/test-0.parquet": SECRET,
    "cola/train-0.parquet": EVAL,
}

Hub = Callable[..., LoadedData]


def write(frame: pd.DataFrame | str, path: Path) -> None:
    if isinstance(frame, str):
        path.write_text(frame, encoding="utf-8")
        return
    match path.suffix:
        case ".parquet":
            frame.to_parquet(path)
        case ".csv" | ".gz":
            frame.to_csv(path, index=False)
        case _:
            frame.to_json(path, orient="records", lines=path.suffix == ".jsonl")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Lay out a snapshot (links to blobs) of the given files and load a spec that names the data set."""

    def load(files: Mapping[str, pd.DataFrame | str], readme: str = "", note: str = "", **settings: Any) -> LoadedData:
        folder, blobs = tmp_path / "snapshots" / COMMIT, tmp_path / "blobs"
        for path in (folder, blobs):
            path.mkdir(parents=True, exist_ok=True)
        for number, (name, frame) in enumerate(files.items()):
            blob, link = blobs / f"blob{number}{Path(name).suffix}", folder / name
            write(frame, blob)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        if readme:
            (folder / "README.md").write_text(readme)
        monkeypatch.setattr(loader, "snapshot", lambda *_, **__: Snapshot(folder, COMMIT, note))
        spec = DataSpec(**{"dataset": "stanfordnlp/sst2", "text": "sentence", **settings})
        task = TASKS.load("text-classification")()
        source = parse("task: text-classification\ndata: {dataset: stanfordnlp/sst2}\n", "bert.yaml")
        return loader.load(spec, task, base=tmp_path, seed=0, source=source)

    return load


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("train.csv", "validation.csv"),
        ("data/train.jsonl", "data/dev.jsonl"),
        ("train.json", "valid.json"),
    ],
)
def test_every_layout_gives_the_same_rows(hub: Hub, names: tuple[str, str]) -> None:
    loaded = hub(dict(zip(names, (TRAIN, EVAL), strict=True)))
    assert loaded.frames["train"].to_dict("list") == {"text": ["good", "NA", "bad", "fine"], "label": [1, 1, 0, 1]}
    assert loaded.frames["validation"].to_dict("list") == {"text": ["poor", "great"], "label": [0, 1]}
    assert loaded.sources["train"] == loader.DataSource("stanfordnlp/sst2", f"{COMMIT}/default/train", COMMIT)
    assert loaded.names == ("0", "1")
    assert loaded.notes == ()


STRAY = 'sentence\tlabel\n"not worth it\tbad\nfine\tgood\nso so\tbad\nlovely 27"\tgood\nok\tgood\n'


def test_stray_quotes_lose_no_row_of_a_data_set(hub: Hub) -> None:
    files = {"train.tsv": STRAY, "validation.tsv": "sentence\tlabel\na\tgood\nb\tbad\n"}
    loaded = hub(files)
    assert loaded.frames["train"]["text"].tolist() == ['"not worth it', "fine", "so so", 'lovely 27"', "ok"]
    said = "double quotes are read as plain characters (data.quoting)."
    assert loaded.notes[0] == f"train (stanfordnlp/sst2, split train): {said}"
    with pytest.raises(SpecError, match="every label is 'good'"):
        hub(files, quoting="minimal")


def test_quotes_that_swallow_rows_of_a_data_set_are_a_problem(hub: Hub) -> None:
    files = {"train.csv": STRAY.replace("\t", ","), "validation.csv": "sentence,label\na,good\nb,bad\n"}
    with pytest.raises(SpecError, match=r"train\.csv:2: a double quote opens a field here that continues to line 5"):
        hub(files)
    assert hub(files, quoting="none").facts().rows == {"train": 5, "validation": 2}


def test_quoting_is_for_data_sets_of_csv_files(hub: Hub) -> None:
    with pytest.raises(SpecError, match=r"is for CSV and TSV files; these are parquet \(leave it out\)"):
        hub({"train.parquet": TRAIN}, quoting="none")


def test_class_names_come_with_the_data_set(hub: Hub) -> None:
    loaded = hub(CONFIG_FILES, CONFIGS, config="sst2")
    assert loaded.names == ("negative", "positive")
    assert set(loaded.frames) == {"train", "validation"}
    assert loaded.sources["validation"].digest == f"{COMMIT}/sst2/validation"


def test_another_configuration_has_other_rows_and_no_validation(hub: Hub) -> None:
    rows = pd.concat([TRAIN, EVAL], ignore_index=True)
    loaded = hub({**CONFIG_FILES, "cola/train-0.parquet": rows}, CONFIGS, config="cola")
    assert loaded.facts().rows == {"train": 5, "validation": 1}
    assert set(loaded.sources) == {"train"}


def test_a_folder_is_a_configuration_where_no_readme_names_any(hub: Hub) -> None:
    loaded = hub(CONFIG_FILES, config="sst2")
    assert loaded.facts().rows == {"train": 4, "validation": 2}


def test_split_names_can_be_given(hub: Hub) -> None:
    files = {"data/train.parquet": TRAIN, "data/test.parquet": EVAL}
    loaded = hub(files, validation="test")
    assert loaded.facts().rows == {"train": 4, "validation": 2}
    assert loaded.sources["validation"].digest.endswith("/test")


def test_d30_a_file_that_was_replaced_is_read_anew(hub: Hub, tmp_path: Path) -> None:
    files = {"data/train.parquet": TRAIN, "data/validation.parquet": EVAL}
    hub(files)
    blob = tmp_path / "blobs" / "blob0.parquet"
    stat = blob.stat()
    write(TRAIN.replace("good", "dull"), blob)
    os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert blob.stat().st_size == stat.st_size
    assert hub({}).frames["train"]["text"][0] == "dull"


def test_what_the_hub_remarks_is_passed_on(hub: Hub) -> None:
    files = {"data/train.parquet": TRAIN, "data/validation.parquet": EVAL}
    assert hub(files, note="The cached copy is used.").notes == ("The cached copy is used.",)


@pytest.mark.parametrize(
    ("files", "readme", "settings", "message"),
    [
        pytest.param(
            CONFIG_FILES,
            CONFIGS,
            {"config": "sst3"},
            r"bert\.yaml:2 data\.config: stanfordnlp/sst2: no .* 'sst3'; there are sst2, cola \(did you mean sst2\?\)",
            id="unknown-config",
        ),
        pytest.param(
            CONFIG_FILES, CONFIGS, {}, r"data\.config: .*needed; there are sst2, cola \(as config: sst2\)", id="config"
        ),
        pytest.param(CONFIG_FILES, "", {"config": ".."}, r"no configuration is called '\.\.'", id="folder-above"),
        pytest.param(
            CONFIG_FILES,
            CONFIGS,
            {"config": "sst2", "train": "trian", "validation": "dev"},
            r"data\.train: .* no split 'trian'; there are train, validation, test \(did you mean train\?\)\n"
            r".*data\.validation: .* no split 'dev'",
            id="unknown-splits",
        ),
        pytest.param(
            CONFIG_FILES,
            CONFIGS,
            {"config": "sst2", "test": "test"},
            r"data\.label: test \(stanfordnlp/sst2, split test\): every row has no label .*-1 marks rows",
            id="secret-labels",
        ),
        pytest.param(
            CONFIG_FILES, CONFIGS, {"config": "sst2", "validation": "train"}, "holds the same rows", id="same-split"
        ),
        pytest.param(
            CONFIG_FILES,
            CONFIGS,
            {"config": "sst2", "text": "text"},
            r"data\.text: stanfordnlp/sst2, split train has no column 'text'; there are sentence, label",
            id="column",
        ),
        pytest.param(
            {"data/test.parquet": EVAL}, "", {}, r"data\.train: .* no split 'train'; there are test", id="no-train"
        ),
        pytest.param({}, "", {}, r"data\.dataset: .*`datasets` cannot read its files: .* data files", id="no-files"),
        pytest.param(
            {"sst2/train-0.parquet": TRAIN.assign(more=1), "sst2/validation-0.parquet": EVAL},
            CONFIGS.replace("  - {split: test, path: sst2/test-*}\n", ""),
            {"config": "sst2"},
            r"data\.dataset: .*cannot read its files: Couldn't cast .* more: int64",
            id="columns-that-the-readme-does-not-know",
        ),
        pytest.param({}, "---\n: [\n---\n", {}, r"data\.dataset: .*cannot read its files", id="broken-readme"),
        pytest.param(
            {"train.csv": TRAIN},
            "---\nconfigs:\n- config_name: default\n  data_files: ../../blobs/*.csv\n---\n",
            {},
            "its README names a file that is not its own",
            id="S19-outside",
        ),
        pytest.param(
            {"train.csv": TRAIN},
            "---\nconfigs:\n- config_name: default\n  data_files: http://127.0.0.1:9/x.csv\n---\n",
            {},
            r"data\.dataset: .*(cannot read its files|not its own)",
            id="S19-server",
        ),
    ],
)
def test_an_unusable_data_set_is_one_message(
    hub: Hub, files: dict[str, pd.DataFrame], readme: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        hub(files, readme, **settings)


@pytest.mark.parametrize("name", ["train.csv.gz", "train.parquet"])
def test_small_file_that_unpacks_to_too_much_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settings = {"validation_fraction": 0.5}
    rows = pd.DataFrame({"sentence": [f"{row} {'x' * 1_000}" for row in range(500)], "label": [0, 1] * 250})
    assert hub({name: rows}, **settings).facts().rows == {"train": 250, "validation": 250}
    monkeypatch.setattr(hub_datasets, "most_bytes", lambda: 300_000)
    with pytest.raises(SpecError, match=rf"data\.dataset: .*{name}: it unpacks to .*more than the 300,000"):
        hub({name: rows}, **settings)


def test_s37_a_loading_script_is_refused_and_not_run(hub: Hub, tmp_path: Path) -> None:
    folder, proof = tmp_path / "snapshots" / COMMIT, tmp_path / "proof"
    folder.mkdir(parents=True)
    (folder / f"{COMMIT}.py").write_text(f"open({str(proof)!r}, 'w')\n")
    with pytest.raises(SpecError, match=r"scripts are no longer supported"):
        hub({"data/train.parquet": TRAIN})
    assert not proof.exists()


def test_a_hub_that_cannot_be_reached_is_a_problem_of_the_spec(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Snapshot:
        raise HubError("the Hub does not answer", "fill the cache first")

    hub({"data/train.parquet": TRAIN, "data/validation.parquet": EVAL})
    monkeypatch.setattr(loader, "snapshot", refuse)
    with pytest.raises(SpecError, match=r"^bert\.yaml:2 data\.dataset: the Hub does not answer \(fill the cache"):
        loader.load(
            DataSpec(dataset="a/b"),
            TASKS.load("text-classification")(),
            base=Path(),
            seed=0,
            source=parse("task: text-classification\ndata: {dataset: a/b}\n", "bert.yaml"),
        )


def test_the_library_stays_quiet_and_is_left_as_it_was(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    before = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    hub({"data/train.parquet": TRAIN, "data/validation.parquet": EVAL})
    assert capfd.readouterr().err == ""
    assert (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()) == before


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    write(TRAIN, tmp_path / "train.parquet")
    tables = hub_datasets.read(tmp_path, None, lambda names: {"any": names[0]}, {"label"})
    assert tables["any"].columns == {"label": [1, 1, 0, 1]}
    assert tables["any"].names == ("sentence", "label")
