"""Streams that nobody closes: their own process is told, and may open the directory again."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

import durable_streams
from durable_streams import DataDirectoryInUse, NotOpen, Streams
from durable_streams.filestore.runtime import forgotten
from durable_streams.filestore.tuning import Tuning
from tools.cancelling import all_gone, our_threads, tasks
from tools.descriptors import open_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

never_closed = pytest.warns(ResourceWarning, match="was opened and never closed.*async with")


async def opened(data_dir: Path) -> Streams:
    """Open streams, and keep nothing that could close them."""
    streams = await durable_streams.open(data_dir).__aenter__()
    await streams.create("s")
    await streams.append("s", b"acknowledged;")
    return streams


async def works(data_dir: Path) -> None:
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data.startswith(b"acknowledged;")
        await streams.append("s", b"more;")


def inside(data_dir: Path) -> list[str]:
    """What is open in a data directory."""
    return [name for name in open_now() if name.startswith(str(data_dir))]


async def everything_goes(data_dir: Path, before: set[asyncio.Task[Any]]) -> None:
    """Return when lock, descriptors, threads and tasks have gone, without anybody's doing."""
    while inside(data_dir) or our_threads():
        await asyncio.sleep(0)
    await all_gone(before)


async def test_streams_work_although_nothing_is_kept_that_could_close_them(tmp_path: Path) -> None:
    streams = await opened(tmp_path)
    gc.collect()
    assert (await streams.read("s")).data == b"acknowledged;"
    with never_closed:
        del streams
    await works(tmp_path)


async def test_what_is_dropped_is_let_go(tmp_path: Path) -> None:
    before = tasks()
    streams = await opened(tmp_path)
    assert inside(tmp_path)
    assert our_threads()
    with never_closed:
        del streams
    await everything_goes(tmp_path, before)
    await works(tmp_path)


async def test_what_is_dropped_gives_way_at_once(tmp_path: Path) -> None:
    for _ in range(5):
        streams = await opened(tmp_path) if not inside(tmp_path) else None
        with never_closed:
            del streams
        await works(tmp_path)
        await everything_goes(tmp_path, tasks())


async def test_what_was_dropped_in_a_cycle_gives_way(tmp_path: Path) -> None:
    cycle: list[Any] = [await opened(tmp_path)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        with never_closed:
            await works(tmp_path)
    finally:
        gc.enable()


async def test_a_write_that_nobody_waits_for_any_more_keeps_nothing(tmp_path: Path) -> None:
    before = tasks()
    streams = await opened(tmp_path)
    leaving = [
        asyncio.create_task(streams.create("t", data=b"x")),
        asyncio.create_task(streams.append("s", b"perhaps;")),
    ]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    with never_closed:
        del streams, leaving, task
        while inside(tmp_path):  # the creation goes on to its end, and holds them
            gc.collect()
            await asyncio.sleep(0)
    await everything_goes(tmp_path, before)
    await works(tmp_path)


async def test_the_streams_of_an_open_block_are_nobodys_to_let_go(tmp_path: Path) -> None:
    async with durable_streams.open(tmp_path):  # and not even a name for them
        gc.collect()
        with pytest.raises(DataDirectoryInUse):
            await works(tmp_path)
        assert inside(tmp_path)


async def test_a_tail_keeps_its_streams_open(tmp_path: Path) -> None:
    tail = (await opened(tmp_path)).tail("s")
    gc.collect()
    assert (await anext(tail)).data == b"acknowledged;"
    with never_closed:
        del tail
    await works(tmp_path)


async def test_a_cell_that_is_run_again_gets_the_directory(tmp_path: Path) -> None:
    """The name has the old streams until the new ones are there."""
    streams = await opened(tmp_path)
    old = streams
    with never_closed:
        streams = await durable_streams.open(tmp_path).__aenter__()
    assert (await streams.read("s")).data == b"acknowledged;"
    with pytest.raises(NotOpen):
        await old.append("s", b"to nowhere")
    with never_closed:
        del streams


async def test_only_the_same_directory_gives_way(tmp_path: Path) -> None:
    other = await opened(tmp_path / "other")
    async with durable_streams.open(tmp_path / "data"):
        with pytest.raises(DataDirectoryInUse):
            await opened(tmp_path / "data")
    await other.append("s", b"more;")
    with never_closed:
        del other


def run_and_keep(data_dir: Path) -> Streams:
    return asyncio.run(opened(data_dir))


def run_and_drop(data_dir: Path) -> None:
    async def main() -> None:
        await opened(data_dir)

    asyncio.run(main())


def stop_and_keep(data_dir: Path) -> tuple[Streams, asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    return loop.run_until_complete(opened(data_dir)), loop


@pytest.mark.parametrize("leave", [run_and_keep, run_and_drop])
def test_a_program_that_runs_twice_opens_twice(
    tmp_path: Path, leave: Callable[[Path], object]
) -> None:
    with never_closed:
        kept = leave(tmp_path)
        asyncio.run(works(tmp_path))
    if isinstance(kept, Streams):
        with pytest.raises(NotOpen):
            asyncio.run(kept.read("s"))
    asyncio.run(everything_goes(tmp_path, set()))


def test_a_loop_that_has_stopped_closes_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    streams, loop = stop_and_keep(tmp_path)
    with never_closed:
        asyncio.run(works(tmp_path))
    loop.run_until_complete(asyncio.sleep(0))  # what is left on it is told
    loop.run_until_complete(everything_goes(tmp_path, set()))
    loop.close()
    del streams


def test_what_is_dropped_after_its_loop_is_let_go(tmp_path: Path) -> None:
    streams = run_and_keep(tmp_path)
    with never_closed:
        del streams
    asyncio.run(everything_goes(tmp_path, set()))
    asyncio.run(works(tmp_path))


def test_a_closing_that_its_loop_did_not_survive_keeps_nothing(tmp_path: Path) -> None:
    """As after a third Ctrl-C."""
    for turns in range(1, 13):
        loop = asyncio.new_event_loop()
        opening = durable_streams.open(tmp_path)
        streams = loop.run_until_complete(opening.__aenter__())
        loop.run_until_complete(streams.create("s", data=b"acknowledged;"))
        closing = loop.create_task(opening.__aexit__(None, None, None))
        for _ in range(turns):
            loop.run_until_complete(asyncio.sleep(0))
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        loop.close()
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        if closing.done():
            continue
        with never_closed:
            asyncio.run(works(tmp_path))
        del closing, opening, streams, left
    asyncio.run(everything_goes(tmp_path, set()))


async def test_a_child_lets_nothing_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = await opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)  # as after a fork, which threads make unsafe here
        del streams
        await asyncio.to_thread(forgotten.let_go, tmp_path)  # it waits for what others left
    assert inside(tmp_path)
    with never_closed:
        await works(tmp_path)


def test_what_never_lets_go_is_waited_for_once(tmp_path: Path) -> None:
    """As when the loop stops that was to close it."""
    left = forgotten.leaving()
    forgotten.let_go(tmp_path, Tuning(let_go_s=0.01))
    assert left not in forgotten._leaving
    left.set_result(None)
