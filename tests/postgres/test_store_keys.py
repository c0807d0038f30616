"""Keys of signed URLs that all nodes share: made and removed anywhere, they count on every node."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from durable_streams.postgres import key_rows, versions
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.token_changes import change_alone
from durable_streams.postgres.urls import parse
from tests.access.test_token_commands import done
from tests.command_line import run_here
from tests.postgres.test_store_commands import configured

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.postgres.token_rows import Fetch
    from tests.conftest import StartServer
    from tests.postgres.conftest import Database


def here(*arguments: str, **variables: str) -> list[str]:
    ran = run_here(*arguments, **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def refused_here(*arguments: str) -> str:
    ran = run_here(*arguments)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    return ran.stderr


def test_the_commands_make_list_and_remove_keys_of_a_database(database: Database) -> None:
    asyncio.run(versions.initialise(parse(database.url)))
    store = ("--store", database.url)
    here("token", "new", *store, "--scope", "read", "--prefix", "", "--id", "web")
    sign = ("sign-url", "http://host/v1/stream/s", "--token", "web", "--expires", "1h")
    assert "there is no key" in refused_here(*sign, *store)
    (first,) = here("signing-key", "new", *store)
    (second,) = here("signing-key", "new", DURABLE_STREAMS_STORE=database.url)
    assert here("signing-key", "list", *store) == [second, first]
    assert f"signed=1.{second}.web." in here(*sign, *store)[0]
    assert "there is no key" in refused_here("signing-key", "remove", "other", *store)
    here("signing-key", "remove", second, *store)
    assert here("signing-key", "list", *store) == [first]
    assert f"signed=1.{first}.web." in here(*sign, *store)[0]
    both = ("signing-key", "new", *store, "--signing-keys", "keys.toml")
    assert "give one of" in refused_here(*both)


async def test_nodes_take_urls_signed_anywhere_until_the_key_is_removed(
    database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    await versions.initialise(parse(database.url))
    store = ("--store", database.url)
    everything = ("--scope", "admin,read,append,create,delete", "--prefix", "", "--id", "all")
    token = (await asyncio.to_thread(done, "token", "new", *store, *everything)).strip()
    one, two = [
        await asyncio.to_thread(start_server, *store, "--store-tokens", data_dir=tmp_path / name)
        for name in ("one", "two")
    ]
    mine = {"Authorization": f"Bearer {token}"}
    wanted = {"path": "s", "expires": "2099-01-31T00:00:00Z"}
    async with aiohttp.ClientSession() as client:

        async def signed_by_one() -> tuple[int, str]:
            signing = f"{one.base_url}/v1/stream/__ds/signed-urls"
            async with client.post(signing, json=wanted, headers=mine) as answer:
                text = await answer.text()
                return answer.status, json.loads(text)["signed"] if answer.status == 201 else text

        async with client.put(f"{one.base_url}/v1/stream/s", data=b"one", headers=mine) as answer:
            assert answer.status == 201
        assert await signed_by_one() == (403, "the server has no key to sign URLs with\n")
        key = (await asyncio.to_thread(done, "signing-key", "new", *store)).strip()
        while (signed := await signed_by_one())[0] == 403:
            pass
        assert signed[1].startswith(f"1.{key}.all.")
        stream = f"{two.base_url}/v1/stream/s"
        by_command = ("sign-url", stream, *store, "--token", "all", "--expires", "1h")
        urls = [
            f"{stream}?signed={signed[1]}",
            (await asyncio.to_thread(done, *by_command)).strip(),
        ]
        for url in urls:
            while True:
                async with client.get(url) as answer:
                    if answer.status == 200:
                        assert await answer.read() == b"one"
                        break
                    assert answer.status == 401
        live = await client.get(f"{urls[1]}&offset=-1&live=sse")
        assert live.status == 200
        await asyncio.to_thread(done, "signing-key", "remove", key, *store)
        await live.content.read()  # to its end
        for url in urls:
            async with client.get(url) as answer:
                assert answer.status == 401


async def test_a_change_is_not_done_for_sure_where_commits_wait_for_none_meanwhile(
    database: Database,
) -> None:
    url = parse(database.url)
    await versions.initialise(url)
    primary = database.cluster.primary

    async def work(fetch: Fetch) -> None:
        await key_rows.removed(fetch, "some", lambda _: None)
        await asyncio.to_thread(primary.configure, synchronous_standby_names="")

    with (
        configured(database.cluster, synchronous_standby_names=database.cluster.quorum),
        pytest.raises(NoDatabase, match=r"whether it was done is not known .*: look at the list"),
    ):
        await change_alone(url, work)
