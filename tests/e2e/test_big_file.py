"""A real file of 100 MB goes through the server, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tools.proofs.clients import Outages, Producer, Progress, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.server_process import ServerProcess

FILE_BYTES: Final = 100_000_000
PIECE_BYTES: Final = 500_000
CONTENT_TYPE: Final = "application/octet-stream"


@pytest.fixture(scope="session")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of Python's library, one after the other, up to 100 MB."""
    path = tmp_path_factory.mktemp("big") / "file"
    with path.open("wb") as file:
        while file.tell() < FILE_BYTES:
            for source in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
                file.write(source.read_bytes())
        file.truncate(FILE_BYTES)
    return path


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def send(path: Path, producer: Producer, progress: Progress) -> None:
    for piece in pieces_of(path):
        await producer.append(piece)
        progress.advance(len(piece))
    await producer.append(b"", close=True)
    progress.advance(1)


async def strike_at_each(shares: tuple[float, ...], outages: Outages, progress: Progress) -> None:
    for share in shares:
        await progress.past(int(FILE_BYTES * share))
        await outages.strike()


@pytest.mark.slow
@pytest.mark.parametrize(
    "strikes",
    [
        pytest.param((), id="undisturbed"),
        pytest.param((0.1, 0.25, 0.45, 0.6, 0.9), id="killed_five_times"),
    ],
)
async def test_three_readers_at_once_get_the_file_that_is_being_written(
    strikes: tuple[float, ...], server: ServerProcess, big_file: Path
) -> None:
    outages, progress = Outages(server), Progress()
    url = server.url("files/big")
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.put(url, headers={"Content-Type": CONTENT_TYPE}) as created:
            assert created.status == 201
        readers = [Reader(session, outages, url) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            group.create_task(readers[0].catch_up(progress))
            group.create_task(readers[1].long_poll())
            group.create_task(readers[2].sse())
            group.create_task(
                send(big_file, Producer(session, outages, url, CONTENT_TYPE), progress)
            )
            group.create_task(strike_at_each(strikes, outages, progress))

    assert outages.count == len(strikes)
    assert [reader.received.size_bytes for reader in readers] == [FILE_BYTES] * 3
    with big_file.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    assert [reader.received.sha256 for reader in readers] == [sha256] * 3
