"""Starts workers on a Ray cluster, or submits a sweep to one, and watches both.

The search with Ray Tune is in ``backends.ray``.
"""
