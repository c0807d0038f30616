"""An ETag never names other bytes: not after a loss, nor in a backup that was restored."""

import errno
from pathlib import Path

import pytest

from durable_streams.filestore.files.journal import Journal
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create
from durable_streams.model.errors import WriteFailed
from durable_streams.model.offsets import Start
from durable_streams.settings import Settings
from durable_streams.wire.caching import etag
from tests.copying import copy_live
from tests.driving import append, put
from tests.tags import assert_agree, tags
from tools.inside import in_files

SMALL = Settings(segment_bytes=40, max_read_bytes=10)


@pytest.fixture(autouse=True)
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock tells no append from another."""
    monkeypatch.setattr(Runtime, "now_ms", lambda _self: 1_764_000_000_000)


@pytest.mark.parametrize("settings", [Settings(), SMALL], ids=["one answer", "many"])
async def test_other_bytes_in_a_restored_backup_have_other_etags(
    tmp_path: Path, settings: Settings
) -> None:
    engine = await FileStore.at(tmp_path / "data", settings)
    await put(engine, "s", b"a" * 9)
    backup = copy_live(tmp_path / "data", tmp_path / "backup")
    for number in range(9):
        await append(engine, "s", b"before-%02d" % number)
    before = await tags(engine, "s")
    await engine.close()
    engine = await FileStore.at(backup, settings)
    for number in range(9):
        await append(engine, "s", b"restored%d" % number)
    after = await tags(engine, "s")
    assert_agree(before, after)
    assert {len(content) for content in before.values()} == {len(c) for c in after.values()}
    assert len(before.keys() & after.keys()) == (1 if settings is SMALL else 0)
    await engine.close()


async def test_the_same_bytes_have_the_same_etags_wherever_they_are(tmp_path: Path) -> None:
    """In memory, in the files, and after a restart."""
    engine = await FileStore.at(tmp_path / "data", SMALL)
    await put(engine, "s", b"first")
    for number in range(40):
        await append(engine, "s", b"%02d" % number)
    seen = await tags(engine, "s")
    await in_files(engine, "s")
    assert await tags(engine, "s") == seen
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SMALL)
    assert await tags(engine, "s") == seen
    await engine.close()


async def test_a_failed_append_leaves_no_trace_in_etags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the segment that it would have begun either."""
    engine = await FileStore.at(tmp_path / "data", SMALL)
    await put(engine, "s", b"a" * 39)
    with monkeypatch.context() as failing:
        failing.setattr(Journal, "write", _fail)
        with pytest.raises(WriteFailed):
            await append(engine, "s", b"refused")
    await append(engine, "s", b"after")
    await append(engine, "s", b"b" * 39)
    seen = await tags(engine, "s")
    await engine.close()
    engine = await FileStore.at(tmp_path / "data", SMALL)
    assert await tags(engine, "s") == seen
    await engine.close()


def _fail(_journal: Journal, _records: object) -> int:
    raise OSError(errno.EIO, "refused")


async def test_a_close_without_data_is_another_answer_at_the_same_offset(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path / "data", Settings())
    await engine.create(Create(("s",), "text/plain"), b"all")
    stream = await engine.open(("s",))
    seen = []
    for _ in range(2):
        chunk = await engine.read(stream, Start.BEGINNING)
        chunk.release()
        seen.append((etag(chunk), chunk.end, chunk.closed))
        if not chunk.closed:
            await engine.append(Append(("s",), "text/plain", close=True), b"")
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] == seen[1][1]
    assert [closed for _, _, closed in seen] == [False, True]
    await engine.close()
