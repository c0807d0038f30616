"""Writers at full speed are slowed, not refused; `scripts/prove-pressure` does it for minutes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams import Settings
from tools.proofs.pressure import KIB, MIB, Load, in_library, over_http

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(
    segment_bytes=64 * KIB,
    max_append_bytes=512 * KIB,
    journal_file_bytes=2 * MIB,
    journal_files=8,
)
"""So small, with a disk so slow, that writers are held up all the time."""

WRITE_S: Final = 0.003
BODY_BYTES: Final = 8000
"""A few hundred fill a journal file, also where little is written in the time there is."""


@pytest.mark.needs("tar")
async def test_64_connections_get_nothing_but_2xx(data_dir: Path) -> None:
    seen = await over_http(data_dir, Load(SETTINGS, 2.0, BODY_BYTES, WRITE_S))
    assert seen.faults == []
    assert seen.checkpoints > 0
    assert seen.most["writers in line"] > 1


@pytest.mark.needs("tar")
async def test_50_library_producers_that_wait_are_never_refused(data_dir: Path) -> None:
    settings = replace(SETTINGS, held_up_s=math.inf)
    seen = await in_library(data_dir, Load(settings, 2.0, BODY_BYTES, WRITE_S))
    assert seen.faults == []
    assert seen.checkpoints > 0
    assert seen.most["writers in line"] > 1
