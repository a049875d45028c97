"""Searches with Ray Tune: trials run in actors of a cluster, and Ray's schedulers prune them.

Nothing of what Ray keeps is read again: the records say everything. No trial runs in the process that searches.
"""
