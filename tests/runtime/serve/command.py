"""The command line as a module: what the installed program does."""

import sys

from runtime.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
