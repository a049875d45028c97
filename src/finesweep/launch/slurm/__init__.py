"""Submits a sweep to Slurm: its profile, its batch scripts, and the state of its jobs in the queue."""
