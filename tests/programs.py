"""Programs of other people that the tests run, which ``scripts/setup programs`` installs."""

from __future__ import annotations

import os
import shutil
from typing import Final

TESTED_WITH: Final = {
    "rsync": "backups with it were",
    "chromium": "browsers were",
    "nginx": "browsers behind it, and it as a cache, were",
    "varnishd": "it as a cache was",
}
"""What is left out without each of them."""


def find_program(name: str) -> str | None:
    """Where a program is, also one that only root's ``PATH`` has."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
