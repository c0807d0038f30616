"""What an acknowledgement means, seen while the disk is still busy with it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.journal import Journal
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.model.commands import Append, Create, ForkRequest, ProducerClaim
from durable_streams.model.errors import (
    DiskFull,
    Overloaded,
    SourceGone,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import Start
from durable_streams.model.paths import parse_path_text
from durable_streams.settings import Durability, Settings
from tests.copying import copy_live
from tests.filestore.files.staged_disk import Gate, StagedDisk
from tools.inside import batches, catalog, in_files, look_for_room, unload

BYTES = "application/octet-stream"


@pytest.fixture
async def engine(tmp_path: Path, disk: StagedDisk, tuning: Tuning) -> AsyncIterator[FileStore]:
    engine = await FileStore.at(tmp_path / "data", Settings(), disk, tuning=tuning)
    await engine.create(Create(("s",), BYTES), b"before.")
    yield engine
    disk.heal()
    await engine.close()


async def content(engine: FileStore, path: str = "s") -> bytes:
    with await engine.read(await engine.open(parse_path_text(path)), Start.BEGINNING) as chunk:
        return await engine.bytes_of(chunk)


def append(
    engine: FileStore, data: bytes, claim: ProducerClaim | None = None
) -> asyncio.Task[object]:
    return asyncio.ensure_future(engine.append(Append(("s",), BYTES, producer=claim), data))


async def turns() -> None:
    """Let everything on the loop happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_seen_acknowledged_or_in_files_before_it_is_durable(
    engine: FileStore, disk: StagedDisk, tmp_path: Path
) -> None:
    await in_files(engine, "s")
    gate = disk.hold("sync", "journal")
    stream = await engine.open(("s",))
    tail = (await engine.head(("s",))).tail
    waiting = asyncio.ensure_future(engine.wait(stream, tail, 3600))
    appending = append(engine, b"after.")
    await asyncio.to_thread(gate.reached.wait)
    await turns()

    assert not appending.done()
    assert not waiting.done()
    assert await content(engine) == b"before."
    assert (await engine.head(("s",))).tail == tail
    directory = tmp_path / "data" / "streams" / names.directory_of(("s",))
    assert b"".join(path.read_bytes() for path in directory.glob("*.seg")) == b"before."

    gate.open()
    await appending
    await waiting
    assert await content(engine) == b"before.after."


async def test_writers_that_are_answered_together_write_together_again(engine: FileStore) -> None:
    async def write(times: int) -> None:
        for _ in range(times):
            await engine.append(Append(("s",), BYTES), b"x")

    before = batches(engine)
    await asyncio.gather(*(write(5) for _ in range(16)))
    assert batches(engine) - before == 5


async def test_a_retry_is_answered_when_the_original_is_durable(
    engine: FileStore, disk: StagedDisk
) -> None:
    gate = disk.hold("sync", "journal")
    claim = ProducerClaim("p", 0, 0)
    original = append(engine, b"once.", claim)
    await asyncio.to_thread(gate.reached.wait)
    retry = append(engine, b"once.", claim)
    await turns()
    assert not retry.done()
    gate.open()
    await asyncio.gather(original, retry)
    assert await content(engine) == b"before.once."


async def test_a_client_that_leaves_changes_nothing(engine: FileStore, disk: StagedDisk) -> None:
    gate = disk.hold("sync", "journal")
    claim = ProducerClaim("p", 0, 0)
    left = append(engine, b"kept.", claim)
    await asyncio.to_thread(gate.reached.wait)
    left.cancel()
    await turns()
    assert left.cancelled()
    gate.open()
    await append(engine, b"kept.", claim)
    assert await content(engine) == b"before.kept."


async def test_appends_behind_one_that_is_being_synced_share_the_next_sync(
    engine: FileStore, disk: StagedDisk
) -> None:
    gate = disk.hold("sync", "journal")
    first = append(engine, b"0")
    await asyncio.to_thread(gate.reached.wait)
    rest = [append(engine, b"%d" % number) for number in range(1, 10)]
    await turns()
    syncs = disk.calls["sync"]
    gate.open()
    await asyncio.gather(first, *rest)
    journal_syncs = disk.calls["sync"] - syncs
    assert journal_syncs == 2  # the one that was held, and one for all that came meanwhile
    assert await content(engine) == b"before.0123456789"


@pytest.mark.parametrize("verb", ["delete", "create", "close"])
async def test_every_kind_of_write_is_answered_when_it_is_durable(
    engine: FileStore, disk: StagedDisk, verb: str
) -> None:
    gate = disk.hold("sync", "journal")
    verbs: dict[str, Callable[[], Awaitable[object]]] = {
        "delete": lambda: engine.delete(("s",)),
        "create": lambda: engine.create(Create(("t",), BYTES), b""),
        "close": lambda: engine.append(Append(("s",), close=True), b""),
    }
    writing = asyncio.ensure_future(verbs[verb]())
    await asyncio.to_thread(gate.reached.wait)
    await turns()
    assert not writing.done()
    gate.open()
    await writing


async def test_a_delete_that_was_answered_survives_a_kill(
    tmp_path: Path, engine: FileStore
) -> None:
    await engine.delete(("s",))
    image = copy_live(tmp_path / "data", tmp_path / "image")
    survivor = await FileStore.at(image, Settings())
    with pytest.raises(StreamNotFound):
        await survivor.head(("s",))
    await survivor.close()


@pytest.mark.parametrize("durability", [Durability.INTERVAL, Durability.NONE])
async def test_the_other_modes_do_not_wait_for_the_disk_and_survive_a_kill(
    tmp_path: Path, disk: StagedDisk, durability: Durability
) -> None:
    settings = Settings(durability=durability)
    engine = await FileStore.at(tmp_path / "data", settings, disk)
    await engine.create(Create(("s",), BYTES), b"before.")
    gate = disk.hold("sync", "journal")
    await append(engine, b"after.")
    image = copy_live(tmp_path / "data", tmp_path / "image")
    gate.open()
    await engine.close()
    survivor = await FileStore.at(image, settings)
    assert await content(survivor) == b"before.after."
    await survivor.close()


@pytest.mark.parametrize("tuning", [Tuning(tick_s=0.01)])
async def test_files_that_lag_behind_are_told_of_once(
    engine: FileStore, disk: StagedDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async def ticks(number: int) -> None:
        enough = disk.calls["room"] + number
        while disk.calls["room"] < enough:
            await asyncio.sleep(0)

    await in_files(engine, "s")
    gate = disk.hold("pwrite", ".seg")
    await append(engine, b"after.")
    await asyncio.to_thread(gate.reached.wait)
    while "lag behind" not in caplog.text:
        await ticks(1)
    await ticks(5)
    gate.open()
    await in_files(engine, "s")
    assert caplog.text.count("lag behind") == 1


@pytest.mark.parametrize("tuning", [Tuning(share_writes=2)])
async def test_what_is_in_files_counts_before_all_that_waits_is(
    engine: FileStore, disk: StagedDisk
) -> None:
    for path in "abcd":
        await engine.create(Create(parse_path_text(path), BYTES), b"")
    await in_files(engine, "s")
    last = disk.hold("open_write", names.directory_of(("d",)) + "/")
    for path in "abcd":  # a batch each
        await engine.append(Append(parse_path_text(path), BYTES), b"x")
    await asyncio.to_thread(last.reached.wait)
    for path in "ab":
        await in_files(engine, path)
    stream = await engine._find(("d",))
    assert stream.applied.offset < stream.durable.offset


async def test_nobody_is_told_of_a_deletion_that_may_still_fail(
    engine: FileStore, disk: StagedDisk
) -> None:
    await in_files(engine, "s")
    stream = await engine.open(("s",))
    gate = disk.hold("pwrite", "data/journal")
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await asyncio.to_thread(gate.reached.wait)
    others = [
        asyncio.ensure_future(engine.head(("s",))),
        asyncio.ensure_future(engine.delete(("s",))),
        asyncio.ensure_future(engine.create(Create(("s",), BYTES), b"before.")),
    ]
    await turns()
    assert not any(other.done() for other in others)
    (await engine.read(stream, Start.BEGINNING)).release()  # by whoever has it open
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    with pytest.raises(DiskFull):
        await deleting
    head, deleted, created = await asyncio.gather(*others, return_exceptions=True)
    assert not isinstance(head, BaseException)
    assert deleted is None or isinstance(deleted, StreamNotFound)
    assert not isinstance(created, BaseException)


async def soft_deleting(
    engine: FileStore, disk: StagedDisk
) -> tuple[Gate, asyncio.Task[None], dict[str, asyncio.Task[object]]]:
    """A DELETE of a source whose record is not in the journal, and what others ask meanwhile."""
    await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")
    stream = await engine.open(("s",))
    tail = (await engine.head(("s",))).tail
    gate = disk.hold("pwrite", "data/journal")
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await asyncio.to_thread(gate.reached.wait)
    asked: dict[str, Coroutine[object, object, object]] = {
        "wait": engine.wait(stream, tail, 3600),
        "append": engine.append(Append(("s",), BYTES), b"after."),
        "delete": engine.delete(("s",)),
        "create": engine.create(Create(("s",), BYTES), b"before."),
        "fork": engine.create(Create(("another",), None, fork=ForkRequest(("s",))), b""),
    }
    others = {name: asyncio.ensure_future(work) for name, work in asked.items()}
    await turns()
    while catalog(engine)._opening:  # the fork's path, which the disk is asked about
        await asyncio.sleep(0)
    await turns()

    assert [name for name, other in others.items() if other.done()] == []
    assert (await engine.head(("s",))).tail == tail
    assert await content(engine) == b"before."
    return gate, deleting, others


async def test_nobody_is_told_of_a_soft_deletion_that_may_still_fail(
    engine: FileStore, disk: StagedDisk
) -> None:
    gate, deleting, others = await soft_deleting(engine, disk)
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    with pytest.raises(DiskFull):
        await deleting
    waiting = others.pop("wait")
    for other in others.values():
        with pytest.raises(DiskFull):
            await other
    assert not waiting.done()
    await look_for_room(engine)
    await append(engine, b"after.")
    assert await waiting is True
    assert await content(engine) == b"before.after."


async def test_a_soft_deletion_that_fails_is_not_made_good_by_those_who_saw_it_coming(
    engine: FileStore, disk: StagedDisk
) -> None:
    """Whoever finds a source deleted sees whether its forks still live, and removes it if not."""
    await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")
    gate = disk.hold("pwrite", "data/journal")
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await asyncio.to_thread(gate.reached.wait)
    await unload(engine, "fork")
    looking = disk.hold("open_read", "streams/fork@")
    creating = asyncio.ensure_future(engine.create(Create(("s",), BYTES), b"another"))
    await turns()
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    with pytest.raises(DiskFull, match="nothing was stored"):
        await deleting
    await look_for_room(engine)
    looking.open()
    with pytest.raises(DiskFull):
        await creating
    assert await content(engine) == b"before."
    await append(engine, b"after.")


async def test_a_soft_deletion_that_failed_before_others_cleared_away_ends_nothing(
    engine: FileStore, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PUT that saw it on its way does its part in a task, which begins a little later."""
    await engine.create(Create(("fork",), None, fork=ForkRequest(("s",))), b"")
    gate = disk.hold("pwrite", "data/journal")
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await asyncio.to_thread(gate.reached.wait)
    errands = engine._births._errands
    at_once = errands.do

    async def later(work: Coroutine[None, None, object]) -> object:
        with pytest.raises(DiskFull):
            await deleting
        return await at_once(work)

    monkeypatch.setattr(errands, "do", later)
    creating = asyncio.ensure_future(engine.create(Create(("s",), BYTES), b"another"))
    await turns()
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    assert not (await creating).created
    await look_for_room(engine)
    await append(engine, b"after.")
    assert await content(engine) == b"before.after."


async def test_everybody_is_told_of_a_soft_deletion_when_it_is_durable(
    engine: FileStore, disk: StagedDisk
) -> None:
    gate, deleting, others = await soft_deleting(engine, disk)
    gate.open()
    await deleting
    told = await asyncio.gather(*others.values(), return_exceptions=True)
    assert dict(zip(others, map(type, told), strict=True)) == {
        "wait": StreamGone,
        "append": StreamGone,
        "delete": StreamGone,
        "create": StreamExists,
        "fork": SourceGone,
    }
    with pytest.raises(StreamGone):
        await engine.head(("s",))
    await engine.delete(("fork",))  # the last that needs it
    with pytest.raises(StreamNotFound):
        await engine.head(("s",))


async def test_a_full_journal_does_not_keep_a_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await FileStore.at(tmp_path / "other", Settings(held_up_s=0.05))
    await engine.create(Create(("s",), BYTES), b"")
    monkeypatch.setattr(Journal, "has_room", lambda *_: False)
    deleting = asyncio.ensure_future(engine.delete(("s",)))
    await turns()
    assert not deleting.done()
    async with asyncio.timeout(30):
        await engine.close()
    with pytest.raises(Overloaded):
        await deleting


async def test_a_stream_that_is_not_stored_at_a_fork_s_path_does_not_keep_a_source(
    engine: FileStore, disk: StagedDisk
) -> None:
    """Whoever deletes a source looks at the paths of its forks, where others may come to be."""
    source = await engine._find(("s",))
    gate = disk.hold("pwrite", "data/journal")
    creating = asyncio.ensure_future(engine.create(Create(("fork",), BYTES), b"not a fork"))
    await asyncio.to_thread(gate.reached.wait)
    looking = asyncio.ensure_future(engine._endings._lives(source, "0" * 24, ("fork",)))
    await turns()
    disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    with pytest.raises(DiskFull, match="nothing was stored"):
        await creating
    assert await looking is False
    await look_for_room(engine)
