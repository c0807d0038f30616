"""Patroni, where clocks differ: ``python patroni_ahead.py SECONDS CONFIGURATION``.

PostgreSQL writes down when it was started, and Patroni takes it for somebody else's process if the
kernel says otherwise.  What the kernel says (``btime`` in ``/proc/stat``) goes by its own clock, so
that is made to differ here, as it does on a machine with such a clock.

Runs in Patroni's environment, which has nothing of ours.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main(ahead_s: float) -> None:
    linux: Any = importlib.import_module("psutil._pslinux")
    kernels = linux.boot_time
    linux.boot_time = lambda: kernels() + ahead_s
    importlib.import_module("patroni.__main__").main()


if __name__ == "__main__":
    main(float(sys.argv.pop(1)))
