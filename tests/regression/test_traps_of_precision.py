"""Trap 31: bf16 is fast where the hardware has it, and many times slower where it is emulated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finesweep.errors import SweepError
from finesweep.spec.sections import EvaluationSpec
from finesweep.training import precision
from finesweep.training.fine_tuning import FineTuning, TrialWatch
from finesweep.training.rehearsal import rehearse
from finesweep.trial import Direction

WIDE, NARROW = precision.LEAST_WIDTH, precision.LEAST_WIDTH - 1
AVX2, AVX512, AMX, ARM = {"avx2": True}, {"avx2": True, "avx512_bf16": True}, {"amx_bf16": True}, {"bf16": True}


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make believe in a GPU of some compute capability, or in a CPU that has certain instructions."""

    def pretend(gpu: tuple[int, int] | None = None, cpu: dict[str, bool] | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu or AVX2)

    return pretend


@pytest.mark.parametrize(
    ("gpu", "asked", "found"),
    [
        ((8, 0), {}, {"bf16": True, "tf32": True}),
        ((9, 0), {}, {"bf16": True, "tf32": True}),
        ((7, 5), {}, {"bf16": False, "tf32": False}),
        ((8, 6), {"bf16": False}, {"bf16": False, "tf32": True}),
        ((8, 6), {"fp16": True}, {"bf16": False, "tf32": True}),
        ((8, 6), {"tf32": False}, {"bf16": True, "tf32": False}),
        ((7, 5), {"fp16": True}, {"bf16": False, "tf32": False}),
    ],
)
def test_t31_a_gpu_computes_in_what_it_has(hardware, gpu, asked, found):
    hardware(gpu)
    assert precision.settled(asked, NARROW) == found


@pytest.mark.parametrize(("cpu", "has"), [(AVX2, False), (AVX512, True), (AMX, True), (ARM, False)])
def test_t31_bf16_is_chosen_only_where_the_cpu_has_it(hardware, cpu, has):
    hardware(cpu=cpu)
    assert precision.settled({}, WIDE)["bf16"] is has
    assert precision.settled({"bf16": False}, WIDE) == {"bf16": False}
    assert precision.settled({"fp16": True}, WIDE)["bf16"] is False


def test_t31_a_cpu_computes_a_narrow_model_in_single_precision_unless_told_otherwise(hardware):
    """There bf16 gains nothing, and its programs, one for each shape, take memory."""
    hardware(cpu=AVX512)
    assert precision.settled({}, NARROW) == {"bf16": False}
    assert precision.settled({"bf16": True}, NARROW)["bf16"] is True


def test_t31_a_gpu_that_is_not_to_be_used_is_not_asked(hardware):
    """The rehearsal comes before the fork, and a process that has started CUDA cannot be forked."""
    hardware(gpu=(8, 0))
    torch.cuda.get_device_capability = lambda: pytest.fail("started CUDA")
    assert precision.settled({"use_cpu": True}, WIDE)["bf16"] is False
    precision.refuse_emulation({"bf16": True})


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_t31_what_a_gpu_would_emulate_is_refused(hardware, name):
    hardware(gpu=(7, 5))
    with pytest.raises(SweepError, match=f"fixed.{name}: this GPU has no {name} and could only emulate it"):
        precision.settled({name: True}, WIDE)


def test_t31_what_a_cpu_would_emulate_is_refused_before_anything_is_trained(lab, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AVX2)
    spec = lab.spec.model_copy(update={"fixed": {"bf16": True}})
    with pytest.raises(SweepError, match=r"fixed.bf16: this CPU only emulates bf16.*remove it"):
        rehearse(lab.sweep_folder, lab.manifest, spec)


@pytest.mark.parametrize(("cpu", "hidden"), [(AVX2, WIDE), (AVX512, WIDE), (AVX512, 32)])
def test_what_was_in_force_is_on_record(lab, monkeypatch, cpu, hidden):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    watch = TrialWatch(Direction.MINIMIZE)
    tuning = FineTuning(lab.context({"model.hidden_size": hidden}), lab.scratch, watch, lambda *_: None, lambda _: None)
    assert watch.settled["bf16"] is tuning.trainer.args.bf16 is (cpu is AVX512 and hidden == WIDE)


@pytest.mark.parametrize("bf16", [False, True])
def test_batches_have_few_widths_where_each_is_compiled_for(lab, monkeypatch, bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AVX512)
    context = lab.context({"bf16": bf16})
    trainer = FineTuning(context, lab.scratch, TrialWatch(Direction.MINIMIZE), lambda *_: None, lambda _: None).trainer
    widths = {batch["input_ids"].shape[1] for batch in trainer.get_train_dataloader()}
    most = context.manifest.model.max_tokens
    assert all(width % precision.CPU_MULTIPLE == 0 or width == most for width in widths) is bf16


def test_training_rounds_and_evaluation_does_not(lab, monkeypatch):
    """Ranks of predictions that differ in their ninth bit would tie, and the winner, loaded again, be another."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AVX512)
    context = lab.context({"max_steps": 2, "bf16": True}, evaluation=EvaluationSpec(rows=8))
    tuning = FineTuning(context, lab.scratch, TrialWatch(Direction.MINIMIZE), lambda *_: None, lambda _: None)
    seen = []
    tuning.trainer.model.classifier.register_forward_hook(
        lambda head, _, output: seen.append((head.training, output.dtype))
    )
    tuning.train()
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}


def test_only_what_is_said_is_on_record():
    """Where there is no GPU, the library knows nothing of tf32."""
    assert precision.in_force(SimpleNamespace(bf16=True, fp16=False, tf32=None)) == {"bf16": True, "fp16": False}


@pytest.mark.parametrize(
    ("gpu", "recorded", "found"),
    [
        (None, {"bf16": True, "tf32": True}, {"bf16": False, "fp16": False}),
        ((8, 0), {"bf16": True, "tf32": True}, {"bf16": False, "fp16": False, "tf32": True}),
        ((7, 5), {"bf16": True, "tf32": True}, {"bf16": False, "fp16": False, "tf32": False}),
        ((8, 0), {"bf16": False}, {"bf16": False, "fp16": False, "tf32": False}),
    ],
)
def test_a_winner_is_verified_as_it_was_ranked(hardware, gpu, recorded, found):
    hardware(gpu, AVX512)
    assert precision.for_evaluation(recorded) == found
