"""Hyperparameter sweeps for transformers: a ranked leaderboard, the winner, and the evidence for it."""

__version__ = "0.1.0"
