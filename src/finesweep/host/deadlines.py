"""States how long each process has to stop, and the order in which these times must stand.

A process that waits for another one waits longer than that one takes. So the times grow from the inside out::

    trial < worker < command + killed <= Slurm's signal < Ray's job < sweep cancel

A trial saves its state, its worker waits for it, the command waits for its workers and then writes the leaderboard,
and the cluster waits for the command. ``ORDER`` lists them, and a test compares them.
"""

from __future__ import annotations

TRIAL_SECONDS = 25.0
"""Seconds that a trial has to end its step and save its state; Slurm gives 30 by default."""

WORKER_SECONDS = 35.0
"""Seconds that workers have to stop once the command that watched them is gone."""

COMMAND_SECONDS = 40.0
"""Seconds that the command gives its workers to stop before it kills them."""

KILLED_SECONDS = 3.0
"""Seconds that the command waits for killed workers to be gone; one that hangs in the system is left behind."""

SLURM_SECONDS = 45
"""Least seconds between Slurm's signal and its time limit."""

RAY_JOB_SECONDS = 60
"""Seconds that Ray gives a job to stop its workers and write the leaderboard. Ray's own default is 3."""

CANCEL_SECONDS = 70.0
"""Seconds that ``sweep cancel`` waits for a job of Ray to end."""

ORDER = (
    TRIAL_SECONDS,
    WORKER_SECONDS,
    COMMAND_SECONDS,
    COMMAND_SECONDS + KILLED_SECONDS,
    SLURM_SECONDS,
    RAY_JOB_SECONDS,
    CANCEL_SECONDS,
)
"""All of them, the innermost first; each is more than the one before."""
