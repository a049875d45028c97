"""The precision that is in force: what is asked for, else what the hardware has, and never an emulation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from finesweep.errors import SweepError

pytestmark = pytest.mark.torch

Hardware = Callable[..., None]


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    """Replace what torch says of the machine: a GPU of NVIDIA, of AMD or of Apple, or instructions of the CPU."""
    import torch

    def pretend(gpu: tuple[int, int] | None = None, *, amd: bool = False, apple: bool = False, cpu: str = "") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None or amd)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu or pytest.fail("no NVIDIA GPU"))
        monkeypatch.setattr(torch.version, "hip", "6.4" if amd else None)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {cpu: True, "amx_bf16": cpu == "amx_bf16"})

    return pretend


@pytest.mark.parametrize("gpu", [(7, 0), (7, 5), (8, 0), (8, 9), (10, 0)])
@pytest.mark.parametrize(
    "asked", [{}, {"bf16": False}, {"fp16": True}, {"tf32": False}, {"fp16": True, "bf16": False, "tf32": False}]
)
def test_gpu_never_has_two_half_precisions_nor_an_emulated_one(hardware: Hardware, gpu: Any, asked: Any) -> None:
    from finesweep.training import precision

    hardware(gpu)
    found = {**asked, **precision.settled(asked, None)}
    assert not (found["bf16"] and found.get("fp16"))
    assert gpu >= (8, 0) or not (found["bf16"] or found["tf32"])
    assert {name: found[name] for name in asked} == asked, "what is asked for stays"


@pytest.mark.parametrize("machine", [{"amd": True}, {"apple": True}])
def test_gpus_of_other_makers_are_left_to_the_library(hardware: Hardware, machine: Any) -> None:
    from finesweep.training import precision

    hardware(**machine)
    assert precision.settled({}, 768) == {}
    assert precision.settled({"bf16": True}, 768) == {}
    assert precision.settled({"use_cpu": True}, 768) == {"bf16": False}


def test_gpu_of_amd_has_what_it_is_asked_for(hardware: Hardware) -> None:
    from finesweep.training import precision

    hardware(amd=True)
    assert precision.gpu_is_native()
    assert precision.for_evaluation({"tf32": True})["tf32"] is True


@pytest.mark.parametrize(
    ("width", "asked", "bf16"),
    [
        (128, {}, True),
        (127, {}, False),
        (None, {}, True),
        (1, {"bf16": True}, True),
        (768, {"bf16": False}, False),
        (768, {"fp16": True}, False),
        (768, {"fp16": False}, True),
    ],
)
def test_wide_model_on_a_cpu_with_bf16_uses_it(hardware: Hardware, width: Any, asked: Any, bf16: bool) -> None:
    from finesweep.training import precision

    hardware(cpu="avx512_bf16")
    found = precision.settled(asked, width)
    assert found == ({"bf16": True, "use_cpu": True} if bf16 else {"bf16": False})


@pytest.mark.parametrize(("cpu", "has"), [("sve_bf16", True), ("amx_bf16", True), ("bf16", False), ("avx2", False)])
def test_cpu_without_enough_instructions_is_refused_bf16(hardware: Hardware, cpu: str, has: bool) -> None:
    from finesweep.training import precision

    hardware(cpu=cpu)
    assert precision.cpu_has_bf16() is has
    if has:
        precision.refuse_emulation({"bf16": True})
    else:
        with pytest.raises(SweepError, match="this CPU only emulates bf16"):
            precision.refuse_emulation({"bf16": True})
    precision.refuse_emulation({"bf16": False})


def test_cpu_is_refused_bf16_also_beside_a_gpu_that_is_not_used(hardware: Hardware) -> None:
    from finesweep.training import precision

    hardware((9, 0), cpu="avx2")
    precision.refuse_emulation({"bf16": True})
    with pytest.raises(SweepError, match="this CPU only emulates bf16"):
        precision.refuse_emulation({"bf16": True, "use_cpu": True})


@pytest.mark.parametrize(
    ("device", "bf16", "multiple"), [("cuda", False, 8), ("cuda", True, 8), ("cpu", True, 4), ("cpu", False, 1)]
)
def test_width_of_batches_is_rounded_where_it_pays(device: str, bf16: bool, multiple: int) -> None:
    from finesweep.training import precision

    assert precision.multiple(SimpleNamespace(device=SimpleNamespace(type=device), bf16=bf16)) == multiple


def test_winner_is_evaluated_with_the_tf32_of_its_record_alone(hardware: Hardware) -> None:
    from finesweep.training import precision

    hardware((9, 0))
    assert precision.for_evaluation({"tf32": True, "fp16": True})["tf32"] is True
    assert precision.for_evaluation({"bf16": True}) == {"bf16": False, "fp16": False, "tf32": False}
    hardware(None)
    assert "tf32" not in precision.for_evaluation({"tf32": True}), "the library refuses it without a GPU"


def test_record_has_the_precision_that_arguments_name() -> None:
    from finesweep.training import precision

    assert precision.in_force(SimpleNamespace(bf16=False, fp16=True, tf32=None)) == {"bf16": False, "fp16": True}
