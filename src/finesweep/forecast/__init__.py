"""Estimates how much work a sweep is, and how long what is left of it takes.

A sweep is simulated with its own pruning rule; no library knows that rule. It proposes nothing and reads no folder.
"""
