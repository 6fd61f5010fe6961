"""Command line of the notebooks: `python -m genot_runner run 01`."""

import sys

from .command_line import start

if __name__ == "__main__":
    sys.exit(start())
