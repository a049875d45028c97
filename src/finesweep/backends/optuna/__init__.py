"""Searches with Optuna: its samplers, its pruners, and a study made of a sweep's trials.

Nothing here is kept: a study exists in memory only, for as long as its process.
"""
