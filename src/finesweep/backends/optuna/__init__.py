"""Searches with Optuna: its samplers, its pruners, and a study made of a sweep's trials."""
