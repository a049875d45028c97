"""Finds out what this machine and its processes are, and says how Python processes are started.

Cores, memory and GPUs are found without torch. Signals are received here; what follows from them is decided in
``sweep``. Nothing here knows what a sweep is.

This face imports nothing: ``__main__`` needs ``host.python_process`` before the current folder is off the import path.
"""
