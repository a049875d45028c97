"""Runs trials: one process that claims them and forks for each."""
