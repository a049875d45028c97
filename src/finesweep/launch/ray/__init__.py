"""Starts workers on a Ray cluster, and submits sweeps to one.

Workers are actors, not Ray jobs: a job needs the dashboard, cannot be asked for on a given node to look at the folder
there, and is killed seconds after it is told to stop (a setting of the head), before a trial has saved its state.
"""
