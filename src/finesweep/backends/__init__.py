"""Owns what a backend is: who proposes hyperparameters, and how ``hyperparameter_search`` is called.

A backend is one file here and one line in ``finesweep.registry.BACKENDS``.
"""
