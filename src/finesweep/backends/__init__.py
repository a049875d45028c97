"""Proposes hyperparameters and calls ``hyperparameter_search``, through Optuna or Ray Tune.

A backend is a package here and a line in ``registry.BACKENDS``; ``protocol`` defines its interface. Backends never
train: ``worker`` does, and its trials write their records. Only the Ray backend writes some itself: those of trials
that Ray stopped before they could. Backends are imported by their path, since they import Optuna or Ray.
"""
