"""Programs that fork while they have streams open; each is run in a process of its own.

``python forking.py PROGRAM LOOP DIRECTORY ...``: LOOP is asyncio or uvloop.  A program prints what
the test looks at, a JSON value on each line.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from aiohttp import ClientSession, web

import durable_streams
from durable_streams import OpenedElsewhere, Streams, Tail
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.model.offsets import Start
from tools.descriptors import open_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

ARGUMENTS: Final[dict[str, Any]] = {"path": "s", "source": "s", "data": b"data"}
FDINFO: Final = Path("/proc/self/fdinfo")
ENDED: Final = 7
"""The exit status of a child that ends as it means to."""


def tell(value: object) -> None:
    """Print what the test looks at, in one write, whatever other process does so."""
    os.write(1, json.dumps(value).encode() + b"\n")


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_for_ever() -> object:
    while True:
        signal.pause()


def forked(child: Callable[[], object]) -> int:
    """Start a child that does something, tells what failed, and ends without any ado."""
    pid = os.fork()
    if pid:
        return pid
    try:
        child()
        os._exit(ENDED)
    except BaseException as error:
        tell(f"{type(error).__name__}: {error}")
        raise
    finally:
        os._exit(1)


def method_calls(streams: Streams) -> dict[str, Callable[[], Awaitable[Any]]]:
    """A call of each method of ``Streams``."""

    def call(name: str) -> Awaitable[Any]:
        method = getattr(streams, name)
        parameters = inspect.signature(method).parameters.values()
        needed = {
            p.name: ARGUMENTS[p.name]
            for p in parameters
            if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        }
        called = method(**needed)
        return anext(called) if isinstance(called, Tail) else called

    return {
        name: partial(call, name)
        for name, method in vars(Streams).items()
        if not name.startswith("_") and inspect.isfunction(method)
    }


async def is_whole(streams: Streams) -> bool:
    """Whether the store of the parent works: what needs its threads, and what needs its loop."""
    await streams.append("s", b"more")
    await asyncio.to_thread(os.getpid)
    return (await streams.read("s")).data.endswith(b"more")


# How a child may end


async def leave(data_dir: Path, way: str) -> None:
    """A child leaves the block in which the streams are open; the parent goes on, and closes."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s", data=b"data")
        await asyncio.to_thread(os.getpid)  # the loop has an executor of its own as well
        following = asyncio.create_task(streams.read("s", "now", live=True, timeout_s=60))
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        pid = os.fork()
        if pid == 0:
            atexit.register(tell, "atexit")
            if way == "exit":
                sys.exit(ENDED)
            elif way == "error":
                raise ZeroDivisionError
            elif way == "_exit":
                os._exit(ENDED)
            elif way == "cancelled":
                task.cancel()
                await asyncio.sleep(0)
            return  # from within the block: its normal end
        tell(["status", status_of(pid)])
        tell(["whole", await is_whole(streams)])
        await following
    tell(["closed", not (await reopened(data_dir)).closed])


async def reopened(data_dir: Path) -> durable_streams.Metadata:
    async with durable_streams.open(data_dir) as streams:
        return await streams.get_metadata("s")


async def leave_beside_ended_loops(data_dir: Path) -> None:
    """The parent keeps loops that have ended, and in which it had streams open."""

    async def use_once() -> asyncio.AbstractEventLoop:
        async with durable_streams.open(data_dir.with_name("other")):
            return asyncio.get_running_loop()

    ended = [await asyncio.to_thread(asyncio.run, use_once()) for _ in range(5)]
    await leave(data_dir, "exit")
    assert all(loop.is_closed() for loop in ended)


def counters() -> list[str]:
    """The ids of the system's counters of events (``eventfd``) that are open, if it has some."""
    found: list[str] = []
    for file in list(FDINFO.iterdir()):
        with suppress(FileNotFoundError):  # what the directory was read by
            found += re.findall(r"eventfd-id: *(\d+)", file.read_text())
    return sorted(found)


async def wake(data_dir: Path) -> None:
    """What wakes the loop of the parent is not read by a child."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s")  # by now threads have woken the loop
        tell(counters())
        status_of(forked(lambda: tell(counters())))


async def signal_child(data_dir: Path) -> None:
    """A child gets a signal that the parent handles in its loop."""
    handled: list[str] = []
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, handled.append, "handled")
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s")
        lives, told = os.pipe()

        def live() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            os.write(told, b".")
            while signal.SIGTERM not in signal.sigpending():
                os.sched_yield()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # here it comes
            os.write(told, b".")
            signal.pause()

        pid = forked(live)
        os.close(told)
        os.read(lives, 1)  # before that it may be a copy of the parent still
        os.kill(pid, signal.SIGTERM)
        os.read(lives, 1)  # it has got the signal, or has ended by it
        for _ in range(10):  # what the loop has been woken for is handled in one or two turns
            await asyncio.sleep(0)
        tell(["whole", await is_whole(streams)])
        os.kill(pid, signal.SIGKILL)
        status_of(pid)
    tell(["handled", handled])


async def leave_application(data_dir: Path) -> None:
    """A child leaves the handler of an application that has the streams mounted."""

    async def fork_in(_request: web.Request) -> web.Response:
        pid = os.fork()
        if pid == 0:
            sys.exit(ENDED)
        return web.json_response(await asyncio.to_thread(status_of, pid))

    app = web.Application()
    app.router.add_get("/fork", fork_in)
    durable_streams.mount(app, "/streams", data_dir=data_dir)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with ClientSession(f"http://127.0.0.1:{port}") as client:
        async with client.get("/fork") as answer:
            tell(["status", await answer.json()])
        async with client.put("/streams/s", data=b"x") as answer:
            tell(["put", answer.status])
    await runner.cleanup()
    tell(["closed", not (await reopened(data_dir)).closed])


async def leave_pools(data_dir: Path, method: str) -> None:
    """Pools, and a process of ``multiprocessing``, are used and end while streams are open."""
    context = multiprocessing.get_context(method)
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s", data=b"data")
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            jobs = [loop.run_in_executor(executor, abs, -number) for number in range(8)]
            tell(["executor", await asyncio.gather(*jobs)])
        with context.Pool(2) as pool:
            tell(["pool", await asyncio.to_thread(pool.map, abs, [-1, -2])])
            pool.close()
            await asyncio.to_thread(pool.join)
        process: Any = context.Process(target=sys.exit, args=(ENDED,))  # type: ignore[attr-defined]
        process.start()
        await asyncio.to_thread(process.join)
        tell(["process", process.exitcode])
        tell(["whole", await is_whole(streams)])


# What a child may do


async def use(data_dir: Path) -> None:
    """A child uses the streams in every way, in a loop of its own and in the copy of the loop."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s", data=b"data")
        engine = streams.engine
        chunk = await engine.read(await engine.open(("s",)), Start.BEGINNING)
        calls = {**method_calls(streams), "engine.close": engine.close}

        async def all_refused() -> None:
            for name, call in calls.items():
                try:
                    called: Any = call()
                    await (anext(called) if hasattr(called, "__anext__") else called)
                    tell([name, "was not refused"])
                except OpenedElsewhere as error:
                    tell([name, str(error)])

        if (pid := os.fork()) == 0:
            await all_refused()
            os._exit(ENDED)
        tell(["status", status_of(pid)])

        def in_a_loop_of_its_own() -> None:
            asyncio._set_running_loop(None)
            asyncio.run(all_refused())
            chunk.release()

        tell(["status", status_of(forked(in_a_loop_of_its_own))])
        chunk.release()
        tell(["whole", await is_whole(streams)])


async def open_own(data_dir: Path) -> None:
    """A child opens a directory of its own; the parent's is refused, and free at its end."""
    pipe, told = os.pipe()

    def child() -> None:
        asyncio._set_running_loop(None)
        asyncio.run(own())

    async def own() -> None:
        async with durable_streams.open(data_dir.with_name("own")) as streams:
            await streams.create("s", data=b"own")
            tell(["own", (await streams.read("s")).data.decode()])
        try:
            await reopened(data_dir)
        except durable_streams.DataDirectoryInUse as error:
            tell(["refused", error.pid == os.getppid(), str(error)])
        tell("tried")
        os.read(pipe, 1)
        tell(["opened", (await reopened(data_dir)).path])

    async with durable_streams.open(data_dir) as streams:
        await streams.create("s", data=b"data")
        pid = forked(child)
        tell(["whole", await is_whole(streams)])
        await asyncio.to_thread(sys.stdin.readline)  # until it has been refused
    os.write(told, b"x")
    tell(["status", status_of(pid)])


# What a child has


async def idle(data_dir: Path, how: str) -> None:
    """Children idle, and tell what they have open; then this process waits to be killed."""
    async with durable_streams.open(data_dir) as streams:
        for number in range(20):
            await streams.create(f"s/{number}", data=b"data")
    other = data_dir.with_name("other").open("wb")  # of the program: that is none of our business
    # Now all is in files, and nothing opens one while we fork but what is awaited.
    async with durable_streams.open(data_dir) as streams:
        for number in range(20):
            await streams.read(f"s/{number}")
        # Closed in each child as soon as that is itself, or another program.
        lives, told = os.pipe()

        def live() -> None:
            os.close(told)
            wait_for_ever()

        def live_with_a_child() -> None:
            forked(live)
            live()

        if how == "fork":
            pids = [forked(live) for _ in range(3)]
        elif how == "thread":
            pids = [await asyncio.to_thread(forked, live)]
        elif how == "grandchild":
            pids = [forked(live_with_a_child)]
        elif how == "subprocess":
            pids = [
                subprocess.Popen(["sleep", "600"], close_fds=False).pid,
                os.posix_spawn("/bin/sleep", ["sleep", "600"], os.environ),
                forked(lambda: os.execv("/bin/sleep", ["sleep", "600"])),
            ]
        else:
            context = multiprocessing.get_context(how)
            executor = ProcessPoolExecutor(2, mp_context=context)
            await asyncio.get_running_loop().run_in_executor(executor, abs, -1)
            pids = list(executor._processes)
        os.close(told)
        if how in {"fork", "thread", "grandchild", "subprocess"}:  # pools have worked by now
            await asyncio.to_thread(os.read, lives, 1)
        tell(pids)
        await asyncio.Event().wait()
    other.close()


async def closed_beside(data_dir: Path) -> None:
    """The streams are closed while a child idles, and opened again."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s")
        pid = forked(wait_for_ever)
    tell(["closed", not (await reopened(data_dir)).closed])
    os.kill(pid, signal.SIGKILL)
    status_of(pid)


async def at_the_limit(data_dir: Path) -> None:
    """The same, but the process had no descriptor left when it forked."""
    async with durable_streams.open(data_dir) as streams:
        await streams.create("s")
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        taken = []
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        pid = forked(wait_for_ever)
        for number in taken:
            os.close(number)
    tell(["closed", not (await reopened(data_dir)).closed])
    os.kill(pid, signal.SIGKILL)
    status_of(pid)


async def fork_while_opening(data_dir: Path) -> None:
    """Children come to be while another thread opens and closes the directory."""
    is_enough, pids = threading.Event(), []
    begun, begins = os.pipe()

    def open_and_close() -> None:
        while not is_enough.is_set():
            DataDirectory.open(Disk(), data_dir).close()

    def begin() -> None:
        os.write(begins, b".")
        wait_for_ever()

    thread = threading.Thread(target=open_and_close)
    thread.start()
    for _ in range(150):
        pids.append(forked(begin))  # noqa: PERF401 - each of them while it goes on
    is_enough.set()
    thread.join()
    with suppress(durable_streams.DataDirectoryError):
        DataDirectory.open(Disk(), data_dir).close()
        tell("opened")
    for _ in pids:
        os.read(begun, 1)  # a child that has come to be is as Python's hooks left it
    tell([name for pid in pids for name in open_now(pid) if name.startswith(f"{data_dir}/LOCK")])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        status_of(pid)


PROGRAMS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "leave": leave,
    "leave-application": leave_application,
    "leave-beside-ended-loops": leave_beside_ended_loops,
    "signal-child": signal_child,
    "wake": wake,
    "leave-pools": leave_pools,
    "use": use,
    "open-own": open_own,
    "idle": idle,
    "closed-beside": closed_beside,
    "at-the-limit": at_the_limit,
    "fork-while-opening": fork_while_opening,
}


def main(program: str, loop: str, directory: str, *options: str) -> None:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(PROGRAMS[program](Path(directory), *options))


if __name__ == "__main__":
    main(*sys.argv[1:])
