"""Makes the environment and command line of Python child processes; keeps the current folder out of imports."""

from __future__ import annotations

import os
import sys

THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables from which the libraries under torch and numpy take their thread count, once, when they are loaded."""

SAFE_IMPORTS = {"PYTHONSAFEPATH": "1"}
"""Keeps a process and its children from importing modules of the current folder."""

NO_KERNELS = {"USE_HUB_KERNELS": "0"}
"""Keeps a process that makes a model from fetching kernels from the Hub: they are code, and a config can name one."""

SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Variables with a list of folders for programs, modules and libraries.

An empty entry means the current folder. It is there by mistake: ``export PATH=$PATH:/mine`` leaves one if ``PATH`` was
empty. Named folders stay, since the user wants them."""

LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120
"""Folder of Python's standard library. It is on every import path, so it adds nothing if it is the current folder."""

FOR_TRAINING = {
    **SAFE_IMPORTS,
    **NO_KERNELS,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Asking for GPUs through NVML leaves CUDA untouched, so that a forked trial can still start it.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Environment of every process that trains or evaluates."""

_LIBRARIES = ("finesweep", "transformers", "torch", "datasets", "accelerate", "optuna", "ray", "tokenizers")

UNLESS_SET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Environment of such processes, unless the user sets it. A spinning thread takes the core that other threads wait for:
on a busy machine a trial with two threads ran 15 times slower with GNU OpenMP's default."""


def keep_out_current_folder() -> None:
    """Keep programs and modules of the current folder out of this process and its children."""
    named = _folders(os.environ.get("PYTHONPATH", ""))
    if "" in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        sys.path[:] = [folder for folder in sys.path if folder in named or not _is_current(folder)]
    os.environ.update(own_environment())


def own_environment() -> dict[str, str]:
    """Return this process's environment for a Python child process, without the current folder.

    Relative folders become absolute, because Ray starts processes in another folder.
    """
    searched = {name: os.pathsep.join(_folders(os.environ[name])) for name in SEARCHED if os.environ.get(name)}
    return {**os.environ, **searched, **SAFE_IMPORTS, **NO_KERNELS}


# These two import no module, since the current folder may still be on the import path.
def _folders(python_path: str) -> list[str]:
    return [os.path.abspath(folder) for folder in python_path.split(os.pathsep) if folder]  # noqa: PTH100


def _is_current(folder: str) -> bool:
    try:
        return os.path.samefile(folder, ".")  # noqa: PTH121
    except OSError:
        return False


def child_environment(
    device: str | None = None, threads: int | None = None, *, all_devices: bool = False
) -> dict[str, str]:
    """Return this process's environment, changed for a child that trains or evaluates.

    The child is offline, sees one device, and starts no threads early.

    Args:
        device: The one GPU that the child sees, as ``CUDA_VISIBLE_DEVICES`` names it; empty for none, None for the
            first that this process sees.
        threads: Number of CPU threads; None for the number in this process's environment.
        all_devices: Whether the child sees all devices of this process, because it only distributes them.
    """
    environment = own_environment()
    environment.update(FOR_TRAINING)
    environment.update({name: environment.get(name, value) for name, value in UNLESS_SET.items()})
    if device is not None and "CUDA_VISIBLE_DEVICES" not in environment:
        # The device was counted by nvidia-smi, in this order; CUDA by itself puts the fastest first.
        environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # Several visible GPUs would silently turn on DataParallel and change the batch size.
    if not all_devices:
        first = environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        environment["CUDA_VISIBLE_DEVICES"] = first if device is None else device
    if threads is not None:
        environment.update(dict.fromkeys(THREAD_COUNTS, str(threads)))
    return environment


def own_command(*arguments: str, python: str | None = None, module: str = "finesweep") -> list[str]:
    """Return the command line of a finesweep process that imports nothing from the current folder.

    Every Python process of finesweep is started with such a command line and with an environment of this module.

    Args:
        arguments: Arguments after the module's name.
        python: The interpreter; None for the running one.
        module: The module to run.
    """
    return [python or sys.executable, "-P", "-m", module, *arguments]


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the libraries, for a run's file."""
    # Imported here: this module is loaded while the current folder may still be on the import path.
    import importlib.metadata
    import platform

    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "platform": platform.platform(), **libraries}
