"""Runs trials: a worker claims them one by one, forks a process for each, and records how it ended.

It meets the command that started it in the folder alone. Everything here imports torch, so it is imported by its path,
inside functions.
"""
