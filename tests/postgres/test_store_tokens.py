"""Tokens that all nodes share: made, listed and revoked anywhere, they count on every node."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from durable_streams.access.grants import Grant, Kind, Pattern, Scope
from durable_streams.access.token_file import NoSuchToken, TokenExists
from durable_streams.access.token_sources import StoredTokens
from durable_streams.access.tokens import Tokens, Wanted, made
from durable_streams.postgres import heartbeat, versions
from durable_streams.postgres.urls import parse
from tests.access.test_token_commands import done, refused
from tests.postgres.stores import Nodes, nodes_of, until
from tests.store_contract.words import append, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from durable_streams.postgres.transactions import Transaction
    from tests.conftest import StartServer
    from tests.postgres.conftest import Database

ALL = Wanted((Grant(frozenset(Scope), Pattern.parse(Kind.PREFIX, "")),))


@pytest.fixture
async def nodes(database: Database) -> AsyncIterator[Nodes]:
    async with nodes_of(database) as made:
        yield made


async def known_at(nodes: Nodes) -> tuple[StoredTokens, Tokens]:
    stored = StoredTokens(interval_s=0.01)
    await stored.begin((await nodes.node()).tokens)
    return stored, Tokens(stored)


def quiet() -> None:
    """Nothing is to be done."""


async def test_what_one_node_grants_and_revokes_counts_on_the_other(nodes: Nodes) -> None:
    (one, at_one), (two, at_two) = await known_at(nodes), await known_at(nodes)
    token, text = made(ALL)
    changes = asyncio.Queue[None]()
    async with two.running(lambda: changes.put_nowait(None)):
        await one.add(token, quiet_of, quiet)
        assert at_one.principal(text) == token.principal
        await changes.get()
        assert at_two.principal(text) == token.principal
        await one.remove(token.id, quiet_of, quiet)
        assert at_one.principal(text) is None
        await changes.get()
        assert at_two.principal(text) is None
        assert at_two.as_now(token.principal) is None


def quiet_of(_: object) -> None:
    """Everything is allowed."""


async def test_a_token_of_an_id_that_is_there_is_refused_and_one_that_is_not_is_not_revoked(
    nodes: Nodes,
) -> None:
    one, _ = await known_at(nodes)
    token, _ = made(ALL)
    done: list[str] = []
    await one.add(token, quiet_of, lambda: done.append("added"))
    with pytest.raises(TokenExists):
        await one.add(token, quiet_of, lambda: done.append("again"))
    with pytest.raises(NoSuchToken):
        await one.remove("other", quiet_of, lambda: done.append("removed"))
    assert done == ["added"]
    assert one.value.tokens == (token,)


async def test_tokens_count_as_they_were_while_the_database_is_not_there(nodes: Nodes) -> None:
    stored, known = await known_at(nodes)
    token, text = made(ALL)
    await stored.add(token, quiet_of, quiet)
    async with stored.running(quiet):
        nodes.cluster.primary.pause()
        await until(lambda: known.problem, "it is not read")
        assert known.principal(text) == token.principal
        nodes.cluster.primary.resume()
        await until(lambda: not known.problem, "it is read again")


async def test_a_token_that_was_revoked_meanwhile_counts_no_more_when_a_node_is_not_cut_off(
    nodes: Nodes,
) -> None:
    """Though it has not looked by itself yet."""
    (one, _), store = await known_at(nodes), await nodes.node()
    token, text = made(ALL)
    await one.add(token, quiet_of, quiet)
    stored = StoredTokens()
    await stored.begin(store.tokens)
    known = Tokens(stored)
    assert known.principal(text) == token.principal
    await one.remove(token.id, quiet_of, quiet)
    store._heartbeat.sent_s -= heartbeat.MOST_S  # as if none had been good since
    await until(lambda: store._heartbeat.refusal() is None, "it is not cut off any more")
    assert known.principal(text) is None


async def test_a_bug_in_a_transaction_takes_nothing_of_it_along_with_the_next(
    nodes: Nodes,
) -> None:
    store = await nodes.node()

    async def fails(transaction: Transaction) -> None:
        await transaction.fetch("insert into ds.tokens values ('bug', '0', '')")
        raise ZeroDivisionError

    for _ in range(8):
        with pytest.raises(ZeroDivisionError):
            await store._transactions.run(("room",), fails)
        await create(store, ("room",))
        await append(store, b"x", ("room",))
        await store.delete(("room",))
    await nodes.until("select count(*) from ds.tokens", "0", "nothing is left of it")


def test_the_command_makes_lists_and_revokes_those_of_a_database(database: Database) -> None:
    asyncio.run(versions.initialise(parse(database.url)))
    store = ("--store", database.url)
    new = ("token", "new", *store, "--scope", "read", "--prefix", "", "--id", "web")
    assert done(*new).startswith("dst_web_")
    assert "use another id" in refused(*new)
    (listed,) = done("token", "list", "--json", *store).splitlines()
    assert json.loads(listed)["id"] == "web"
    assert "web" in done("token", "list", DURABLE_STREAMS_STORE=database.url)
    done("token", "revoke", "web", *store)
    assert "no token" in refused("token", "revoke", "web", *store)
    assert "give one of" in refused("token", "list", *store, "--tokens", "tokens.toml")
    password = "postgresql://ds:secret@db/streams"
    assert "secret" not in refused("token", "list", "--store", password)


async def test_nodes_share_tokens_and_a_revocation_ends_what_is_read_live(
    database: Database, start_server: StartServer, tmp_path: Path
) -> None:
    await versions.initialise(parse(database.url))
    new = ("token", "new", "--store", database.url)
    ours = ("--scope", "admin,read,append,create,delete", "--prefix", "")
    admin = (await asyncio.to_thread(done, *new, *ours)).strip()
    options = ("--store", database.url, "--store-tokens")
    one, two = [
        await asyncio.to_thread(start_server, *options, data_dir=tmp_path / name)
        for name in ("one", "two")
    ]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {admin}"}) as client:
        async with client.put(f"{one.base_url}/v1/stream/s", data=b"one") as answer:
            assert answer.status == 201
        wanted = {"id": "reader", "grants": [{"scopes": ["read"], "prefix": "s"}]}
        async with client.post(f"{one.base_url}/v1/stream/__ds/tokens", json=wanted) as answer:
            assert answer.status == 201
            reader = (await answer.json())["token"]
        mine = {"Authorization": f"Bearer {reader}"}
        stream = f"{two.base_url}/v1/stream/s"
        while True:
            async with client.get(stream, headers=mine) as answer:
                if answer.status == 200:
                    break
                assert answer.status == 401
        live = await client.get(f"{stream}?offset=-1&live=sse", headers=mine)
        assert live.status == 200
        at_one = f"{one.base_url}/v1/stream/__ds/tokens/reader"
        async with client.delete(at_one) as answer:
            assert answer.status == 204
        await live.content.read()  # to its end
        async with client.get(stream, headers=mine) as answer:
            assert answer.status == 401
