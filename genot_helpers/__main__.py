"""Command line: `python -m genot_helpers run 01` is `genot run 01`, see genot_runner."""

import sys

from genot_runner.command_line import start

if __name__ == "__main__":
    sys.exit(start())
