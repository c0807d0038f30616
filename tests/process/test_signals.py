"""Signals, and a log that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from durable_streams.process.output_queue import MAX_WAITING_BYTES
from tests.process.commands import COMMAND
from tests.test_cli import request
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartServer
    from tests.process.conftest import StartQuietServer


@pytest.fixture
def unread() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads, and that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("name", "loop"), [(1, "asyncio"), (2, "asyncio"), (2, "uvloop")])
def test_a_server_goes_on_and_ends_while_nobody_reads_what_it_says(
    start_quiet_server: StartQuietServer, unread: tuple[int, int], name: int, loop: str
) -> None:
    _, writer = unread
    options = ("--access-log", "--loop", loop)
    server = start_quiet_server(f"{name}>&{writer}", *options, pass_fds=(writer,))
    assert request("PUT", server.url("a"), b"x")[0] == 201
    assert request("GET", server.url("a")) == (200, b"x")
    server.process.send_signal(signal.SIGHUP)
    assert request("GET", server.url("a")) == (200, b"x")
    assert server.stop() == 0


def test_lines_that_nobody_reads_are_dropped_counted_and_told(
    start_quiet_server: StartQuietServer, unread: tuple[int, int]
) -> None:
    reader, writer = unread
    server = start_quiet_server(f"2>&{writer}", "--access-log", pass_fds=(writer,))
    url = server.url("none?last=") + "x" * 8000
    lines = MAX_WAITING_BYTES // 8000 + 100
    for _ in range(lines):
        assert request("GET", url)[0] == 404
    shown = b""
    while b" WARNING dropped " not in shown:
        shown += os.read(reader, 65536)
    told = int(shown.rpartition(b" WARNING dropped ")[2].split()[0])
    assert 0 < told < lines
    server.process.terminate()
    while b"signal=SIGTERM\n" not in shown:
        shown += os.read(reader, 65536)
    assert server.process.wait() == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_hangup_is_said_and_ends_nothing(start_server: StartServer, loop: str) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        server = start_server("--loop", loop)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.kill(server.pid, signal.SIGHUP)
    assert request("PUT", server.url("a"), b"hello")[0] == 201
    assert server.stop() == 0
    assert "the settings were read again; none has changed" in server.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_takes_long(data_dir: Path, number: signal.Signals) -> None:
    data_dir.mkdir()
    os.mkfifo(data_dir / "FORMAT.json")  # whoever opens it waits for somebody who writes
    with subprocess.Popen(
        [*COMMAND, "serve", "--data-dir", str(data_dir), "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"DURABLE_STREAMS_NO_SUCH_SETTING": "1"},
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert b"NO_SUCH_SETTING" in process.stderr.readline()  # it has taken over the signals
        process.send_signal(number)
        assert process.stderr.read().endswith(f"INFO stopping signal={number.name}\n".encode())
        assert process.wait() == 0


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT,) * 2])
def test_a_second_signal_ends_a_start_that_heeds_no_first(
    data_dir: Path, numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    first, second = numbers
    program = f"""
import asyncio, contextlib, sys
from durable_streams import cli
from durable_streams.process import serving
async def goes_on(*arguments):
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.to_thread(sys.stderr.write, "opening\\n")
serving._open = goes_on
sys.exit(cli.main(["serve", "--port", "0", "--data-dir", {str(data_dir)!r}]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "opening\n"
        process.send_signal(first)
        lines = iter(process.stderr.readline, "")
        assert any(line.endswith(f"INFO stopping signal={first.name}\n") for line in lines)
        process.send_signal(second)
        assert set(process.stderr) <= {"opening\n"}
        assert process.wait() == 128 + second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_when_all_is_done_changes_nothing(
    data_dir: Path, number: signal.Signals
) -> None:
    program = f"""
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), {int(number)})  # after all that was registered later
from durable_streams import cli
from durable_streams.process import serving
begin = serving._open
def interrupted(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return begin(*arguments)
serving._open = interrupted
sys.exit(cli.main(["serve", "--port", "0", "--data-dir", {str(data_dir)!r}]))
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_what_is_asked_to_stop_while_it_starts_says_nothing_of_serving(data_dir: Path) -> None:
    program = f"""
import os, signal, sys
from durable_streams import cli
from durable_streams.process import serving
begin = serving._open
def interrupted(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return begin(*arguments)
serving._open = interrupted
sys.exit(cli.main(["serve", "--port", "0", "--data-dir", {str(data_dir)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("INFO stopping signal=SIGTERM\n")
