"""Shows how far a sweep is: live while it runs, or from its folder.

Nothing here changes a sweep.
"""
