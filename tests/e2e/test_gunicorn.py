"""Under gunicorn, which forks workers that may be killed, and serves from one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

import durable_streams
from tests.programs import free_port
from tests.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S: Final = 60
HEADERS: Final = {"Content-Type": "text/plain"}


class Gunicorn:
    """One that has loaded the application before it forks its worker."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "1"),
                    *("--bind", self.url.removeprefix("http://"), "--graceful-timeout", "20"),
                    *("--worker-class", "aiohttp.GunicornWebWorker", "tests.e2e.preloaded:app"),
                ],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """Ask as soon as a worker answers, and not one that was killed."""
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.request(method, self.url + path, **options) as answer:
                        return answer.status, await answer.read()
                except aiohttp.ClientConnectionError:
                    assert self.process.poll() is None, self.log.read_text()
                    await asyncio.sleep(0.05)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


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
    assert (await gunicorn.ask("PUT", "/streams/s", data=b"a", headers=HEADERS))[0] == 201
    seen = set()
    for number, letter in enumerate((b"b", b"c")):
        _, worker = await gunicorn.ask("GET", "/pid")
        seen.add(worker)
        os.kill(int(worker), signal.SIGKILL)
        producer = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(number)}
        posted = await gunicorn.ask("POST", "/streams/s", data=letter, headers=HEADERS | producer)
        assert posted[0] in {200, 204}
    assert await gunicorn.ask("GET", "/streams/s") == (200, b"abc")
    assert len(seen) == 2
    gunicorn.process.terminate()
    assert await asyncio.to_thread(gunicorn.process.wait, PATIENCE_S) == 0
    assert "Traceback" not in gunicorn.log.read_text()
    async with durable_streams.open(data_dir) as streams:
        assert (await streams.read("s")).data == b"abc"


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
