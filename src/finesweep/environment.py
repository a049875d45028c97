"""Owns the environment of a process that trains or evaluates on one device of this machine."""

from __future__ import annotations

import os


def child_environment() -> dict[str, str]:
    """Return this process's environment, changed for a child that trains or evaluates.

    It is offline, sees one device, and starts no threads early.
    """
    environment = dict(os.environ)
    environment.update(
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        # Asking for GPUs through NVML leaves CUDA untouched, so that a forked trial can still start it.
        PYTORCH_NVML_BASED_CUDA_CHECK="1",
        PYTHONUNBUFFERED="1",
        # A spinning thread takes the core that the other ones wait for: on a busy machine a trial with two
        # threads ran 15 times slower with GNU OpenMP's default.
        OMP_WAIT_POLICY=environment.get("OMP_WAIT_POLICY", "PASSIVE"),
        GOMP_SPINCOUNT=environment.get("GOMP_SPINCOUNT", "0"),
        # Several visible GPUs would silently turn on DataParallel and change the batch size.
        CUDA_VISIBLE_DEVICES=environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
    )
    return environment
