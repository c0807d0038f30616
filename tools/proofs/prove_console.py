"""Measure what following a stream in the console costs the server (`scripts/prove-console`).

In each round a stream gets so many events a second three times over: with nobody who follows it,
with `curl -N` that reads its events, and with the console in a browser.  What is compared is the
CPU time of the server's process beyond that of nobody; the browser's, curl's and the writer's are
their own.  The order of the three turns from round to round.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from playwright.async_api import async_playwright

from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from playwright.async_api import Browser

PATH: Final = "events"
_JSON: Final = {"Content-Type": "application/json"}
_WRITERS: Final = 8
_EVENT: Final = '{"kind":"order.placed","order":"A-12345","amount":99.95}'
_HAS_COME: Final = """
    (least) => Number(/live · ([\\d,]+)/.exec(
        document.querySelector(".follow-state").textContent)?.[1].replaceAll(",", "")) >= least
"""


def cpu_s(pid: int) -> float:
    """CPU time of a process, all threads, those that have ended too (``clock_getcpuclockid``)."""
    return time.clock_gettime((~pid << 3) | 2)


async def write(server: ServerProcess, rate: int, batch: int) -> None:
    """Append for ever: so many events a second, ``batch`` in one append."""
    pause_s = _WRITERS * batch / rate
    body = f"[{','.join([_EVENT] * batch)}]" if batch > 1 else _EVENT

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + pause_s * number / _WRITERS
        while True:
            await asyncio.sleep(at - loop.time())
            at += pause_s
            async with session.post(server.url(PATH), data=body) as appended:
                appended.raise_for_status()

    async with aiohttp.ClientSession(headers=_JSON) as session:
        await asyncio.gather(*(one(session, number) for number in range(_WRITERS)))


@asynccontextmanager
async def nobody(server: ServerProcess, browser: Browser, rate: int) -> AsyncIterator[None]:
    """Nobody follows."""
    del server, browser, rate
    yield


@asynccontextmanager
async def event_stream(server: ServerProcess, browser: Browser, rate: int) -> AsyncIterator[None]:
    """One reader of events, which has begun."""
    del browser, rate
    url = f"{server.url(PATH)}?offset=now&live=sse"
    run = await asyncio.create_subprocess_exec("curl", "-sN", url, stdout=asyncio.subprocess.PIPE)
    assert run.stdout is not None
    await run.stdout.readline()

    async def drain(stream: asyncio.StreamReader) -> None:
        while await stream.read(65_536):
            pass

    draining = asyncio.create_task(drain(run.stdout))
    try:
        yield
    finally:
        run.terminate()
        await draining
        await run.wait()


@asynccontextmanager
async def console(server: ServerProcess, browser: Browser, rate: int) -> AsyncIterator[None]:
    """The console at the stream, where by now about as many come as are sent."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    page = await context.new_page()
    await page.goto(f"{server.url('__ds/console/')}#/stream/{PATH}")
    await page.wait_for_function(_HAS_COME, arg=rate // 2)
    try:
        yield
    finally:
        await context.close()


WAYS: Final = {"nobody": nobody, "curl -N": event_stream, "console": console}


async def measure(
    server: ServerProcess, browser: Browser, rate: int, seconds: float, way: str
) -> float:
    """Milliseconds of CPU in a second while somebody follows."""
    async with WAYS[way](server, browser, rate):
        before, begin = cpu_s(server.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        return 1000 * (cpu_s(server.pid) - before) / (time.perf_counter() - begin)


async def rounds(
    count: int, seconds: float, rate: int, batch: int, told: Callable[[str], None]
) -> dict[str, list[float]]:
    """What each way took in each round."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(Path(directory) / "data")
        await asyncio.to_thread(server.start)
        async with aiohttp.ClientSession(headers=_JSON) as session:
            (await session.put(server.url(PATH))).raise_for_status()
        writing = asyncio.create_task(write(server, rate, batch))
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--disable-gpu"]
            )
            for number in range(count):
                names = list(WAYS)
                for way in names[number % 3 :] + names[: number % 3]:
                    found[way].append(await measure(server, browser, rate, seconds, way))
                told("   ".join(f"{way} {took[-1]:6.1f}" for way, took in found.items()))
            await browser.close()
        assert not writing.done(), writing.exception()
        writing.cancel()
        await asyncio.to_thread(server.finish)
    return found


def summary(found: dict[str, list[float]]) -> str:
    """The medians, and the ratio of what the console and one reader of events take."""
    alone, events, page = (statistics.median(found[way]) for way in WAYS)
    return (
        f"median, ms of CPU in a second: nobody {alone:.1f}, curl -N {events:.1f}, "
        f"console {page:.1f}\n"
        f"beyond nobody: curl -N {events - alone:.1f}, console {page - alone:.1f}, "
        f"ratio {(page - alone) / max(0.001, events - alone):.2f}; "
        f"in all {page / events:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-console", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="each of the three, this often")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each")
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--batch", type=int, default=1, help="events in one append")
    given = parser.parse_args()
    print("ms of the server's CPU in a second", flush=True)
    found = asyncio.run(
        rounds(given.rounds, given.seconds, given.rate, given.batch, lambda s: print(s, flush=True))
    )
    print(summary(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
