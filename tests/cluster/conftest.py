"""Real clusters of one machine, and the projects whose sweeps run on them.

Each part of a cluster has a file of its own here, which knows how to start and stop it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.slurm_cluster import slurm
from cluster.sweeps import BUDGET, RANDOM
from e2e.conftest import Project, check_invariants, filled, make_project, project, until
from shared import made_once

__all__ = ["check_invariants", "make_project", "project", "slurm", "until"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the sweep ``RANDOM`` as it is on this machine alone."""

    def sweep(folder: Path) -> None:
        filled(folder, RANDOM).sweep("run", "spec.yaml", *BUDGET, "--workers", "2", timeout=480)

    return Project(made_once(tmp_path_factory, "undisturbed", sweep))
