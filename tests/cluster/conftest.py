"""Real clusters of one machine, and the projects whose sweeps run on them.

Each part of a cluster has a file of its own here, which knows how to start and stop it.
"""

from cluster.ray_cluster import ray
from cluster.slurm_cluster import slurm
from e2e.conftest import check_invariants, make_project, project, until

__all__ = ["check_invariants", "make_project", "project", "ray", "slurm", "until"]
