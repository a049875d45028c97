"""Submits sweeps to Slurm."""
