"""The console of streams in a database, which several servers serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from durable_streams.postgres import versions
from durable_streams.postgres.urls import parse
from tests.browser.consoles import console, put
from tools.postgres_cluster import PostgresCluster, in_memory

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium", "postgres")


async def test_nodes_and_the_database_are_on_the_overview(
    start_server: StartServer, chromium: Browser, tmp_path: Path
) -> None:
    with PostgresCluster(standbys=0, directory=in_memory()) as cluster:
        cluster.primary.query("create database streams")
        url = cluster.primary.url("streams")
        await versions.initialise(parse(url))
        stored = ("--store", url, "--store-allow-unreplicated")
        one, other = [
            await asyncio.to_thread(start_server, *stored, data_dir=tmp_path / name)
            for name in ("one", "other")
        ]
        await put(one, "a", {"n": 1})
        async with console(chromium, other, "#/overview") as page:
            await expect(page.get_by_text("All is well")).to_be_visible()
            await expect(page.get_by_text("The streams are in a database.")).to_be_visible()
            nodes = page.get_by_role("region", name="Nodes").get_by_role("row")
            await expect(nodes).to_have_count(3)
            await expect(nodes.filter(has_text="(this one)")).to_have_count(1)
            # What one of them is given the other shows as it comes.
            await page.get_by_role("link", name="Streams", exact=True).click()
            await page.get_by_role("link", name="a", exact=True).click()
            await expect(page.get_by_role("option")).to_have_count(1)
            await put(one, "a", {"n": 2})
            await expect(page.get_by_role("option")).to_have_count(2)
        for server in (one, other):
            assert server.stop() == 0
