"""``python -m durable_streams``."""

import sys

from durable_streams.cli import main

if __name__ == "__main__":
    sys.exit(main())
