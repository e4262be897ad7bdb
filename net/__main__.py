"""Run the command line: ``python -m net``."""

import sys

from net.cli import main

if __name__ == "__main__":
    sys.exit(main())
