"""A trial that is interrupted goes on in another process, and ends as if nothing had happened: bit by bit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import pickle
import random
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, go_on, tuning_of

from finesweep.errors import FolderError
from finesweep.spec.sections import PruningSpec, SearchSpec
from finesweep.training import fine_tuning, rng_state, tensor_json
from finesweep.training.callback import TrialContext, TrialWatch
from finesweep.training.fine_tuning import FineTuning
from finesweep.training.saved_state import StateDamaged, read_state
from finesweep.training.trainer import FineTuner
from finesweep.trial import Evaluation, Report, TrialInterrupted, TrialWaits

ON_RUNGS = SearchSpec(pruner="halving", sampler="random", baseline=False)
Moment = tuple[int, int]
"""Optimizer steps and evaluations done when a trial is interrupted."""

SHORT = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 16, "logging_steps": 4}
"""Six steps an epoch, four batches an evaluation; logs in mid-epoch and across its end."""

START, IN_EPOCH, AT_EPOCH_END, LATE = (0, 0), (2, 0), (6, 1), (9, 1)
IN_EVALUATION, IN_LAST_EVALUATION = (6, 0), (12, 1)

MOMENTS = [*((step, 0) for step in range(1, 7)), *((step, 1) for step in range(6, 13))]
"""All at which it can be interrupted and go on."""


@dataclass(frozen=True)
class Outcome:
    """All that a trial leaves: what it saw, told and became."""

    watch: dict[str, Any]
    told: list[tuple[Evaluation, float]]
    losses: list[tuple[float, ...]]
    weights: dict[str, torch.Tensor]
    mean_loss: float

    @classmethod
    def of(cls, tuning: FineTuning, reports: Sequence[Any]) -> Outcome:
        names = ("step", "epoch", "loss", "grad_norm", "learning_rate")
        logs = [entry for entry in tuning.trainer.state.log_history if "loss" in entry]
        return cls(
            seen(tuning.watch),
            [(report.evaluation, report.best) for report in reports],
            [tuple(entry[name] for name in names) for entry in logs],
            {name: tensor.clone() for name, tensor in tuning.trainer.model.state_dict().items()},
            mean_loss(tuning),
        )

    def assert_same(self, other: Outcome) -> None:
        assert self.watch == other.watch
        assert self.told == other.told
        assert self.losses == other.losses
        assert self.mean_loss == other.mean_loss
        assert self.weights.keys() == other.weights.keys()
        assert [name for name in self.weights if not torch.equal(self.weights[name], other.weights[name])] == []


def seen(watch: TrialWatch) -> dict[str, Any]:
    """Return all of a watch but the weights, as values that can be compared; the rows must give its metrics."""
    assert watch.by_row is not None
    rows = {name: values.tolist() for name, values in watch.by_row.values.items()}
    assert {name: np.mean(values) for name, values in rows.items()} == pytest.approx(
        {name: watch.result.metrics[name] for name in rows}, rel=1e-9, abs=1e-12
    )
    rows["labels"] = watch.by_row.labels.tolist()
    return {**{name: value for name, value in vars(watch).items() if name != "weights"}, "by_row": rows}


def mean_loss(tuning: FineTuning) -> float:
    return next(entry["train_loss"] for entry in tuning.trainer.state.log_history if "train_loss" in entry)


def stop_at(moment: Moment) -> Callable[[TrialWatch], None]:
    def on_step(watch: TrialWatch) -> None:
        if (watch.step, len(watch.evaluations)) == moment:
            raise TrialInterrupted("stopped here")

    return on_step


def interrupted(context: TrialContext, moment: Moment, folder: Path, **more: Any) -> FineTuning:
    """Train a trial until a moment, and save its state."""
    tuning = tuning_of(context, TrialWatch(context.spec.direction), None, stop_at(moment), **more)
    with pytest.raises(TrialInterrupted, match="stopped here"):
        tuning.train()
    tuning.save_state(folder)
    return tuning


def carried_out(context: TrialContext, folder: Path, moments: Iterable[Moment] = ()) -> Outcome:
    """Train a trial to its end, interrupted at some moments; each part knows only what the one before saved."""
    state = None
    for number, moment in enumerate(moments):
        interrupted(context, moment, folder / str(number), state=state)
        state = read_state(folder / str(number))
    reports: list[Any] = []
    tuning = tuning_of(context, TrialWatch(context.spec.direction), reports, state=state)
    tuning.train()
    return Outcome.of(tuning, reports)


@pytest.mark.parametrize("moment", [IN_EPOCH, IN_LAST_EVALUATION])
def test_mean_training_loss_of_a_resumed_trial_is_over_all_its_steps(short, whole, tmp_path, moment) -> None:
    """Stock divides the sum of all steps by those of the last process; of none, by a thousandth."""
    interrupted(short, moment, tmp_path / "state")
    resumed = tuning_of(short, TrialWatch(short.spec.direction), state=read_state(tmp_path / "state"))
    resumed.train()
    assert mean_loss(resumed) == whole.mean_loss < 1


def test_regression_resumed_after_an_evaluation_gives_the_same_results(prices: Lab, tmp_path: Path) -> None:
    """The scale that is folded into the head for an evaluation is taken out again, bit by bit."""
    context = prices.context(SHORT)
    carried_out(context, tmp_path / "whole").assert_same(carried_out(context, tmp_path, [LATE]))


@pytest.fixture(scope="module")
def short(lab: Lab) -> TrialContext:
    return lab.context(SHORT)


@pytest.fixture(scope="module")
def whole(short: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return carried_out(short, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def saved(short: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "state"
    interrupted(short, LATE, folder)
    return folder


@pytest.mark.parametrize("moment", [IN_EPOCH, (4, 0), IN_EVALUATION, AT_EPOCH_END, LATE, IN_LAST_EVALUATION])
def test_it_ends_as_if_it_had_not_been_interrupted(short, whole, tmp_path, moment):
    carried_out(short, tmp_path, [moment]).assert_same(whole)


def test_who_waits_at_a_rung_goes_on_as_if_it_had_never_waited(lab, tmp_path):
    """It stops in the middle of telling of its evaluation, whose weights are the best so far and are kept once."""
    context = lab.context({**SHORT}, search=ON_RUNGS, pruning=PruningSpec(rungs=(0.4, 1.0)))
    whole = carried_out(context, tmp_path / "whole")
    state, reports = None, []
    for number, rung in enumerate((76, 192)):

        def report(report: Report, rung: int = rung) -> None:
            if not report.last and report.evaluation.examples == rung:
                raise TrialWaits("waits here")

        tuning = FineTuning(context, lab.scratch, TrialWatch(context.spec.direction), report, lambda _: None, state)
        with pytest.raises(TrialWaits, match="waits here"):
            tuning.train()
        tuning.save_state(tmp_path / str(number))
        state = read_state(tmp_path / str(number))
        assert state.best == {}, "the weights of the last evaluation are those of the model"
    tuning = tuning_of(context, TrialWatch(context.spec.direction), reports, state=state)
    tuning.train()
    Outcome.of(tuning, reports).assert_same(whole)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(MOMENTS), min_size=2, max_size=4).map(sorted))
def test_however_often_it_was_interrupted(short, whole, moments):
    """Also twice at the same moment: the second process had not done a step when it was stopped."""
    with tempfile.TemporaryDirectory() as folder:
        carried_out(short, Path(folder), moments).assert_same(whole)


WAYS = {
    "adafactor, an uneven last window, rows in any order": {
        "optim": "adafactor",
        "train_sampling_strategy": "random",
        "per_device_train_batch_size": 28,
        "gradient_accumulation_steps": 2,
    },
    "adagrad, a cosine, loader processes": {
        "optim": "adagrad",
        "dataloader_num_workers": 2,
        "lr_scheduler_type": "cosine_with_restarts",
        "warmup_steps": 0.3,
    },
    "rmsprop, noise on embeddings, rows in their order": {
        "optim": "rmsprop",
        "train_sampling_strategy": "sequential",
        "neftune_noise_alpha": 5.0,
        "label_smoothing_factor": 0.1,
    },
    "sgd, half precision, an epoch and a half": {
        "optim": "sgd",
        "learning_rate": 0.1,
        "bf16": True,
        "use_cpu": True,
        "num_train_epochs": 1.5,
    },
}
"""Four trainings that differ in everything that has a state of its own: what is lost of one part shows in any."""


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_it_trains(lab, tmp_path, way):
    """Three evaluations an epoch; stopped in mid-epoch, in the evaluation at its end, and in the last one."""
    context = lab.context({**SHORT, **WAYS[way]}, evaluation=lab.spec.evaluation.model_copy(update={"per_epoch": 3}))
    undisturbed = carried_out(context, tmp_path / "undisturbed")
    evaluations = undisturbed.watch["evaluations"]
    steps = [evaluation.step for evaluation in evaluations]
    moments = [(steps[1] - 1, 1), (steps[2], 2), (steps[2], 3), (steps[-1], len(steps) - 1)]
    carried_out(context, tmp_path, moments).assert_same(undisturbed)


def test_the_scale_of_the_loss_is_kept(lab, tmp_path, monkeypatch):
    """fp16's scaler at work on the CPU, with a scale that grows every other step."""
    build = fine_tuning.build_trainer

    def build_with_scaler(context: TrialContext, scratch: Path) -> FineTuner:
        trainer = build(context, scratch)
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        return trainer

    monkeypatch.setattr(fine_tuning, "build_trainer", build_with_scaler)
    context = lab.context(SHORT)
    interrupted(context, LATE, tmp_path / "state")
    state = read_state(tmp_path / "state")
    assert state.trainer.scaler["scale"] == 8.0 * 2 ** (LATE[0] // 2)
    carried_out(context, tmp_path, [IN_EPOCH, LATE]).assert_same(carried_out(context, tmp_path / "undisturbed"))


@pytest.fixture(scope="module")
def impatient(contrary: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialContext, Outcome]:
    """Return a trial that its patience ends, and what it comes to when it is not interrupted."""
    evaluation = contrary.spec.evaluation.model_copy(update={"per_epoch": 6})
    params = {**SHORT, "learning_rate": 5e-3, "train_sampling_strategy": "random", "bf16": False}
    context = contrary.context(params, evaluation=evaluation, patience=4)
    undisturbed = carried_out(context, tmp_path_factory.mktemp("undisturbed"))
    assert undisturbed.watch["ended_early"] == "no gain in 4 evaluations"
    assert undisturbed.watch["step"] == 10, "of 12"
    return context, undisturbed


@pytest.mark.parametrize("moments", [[(9, 8)], [(9, 9)], [(8, 7), (10, 9), (10, 9)]])
def test_patience_goes_on_where_it_was(impatient, tmp_path, moments):
    """There is an evaluation after every step; if the one that ends training is made up for, no step may follow."""
    context, undisturbed = impatient
    carried_out(context, tmp_path, moments).assert_same(undisturbed)


def test_patience_is_not_spent_on_rungs(contrary):
    """It counts the evaluations that `per_epoch` asks for; those of rungs lie closer and would use it up sooner."""
    search = contrary.spec.search.model_copy(update={"pruner": "median"})
    pruning = contrary.spec.pruning.model_copy(update={"rungs": (1.25, 1.5, 1.75)})
    params = {**SHORT, "num_train_epochs": 4, "learning_rate": 5e-3, "train_sampling_strategy": "random"}
    watch = contrary.train(params, patience=1, search=search, pruning=pruning)
    assert watch.best.epoch == 1, "there is a gain later: the test shows nothing"
    assert (len(watch.evaluations), watch.evaluations[-1].epoch) == (5, 2)


def test_a_trial_whose_loss_rises_ends_with_its_best(contrary):
    """Rungs are looked at too, but an epoch must have passed since the best."""
    search = contrary.spec.search.model_copy(update={"pruner": "median"})
    pruning = contrary.spec.pruning.model_copy(update={"rungs": (1.5, 2.25)})
    params = {"num_train_epochs": 4, "learning_rate": 5e-3}
    watch = contrary.train(params, patience="auto", search=search, pruning=pruning)
    assert [evaluation.epoch for evaluation in watch.evaluations] == [1, 1.5, 2]
    assert (watch.best.epoch, watch.ended_early) == (1, "eval_loss rises")
    assert contrary.train(params, search=search, pruning=pruning).evaluations[-1].epoch == 4


def test_the_guard_remembers_the_first_loss(short, tmp_path):
    """Only with it does it know what has exploded; a guard that forgot would allow ten times the later loss."""
    before = interrupted(short, LATE, tmp_path / "state")
    after = tuning_of(short, TrialWatch(short.spec.direction), state=read_state(tmp_path / "state"))
    assert after.guard == before.guard
    assert after.guard.limit == before.guard.limit


def test_a_new_process_goes_on(short, whole, tmp_path):
    """In the other tests one process is interrupted and goes on; this one shares no memory with the first."""
    interrupted(short, (10, 1), tmp_path / "state")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        watch, weights = pool.submit(go_on, short, tmp_path / "state").result()
    assert seen(watch) == whole.watch
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.weights.items())


def test_the_search_is_told_again_of_what_was_evaluated(short, saved):
    """It is told that training ends there, so that it cannot prune a trial that had passed already."""
    told: list[Any] = []
    tuning_of(short, TrialWatch(short.spec.direction), told, state=read_state(saved)).train()
    assert [(report.evaluation.step, report.last) for report in told] == [(6, True), (12, True)]


def test_the_watch_knows_at_once_how_far_the_trial_was(short, saved):
    watch = TrialWatch(short.spec.direction)
    tuning_of(short, watch, state=read_state(saved))
    assert (watch.step, watch.examples, len(watch.evaluations)) == (9, 192 + 3 * 32, 1)
    assert watch.weights
    assert watch.best == watch.evaluations[0]


@pytest.mark.parametrize("change", [{"params": {"learning_rate": 2e-3, **SHORT}}, {"batch_divisor": 2}])
def test_a_state_of_other_training_is_ignored(short, saved, tmp_path, change):
    other = dataclasses.replace(short, **change)
    reports: list[Any] = []
    watch = TrialWatch(short.spec.direction)
    tuning = tuning_of(other, watch, reports, state=read_state(saved))
    assert watch.step == 0
    tuning.train()
    Outcome.of(tuning, reports).assert_same(carried_out(other, tmp_path / "anew"))


def test_there_is_nothing_to_go_on_from_before_the_first_step(short, tmp_path):
    def stop(watch: TrialWatch) -> None:
        seen.append(tuning.can_resume)
        if watch.step == 1:
            raise TrialInterrupted("stopped here")

    seen: list[bool] = []
    tuning = tuning_of(short, TrialWatch(short.spec.direction), on_step=stop)
    with pytest.raises(TrialInterrupted, match="stopped here"):
        tuning.train()
    assert seen == [False, True]


def test_after_its_last_evaluation_a_trial_is_not_stopped(short):
    """There would be nothing left to go on with but to say that it is complete."""
    moments: list[Moment] = []
    watch = TrialWatch(short.spec.direction)
    tuning_of(short, watch, on_step=lambda watch: moments.append((watch.step, len(watch.evaluations)))).train()
    assert moments[-1] == IN_LAST_EVALUATION
    assert sorted(set(moments)) == sorted({START, *MOMENTS})


def test_how_often_it_is_evaluated_does_not_change_training(lab):
    """Stock draws a random number for each evaluation, and dropout takes other units from then on."""
    weights = []
    for per_epoch in (1, 4):
        context = lab.context(SHORT, evaluation=lab.spec.evaluation.model_copy(update={"per_epoch": per_epoch}))
        trainer = tuning_of(context, TrialWatch(context.spec.direction)).trainer
        trainer.fine_tune(lab.scratch)
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_an_evaluation_that_fails_draws_no_random_number_either(short):
    trainer = tuning_of(short, TrialWatch(short.spec.direction)).trainer
    before = rng_state.captured()
    numbers = drawn()
    rng_state.restore(before)
    trainer.compute_metrics = lambda _: 1 / (drawn() == ())
    with pytest.raises(ZeroDivisionError, match="division"):
        trainer.evaluate()
    assert drawn() == numbers


def test_nothing_is_pickled_or_unpickled(short, tmp_path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this can run what it reads")

    for module, names in ((torch, ("load", "save")), (pickle, ("load", "loads", "dump", "dumps", "Unpickler"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    carried_out(short, tmp_path, [LATE])
    files = sorted(file.name for file in (tmp_path / "0").iterdir())
    assert files == ["best.safetensors", "model.safetensors", "rest.safetensors", "state.json"]


FILES = ("model.safetensors", "best.safetensors", "rest.safetensors", "state.json")


@pytest.fixture
def state(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "state")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_one_flipped_bit_is_noticed(state, name, place):
    content = bytearray((state / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (state / name).write_bytes(content)
    with pytest.raises(StateDamaged, match=rf"{name}: (is not what was saved|cannot be read)"):
        read_state(state)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_cut_is_noticed(state, name):
    content = (state / name).read_bytes()
    for rest in (content[:-2], content[: len(content) // 2], b""):
        (state / name).write_bytes(rest)
        with pytest.raises(StateDamaged, match=rf"{name}: (is not what was saved|cannot be read)"):
            read_state(state)
    (state / name).unlink()
    with pytest.raises(StateDamaged, match=f"{name}: cannot be read"):
        read_state(state)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "{}", '{"sha256": "0"}', "\xff"])
def test_json_that_is_no_state_is_damage_and_no_traceback(state, text):
    (state / "state.json").write_text(text, encoding="latin-1")
    with pytest.raises(StateDamaged, match=r"state.json: (is not what was saved|cannot be read)"):
        read_state(state)


@pytest.mark.parametrize("values", [None, [], {"dict": []}, {"dict": [[1]]}, {"os.system": "true"}, {"tensor": "x"}])
def test_values_that_are_no_state_are_damage_too(state, values):
    """Even where somebody made the digest fit."""
    forged(state, values=values)
    with pytest.raises(StateDamaged, match=r"state.json: is no saved state"):
        read_state(state)


def test_a_state_of_other_versions_is_not_used(state):
    """Its numbers may mean something else there."""
    forged(state, made_with={"format": "1", "torch": "1.0", "transformers": "4.0"})
    with pytest.raises(StateDamaged, match=r"saved with other versions: .*4\.0"):
        read_state(state)


def forged(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "state.json").read_text())
    del content["sha256"]
    content |= changes
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / "state.json").write_text(json.dumps({"sha256": digest, **content}))


def test_a_folder_that_cannot_be_written_is_named(short, tmp_path):
    with pytest.raises(FolderError, match=r"missing/state/state.json: cannot be written \(No such file"):
        interrupted(short, LATE, tmp_path / "missing" / "state")


def test_a_disk_that_takes_no_more_is_named(short, tmp_path):
    """A limit on the size of files stands for a full disk: the library has an error of its own for both."""
    tuning = interrupted(short, LATE, tmp_path / "state")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(FolderError, match=r"again/model.safetensors: cannot be written \(.*File too large"):
            tuning.save_state(tmp_path / "again")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_random_numbers_of_every_generator_come_back():
    before = rng_state.captured()
    numbers = drawn()
    rng_state.restore(tensor_json.join(*tensor_json.split(before)))
    assert drawn() == numbers


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
tensors = st.lists(st.floats(width=32), max_size=3).map(torch.tensor) | st.integers(-9, 9).map(torch.tensor)
keys = st.integers() | st.text(max_size=5) | st.tuples(st.integers())
nested = st.recursive(
    scalars | tensors,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=10,
)


@given(nested)
def test_nested_values_come_back_with_their_types_and_bits(value):
    plain, found = tensor_json.split(value)
    back = tensor_json.join(json.loads(json.dumps(plain, allow_nan=False)), found)
    assert shown(back) == shown(value)


def shown(value: Any) -> str:
    """Spell out a nested value: unlike equality, this tells 1 from True and 1.0, and NaN from nothing."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{list(value.shape)}{value.tolist()}"
    if isinstance(value, dict):
        return f"dict({[(shown(key), shown(item)) for key, item in value.items()]})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[shown(item) for item in value]})"
    return repr(value)


def test_what_is_neither_json_nor_tensor_is_refused():
    with pytest.raises(TypeError, match="set cannot be kept as JSON and tensors"):
        tensor_json.split({"optimizer": [{1, 2}]})
