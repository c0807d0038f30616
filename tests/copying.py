"""Copies of a data directory in use: what a killed process leaves behind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def copy_live(source: Path, target: Path) -> Path:
    """Copy a tree while files go from it, as those of deleted streams do."""
    try:
        shutil.copytree(source, target)
    except shutil.Error as error:
        for _, _, reason in error.args[0]:
            assert "No such file" in reason, reason
    return target
