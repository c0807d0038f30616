"""A loop in a thread: interrupted while something opens or closes in it, or ended by a bug."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

import durable_streams
from durable_streams import NotOpen, Settings
from durable_streams.loop_thread import LoopThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Opened:
    """What opens at once, and closes when it is allowed to."""

    def __init__(self) -> None:
        self.is_closing, self.may_close = threading.Event(), threading.Event()
        self.is_closed = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Opened]:
        try:
            yield self
        finally:
            self.is_closing.set()
            while not self.may_close.is_set():
                await asyncio.sleep(0)
            self.is_closed = True


def interrupt_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interruption_does_not_end_the_closing() -> None:
    opened = Opened()
    thread = LoopThread(opened.open())

    def interrupt() -> None:
        opened.is_closing.wait()
        interrupt_ourselves()
        opened.may_close.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        thread.close()
    assert opened.is_closed
    thread.close()


def test_a_second_interruption_ends_the_wait_for_it() -> None:
    opened = Opened()
    thread = LoopThread(opened.open())
    main = threading.get_ident()

    def interrupt_twice() -> None:
        opened.is_closing.wait()
        interrupt_ourselves()
        while "exception" not in functions_in(main):  # which it waits in the second time
            os.sched_yield()
        interrupt_ourselves()

    interrupting = threading.Thread(target=interrupt_twice)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        thread.close()
    interrupting.join()
    assert not opened.is_closed
    opened.may_close.set()
    thread.close()
    assert opened.is_closed


def functions_in(thread: int) -> list[str]:
    """Which functions a thread is in."""
    frame = sys._current_frames().get(thread)
    return [] if frame is None else [one.f_code.co_name for one, _ in traceback.walk_stack(frame)]


def test_an_opening_that_is_interrupted_keeps_nothing(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Watched(threading.Thread):
        def run(self) -> None:
            while "waiting for its end" not in caplog.text:
                os.sched_yield()
            interrupt_ourselves()

    settings = Settings(lock_wait_s=float("inf"))
    with durable_streams.open_sync(data_dir) as streams:
        streams.create("s", data=b"1")
        Watched().start()
        with pytest.raises(KeyboardInterrupt), durable_streams.open_sync(data_dir, settings):
            pass
    with durable_streams.open_sync(data_dir, settings) as streams:
        assert streams.read("s").data == b"1"


def test_whoever_waits_is_told_of_an_end_by_a_bug() -> None:
    opened = Opened()
    opened.may_close.set()
    thread = LoopThread(opened.open())
    assert thread.opened is opened

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    waiting = thread.begin(waits)

    async def ends() -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()  # as the end of a loop does

    thread.call(ends)
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(asyncio.CancelledError):
        thread.close()
    with pytest.raises(NotOpen):
        thread.call(waits)
