"""Finds out what this machine and its processes are: cores, memory, GPUs, signals, and how Python is started."""
