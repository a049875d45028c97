"""Chooses the precision of a trial: if its spec leaves it open, the fastest that the hardware supports.

It is looked up, never timed: a timing could differ from trial to trial. Hardware that only emulates bf16 is many times
slower with it than with single precision. Call this only in a process that may use the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from finesweep.errors import SweepError
from finesweep.trial import Value

NATIVE = (8, 0)
"""Compute capability from which an NVIDIA GPU has bf16 and tf32; on older ones torch emulates them."""

CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16")
"""Instructions that multiply bf16 numbers in hardware. ARM's ``bf16`` alone is not enough: it has too few of them."""

KINDS = ("bf16", "fp16", "tf32")

LEAST_WIDTH = 128
"""Minimum hidden size for bf16 on a CPU. Time of a step with bf16, relative to single precision: 1.1 at a width of 64,
0.75 at 128, 0.45 at 256, 0.4 at 384 (16 short texts, AVX-512 BF16, one thread)."""

GPU_MULTIPLE, CPU_MULTIPLE = 8, 4
"""Multiples to which the width of batches is rounded up. GPUs multiply matrices of such sizes faster. On a CPU, bf16 is
compiled for each width: forty different widths took 160 MB more memory than ten."""


def settled(training: Mapping[str, Value], width: int | None) -> dict[str, Value]:
    """Return the training arguments that set the precision in force here.

    Args:
        training: The trial's training arguments. ``bf16``, ``fp16`` and ``tf32`` stay as they are if they are set; the
            others follow from the hardware and the width.
        width: The model's hidden size; None, if its config has none, counts as wide.

    Raises:
        SweepError: The spec asks for a precision that this GPU does not have.
    """
    if torch.cuda.is_available() and not training.get("use_cpu"):
        return _on_gpu(training)
    if torch.backends.mps.is_available() and not training.get("use_cpu"):
        return {}
    pays = (width is None or width >= LEAST_WIDTH) and cpu_has_bf16()
    asked = training.get("bf16", pays and not training.get("fp16"))
    # Without a GPU the library takes bf16 for a mistake, unless use_cpu says that the CPU is meant.
    return {"bf16": True, "use_cpu": True} if asked else {"bf16": False}


def _on_gpu(training: Mapping[str, Value]) -> dict[str, Value]:
    if torch.version.hip:
        return {}
    native = gpu_is_native()
    for name in ("bf16", "tf32"):
        if training.get(name) and not native:
            raise SweepError(f"fixed.{name}: this GPU has no {name} and could only emulate it; remove it")
    return {
        "bf16": training.get("bf16", native and not training.get("fp16")),
        "tf32": training.get("tf32", native),
    }


def multiple(arguments: Any) -> int:
    """Return the multiple to which the width of batches is rounded up, given a Trainer's arguments."""
    if arguments.device.type == "cuda":
        return GPU_MULTIPLE
    return CPU_MULTIPLE if arguments.bf16 else 1


def gpu_is_native() -> bool:
    """Return whether the GPU of this process has bf16 and tf32; starts CUDA."""
    return bool(torch.version.hip) or torch.cuda.get_device_capability() >= NATIVE


def cpu_has_bf16() -> bool:
    """Return whether this CPU has instructions that multiply bf16 numbers."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in CPU_INSTRUCTIONS)


def refuse_emulation(training: Mapping[str, Value]) -> None:
    """Raise SweepError if trials on this machine's CPU would compute in emulated bf16.

    This touches no GPU; a trial checks its GPU after it has started CUDA.
    """
    on_cpu = bool(training.get("use_cpu")) or not torch.cuda.is_available()
    if on_cpu and training.get("bf16") and not cpu_has_bf16():
        raise SweepError("fixed.bf16: this CPU only emulates bf16, which takes many times as long; remove it")


def in_force(arguments: Any) -> dict[str, Value]:
    """Return the precision that a Trainer's arguments turn on, by the names that a spec uses."""
    found = {name: getattr(arguments, name) for name in KINDS}
    return {name: value for name, value in found.items() if value is not None}


def for_evaluation(recorded: Mapping[str, Value]) -> dict[str, Value]:
    """Return the training arguments for evaluating a model as it was ranked: in single precision.

    Args:
        recorded: The settings in the trial's record. A GPU's tf32 rounds the factors of single precision.
    """
    tf32 = {"tf32": bool(recorded.get("tf32")) and gpu_is_native()} if torch.cuda.is_available() else {}
    return {"bf16": False, "fp16": False, **tf32}
