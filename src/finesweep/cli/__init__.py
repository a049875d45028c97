"""Defines the command line: ``sweep`` and its subcommands, their options, what they print, their exit codes.

A command turns its options into a request, calls ``sweep``, ``display``, ``results`` or ``propose``, and prints the
result. The hidden commands are processes that finesweep starts itself, as ``sweep worker``. Nothing is decided here.
"""

from finesweep.cli.command_line import main

__all__ = ["main"]
