"""States how long each process has to stop, and the order of these times.

A process must wait longer than the process it waits for takes. So the times grow from the inside out::

    trial < move < worker < command + killed <= Slurm's signal < Ray's job < sweep cancel

A trial saves its state. Its worker waits for the trial and moves states from memory to disk. The command waits for its
workers and then writes the leaderboard, and the cluster waits for the command. ``ORDER`` lists the times, and a test
compares them.
"""

from __future__ import annotations

TRIAL_SECONDS = 25.0
"""Seconds in which a trial must end its step and save its state. Slurm gives 30 by default."""

MOVE_SECONDS = 30.0
"""Seconds after which a worker that stops moves no more states of waiting trials from memory to disk."""

WORKER_SECONDS = 35.0
"""Seconds in which workers must stop once their command is gone."""

COMMAND_SECONDS = 40.0
"""Seconds that the command gives its workers before it kills them."""

KILLED_SECONDS = 3.0
"""Seconds that the command waits for killed workers to end. A worker that hangs in the kernel is left behind."""

SLURM_SECONDS = 45
"""Minimum seconds between Slurm's signal and its time limit."""

RAY_JOB_SECONDS = 60
"""Seconds that Ray gives a job to stop its workers and write the leaderboard. Ray's default is 3."""

CANCEL_SECONDS = 70.0
"""Seconds that ``sweep cancel`` waits for a Ray job to end."""

ORDER = (
    TRIAL_SECONDS,
    MOVE_SECONDS,
    WORKER_SECONDS,
    COMMAND_SECONDS,
    COMMAND_SECONDS + KILLED_SECONDS,
    SLURM_SECONDS,
    RAY_JOB_SECONDS,
    CANCEL_SECONDS,
)
"""All of them, from the inside out; each is greater than the one before."""
