"""Makes the environment of the Python processes that finesweep starts, and keeps the current folder out of imports."""

from __future__ import annotations

import os
import sys

THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Where the libraries under torch and numpy look for their number of threads, once, when they are loaded."""

SAFE_IMPORTS = {"PYTHONSAFEPATH": "1"}
"""Keeps a process, and all that it starts, from importing what lies in the current folder."""

NO_KERNELS = {"USE_HUB_KERNELS": "0"}
"""Keeps a process that makes a model from fetching kernels from the Hub: they are code, and a config can name one."""

SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Lists of folders that programs, modules and libraries are taken from.

An empty entry means the current folder, and is there by mistake: ``export PATH=$PATH:/mine`` leaves one where ``PATH``
was empty. What is named is what the user wants.
"""

LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120
"""Folder of Python's own library, which stands on every import path already: a current folder that adds nothing."""

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
"""What a process that trains or evaluates has in its environment, whoever starts it."""

_LIBRARIES = ("finesweep", "transformers", "torch", "datasets", "accelerate", "optuna", "ray", "tokenizers")

UNLESS_SET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""The same, where the user says nothing else. A spinning thread takes the core that the other ones wait for: on a
busy machine a trial with two threads ran 15 times slower with GNU OpenMP's default."""


def keep_out_current_folder() -> None:
    """Run and import nothing from the current folder, in this process and in all that it starts."""
    named = _folders(os.environ.get("PYTHONPATH", ""))
    if "" in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        sys.path[:] = [folder for folder in sys.path if folder in named or not _is_current(folder)]
    os.environ.update(own_environment())


def own_environment() -> dict[str, str]:
    """Return this process's environment for another Python process: it takes nothing from the current folder.

    Folders that are named by a relative path get an absolute one, since Ray starts processes in another folder.
    """
    searched = {name: os.pathsep.join(_folders(os.environ[name])) for name in SEARCHED if os.environ.get(name)}
    return {**os.environ, **searched, **SAFE_IMPORTS, **NO_KERNELS}


# Neither imports a module, which might still be taken from the current folder.
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

    It is offline, sees one device, and starts no threads early.

    Args:
        device: The one GPU that it sees, as ``CUDA_VISIBLE_DEVICES`` calls it; empty for none, None for
            the first that this process sees.
        threads: How many CPU threads it may use, None for what this process's environment says.
        all_devices: Whether it sees whatever this process sees, since it only shares the devices out.
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
    """Return a command line of finesweep's own, which imports nothing from the current folder.

    Every Python process that finesweep starts is started by one of these, and in an environment from
    ``finesweep.host.python_process``, which carries the same over to the processes that it starts itself.

    Args:
        arguments: What follows the module's name.
        python: The interpreter; None for the one that runs this.
        module: What it runs.
    """
    return [python or sys.executable, "-P", "-m", module, *arguments]


def versions() -> dict[str, str]:
    """Return the versions of Python, of the system and of the libraries, as a run's record has them."""
    # Imported here: this module is loaded while the current folder may still be on the import path.
    import importlib.metadata
    import platform

    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "platform": platform.platform(), **libraries}
