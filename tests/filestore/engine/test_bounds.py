"""What is bounded takes no more memory, when it is full, than docs/operations.rst says."""

from __future__ import annotations

import gc
import re
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import ref

import msgspec
import pytest

from durable_streams.filestore.files.stream_files import LoadedStream
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams.stream import Stream
from durable_streams.filestore.tuning import Tuning
from durable_streams.filestore.verbs.trash import Deleted
from durable_streams.rules.media_type import MAX_LENGTH, MOST_SHARED, normalise, same, shared
from durable_streams.settings import MIB, Settings
from tests.filestore.files.history import ID, TIME_MS, sidecar_of
from tools.inside import catalog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TUNING: Final = Tuning()
OPERATIONS: Final = Path(__file__).parents[3] / "docs" / "operations.rst"
BOUNDS: Final = (
    OPERATIONS.read_text().partition("Inside, every queue")[2].partition("``scripts/")[0]
)
"""The table of what is bounded."""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(tmp_path / "data", Settings())
    yield engine
    await engine.close()


def bytes_of(fill: Callable[[], None]) -> int:
    """The memory that is in use after something, and was not before it."""
    gc.collect()
    tracemalloc.start()
    try:
        fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def promised(what: str) -> tuple[int, int]:
    """How many there may be, and the bytes they take, as the table has it."""
    found = re.search(rf"\* - {what}[^-]*\n +- ([0-9,]+)[^:]*: ([0-9]+) MiB", BOUNDS)
    assert found is not None
    return int(found[1].replace(",", "")), int(found[2]) * MIB


def is_so(what: str, count: int, taken: int) -> bool:
    """Whether the table says so, within a MiB or a tenth: other interpreters have other sizes."""
    most, size = promised(what)
    print(f"{what}: {count:,} take {taken / MIB:.2f} MiB")
    return most == count and 0 <= size - taken <= max(MIB, size // 10)


def _identity(number: int) -> str:
    return f"{number:024x}"


async def test_deleted_streams_that_wait_take_what_is_written_down(engine: FileStore) -> None:
    """Those that wait to be removed, and as many that could not be."""
    trash = engine._endings._trash

    def fill() -> None:
        for number in range(TUNING.most_in_trash + 1):
            trash._take(Deleted(_identity(number), in_trash=True, held=False))
            trash._could_not(_identity(TUNING.most_in_trash + number))

    taken = bytes_of(fill)
    assert len(trash) == len(trash._failed) == TUNING.most_in_trash
    trash._waiting.clear()
    assert is_so("deleted streams that wait to be removed", TUNING.most_in_trash, taken)


async def test_last_uses_that_wait_take_what_is_written_down(engine: FileStore) -> None:
    """In a moment in which all of them are looked at, without what the streams take."""
    sidecar = msgspec.structs.replace(sidecar_of("s", ID), ttl_s=3600)
    loaded = LoadedStream(sidecar, Tail(0, 0, 0, bytes(8)))
    streams = [Stream(("s",), loaded, TIME_MS) for _ in range(TUNING.most_unwritten + 1)]
    for stream in streams:
        stream.last_use_ms += 3_600_000
    uses = engine._uses

    def fill() -> None:
        uses._sort_out([ref(stream) for stream in streams])

    taken = bytes_of(fill)
    assert len(uses._unwritten) == TUNING.most_unwritten
    uses._unwritten.clear()
    assert is_so("last uses that wait for their sidecar", TUNING.most_unwritten, taken)


async def test_verified_streams_take_what_is_written_down(engine: FileStore) -> None:
    known = catalog(engine)

    def fill() -> None:
        for number in range(TUNING.most_verified + 1):
            known._has_verified(("chat", f"room-{number}"))

    taken = bytes_of(fill)
    assert len(known._verified) == TUNING.most_verified
    assert is_so("streams verified after an unclean end", TUNING.most_verified, taken)


def test_content_types_take_what_is_written_down() -> None:
    def fill() -> None:
        for number in range(2 * MOST_SHARED):
            content_type = f"a/{number:0{MAX_LENGTH - 2}d}"
            shared(content_type)
            same(content_type, "a/b")
            normalise(content_type.upper())

    taken = bytes_of(fill)
    assert is_so("content types that streams share", MOST_SHARED, taken)


def test_the_table_is_added_up_right() -> None:
    cells = re.findall(r"^ +- (.*MiB.*)$", BOUNDS, re.MULTILINE)
    sizes = [int(re.findall(r"([0-9]+) MiB", cell)[-1]) for cell in cells]
    assert f"They take {sum(sizes)} MiB altogether" in BOUNDS
