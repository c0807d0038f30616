"""A failing disk under the real engine and its HTTP server: what clients get, what is kept."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.model.errors import StorageFailed
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import HttpSettings, Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.http.conftest import RunningServer
from tools.inside import checkpoint, in_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def test_a_failed_sync_is_503_for_good_and_reads_go_on(data_dir: Path) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(data_dir, Settings(), disk)
    server = RunningServer(engine, HttpSettings())
    await server.start()
    await server.create("a", "text/plain", b"first")
    disk.fail("sync", errno.EIO, times=1)
    client = await server.connect()
    text = {"Content-Type": "text/plain"}
    assert (await client.request("POST", "a", b"lost", text)).status == 503
    answer = await client.request("POST", "a", b"lost", text)  # the disk is well
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert b"until the server is restarted" in answer.body
    assert (await client.request("PUT", "b", b"lost", text)).status == 503
    assert (await client.request("DELETE", "a")).status == 503
    assert (await client.request("GET", "/readyz")).status == 503
    answer = await client.request("GET", "a")
    assert (answer.status, answer.body) == (200, b"first")
    await server.finish()
    assert engine.fault is not None


async def test_a_producer_retries_what_a_failed_sync_left_open_and_it_is_stored_once(
    data_dir: Path,
) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(data_dir, Settings(), disk)
    await engine.create(Create(("a",), "text/plain"), b"first")
    disk.fail("sync", errno.EIO, times=1)
    command = Append(("a",), "text/plain", producer=ProducerClaim("p", 0, 0))
    with pytest.raises(StorageFailed):
        await engine.append(command, b" and second")
    await engine.close()
    engine = await FileStore.at(data_dir, Settings())
    await engine.append(command, b" and second")
    await engine.close()
    assert await again(data_dir, "a") == b"first and second"


class Faulty:
    """A server in this process on a disk that fails when it is told to."""

    def __init__(self, engine: FileStore, disk: StagedDisk) -> None:
        self.engine = engine
        self.disk = disk
        self.server = RunningServer(engine, HttpSettings())
        self._finished = False

    async def finish(self) -> None:
        """Stop, with a disk that is well again."""
        if not self._finished:
            self._finished = True
            self.disk.heal()
            await self.server.finish()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        client = await self.server.connect()
        answer = await client.request(method, path, body, {"Content-Type": "text/plain"})
        await client.close()
        return answer.status, answer.body

    async def in_files(self, path: str) -> None:
        """Wait until a stream's files have what is durable."""
        await in_files(self.engine, path)

    async def checkpoint(self) -> None:
        await checkpoint(self.engine)

    async def until(self, method: str, path: str, body: bytes, status: int) -> bytes:
        """Ask until the answer has a status."""
        while True:
            found, text = await self.ask(method, path, body)
            if found == status:
                return text


@pytest.fixture
async def faulty(data_dir: Path) -> AsyncIterator[Faulty]:
    """With the streams ``a`` and ``b`` in files."""
    disk = StagedDisk()
    running = Faulty(await FileStore.at(data_dir, Settings(), disk), disk)
    await running.server.start()
    for path in ("a", "b"):
        await running.server.create(path, "text/plain", b"first")
        await running.in_files(path)
    yield running
    await running.finish()
    assert not disk.open_files, "left open"


async def again(data_dir: Path, path: str) -> bytes:
    """What the next server finds in a stream."""
    engine = await FileStore.at(data_dir, Settings())
    try:
        chunk = await engine.read(await engine.open(parse_path_text(path)), Start.BEGINNING)
        data = b"".join(part for part in chunk.parts if isinstance(part, bytes))
        chunk.release()
        return data
    finally:
        await engine.close()


READ_ONLY_CALLS = ("pwrite", "open_write", "rename", "link", "make_directory")


async def test_a_disk_that_turns_read_only_is_503_and_reads_go_on(faulty: Faulty) -> None:
    for call in READ_ONLY_CALLS:
        faulty.disk.fail(call, errno.EROFS)
    for method, path in (("POST", "a"), ("PUT", "c"), ("DELETE", "b")):
        status, _ = await faulty.ask(method, path, b"x" if method != "DELETE" else b"")
        assert status == 503, method
    assert await faulty.ask("GET", "a") == (200, b"first")
    faulty.disk.heal()
    assert (await faulty.ask("POST", "a", b" again"))[0] == 204
    assert await faulty.ask("GET", "a") == (200, b"first again")


async def test_an_error_in_writing_one_stream_s_files_concerns_no_other(
    faulty: Faulty, data_dir: Path
) -> None:
    faulty.disk.fail("pwrite", errno.EIO, "streams/a@")
    assert (await faulty.ask("POST", "a", b" kept"))[0] == 204  # it is in the journal
    text = await faulty.until("POST", "a", b" refused", 500)
    assert b"a" in text
    for n in range(20):
        assert (await faulty.ask("POST", "b", b"%d" % n))[0] == 204
    assert (await faulty.ask("PUT", "c", b"new"))[0] == 201
    assert (await faulty.ask("GET", "b"))[0] == 200
    faulty.disk.heal()
    await faulty.finish()
    assert (await again(data_dir, "a")).startswith(b"first kept")
    assert await again(data_dir, "c") == b"new"


async def test_a_disk_that_fills_up_while_acknowledged_data_waits_for_its_files_loses_none(
    faulty: Faulty, data_dir: Path
) -> None:
    gate = faulty.disk.hold("pwrite", "streams/")
    faulty.disk.fail("pwrite", errno.ENOSPC, "streams/", times=3)
    assert (await faulty.ask("POST", "a", b" waits"))[0] == 204
    await asyncio.to_thread(gate.reached.wait)
    assert await faulty.ask("GET", "a") == (200, b"first waits")
    assert await faulty.ask("GET", "b") == (200, b"first")
    gate.open()
    await faulty.in_files("a")
    await faulty.until("POST", "b", b" again", 204)
    assert await faulty.ask("GET", "a") == (200, b"first waits")
    await faulty.finish()
    assert await again(data_dir, "a") == b"first waits"


@pytest.mark.parametrize("call", ["sync", "sync_directory"])
async def test_a_checkpoint_that_fails_is_final_for_writes_and_loses_nothing(
    faulty: Faulty, data_dir: Path, call: str
) -> None:
    assert (await faulty.ask("PUT", "c", b"acknowledged"))[0] == 201
    assert (await faulty.ask("POST", "a", b" more"))[0] == 204
    await faulty.in_files("a")
    faulty.disk.fail(call, errno.EIO, "streams/", times=1)
    await faulty.checkpoint()
    for method, path in (("POST", "a"), ("PUT", "d"), ("DELETE", "b")):
        assert (await faulty.ask(method, path, b"x" if method != "DELETE" else b""))[0] == 503
    assert await faulty.ask("GET", "c") == (200, b"acknowledged")
    await faulty.finish()
    assert faulty.engine.fault is not None
    assert await again(data_dir, "c") == b"acknowledged"
    assert await again(data_dir, "a") == b"first more"
