"""Fixtures: PostgreSQL with standbys, whole again for each test, and a database of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from tests.programs import find_program
from tools.node import running_in_ci
from tools.postgres_cluster import PostgresCluster, in_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tools.postgres_cluster import PostgresNode

_NUMBERS: Final = itertools.count(1)
MISSING: Final = "PostgreSQL not found: run scripts/setup programs"


def _need_postgres() -> None:
    """What ``needs("postgres")`` does, for fixtures that last longer than a test."""
    if find_program("postgres") is None:
        if running_in_ci():
            pytest.fail(MISSING, pytrace=False)
        pytest.skip(MISSING)


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test."""

    cluster: PostgresCluster
    name: str

    @property
    def url(self) -> str:
        """Where clients find it: on the primary, without a password."""
        return self.cluster.primary.url(self.name)

    async def connect(
        self,
        node: PostgresNode | None = None,
        *,
        port: int | None = None,
        settings: dict[str, str] | None = None,
    ) -> asyncpg.Connection[asyncpg.Record]:
        """A session of the superuser, on the primary, another node or through a proxy's port."""
        at = node or self.cluster.primary
        return await asyncpg.connect(
            host="127.0.0.1",
            port=port or at.port,
            user="postgres",
            database=self.name,
            server_settings=settings or {},
        )


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """A primary and two standbys, ANY 1, for all tests: ``cluster`` is what a test has of it."""
    _need_postgres()
    with PostgresCluster(standbys=2, directory=in_memory()) as running:
        yield running


@pytest.fixture
def cluster(postgres_cluster: PostgresCluster) -> Iterator[PostgresCluster]:
    """The same, which a test may stop and cut as it likes, but leave its nodes in their roles."""
    yield postgres_cluster
    postgres_cluster.mend()


@pytest.fixture
def own_cluster() -> Iterator[PostgresCluster]:
    """A primary and two standbys for one test, which may do anything to them."""
    _need_postgres()
    with PostgresCluster(standbys=2, directory=in_memory()) as running:
        yield running


@pytest.fixture
async def other_database(cluster: PostgresCluster) -> AsyncIterator[Database]:
    """A second one."""
    made = Database(cluster, f"other_{next(_NUMBERS)}")
    cluster.primary.query(f"create database {made.name}")
    yield made
    cluster.primary.query(f"drop database {made.name} with (force)")


@pytest.fixture
async def database(cluster: PostgresCluster) -> AsyncIterator[Database]:
    """An empty database, which is gone after the test."""
    made = Database(cluster, f"test_{next(_NUMBERS)}")
    cluster.primary.query(f"create database {made.name}")
    yield made
    cluster.mend()
    cluster.primary.query(f"drop database {made.name} with (force)")
