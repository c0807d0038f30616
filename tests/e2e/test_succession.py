"""A successor waits for its predecessor: each a process of its own, which is stopped or killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams import DataDirectoryError, DataDirectoryInUse, Settings
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND: Final = [sys.executable, "-W", "default", "-m", "durable_streams"]
OPENS: Final = """
import asyncio, sys
import durable_streams

async def main() -> None:
    settings = durable_streams.Settings(lock_wait_s=60)
    async with durable_streams.open(sys.argv[1], settings) as streams:
        await streams.create("s")
        await streams.append("s", sys.argv[2].encode())
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


class Program:
    """One that opens a data directory, appends a letter, says so, and closes when it is told to."""

    def __init__(self, data_dir: Path, letter: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPENS, str(data_dir), letter],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def complained(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> None:
        _, complaints = self.process.communicate("now\n")
        assert (self.process.returncode, complaints) == (0, "")


@contextmanager
def programs(data_dir: Path, letters: str) -> Iterator[list[Program]]:
    """The first one is open, and the others begin."""
    started: list[Program] = []
    with ExitStack() as ends:
        for letter in letters:
            program = Program(data_dir, letter)
            ends.enter_context(program.process)
            ends.callback(program.process.kill)
            started.append(program)
            if len(started) == 1:
                assert program.said() == "open\n"
        yield started


@pytest.mark.parametrize("is_killed", [True, False])
async def test_it_opens_when_the_one_before_has_ended(data_dir: Path, is_killed: bool) -> None:
    with programs(data_dir, "ab") as (first, second):
        waits = second.complained()
        assert f"{data_dir} is in use by another server (pid {first.process.pid})" in waits
        assert waits.endswith("waiting for its end, up to 60 s in all\n")
        if is_killed:
            first.process.kill()
        else:
            first.end()
        assert second.said() == "open\n"
        second.end()
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data == b"ab"


async def test_several_have_it_one_after_the_other(data_dir: Path) -> None:
    with programs(data_dir, "abcdef") as started:
        for program in started[1:]:
            assert "waiting for its end" in program.complained()
        started[0].process.kill()
        for program in started[1:]:
            # Whoever has it ends at once, as nothing more comes on stdin.
            assert program.process.stdin is not None
            program.process.stdin.close()
        for program in started[1:]:
            assert program.said() == "open\n"
            assert program.process.wait() == 0
    async with durable_streams.open(data_dir) as streams:
        data = (await streams.read("s")).data
        assert data[:1] == b"a"
        assert sorted(data) == sorted(b"abcdef")


async def test_who_waits_in_vain_is_told_the_ways_out(data_dir: Path) -> None:
    with programs(data_dir, "a") as (first,):
        for wait_s, told in ((0.0, ""), (0.3, "waited 0.3 s for nothing: ")):
            with pytest.raises(DataDirectoryInUse) as caught:
                async with durable_streams.open(data_dir, Settings(lock_wait_s=wait_s)):
                    pass
            assert caught.value.pid == first.process.pid
            assert str(caught.value).startswith(f"{told}the data directory {data_dir} is in use")
            for way in ("stop it first", "lock_wait_s", "one server", "HTTP", "PostgreSQL"):
                assert way in str(caught.value)
        first.end()


async def test_who_waits_can_be_cancelled_and_leaves_nothing(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(lock_wait_s=float("inf"))

    async def open_it() -> None:
        async with durable_streams.open(data_dir, settings):
            pass

    with programs(data_dir, "a") as (first,):
        for number in range(1, 4):
            waiting = asyncio.create_task(open_it())
            while caplog.text.count("waiting for its end, however long that takes") < number:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        first.end()
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data == b"a"


async def test_who_waits_begins_no_other_directory_in_its_place(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def open_it() -> None:
        async with durable_streams.open(data_dir, Settings(lock_wait_s=float("inf"))):
            pass

    with programs(data_dir, "a") as (first,):
        waiting = asyncio.create_task(open_it())
        while "waiting for its end" not in caplog.text:
            await asyncio.sleep(0)
        data_dir.rename(data_dir.with_name("moved"))  # to restore a backup, say
        with pytest.raises(
            DataDirectoryError, match="was there while we waited for it, and is gone"
        ):
            await waiting
        assert not data_dir.exists()
        first.process.kill()
    data_dir.with_name("moved").rename(data_dir)
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data == b"a"


async def test_what_is_wrong_is_told_at_once_by_whoever_would_wait(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "FORMAT.json").write_bytes(b"{")
    (data_dir / "loop").symlink_to("loop")
    for place, told in (
        (data_dir, "unreadable"),
        (data_dir / "FORMAT.json", "is not a directory"),
        (data_dir / "loop", "cannot open"),
    ):
        with pytest.raises(DataDirectoryError, match=told):
            async with durable_streams.open(place, Settings(lock_wait_s=float("inf"))):
                pass


async def test_it_waits_for_a_task_of_its_own_process_as_well(data_dir: Path) -> None:
    async def use(letter: bytes) -> None:
        async with durable_streams.open(data_dir, Settings(lock_wait_s=60)) as streams:
            await streams.create("s")
            await streams.append("s", letter)
            for _ in range(10):
                await asyncio.sleep(0)

    await asyncio.gather(use(b"a"), use(b"b"), use(b"c"))
    async with durable_streams.open(data_dir) as streams:
        assert sorted((await streams.read("s")).data) == sorted(b"abc")


@contextmanager
def server(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", str(data_dir), "--port", "0", "--lock-wait", "60"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_serves_when_the_one_before_has_ended(
    data_dir: Path, number: signal.Signals
) -> None:
    with server(data_dir) as first:
        assert ": listening on " in said(first)
        with server(data_dir) as second:
            waits = line_of(second)
            assert f"another server (pid {first.pid}): waiting for its end" in waits
            first.send_signal(number)
            assert ": listening on " in said(second)
            second.terminate()
            assert second.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_waits_ends_when_it_is_told_to(
    data_dir: Path, number: signal.Signals
) -> None:
    with programs(data_dir, "a") as (first,), server(data_dir) as waits:
        assert "waiting for its end" in line_of(waits)
        waits.send_signal(number)
        assert waits.wait() == 0
        assert waits.stderr is not None
        assert waits.stderr.read().endswith(f"INFO stopping signal={number.name}\n")
        first.end()
