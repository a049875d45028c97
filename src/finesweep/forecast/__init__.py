"""Estimates how much work a sweep is, and how long what is left of it takes."""
