"""Files that the system does not let be read: the answer names them, and the others are served."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.settings import HttpSettings, Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.http.conftest import RunningServer
from tests.http.lanes import applied
from tools.inside import catalog, data_directory, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(params=[True, False], ids=["lane", "aiohttp"])
async def staged(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    """A server whose disk may fail, with the stream a/b, which nobody has open."""
    engine = await FileStore.at(tmp_path / "data", Settings(), StagedDisk())
    server = RunningServer(engine, HttpSettings(fast_lane=request.param))
    await server.start()
    await server.create("a/b", "text/plain", b"here")
    await applied(server, "a/b")
    forget(server)
    yield server
    await server.finish()


def forget(server: RunningServer) -> None:
    """Close what is open of the streams, as if they had not been used for long."""
    for stream in catalog(server.engine).streams():
        reader(server.engine).forget(stream)
        catalog(server.engine).remove(stream)


def directory(server: RunningServer) -> Path:
    return server.engine.root / "streams" / "a" / "b@"


async def refused(server: RunningServer, name: str, reason: str) -> None:
    client = await server.connect()
    for method, body in (("GET", None), ("GET", None), ("POST", b"x")):
        answer = await client.request(method, "a/b", body, {"Content-Type": "text/plain"})
        assert answer.status == 500
        text = answer.body.decode()
        assert text.startswith(f"the stream 'a/b' is unreadable: streams/a/b@{name}: {reason}; ")
        assert str(directory(server).parent.parent) not in text
    assert (await client.request("GET", "other")).status == 404


async def served_again(server: RunningServer) -> None:
    client = await server.connect()
    assert (await client.request("GET", "a/b")).body == b"here"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EPERM])
async def test_a_sidecar_that_cannot_be_read_is_named(
    staged: RunningServer, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    disk = data_directory(staged.engine).disk
    assert isinstance(disk, StagedDisk)
    disk.fail("open_read", number, "b@/meta.json")
    await refused(staged, "/meta.json", os.strerror(number))
    (record,) = caplog.records
    assert "streams/a/b@/meta.json" in record.getMessage()
    assert record.exc_info is None
    disk.heal()
    await served_again(staged)


async def test_a_link_that_leads_to_itself_is_named(staged: RunningServer) -> None:
    sidecar = directory(staged) / "meta.json"
    kept = sidecar.rename(sidecar.with_name("kept"))
    sidecar.symlink_to(sidecar.name)
    await refused(staged, "/meta.json", os.strerror(errno.ELOOP))
    kept.replace(sidecar)
    await served_again(staged)


async def test_a_directory_in_the_place_of_a_segment_is_named(staged: RunningServer) -> None:
    (segment,) = directory(staged).glob("*.seg")
    assert (await (await staged.connect()).request("HEAD", "a/b")).status == 200
    kept = shutil.move(segment, directory(staged) / "kept")
    segment.mkdir()
    for name in "abcdefgh":  # a directory is as large as what is in it
        (segment / name).mkdir()
    client = await staged.connect()
    answer = await client.request("GET", "a/b")
    assert answer.status == 500
    assert b"the stream 'a/b' is unreadable: streams/a/b@: Is a directory; " in answer.body
    shutil.rmtree(segment)
    shutil.move(kept, segment)
    forget(staged)
    await served_again(staged)


async def test_a_server_without_descriptors_does_not_blame_the_stream(
    staged: RunningServer,
) -> None:
    disk = data_directory(staged.engine).disk
    assert isinstance(disk, StagedDisk)
    disk.fail("open_read", errno.EMFILE, "meta.json")
    client = await staged.connect()
    answer = await client.request("GET", "a/b")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    disk.heal()
    await served_again(staged)
