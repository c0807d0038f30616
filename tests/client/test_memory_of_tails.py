"""The memory of a program with 1,000 tails: the bound that docs/client.rst states."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.conftest import StartServer

MIB: Final = 1024 * 1024
TAILS: Final = 1000

PROGRAM: Final = f"""
import asyncio, re, resource, sys
from pathlib import Path
import durable_streams

def rss():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

async def main(url, live):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with durable_streams.connect(url, live=live) as streams:
        await streams.create("s", content_type="application/json")

        async def all_have_one_more(tails):
            waiting = [asyncio.ensure_future(anext(tail)) for tail in tails]
            await streams.append_json("s", "x" * 100)
            await asyncio.gather(*waiting)

        some = [streams.tail("s")]
        await all_have_one_more(some)
        before = rss()
        tails = [streams.tail("s", some[0].offset) for _ in range({TAILS})]
        for _ in range(3):
            await all_have_one_more(tails)
        print(rss() - before)

asyncio.run(main(*sys.argv[1:]))
"""


def stated_bytes() -> int:
    """The bound of the page."""
    text = " ".join((ROOT / "docs" / "client.rst").read_text().split())
    found = re.search(r"1,000 tails in one program take less than (\d+) MiB", text)
    assert found is not None
    return int(found[1]) * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_thousand_tails_take_less_than_the_page_says(
    start_server: StartServer, live: str
) -> None:
    server = start_server()
    url = f"{server.base_url}{server.prefix}"
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, live], check=True, capture_output=True, text=True
    )
    assert int(told.stdout) < stated_bytes(), told.stdout
