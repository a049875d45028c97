"""Measures how fast trials train here, and chooses how many share a GPU.

On cores the number follows from the machine (``launch.profile``). Training for a moment in forks of a warm worker is
ours: no library of ours shares a GPU out by throughput.
"""
