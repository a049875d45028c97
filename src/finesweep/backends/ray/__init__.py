"""Searches with Ray Tune: trials run in actors of a cluster, and Ray's schedulers prune them."""
