"""Owns what precision a trial computes in: where its spec leaves that open, the fastest that the hardware has.

Looked up, never timed: a timing could come out otherwise in another trial. Hardware that only emulates bf16 takes
many times as long with it as with single precision. To be asked in a process that may use the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from finesweep.errors import SweepError
from finesweep.trial import Value

NATIVE = (8, 0)
"""Compute capability from which an NVIDIA GPU has bf16 and tf32; with older ones torch emulates them."""

CPU_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16")
"""Any of these is bf16 in hardware; ``bf16`` of ARM alone covers too few operations."""

KINDS = ("bf16", "fp16", "tf32")

LEAST_WIDTH = 128
"""Hidden size from which bf16 is worth it on a CPU. A step on 16 short texts takes, in bf16 against single precision,
1.1 times as long at a width of 64, 0.75 at 128, 0.45 at 256 and 0.4 at 384 (AVX-512 BF16, one thread)."""

GPU_MULTIPLE, CPU_MULTIPLE = 8, 4
"""What the width of batches is rounded up to. GPUs multiply matrices of such sizes faster; a CPU's bf16 is compiled for
each shape, and texts of forty lengths took 160 MB of memory more than their ten multiples of four."""


def settled(training: Mapping[str, Value], width: int | None) -> dict[str, Value]:
    """Return the training arguments that say what precision is in force here.

    Args:
        training: The trial's training arguments. Of ``bf16``, ``fp16`` and ``tf32`` those that are set stand as they
            are; the others follow from the hardware and the width.
        width: The model's hidden size, None where its config has none; that counts as wide.

    Raises:
        SweepError: The spec asks for what this GPU does not have.
    """
    if torch.cuda.is_available() and not training.get("use_cpu"):
        return _on_gpu(training)
    if torch.backends.mps.is_available() and not training.get("use_cpu"):
        return {}
    pays = (width is None or width >= LEAST_WIDTH) and cpu_has_bf16()
    asked = training.get("bf16", pays and not training.get("fp16"))
    # The library takes bf16 on a machine without a GPU for a mistake unless it is told that the CPU is meant.
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
    """Return what the width of batches is rounded up to, given a Trainer's arguments."""
    if arguments.device.type == "cuda":
        return GPU_MULTIPLE
    return CPU_MULTIPLE if arguments.bf16 else 1


def gpu_is_native() -> bool:
    """Say whether the GPU of this process has bf16 and tf32; starts CUDA."""
    return bool(torch.version.hip) or torch.cuda.get_device_capability() >= NATIVE


def cpu_has_bf16() -> bool:
    """Say whether this CPU multiplies bf16 numbers by instructions of its own."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in CPU_INSTRUCTIONS)


def refuse_emulation(training: Mapping[str, Value]) -> None:
    """Raise SweepError if trials on this machine's CPU were to compute in bf16 that it only emulates.

    Does not touch a GPU; what a trial asks of that is looked at when it has started it.
    """
    on_cpu = bool(training.get("use_cpu")) or not torch.cuda.is_available()
    if on_cpu and training.get("bf16") and not cpu_has_bf16():
        raise SweepError("fixed.bf16: this CPU only emulates bf16, which takes many times as long; remove it")


def in_force(arguments: Any) -> dict[str, Value]:
    """Return what precision a Trainer's arguments turn on, by the names that a spec uses."""
    found = {name: getattr(arguments, name) for name in KINDS}
    return {name: value for name, value in found.items() if value is not None}


def for_evaluation(recorded: Mapping[str, Value]) -> dict[str, Value]:
    """Return the training arguments with which a model is evaluated as it was ranked: in single precision.

    Args:
        recorded: The settings in the trial's record. A GPU's tf32 rounds what single precision multiplies.
    """
    tf32 = {"tf32": bool(recorded.get("tf32")) and gpu_is_native()} if torch.cuda.is_available() else {}
    return {"bf16": False, "fp16": False, **tf32}
