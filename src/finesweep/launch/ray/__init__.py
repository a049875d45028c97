"""Starts workers on a Ray cluster, or submits a sweep to one, and watches both.

Searching with Ray Tune is ``backends.ray``.
"""
