"""Runs trials: a worker claims them one by one, forks a process for each, and records how it ended.

It never writes the leaderboard or the winner, and never starts another worker: the command does that. A worker and the
command that started it share only the folder. Everything here imports torch, so it is imported by its path, inside
functions.
"""
