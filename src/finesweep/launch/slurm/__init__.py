"""Submits a sweep to Slurm: its profile, its batch scripts, and the state of its jobs in the queue.

Slurm is asked with its own commands, never through a library. Nothing here stays with the jobs: they run without the
command.
"""
