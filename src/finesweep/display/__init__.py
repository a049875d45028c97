"""Shows the progress of a sweep: live while it runs, or from its folder.

Nothing here changes a sweep.
"""
