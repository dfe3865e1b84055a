"""`python -m cifar_report` is the command `cifar-report`."""

import sys

from cifar_report.cli import main

if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main())
