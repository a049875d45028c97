"""Proposes hyperparameters and calls ``hyperparameter_search``, through Optuna or Ray Tune.

A backend is a folder here and a line in ``registry.BACKENDS``; ``protocol`` defines its interface. Backends never train
and never write records: ``worker`` does. They are imported by their path, since they import Optuna or Ray.
"""
