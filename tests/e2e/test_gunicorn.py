"""Under gunicorn, which forks workers that may be killed, and serves from one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

import durable_streams
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 60
HEADERS: Final = {"Content-Type": "text/plain"}


class Gunicorn:
    """One that has loaded the application before it forks its worker.

    It is given a socket that listens already, so who asks it waits for a worker to come.
    """

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        number = self.listening.fileno()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "1"),
                    *("--bind", f"fd://{number}", "--graceful-timeout", "20"),
                    *("--worker-class", "aiohttp.GunicornWebWorker", "tests.e2e.preloaded:app"),
                ],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                pass_fds=[number],
                start_new_session=True,
            )

    async def ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, bytes]:
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as client,
            client.request(method, self.url + path, data=data, headers=HEADERS) as answer,
        ):
            return answer.status, await answer.read()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.listening.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Gunicorn] = []

    def begin(**environment: str) -> Gunicorn:
        started.append(Gunicorn(tmp_path / "log", **environment))
        return started[-1]

    yield begin
    for gunicorn in started:
        gunicorn.end()


async def test_a_worker_s_successor_has_what_the_worker_that_was_killed_acknowledged(
    data_dir: Path, start: Any
) -> None:
    gunicorn = start(STORE=str(data_dir))
    assert (await gunicorn.ask("PUT", "/streams/s", b"a"))[0] == 201
    seen = set()
    for letter in (b"b", b"c"):
        _, worker = await gunicorn.ask("GET", "/pid")
        seen.add(worker)
        os.kill(int(worker), signal.SIGKILL)
        assert (await gunicorn.ask("POST", "/streams/s", letter))[0] == 204
    assert await gunicorn.ask("GET", "/streams/s") == (200, b"abc")
    assert len(seen) == 2
    gunicorn.process.terminate()
    assert await asyncio.to_thread(gunicorn.process.wait, PATIENCE_S) == 0
    assert "Traceback" not in gunicorn.log.read_text()
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data == b"abc"


async def test_a_worker_that_comes_before_the_last_one_has_ended_waits_for_it(
    data_dir: Path, start: Any
) -> None:
    gunicorn = start(STORE=str(data_dir))
    assert (await gunicorn.ask("PUT", "/streams/s", b"a"))[0] == 201
    _, first = await gunicorn.ask("GET", "/pid")
    gunicorn.process.send_signal(signal.SIGHUP)  # a new worker is started, then the old one stopped
    async with asyncio.timeout(PATIENCE_S):
        while (await gunicorn.ask("GET", "/pid"))[1] == first:
            pass
    assert (await gunicorn.ask("POST", "/streams/s", b"b"))[0] == 204
    assert await gunicorn.ask("GET", "/streams/s") == (200, b"ab")
    gunicorn.process.terminate()
    assert await asyncio.to_thread(gunicorn.process.wait, PATIENCE_S) == 0
    assert "Traceback" not in gunicorn.log.read_text()


async def test_a_worker_is_told_that_the_streams_are_its_master_s(
    data_dir: Path, start: Any
) -> None:
    gunicorn = start(MASTER=str(data_dir))
    assert await asyncio.to_thread(gunicorn.process.wait, PATIENCE_S) != 0
    master = gunicorn.process.pid
    assert f"OpenedElsewhere: the streams were opened in another process (pid {master})" in (
        gunicorn.log.read_text()
    )
    async with durable_streams.open(data_dir):
        pass
