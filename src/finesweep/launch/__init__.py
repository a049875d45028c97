"""Starts workers: on this machine, on Slurm, on Ray, as a launch profile says."""
