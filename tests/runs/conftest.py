"""Fixtures: runs on a directory, and on a server of one, and sources that a test leads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams.runs import Runs
from tests.client.conftest import QUICK, AnyStreams, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LEASE_S: Final = 0.3


class Led:
    """A source whose items a test gives, which notes what becomes of it."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[object] = asyncio.Queue()
        self.begun = 0
        self.closed = asyncio.Event()

    def give(self, *items: object) -> None:
        for item in items:
            self.items.put_nowait(item)

    async def __call__(self) -> AsyncIterator[object]:
        self.begun += 1
        try:
            while (item := await self.items.get()) is not None:
                yield item
        finally:
            self.closed.set()


class Refusing:
    """Streams that refuse what a test says: a verb at a path, and below it."""

    def __init__(self, streams: AnyStreams) -> None:
        self._streams = streams
        self._errors: list[tuple[str, str, str | None, Exception]] = []
        self.seen = asyncio.Event()

    def refuse(self, verb: str, path: str, error: Exception, *, but: str | None = None) -> None:
        self._errors.append((verb, path, but, error))

    def allow(self) -> None:
        self._errors.clear()

    def __getattr__(self, verb: str) -> Any:
        allowed = getattr(self._streams, verb)

        def asked(path: str = "", *args: Any, **named: Any) -> Any:
            for refused, below, but, error in self._errors:
                if verb == refused and path.startswith(below) and path != but:
                    self.seen.set()
                    raise error
            return allowed(path, *args, **named)

        return asked


@pytest.fixture(params=["directory", "server"])
async def streams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStreams]:
    """The streams that runs are in."""
    if request.param == "directory":
        async with durable_streams.open(tmp_path / "data") as opened:
            yield opened
        return
    async with (
        served(tmp_path / "data") as url,
        durable_streams.connect(url, retries=QUICK) as connected,
    ):
        yield connected


@pytest.fixture
async def runs(streams: AnyStreams) -> AsyncIterator[Runs]:
    """Runs of this process; its lease does not end within a test."""
    async with Runs(streams, drain_s=0) as opened:
        yield opened
