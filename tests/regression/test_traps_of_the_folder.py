"""What the stock search leaves on disk and in the environment, and what it makes of a model's folder."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lab import TOKEN, tuning_of

import tiny
from finesweep.errors import SweepError
from finesweep.folder import next_attempt
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.python_process import child_environment
from finesweep.launch.local import LocalLauncher
from finesweep.launch.profile import Profile
from finesweep.model.pretrained import load_tokenizer
from finesweep.results import kept_weights, ranking
from finesweep.spec.sections import BudgetSpec, StopSpec
from finesweep.training.callback import TrialWatch
from finesweep.training.trial_model import build_model
from finesweep.trial import Direction, TrialRecord, TrialState
from made_profiles import settled

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "optimizer*", "scheduler*", "rng_state*")


def weights_below(*folders: Path) -> list[str]:
    """Return the names of the folders that hold weights or optimizer state."""
    return sorted({file.parent.name for folder in folders for kind in WEIGHTS for file in folder.rglob(kind)})


def finished(trial: int, objective: float, **fields: Any) -> TrialRecord:
    return TrialRecord(trial, 1, TrialState.COMPLETE, {}, 0.0, 1.0, "", "here", objective=objective, **fields)


def end(sweep_folder: SweepFolder, record: TrialRecord, trainer: Any) -> None:
    """End a COMPLETE trial as its own process does."""
    kept = kept_weights.keep_if_best(sweep_folder, Profile(), record, Direction.MINIMIZE, trainer)
    sweep_folder.record(kept)
    kept_weights.remove_beaten(sweep_folder, 1, Direction.MINIMIZE)


def test_t23_only_the_best_trials_weights_are_ever_on_disk(lab, tmp_path):
    """Stock writes weights and optimizer state at every evaluation of every trial: 12 bytes a parameter."""
    sweep_folder, during, after = make_folders(tmp_path / "sweep"), [], []
    context = lab.context({"num_train_epochs": 1})
    for trial, objective in enumerate((0.5, 0.7, 0.3)):  # better, worse, best
        watch = TrialWatch(Direction.MINIMIZE)
        look = lambda *_: during.append(weights_below(tmp_path))  # noqa: E731
        tuning = tuning_of(context, watch, on_step=look, scratch=tmp_path / "scratch")
        tuning.train()
        end(sweep_folder, finished(trial, objective), tuning.trainer)
        after.append(weights_below(tmp_path))
    assert after == [["trial-0000"], ["trial-0000"], ["trial-0002"]]
    looks = len(during) // 3
    assert looks > 24, "at every step"
    assert during == looks * [[]] + 2 * looks * [["trial-0000"]]
    assert not list(tmp_path.rglob("optimizer*"))


def test_t23_a_kill_at_the_record_leaves_the_best_recorded_trial_its_weights(lab, tmp_path):
    """Before the record the old best may still win, so its weights stay; the new one's are there already."""
    sweep_folder, trainer = make_folders(tmp_path / "sweep"), lab.build({})
    end(sweep_folder, finished(0, 0.5), trainer)
    kept_weights.keep_if_best(sweep_folder, Profile(), finished(1, 0.3), Direction.MINIMIZE, trainer)
    # Killed here, before its record.
    kept_weights.remove_beaten(sweep_folder, 1, Direction.MINIMIZE)
    assert weights_below(tmp_path) == ["trial-0000", "trial-0001"]


def _end_some(path: Path, trainer: Any, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(12):
        end(SweepFolder(path), finished(seed * 100 + number, rng.random()), trainer)


def test_t23_trials_that_end_at_a_time_leave_the_best_one_its_weights_at_every_moment(lab, tmp_path):
    sweep_folder, trainer = make_folders(tmp_path / "sweep"), lab.build({})
    context = multiprocessing.get_context("fork")
    ends = [context.Process(target=_end_some, args=(sweep_folder.path, trainer, seed)) for seed in range(4)]
    for process in ends:
        process.start()
    looks = 0
    while any(process.is_alive() for process in ends):
        before = ranking.winner(sweep_folder.records(), Direction.MINIMIZE)
        if before is None:
            continue
        there = sweep_folder.checkpoint(before.trial).joinpath("model.safetensors").is_file()
        after = ranking.winner(sweep_folder.records(), Direction.MINIMIZE)
        looks += 1
        assert there or after != before, "the best recorded trial has no weights"
    for process in ends:
        process.join()
        assert process.exitcode == 0
    assert looks > 50
    records = sweep_folder.records()
    best = ranking.winner(records, Direction.MINIMIZE)
    assert len(records) == 48
    assert weights_below(tmp_path) == [sweep_folder.checkpoint(best.trial).name]
    assert kept_weights.set_aside_if_damaged(sweep_folder, best) is None


@pytest.mark.parametrize("damage", ["a byte", "the end", "everything"])
def test_damaged_weights_are_noticed_set_aside_and_their_trial_runs_again(lab, tmp_path, damage):
    sweep_folder, trainer = make_folders(tmp_path / "sweep"), lab.build({})
    end(sweep_folder, finished(0, 0.5), trainer)
    weights = sweep_folder.checkpoint(0) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes({"a byte": data, "the end": data[:-100], "everything": b""}[damage])
    (best,) = sweep_folder.records()
    assert sweep_folder.is_finished(0)
    found = kept_weights.set_aside_if_damaged(sweep_folder, best)
    assert not sweep_folder.is_finished(0)
    assert found.startswith("trial 0: its kept weights")
    assert "set aside as checkpoints/trial-0000.corrupt; it is trained again" in found
    assert weights_below(tmp_path) == ["trial-0000.corrupt"]
    assert sweep_folder.records()[0].state is TrialState.INTERRUPTED
    assert next_attempt.claim(sweep_folder, run=1, trials=range(1)).claim.trial == 0


def test_t28_every_path_is_absolute_wherever_the_command_was_started(swept):
    """Relative ones break where a backend or a launcher changes the working directory."""
    manifest = json.loads((swept.results / "spec.json").read_text())
    paths = [manifest["model"]["path"], *(source["place"] for source in manifest["data"]["sources"].values())]
    assert len(paths) == 3
    for path in paths:
        assert Path(path).is_absolute(), path
        assert Path(path).exists(), path


@pytest.mark.parametrize(
    ("set_by_the_user", "given"),
    [(None, "0"), ("", ""), ("1", "1"), ("2,0,1", "2"), ("GPU-8f3c,GPU-11aa", "GPU-8f3c")],
)
def test_t21_a_worker_sees_one_device(tmp_path, monkeypatch, set_by_the_user, given):
    """With several, stock wraps the model in DataParallel and multiplies the batch size that is searched."""
    if set_by_the_user is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", set_by_the_user)
    assert child_environment()["CUDA_VISIBLE_DEVICES"] == given
    of_a_worker = _environment_of_a_worker(tmp_path, monkeypatch, gpus=1 if set_by_the_user else 0)
    assert of_a_worker["CUDA_VISIBLE_DEVICES"] == (given if set_by_the_user else "")


def _environment_of_a_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, gpus: int) -> dict[str, str]:
    """Start a worker with a stand-in for Python that writes its environment down."""
    stand_in, seen = folder / "python", folder / "environment"
    stand_in.write_text(f"#!/bin/sh\nexec env -0 > {seen}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    with (folder / "lock").open("w") as lock:
        handle = LocalLauncher().start(make_folders(folder / "sweep"), RUN, settled(gpus=gpus), lock.fileno())
    assert handle.process.wait(timeout=60) == 0
    handle.kill()  # removes its temporary folder
    return dict(entry.split("=", 1) for entry in seen.read_text().split("\0") if entry)


RUN = Run(1, BudgetSpec(), StopSpec(), {}, {}, "here", 1, 0.0)

HOLDER = """\
import sys, time
from pathlib import Path
from finesweep.folder.sweep_folder import SweepFolder
lock = SweepFolder(Path(sys.argv[1])).claims.locked()
lock.__enter__()
print("held", flush=True)
time.sleep(600)
"""


def test_a_dead_owner_of_a_sweeps_lock_costs_nothing(tmp_path):
    """Optuna's own lock file makes the next one wait 30 seconds, or for ever where its path is relative."""
    folder = make_folders(tmp_path / "s")
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    started = time.monotonic()
    lease = next_attempt.claim(folder, 1, range(1))
    assert time.monotonic() - started < 25
    assert lease is not None


def test_no_token_is_in_what_is_saved_of_a_model(lab, tmp_path):
    """Stock pickles the training arguments beside the weights, with the Hub token in clear."""
    trainer = lab.build({})
    trainer.args.hub_token = TOKEN
    kept_weights.save(tmp_path / "saved", trainer)
    files = [file for file in (tmp_path / "saved").iterdir() if file.is_file()]
    assert {file.name for file in files} >= {"model.safetensors", "tokenizer.json", kept_weights.ARGUMENTS}
    assert [file.name for file in files if TOKEN.encode() in file.read_bytes()] == []
    assert "hub_token" not in json.loads((tmp_path / "saved" / kept_weights.ARGUMENTS).read_text())


def test_no_token_of_the_environment_is_in_the_results(swept):
    files = [file for file in swept.results.rglob("*") if file.is_file()]
    assert (swept.results / "winner" / "model.safetensors") in files
    assert [str(file) for file in files if TOKEN.encode() in file.read_bytes()] == []


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder without a head."""
    return tiny.tiny_model(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def build(lab) -> Callable[..., Any]:
    """Build the model of a trial from a pretrained folder."""

    def from_folder(folder: Path, **settings: Any) -> Any:
        model = dataclasses.replace(lab.manifest.model, path=str(folder), from_scratch=False)
        manifest = dataclasses.replace(lab.manifest, model=model)
        return build_model(manifest, lab.context({}).task, settings, load_tokenizer(folder))

    return from_folder


@pytest.mark.parametrize("saved_as", [torch.bfloat16, torch.float16])
def test_weights_saved_in_half_precision_are_trained_in_single(encoder, build, tmp_path, saved_as):
    """Stock trains in the precision of the file, where small learning rates round to nothing."""
    transformers.AutoModel.from_pretrained(encoder, dtype=saved_as).save_pretrained(tmp_path)
    load_tokenizer(encoder).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] in str(saved_as)
    model = build(tmp_path)
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


def test_weights_of_another_architecture_are_refused(encoder, build, tmp_path):
    """Stock warns, and trains an encoder whose weights are random."""
    other = tiny.tiny_model(tmp_path / "other", model_type="distilbert")
    (other / "config.json").write_bytes((encoder / "config.json").read_bytes())
    with pytest.raises(SweepError, match="17 of the 23 tensors of its encoder are not in its weights"):
        build(other)


def test_a_head_for_other_labels_is_replaced_and_the_encoder_kept(encoder, build, tmp_path):
    kind = transformers.AutoModelForSequenceClassification
    torch.manual_seed(3)
    five = kind.from_pretrained(encoder, num_labels=5)
    five.save_pretrained(tmp_path)
    load_tokenizer(encoder).save_pretrained(tmp_path)
    model = build(tmp_path)
    assert model.classifier.weight.shape == (2, 32)
    assert model.classifier.weight.std() > 0, "a head of zeros would not learn"
    assert model.config.id2label == {0: "0", 1: "1"}
    for name, weights in five.bert.state_dict().items():
        assert torch.equal(model.bert.state_dict()[name], weights), name
