"""Starts workers where a launch profile says: on this machine, on Slurm, on Ray; and ends them.

A launcher is a module or a package here, with its lines in ``registry``. Launchers know command lines, processes and
jobs. They know nothing of a worker's tasks, and decide nothing about trials. ``deadlines`` states how long each process
has to stop, whatever starts it.
"""

from finesweep.launch.profile import Profile, SettledProfile, of_run
from finesweep.launch.protocol import Handle, Order, Submission, Submitter
from finesweep.launch.run_limits import RunLimits

__all__ = [
    "Handle",
    "Order",
    "Profile",
    "RunLimits",
    "SettledProfile",
    "Submission",
    "Submitter",
    "of_run",
]
