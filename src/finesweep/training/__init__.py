"""Trains one trial with transformers: its Trainer, callback, batches, precision, and the state it resumes from.

Everything here imports torch, so it is imported by its path, inside functions. Nothing here decides which trials run or
how they compare; rungs and early stopping come from ``pruning``.
"""
