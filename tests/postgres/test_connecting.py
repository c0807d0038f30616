"""Finding the host that takes writes among those of a URL."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.sessions import Session
from durable_streams.postgres.urls import parse
from tools.postgres_cluster import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres.conftest import Database
    from tools.postgres_cluster import PostgresCluster


@pytest.fixture
def ways(database: Database) -> Iterator[list[Proxy]]:
    """To the standby and to the primary, in this order."""
    nodes = (database.cluster.standbys[0], database.cluster.primary)
    proxies = [Proxy(node.port) for node in nodes]
    yield proxies
    for proxy in proxies:
        proxy.close()


def hosts_of(ways: list[Proxy], database: Database) -> Hosts:
    named = ",".join(f"127.0.0.1:{way.port}" for way in ways)
    return Hosts(parse(f"postgresql://postgres@{named}/{database.name}"))


async def test_whoever_took_writes_is_asked_first_the_next_time(
    database: Database, ways: list[Proxy]
) -> None:
    hosts = hosts_of(ways, database)
    (await hosts.connect()).terminate()
    (await hosts.connect()).terminate()
    assert ways[0].connections == 1


async def test_all_are_asked_again_when_that_one_is_gone(
    database: Database, ways: list[Proxy]
) -> None:
    hosts = hosts_of(ways, database)
    (await hosts.connect()).terminate()
    ways[1].cut()
    with pytest.raises(NoDatabase) as caught:
        await hosts.connect()
    assert f"127.0.0.1:{ways[0].port}/{database.name} takes no writes" in str(caught.value)
    assert f"127.0.0.1:{ways[1].port}/{database.name}: " in str(caught.value)
    ways[0].lead_to(database.cluster.primary.port)  # as after a fail-over
    session = await hosts.connect()
    assert await session.fetchval("select not pg_is_in_recovery()")
    session.terminate()


async def test_what_is_wrong_with_several_hosts_is_said_once(cluster: PostgresCluster) -> None:
    dead = [f"127.0.0.1:{port}" for port in (1, 2, 3)]
    url = f"postgresql://postgres@{','.join(dead)}/postgres"
    not_reached = ": it is not reached: look at host and port, and whether it runs"
    with pytest.raises(NoDatabase) as caught:
        await Hosts(parse(url)).connect()
    assert str(caught.value) == f"{url}{not_reached} (Connection refused)"

    standbys = [f"127.0.0.1:{node.port}" for node in cluster.standbys]
    hosts = ",".join([standbys[0], dead[0], standbys[1]])
    with pytest.raises(NoDatabase) as caught:
        await Hosts(parse(f"postgresql://postgres:secret@{hosts}/postgres")).connect()
    assert str(caught.value) == (
        f"postgresql://postgres@{','.join(standbys)}/postgres takes no writes: it is a "
        "standby, or default_transaction_read_only is on; name the primary, or all hosts; "
        f"postgresql://postgres@{dead[0]}/postgres{not_reached} (Connection refused)"
    )


@pytest.mark.parametrize(
    ("option", "value"), [("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)]
)
async def test_a_session_that_only_waits_finds_out_that_its_server_is_gone(
    database: Database, option: str, value: int
) -> None:
    """Where a commit waits for a standby, nothing is under way that is to be acknowledged."""
    if not hasattr(socket, option):
        pytest.skip("the system has no such option")
    session = await Session.open(Hosts(parse(database.url)))
    transport = getattr(session._connection, "_transport")  # noqa: B009 - the driver's own
    end = transport.get_extra_info("socket")
    try:
        assert end.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value
    finally:
        session.terminate()
