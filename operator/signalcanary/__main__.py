"""``python -m signalcanary``."""

import sys

from signalcanary.cli import main

if __name__ == "__main__":
    sys.exit(main())
