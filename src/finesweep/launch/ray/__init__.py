"""Starts workers on a Ray cluster, or submits a sweep to one, and watches both.

Ray Jobs starts one job. It has no workers that a command stops, replaces and ends with itself, so these are actors. Its
client needs Ray on the submitting machine; the requests here need only Python. Nothing here searches: that is
``backends.ray``.
"""
