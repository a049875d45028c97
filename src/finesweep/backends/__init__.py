"""Proposes hyperparameters and calls ``hyperparameter_search``, through Optuna or Ray."""
