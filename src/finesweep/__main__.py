"""Runs ``sweep``, also as ``python -m finesweep``, with the current folder off the import path."""

# Nothing else may be imported here, not even from __future__, while the current folder may come first.
import sys


def main() -> None:
    """Run the command line; what it needs is imported once the current folder is out of the way."""
    from finesweep.host.python_process import keep_out_current_folder

    keep_out_current_folder()

    from finesweep.cli import main as run_command

    run_command()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `python -m` puts there
    main()
