"""The stores that keep the promises, each with a clock that the test moves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import pytest

from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.postgres import versions
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.settings import KIB, MIB, Settings
from tests.memory_store import MemoryStore, NeverNow
from tools.postgres_cluster import PostgresCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from durable_streams.store import Store

MAX_APPEND_BYTES: Final = 256 * KIB
"""Of every store here."""

PRODUCERS_BYTES: Final = 2 * KIB
"""What the producers of a stream may take in every store here."""

NOW_MS: Final = 1_764_000_000_000


class Clock:
    """The time of day, which only the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms

    def passes(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


class ClockedRuntime(Runtime):
    """The machine, at another time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.now_ms = clock  # type: ignore[method-assign]


class Limits(NamedTuple):
    """How many a store may have, as settings say it."""

    max_producers: int = 0
    max_streams: tuple[str, ...] = ()


NO_LIMITS: Final = Limits()


async def in_files(directory: Path, clock: Clock, limits: Limits = NO_LIMITS) -> Store:
    return await _in_files(directory, clock, limits, 16 * MIB)


async def in_short_files(directory: Path, clock: Clock, limits: Limits = NO_LIMITS) -> Store:
    """Every append is in a segment of its own."""
    return await _in_files(directory, clock, limits, 1)


async def _in_files(directory: Path, clock: Clock, limits: Limits, segment_bytes: int) -> Store:
    settings = Settings(
        max_append_bytes=MAX_APPEND_BYTES,
        segment_bytes=segment_bytes,
        journal_file_bytes=2 * MIB,
        **limits._asdict(),
    )
    tuning = Tuning(producers_bytes=PRODUCERS_BYTES)
    return await FileStore.at(directory, settings, runtime=ClockedRuntime(clock), tuning=tuning)


async def in_memory(_: Path, clock: Clock, limits: Limits = NO_LIMITS) -> Store:
    return _in_memory(MemoryStore, clock, limits)


async def in_memory_never_now(_: Path, clock: Clock, limits: Limits = NO_LIMITS) -> Store:
    return _in_memory(NeverNow, clock, limits)


def _in_memory(kind: type[MemoryStore], clock: Clock, limits: Limits) -> Store:
    return kind(
        clock,
        max_append_bytes=MAX_APPEND_BYTES,
        max_producers_bytes=PRODUCERS_BYTES,
        **limits._asdict(),
    )


async def in_postgres(url: str, clock: Clock, limits: Limits) -> Store:
    """In a database that is empty: its tables are made once, and emptied for each test."""
    await emptied(url)
    return await PostgresStore.at(
        url,
        Settings(
            max_append_bytes=MAX_APPEND_BYTES,
            store_allow_unreplicated=not STANDBYS,
            **limits._asdict(),
        ),
        now_ms=clock,
        producers_bytes=PRODUCERS_BYTES,
    )


async def emptied(url: str) -> None:
    """Have a database with tables and without streams."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "truncate ds.streams, ds.runs, ds.producers, ds.lanes, ds.graves, ds.holds"
        )
    except asyncpg.InvalidSchemaNameError:
        await versions.initialise(parse(url))
    finally:
        await connection.close()


STORES: Final[dict[str, Callable[[Path, Clock, Limits], Awaitable[Store]]]] = {
    "files": in_files,
    "short files": in_short_files,
    "memory": in_memory,
    "memory, never now": in_memory_never_now,
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits() -> Limits:
    """What limits the stores of a module; a test may have a parameter instead."""
    return NO_LIMITS


POSTGRES: Final = pytest.param("postgres", marks=[pytest.mark.needs("postgres")])


STANDBYS: Final = 2 if os.environ.get("DS_CONTRACT_WITH_STANDBYS") else 0
"""By hand: with them all of it takes longer, and what is promised of them is tried elsewhere."""


@pytest.fixture(scope="session")
def lone_postgres() -> Iterator[PostgresCluster]:
    """A primary alone, unless ``DS_CONTRACT_WITH_STANDBYS`` is set."""
    with PostgresCluster(STANDBYS, Path("/dev/shm"), has_links=False) as cluster:
        yield cluster


@pytest.fixture(params=[*STORES, POSTGRES])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, limits: Limits
) -> AsyncIterator[Store]:
    """A store without streams; closed at the end, whatever the test left in it."""
    if request.param == "postgres":
        cluster: PostgresCluster = request.getfixturevalue("lone_postgres")
        store = await in_postgres(cluster.primary.url(), clock, limits)
    else:
        store = await STORES[request.param](tmp_path / "data", clock, limits)
    yield store
    await store.close()
