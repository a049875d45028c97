"""Searches with Optuna: its samplers, its pruners, and its study of a sweep's trials."""
