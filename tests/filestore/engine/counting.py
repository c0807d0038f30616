"""Limits of streams for tests, and how many directories of streams there really are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from tests.filestore.engine.faulty import SMALL_JOURNAL

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import Settings

PATIENT: Final = 1e6  # seconds that files may lag behind, as tests keep them from being written


def settings_of(*limits: str) -> Settings:
    return replace(SMALL_JOURNAL, max_streams=limits, max_lag_s=PATIENT)


def walked(data: Path, prefix: StreamPath) -> int:
    """How many directories of streams there are at and below a prefix."""
    streams = data / "streams"
    found = (names.path_of(str(path.relative_to(streams))) for path in streams.rglob("*@"))
    return sum(path is not None and path[: len(prefix)] == prefix for path in found)
