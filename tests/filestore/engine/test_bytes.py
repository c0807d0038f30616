"""Bytes are bytes: what callers give is taken whole and once, and harms nobody else."""

from __future__ import annotations

import array
import asyncio
import ctypes
import io
import mmap
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import durable_streams
from durable_streams.filestore.format.journal import ForkRecord
from durable_streams.filestore.pipeline.operations import AppendOperation
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import StreamNotFound, WriteFailed
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text
from tools.inside import change_what_is_submitted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams import Streams
    from durable_streams.filestore.pipeline.operations import Operation

BYTES = "application/octet-stream"


class Binary(bytes):
    """As bson's, and others'."""


def mapped(data: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(data))
    memory.write(data)
    return memory


WIDE = array.array("I", [1, 2, 3])
BUFFERS: list[Any] = [
    b"plain",
    Binary(b"subclass"),
    bytearray(b"array"),
    memoryview(b"view"),
    memoryview(b"every other one")[::2],
    memoryview(WIDE),
    WIDE,
    memoryview(bytes(range(24))).cast("B", (2, 3, 4)),
    mapped(b"mapped"),
    (ctypes.c_uint16 * 3)(1, 2, 3),
]


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


@pytest.mark.parametrize("given", BUFFERS, ids=range(len(BUFFERS)))
async def test_every_byte_of_a_buffer_is_stored(streams: Streams, given: Any) -> None:
    wanted = memoryview(given).tobytes()
    await streams.create("created", data=given)
    await streams.create("s")
    await streams.append("s", given)
    await streams.append("s", b"next")
    await streams.close("s", given)
    messages = (await streams.read_messages("s")).messages
    assert [message.data for message in messages] == [wanted, b"next", wanted]
    assert (await streams.read("created")).data == wanted


@pytest.mark.parametrize("given", ["text", 5, None, [1], {"a": 1}, object(), io.BytesIO(b"x")])
async def test_what_is_no_buffer_is_refused_before_anything_happens(
    streams: Streams, given: Any
) -> None:
    await streams.create("s")
    for call in (
        streams.append("s", given),
        streams.close("s", given),
        streams.create("t", data=given),
    ):
        with pytest.raises(TypeError, match="data must be bytes"):
            await call
    assert (await streams.read("s")).data == b""
    assert not (await streams.get_metadata("s")).closed


async def test_a_buffer_may_be_used_again_while_it_is_being_appended(streams: Streams) -> None:
    await streams.create("s")
    buffer, source, writes = bytearray(4), io.BytesIO(b"aaaabbbbcccc"), []
    while source.readinto(buffer):
        writes.append(asyncio.ensure_future(streams.append("s", buffer)))
        await asyncio.sleep(0)
    buffer[:] = b"!!!!"
    await asyncio.gather(*writes)
    assert (await streams.read("s")).data == b"aaaabbbbcccc"


async def test_a_view_that_was_released_fails_that_call_alone(streams: Streams) -> None:
    await streams.create("s")
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(durable_streams.InvalidRequest, match=r"data .*released"):
        await streams.append("s", view)
    await streams.append("s", b"next")
    assert (await streams.read("s")).data == b"next"


async def test_what_cannot_be_packed_fails_with_what_builds_on_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should such a value come that far all the same: the thread belongs to all writers."""
    engine = await FileStore.at(tmp_path / "data", durable_streams.Settings())
    for path in ("mine", "theirs"):
        await engine.create(Create(parse_path_text(path), BYTES), b"")

    def spoil(operation: Operation) -> None:
        if isinstance(operation, AppendOperation) and operation.record.data == b"bad":
            operation.records = (msgspec.structs.replace(operation.record, data=object()),)

    change_what_is_submitted(engine, spoil)

    async def append(path: str, data: bytes) -> str:
        try:
            await engine.append(Append(parse_path_text(path), BYTES), data)
        except WriteFailed as error:
            return str(error)
        return "stored"

    writes = [("theirs", b"1"), ("mine", b"1"), ("mine", b"bad"), ("mine", b"2"), ("theirs", b"2")]
    outcomes = await asyncio.gather(*(append(path, data) for path, data in writes))
    refused = "what was to be written is not bytes; nothing was stored"
    # The first of its stream was in the same batch, and goes with it: nothing was stored.
    assert outcomes == ["stored", refused, refused, refused, "stored"]
    assert [await append(path, b"3") for path in ("mine", "theirs")] == ["stored", "stored"]
    for path, wanted in (("mine", b"3"), ("theirs", b"123")):
        chunk = await engine.read(await engine.open(parse_path_text(path)), Start.BEGINNING)
        assert b"".join(part for part in chunk.parts if isinstance(part, bytes)) == wanted
    assert engine.fault is None
    await engine.close()


async def test_a_fork_fails_with_what_tells_its_source_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the source could be deleted as if it had no fork."""
    engine = await FileStore.at(tmp_path / "data", durable_streams.Settings())
    await engine.create(Create(("s",), BYTES), b"one")

    def spoil(operation: Operation) -> None:
        if isinstance(operation.records[0], ForkRecord):
            bad: Any = object()
            operation.records = (msgspec.structs.replace(operation.records[0], fork_path=bad),)

    with monkeypatch.context() as patch:
        change_what_is_submitted(engine, spoil, patch.setattr)
        with pytest.raises(WriteFailed, match="nothing was stored"):
            await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")
    with pytest.raises(StreamNotFound):
        await engine.head(("fork",))
    assert (await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")).created
    await engine.close()
