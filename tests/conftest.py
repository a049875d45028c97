"""Sets what every test relies on, however busy the machine is and whatever test ran before it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cluster.ray_cluster import ray

__all__ = ["ray"]  # one cluster for the tests of several folders

# Hypothesis fails an example that takes longer than 0.2 s, which any example may on a busy machine.
settings.register_profile("finesweep", deadline=None)
settings.load_profile("finesweep")

# Ray runs its actors at niceness 15. Beside another test that trains they would wait most of the time.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray spells it so


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the signals back that a test leaves ignored: a shell that a later test starts could not trap them."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
