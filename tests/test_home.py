"""Streams after their end, and away from where they were opened: each use says so, none waits."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import durable_streams
from durable_streams import Draining, NotOpen, OpenedElsewhere, Streams
from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create
from durable_streams.model.offsets import Start
from durable_streams.settings import Settings
from tools.inside import catalog, threads_had_a_turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

ARGUMENTS: Final[dict[str, Any]] = {"path": "s", "source": "s", "data": b"data"}
VERBS: Final = [
    name
    for name, method in vars(Streams).items()
    if not name.startswith("_") and inspect.isfunction(method)
]
VALUES: Final = inspect.Parameter.VAR_POSITIONAL  # of append_json, which may have none
PATIENCE_S: Final = 60


def use(streams: Streams, verb: str) -> Awaitable[Any]:
    """Call a method with what it needs."""
    method = getattr(streams, verb)
    called = method(
        **{
            name: ARGUMENTS[name]
            for name, parameter in inspect.signature(method).parameters.items()
            if parameter.default is parameter.empty and parameter.kind is not VALUES
        }
    )
    return anext(called) if isinstance(called, AsyncIterator) else called


async def refusal(streams: Streams, verb: str) -> Exception:
    with pytest.raises(Exception) as caught:
        await asyncio.wait_for(use(streams, verb), PATIENCE_S)
    return caught.value


async def all_refused(streams: Streams, kind: type[Exception], *words: str) -> None:
    for verb in VERBS:
        error = await refusal(streams, verb)
        assert type(error) is kind, verb
        assert all(word in str(error) for word in words), error


# After the end


@pytest.mark.parametrize("known", [True, False], ids=["cached", "unknown"])
async def test_after_the_end_every_method_says_so(tmp_path: Path, known: bool) -> None:
    async with durable_streams.open(tmp_path) as streams:
        if known:
            await streams.create("s", data=b"data")
    await all_refused(streams, NotOpen, "was closed", "open it again")


async def test_who_waited_for_the_end_of_the_server_need_not_know_another_error(
    tmp_path: Path,
) -> None:
    async with durable_streams.open(tmp_path) as streams:
        pass
    with pytest.raises(Draining):
        await streams.append("s", b"data")


async def test_an_engine_that_is_closed_says_so_to_whoever_has_a_stream(tmp_path: Path) -> None:
    engine = await FileStore.at(tmp_path, Settings())
    await engine.create(Create(("s",)), b"data")
    stream = await engine.open(("s",))
    chunk = await engine.read(stream, Start.BEGINNING)
    await engine.close()
    uses: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: engine.create(Create(("new",)), b""),
        lambda: engine.append(Append(("s",), "application/octet-stream"), b"x"),
        lambda: engine.append(Append(("new",), "application/octet-stream"), b"x"),
        lambda: engine.delete(("s",)),
        lambda: engine.head(("s",)),
        lambda: engine.head(("new",)),
        lambda: engine.open(("s",)),
        lambda: engine.open(("new",)),
        lambda: engine.read(stream, Start.BEGINNING),
        lambda: engine.read(stream, chunk.end, is_end=True),
        lambda: engine.wait(stream, chunk.end, PATIENCE_S),
    ]
    for use_it in uses:
        with pytest.raises(NotOpen):
            await asyncio.wait_for(use_it(), PATIENCE_S)
    with pytest.raises(NotOpen):
        engine.open_now(("s",))
    chunk.release()


async def test_what_was_under_way_at_the_end_says_so(tmp_path: Path) -> None:
    """It had passed every check, and now wants to look at a file."""
    engine = await FileStore.at(tmp_path, Settings())
    known = catalog(engine)
    await engine.close()
    for likely in (True, False):
        with pytest.raises(NotOpen):
            await asyncio.wait_for(known.find(("s",), likely=likely), PATIENCE_S)
    with pytest.raises(NotOpen):
        await threads_had_a_turn(engine)


# Elsewhere


def in_a_thread(function: Callable[[], None]) -> None:
    """Run something in a thread of its own; raises what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=run, name="elsewhere")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


async def test_a_thread_with_a_loop_of_its_own_is_told_how_to_get_to_ours(tmp_path: Path) -> None:
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("s", data=b"data")
        name = threading.current_thread().name

        def elsewhere() -> None:
            words = (f"thread ({name!r})", "asyncio.run_coroutine_threadsafe")
            asyncio.run(all_refused(streams, OpenedElsewhere, *words))

        await asyncio.to_thread(in_a_thread, elsewhere)
        loop = asyncio.get_running_loop()
        read = await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(streams.read("s"), loop).result()
        )
        assert read.data == b"data"


def test_a_loop_that_has_ended_is_told(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opening = durable_streams.open(tmp_path)
    streams = loop.run_until_complete(opening.__aenter__())
    asyncio.run(all_refused(streams, OpenedElsewhere, "another event loop", "open them in"))
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()
    asyncio.run(all_refused(streams, NotOpen, "open it again"))


def test_an_end_in_another_loop_is_refused_and_ends_nothing(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opening = durable_streams.open(tmp_path)
    streams = loop.run_until_complete(opening.__aenter__())
    with pytest.raises(OpenedElsewhere, match="another event loop"):
        asyncio.run(asyncio.wait_for(opening.__aexit__(None, None, None), PATIENCE_S))

    async def end() -> None:
        await streams.create("s")
        await streams.engine.close()

    loop.run_until_complete(end())
    loop.close()


def test_a_loop_that_has_ended_without_closing_is_told(tmp_path: Path) -> None:
    process, told = _started(_forget, tmp_path)
    assert told.recv() == "right"
    process.kill()
    process.join()


def _started(
    function: Callable[[Path, Connection], None], data_dir: Path
) -> tuple[SpawnProcess, Connection]:
    """Run something in a process without threads, which tells a word, or EOF if it died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=function, args=(data_dir, theirs))
    process.start()
    theirs.close()
    return process, ours


def _forget(data_dir: Path, told: Connection) -> None:
    async def opened() -> Streams:
        return await durable_streams.open(data_dir).__aenter__()

    streams = asyncio.run(opened())
    asyncio.run(all_refused(streams, OpenedElsewhere, "event loop", "has ended", "open them in"))
    told.send("right")


def test_a_forked_process_is_told(tmp_path: Path) -> None:
    """In a process that has no other threads, as forking with some is not safe."""
    process, told = _started(_fork, tmp_path)
    assert told.recv() == "right"
    process.join()


def _fork(data_dir: Path, told: Connection) -> None:
    async def main() -> None:
        async with durable_streams.open(data_dir) as streams:
            await streams.create("s", data=b"data")
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                verdict = "it was not refused"
                try:
                    use(streams, "read").__await__().send(None)
                except OpenedElsewhere as error:
                    told_pid = f"another process (pid {parent})" in str(error)
                    verdict = "right" if told_pid else str(error)
                finally:
                    told.send(verdict)
                    os._exit(0)
            os.waitpid(pid, 0)

    asyncio.run(main())


# Inside an application


async def test_an_application_outlives_the_streams_it_was_given(tmp_path: Path) -> None:
    app = web.Application()
    async with durable_streams.open(tmp_path) as streams:
        await streams.create("s", data=b"data")
        durable_streams.mount(app, "/streams", streams=streams)
        client = TestClient(TestServer(app))
        await client.start_server()
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        for path in ("s", "new"):
            headers = {"Content-Type": "application/octet-stream"}
            answer = await client.request(method, f"/streams/{path}", data=b"x", headers=headers)
            assert answer.status == 503, (method, path)
    await client.close()


def test_an_application_in_another_event_loop_does_not_start(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    opening = durable_streams.open(tmp_path)
    streams = loop.run_until_complete(opening.__aenter__())
    app = web.Application()
    durable_streams.mount(app, "/streams", streams=streams)

    async def start() -> None:
        with pytest.raises(OpenedElsewhere, match="another event loop"):
            await web.AppRunner(app).setup()

    asyncio.run(start())
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()
