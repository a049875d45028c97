"""Starts workers on a Ray cluster, and submits sweeps to one."""
