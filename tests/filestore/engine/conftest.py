"""What tests of the engine begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a store's directory is to be made."""
    return tmp_path / "data"


@pytest.fixture
def disk() -> StagedDisk:
    """A disk that does what a test says."""
    return StagedDisk()
