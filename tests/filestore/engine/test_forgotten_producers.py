"""Streams with as many producers as they can have: who is forgotten, in memory and in files."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.maintenance.findings import Finding, Level
from durable_streams.maintenance.verify import verify
from durable_streams.model.commands import Append, Create, ForkRequest, ProducerClaim
from durable_streams.model.errors import ProducerGap, StreamClosed, TooManyProducers
from durable_streams.model.paths import parse_path_text
from durable_streams.rules.producer_table import producer_bytes
from durable_streams.rules.producers import IDLE_MS, ProducerState
from durable_streams.settings import KIB, MIB, Settings
from tests.copying import copy_live
from tests.filestore.files.history import TIME_MS
from tools.inside import in_files, refuse_what_waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.model.results import Appended

BYTES: Final = "application/octet-stream"
DAY_MS: Final = IDLE_MS // 7
SETTINGS: Final = Settings(max_append_bytes=4 * KIB, journal_file_bytes=MIB + 8 * KIB)
SHORT: Final = replace(SETTINGS, segment_bytes=100)
"""With segments so short that producers are taken over from one to the next."""

MOST: Final = SETTINGS.journal_file_bytes // 4 // producer_bytes("0" * 250)


class Clock(Runtime):
    """The real machine, but for the time."""

    def __init__(self) -> None:
        super().__init__()
        self.time_ms = TIME_MS

    def now_ms(self) -> int:
        return self.time_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def opened(
    data: Path, clock: Clock, settings: Settings = SETTINGS
) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(data, settings, Disk(), clock)
    try:
        yield engine
    finally:
        await engine.close()


async def send(
    engine: FileStore,
    number: int,
    seq: int = 0,
    *,
    path: str = "s",
    epoch: int = 0,
    close: bool = False,
) -> Appended:
    claim = ProducerClaim(f"{number:0250}", epoch, seq)
    return await engine.append(Append(parse_path_text(path), BYTES, close, claim), b"x")


async def filled(engine: FileStore, path: str = "s") -> None:
    """A stream with as many producers as it can have."""
    await engine.create(Create(parse_path_text(path), BYTES), b"")
    await asyncio.gather(*(send(engine, number, path=path) for number in range(MOST)))


async def producers(engine: FileStore, path: str = "s") -> dict[str, ProducerState]:
    stream = await engine._find(parse_path_text(path))
    return dict(stream.producers.states)


async def found(data: Path) -> list[Finding]:
    findings: list[Finding] = []
    await asyncio.to_thread(verify, data, findings.append)
    return [finding for finding in findings if finding.level in (Level.WARNING, Level.DAMAGE)]


async def test_the_longest_idle_makes_room_and_nobody_else(data: Path, clock: Clock) -> None:
    async with opened(data, clock) as engine:
        await filled(engine)
        clock.time_ms += 1
        await asyncio.gather(*(send(engine, number, 1) for number in range(MOST) if number != 5))
        clock.time_ms += 9 * DAY_MS
        assert not (await send(engine, MOST)).duplicate
        known = await producers(engine)
        assert len(known) == MOST
        assert f"{5:0250}" not in known
        assert (await send(engine, 4, 1)).duplicate


async def test_nobody_is_forgotten_before_the_seven_days_are_over(data: Path, clock: Clock) -> None:
    async with opened(data, clock) as engine:
        await filled(engine)
        clock.time_ms += IDLE_MS
        before, known = (await engine.head(("s",))).tail, await producers(engine)
        with pytest.raises(TooManyProducers, match=rf"{MOST} producers .* 264192 bytes"):
            await send(engine, MOST)
        assert (await send(engine, 0)).duplicate
        assert (await engine.head(("s",))).tail == before
        assert await producers(engine) == known
        clock.time_ms += 1
        await send(engine, MOST)


async def test_a_forgotten_producer_is_an_unknown_one(data: Path, clock: Clock) -> None:
    """Its next number gets what the first of a new one must not be; a new start is taken."""
    async with opened(data, clock) as engine:
        await filled(engine)
        clock.time_ms += 1
        await asyncio.gather(*(send(engine, number, 1) for number in range(3, MOST)))
        clock.time_ms += 8 * DAY_MS
        for number in range(3):
            await send(engine, MOST + number)
        with pytest.raises(ProducerGap) as gap:
            await send(engine, 0, 1)
        assert (gap.value.expected, gap.value.received) == (0, 1)
        assert not (await send(engine, 1, 0, epoch=1)).duplicate
        again = await send(engine, 2, 0)  # what it had sent before: stored twice
        assert not again.duplicate


async def test_who_closes_the_stream_is_known_though_others_made_room(
    data: Path, clock: Clock
) -> None:
    async with opened(data, clock) as engine:
        await filled(engine)
        clock.time_ms += 8 * DAY_MS
        assert (await send(engine, MOST, close=True)).closed
    async with opened(data, clock) as engine:
        assert (await send(engine, MOST, close=True)).duplicate
        with pytest.raises(StreamClosed):
            await send(engine, 1)
        assert len(await producers(engine)) == MOST


@pytest.mark.parametrize("settings", [SETTINGS, SHORT], ids=["one segment", "many segments"])
@pytest.mark.parametrize("applied", [True, False], ids=["in the files", "in the journal"])
async def test_after_a_kill_and_a_restart_the_same_are_known(
    data: Path, clock: Clock, tmp_path: Path, settings: Settings, *, applied: bool
) -> None:
    async with opened(data, clock, settings) as engine:
        await filled(engine)
        await in_files(engine, "s")
        before = copy_live(data / "streams", tmp_path / "before")
        clock.time_ms += 8 * DAY_MS
        await asyncio.gather(*(send(engine, MOST + number) for number in range(150)))
        await asyncio.gather(*(send(engine, number, 1) for number in range(200, 250)))
        if applied:
            await in_files(engine, "s")
        known = await producers(engine)
        killed = copy_live(data, tmp_path / "killed")
    assert len(known) == MOST
    if not applied:
        shutil.rmtree(killed / "streams")
        before.rename(killed / "streams")
    clock.time_ms -= 365 * DAY_MS  # whatever the clock says by now
    for directory in (killed, data):
        async with opened(
            directory, clock, replace(settings, journal_file_bytes=4 * MIB)
        ) as engine:
            assert await producers(engine) == known
            await send(engine, 220, 2)
        assert await found(directory) == []


async def test_a_copy_of_a_stream_s_directory_knows_the_same(
    data: Path, clock: Clock, tmp_path: Path
) -> None:
    async with opened(data, clock, SHORT) as engine:
        await filled(engine)
        clock.time_ms += 8 * DAY_MS
        await asyncio.gather(*(send(engine, MOST + number) for number in range(10)))
        known = await producers(engine)
    elsewhere = tmp_path / "elsewhere"
    async with opened(elsewhere, clock, SHORT) as engine:
        pass
    home = names.directory_of(("s",))
    shutil.copytree(data / "streams" / home, elsewhere / "streams" / home)
    async with opened(elsewhere, clock, SHORT) as engine:
        assert await producers(engine) == known


async def test_forks_from_before_and_after_know_nobody_and_their_source_goes_on(
    data: Path, clock: Clock
) -> None:
    async with opened(data, clock, SHORT) as engine:
        await filled(engine)
        before = (await engine.head(("s",))).tail
        clock.time_ms += 8 * DAY_MS
        await asyncio.gather(*(send(engine, MOST + number) for number in range(120)))
        for name, fork in (
            ("early", ForkRequest(("s",), before)),
            ("late", ForkRequest(("s",))),
        ):
            await engine.create(Create(parse_path_text(name), None, fork=fork), b"")
            assert await producers(engine, name) == {}
            await send(engine, 7, path=name)
        known = await producers(engine)
        assert len(known) == MOST
    async with opened(data, clock, SHORT) as engine:
        assert await producers(engine) == known
        for name in ("early", "late"):
            assert list(await producers(engine, name)) == [f"{7:0250}"]
    assert await found(data) == []


async def test_who_was_forgotten_for_what_failed_is_known_again(data: Path, clock: Clock) -> None:
    async with opened(data, clock) as engine:
        await filled(engine)
        await in_files(engine, "s")  # or else who writes may have to wait in line
        stream = await engine._find(("s",))
        clock.time_ms += 8 * DAY_MS
        known = await producers(engine)
        tasks = [asyncio.ensure_future(send(engine, MOST + number)) for number in range(5)]
        await asyncio.sleep(0)
        assert len(known.keys() - stream.producers.states.keys()) == 5
        refuse_what_waits(engine, TooManyProducers(0, 0, 0))  # any error does
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await producers(engine) == known
        await send(engine, MOST)
        assert len(known.keys() - (await producers(engine)).keys()) == 1


async def test_a_stream_with_more_producers_than_it_may_have_by_now_goes_on(
    data: Path, clock: Clock
) -> None:
    async with opened(data, clock, replace(SETTINGS, journal_file_bytes=2 * MIB)) as engine:
        await engine.create(Create(("s",), BYTES), b"")
        await asyncio.gather(*(send(engine, number) for number in range(MOST + 100)))
    async with opened(data, clock, SETTINGS) as engine:
        assert (await send(engine, 3)).duplicate
        with pytest.raises(TooManyProducers):
            await send(engine, -1)
        clock.time_ms += 8 * DAY_MS
        for number in range(MOST + 100, MOST + 120):
            await send(engine, number)
        assert len(await producers(engine)) == MOST
