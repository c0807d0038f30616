"""Creating streams: what it asks of the disk, and what it says when the disk does not answer."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.engine.engine import Engine
from durable_streams.errors import Unavailable
from durable_streams.protocol.commands import Create
from durable_streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEXT = "text/plain"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = await Engine.open(tmp_path / "data", Settings())
    yield engine
    await engine.close()


async def test_creates_of_one_turn_look_at_the_disk_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, jobs = engine._core.executor, []
    submit = executor.submit

    def noted(function: Any, *arguments: Any) -> Any:
        jobs.append(function)
        return submit(function, *arguments)

    monkeypatch.setattr(executor, "submit", noted)
    created = await asyncio.gather(
        *(engine.create(Create(f"s/{number}", TEXT), b"") for number in range(20))
    )
    assert all(one.created for one in created)
    assert len([job for job in jobs if job == engine._core.catalog._are_on_disk]) == 1


async def test_a_stream_that_is_only_on_the_disk_is_found_by_a_create(tmp_path: Path) -> None:
    for created in (True, False):
        engine = await Engine.open(tmp_path / "data", Settings())
        assert (await engine.create(Create("s", TEXT), b"")).created == created
        await engine.close()


async def test_nothing_is_created_while_the_data_directory_is_away(
    engine: Engine, tmp_path: Path
) -> None:
    shutil.move(tmp_path / "data", tmp_path / "away")
    with pytest.raises(Unavailable):
        await engine.create(Create("s", TEXT), b"")
    shutil.move(tmp_path / "away", tmp_path / "data")
    assert (await engine.create(Create("s", TEXT), b"")).created
