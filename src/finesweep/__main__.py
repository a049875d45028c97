"""Runs ``sweep``, also as ``python -m finesweep``, with the current folder off the import path."""

# No other import is allowed here, not even from __future__: the current folder may still come first.
import sys


def main() -> None:
    """Take the current folder off the import path, then import and run the command line."""
    from finesweep.host.python_process import keep_out_current_folder

    keep_out_current_folder()

    from finesweep.cli import main as run_command

    run_command()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `python -m` puts there
    main()
