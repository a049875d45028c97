"""Owns ``python -m finesweep``, the same as ``sweep``."""

from finesweep.cli import main

if __name__ == "__main__":
    main()
