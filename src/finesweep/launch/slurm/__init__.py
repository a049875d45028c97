"""Submits a sweep to Slurm: its profile, its batch scripts, and what the queue says of its jobs."""
