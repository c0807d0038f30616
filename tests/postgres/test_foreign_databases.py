"""Databases that somebody else has set up, as services do: what is missing is said in one line.

Nothing of this was tried on a service.  Each test has one peculiarity that they have, on a real
server: ``store check`` says it, and ``serve`` does or does not start accordingly.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from durable_streams.postgres.facts import NODE_SESSIONS
from durable_streams.postgres.heartbeat import EVERY_S, now_s
from durable_streams.postgres.store import PostgresStore
from tests.certificates import made_in
from tests.postgres.moved import fill, goes_on, seen
from tests.postgres.stores import nodes_of, until
from tests.postgres.test_store_commands import SECRET, environment, found, here, refused, run
from tests.programs import run_verb
from tools.postgres_cluster import PostgresCluster, in_memory
from tools.postgres_cluster.installed import give
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.model.paths import StreamPath
    from tests.conftest import StartServer
    from tests.postgres.conftest import Database

USER: Final = "tenant"


def not_served(url: str, **variables: str) -> str:
    """The line with which ``serve`` ends at once."""
    done = subprocess.run(
        [sys.executable, "-m", "durable_streams", "serve", "--port", "0", "--store", url],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def tenant(database: Database) -> Iterator[Database]:
    """The database with a user of no rights at all; see :func:`url_of`."""
    primary = database.cluster.primary
    primary.query(f"revoke all on database {database.name} from public")
    primary.query(f"create role {USER} login")
    primary.query(f"grant connect on database {database.name} to {USER}")
    yield database
    primary.query(f"drop owned by {USER}", database.name)
    primary.query(f"drop role {USER}")


def url_of(database: Database, **parameters: str) -> str:
    return database.cluster.primary.url(database.name, USER, **parameters)


def as_owner(database: Database, *statements: str) -> None:
    """Who owns the database does these."""
    for statement in statements:
        database.cluster.primary.query(statement, database.name)


def good(report: str) -> bool:
    """Whether ``check`` found nothing to mend."""
    return all(line.startswith("ok ") for line in report.splitlines())


SEES: Final = f"grant pg_read_all_stats to {USER}"
USES: Final = (
    f"grant usage on schema ds to {USER}",
    f"grant select, insert, update, delete on all tables in schema ds to {USER}",
)


# -- rights ----------------------------------------------------------------------------------------


def test_a_schema_that_was_made_for_a_user_will_do_without_rights_on_the_database(
    tenant: Database, start_server: StartServer
) -> None:
    url = url_of(tenant)
    assert "the user may not do that" in refused("init", url)
    assert not_served(url).endswith("it has no tables: run durable-streams store init")
    status, lines = found(url)
    assert status == 1
    assert any("make a schema ds that tenant owns" in line for line in lines)
    as_owner(tenant, f"create schema ds authorization {USER}", SEES)
    assert "it has no tables: run durable-streams store init" in found(url)[1][0]
    assert here("init", url).returncode == 0
    assert found(url) == (0, [])
    start_server("--store", url)


def test_who_owns_no_tables_serves_them_if_all_rights_are_granted_and_not_before(
    tenant: Database, start_server: StartServer
) -> None:
    url = url_of(tenant)
    here("init", tenant.url)
    as_owner(tenant, SEES)
    assert "tenant may not use all tables (graves, holds," in not_served(url)
    as_owner(tenant, *USES, f"revoke insert on ds.runs from {USER}")
    wrong = "tenant may not use all tables (runs): grant usage on schema ds"
    assert wrong in not_served(url)
    status, (line,) = found(url)
    assert status == 1
    assert wrong in line
    as_owner(tenant, *USES)
    assert found(url) == (0, [])
    server = start_server("--store", url)
    assert asked(server.url("s")) == b"hello"
    as_owner(tenant, "delete from ds.versions where version > 1")
    as_owner(tenant, "alter table ds.graves drop column kept", "drop table ds.signing_keys")
    assert "must be owner of table graves" in refused("migrate", url)


def test_who_owns_no_tables_serves_what_their_owner_has_copied_there(
    tenant: Database, start_server: StartServer, tmp_path: Path
) -> None:
    here("init", tenant.url)
    as_owner(tenant, SEES, *USES)
    data, url = str(tmp_path / "files"), url_of(tenant)
    run_verb("create", "--data-dir", data, "copied")
    assert here("copy", data, tenant.url).returncode == 0
    assert found(url) == (0, [])
    assert asked(start_server("--store", url).url("s")) == b"hello"


def asked(url: str) -> bytes:
    """What a stream that is made at this moment says."""
    create = urllib.request.Request(url, data=b"hello", method="PUT")
    with urllib.request.urlopen(create), urllib.request.urlopen(url) as read:
        data: bytes = read.read()
        return data


def test_who_may_not_see_standbys_is_warned_and_serves(
    tenant: Database, start_server: StartServer
) -> None:
    url = url_of(tenant)
    here("init", tenant.url)
    as_owner(tenant, *USES)
    status, (line,) = found(url)
    assert status == 0
    assert line.startswith("warning  commits wait for ANY 1 (n2, n3), but tenant may not see which")
    server = start_server("--store", url)
    assert asked(server.url("s")) == b"hello"


@pytest.mark.parametrize("of", [f"role {USER} connection limit", "database {} connection limit"])
def test_limits_of_connections_that_are_too_low_for_a_node_are_told(
    tenant: Database, start_server: StartServer, of: str
) -> None:
    url, of = url_of(tenant), of.format(tenant.name)
    here("init", tenant.url)
    as_owner(tenant, *USES, SEES, f"alter {of} 3")
    try:
        line = f"tenant may have 3 connections, and a node takes {NODE_SESSIONS}: raise the"
        assert line in not_served(url)
        status, (wrong,) = found(url)
        assert status == 1
        assert line in wrong
        as_owner(tenant, f"alter {of} 1")
        assert line.replace("3", "1", 1) in not_served(url)
        as_owner(tenant, f"alter {of} 0")
        assert "no connection is left: raise max_connections, or a limit" in refused("check", url)
        assert "no connection is left: raise max_connections, or a limit" in not_served(url)
        as_owner(tenant, f"alter {of} {NODE_SESSIONS}")
        assert found(url) == (0, [])
        assert asked(start_server("--store", url).url("s")) == b"hello"
    finally:
        as_owner(tenant, f"alter {of} -1")


async def test_a_node_takes_no_more_connections_than_is_said(database: Database) -> None:
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        await fill(store)
        await goes_on(store)
        await seen(store)
        count = "select count(*) from pg_stat_activity where datname = current_database()"
        count += " and application_name = 'durable-streams'"
        most = int(nodes.cluster.primary.query(count, database.name))
        assert NODE_SESSIONS - 3 <= most <= NODE_SESSIONS


# -- settings --------------------------------------------------------------------------------------


def test_a_user_who_only_reads_by_default_is_told_so(tenant: Database) -> None:
    url = url_of(tenant)
    here("init", tenant.url)
    as_owner(tenant, *USES, SEES, f"alter role {USER} set default_transaction_read_only = on")
    for line in (refused("check", url), not_served(url)):
        assert "takes no writes: it is a standby, or default_transaction_read_only is on" in line


async def test_settings_of_the_user_change_nothing_of_what_a_node_does(tenant: Database) -> None:
    run("init", tenant.url)
    as_owner(tenant, *USES, SEES, "create schema decoy", "create table decoy.streams ()")
    as_owner(tenant, f"grant usage on schema decoy to {USER}")
    for setting in (
        "search_path = decoy, nowhere",
        "synchronous_commit = off",
        "statement_timeout = '200ms'",
        "lock_timeout = '200ms'",
        "idle_session_timeout = '500ms'",
        "idle_in_transaction_session_timeout = '200ms'",
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "client_encoding = LATIN1",
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = escape",
        "extra_float_digits = 0",
        "standard_conforming_strings = off",
    ):
        as_owner(tenant, f"alter role {USER} set {setting}")
    assert good(run("check", url_of(tenant)).stdout)
    store = await PostgresStore.at(url_of(tenant))
    try:
        await fill(store)
        opened, beaten_s = store._database.counted.sessions, now_s() + EVERY_S
        await until(lambda: store._heartbeat.sent_s > beaten_s, "sessions were idle for a second")
        await goes_on(store)
        assert store._database.counted.sessions == opened
    finally:
        await store.close()
    assert run_verb("verify", url_of(tenant)).endswith(": sound")


async def filled(url: str) -> dict[StreamPath, Any]:
    """All that is shown of streams of every kind, made in a database at one time."""
    store = await PostgresStore.at(url, now_ms=lambda: 1_790_000_000_000)
    try:
        await fill(store)
        return await seen(store)
    finally:
        await store.close()


@pytest.mark.parametrize(
    "collation",
    [
        "locale 'C'",
        "locale 'C.UTF-8'",
        "locale_provider icu icu_locale 'tr-TR-u-kn-ks-level1' locale 'C.UTF-8'",
    ],
)
async def test_streams_are_the_same_whatever_order_a_database_has_texts_in(
    database: Database, collation: str
) -> None:
    primary, name = database.cluster.primary, f"{database.name}_ordered"
    primary.query(f"create database {name} encoding UTF8 template template0 {collation}")
    try:
        url = primary.url(name)
        for each in (database.url, url):
            run("init", each)
        assert good(run("check", url).stdout)
        one, other = await filled(database.url), await filled(url)
        assert list(one) == list(other)
        assert one == other
        assert run_verb("verify", url).endswith(": sound")
    finally:
        primary.query(f"drop database {name} with (force)")


# -- ways in ---------------------------------------------------------------------------------------

_HBA: Final = f"""
local all all trust
hostssl all {USER} 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
"""


@contextmanager
def secured(directory: Path, *, has_tls: bool = True) -> Iterator[tuple[PostgresCluster, Path]]:
    """A server that lets a user in by TLS and a password alone, and its certificate."""
    files = made_in(directory)
    with PostgresCluster(0, in_memory(), has_links=False) as cluster:
        primary = cluster.primary
        for name, source in (("server.crt", files.certificate), ("server.key", files.key)):
            place = primary.data / name
            place.write_bytes(source.read_bytes())
            place.chmod(0o600)
            give(place)
        (primary.data / "pg_hba.conf").write_text(_HBA)
        for statement in (
            "create database streams",
            f"create role {USER} login password '{SECRET}'",
            f"grant create on database streams to {USER}",
            SEES,
        ):
            primary.query(statement)
        primary.configure(ssl="on" if has_tls else "off")
        yield cluster, files.certificate


def test_a_server_that_wants_tls_is_told_from_one_whose_certificate_is_not_taken(
    tmp_path: Path, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    other = made_in(tmp_path, "other").certificate
    password = {"PGPASSWORD": SECRET, "HOME": str(tmp_path)}
    with secured(tmp_path) as (cluster, certificate):

        def url(mode: str, root: Path | str | None = None, host: str = "127.0.0.1") -> str:
            more = {} if root is None else {"sslrootcert": str(root)}
            named = cluster.primary.url("streams", USER, sslmode=mode, **more)
            return named.replace("127.0.0.1", host)

        for wrong, said in (
            (
                url("disable"),
                "the user is not let in: look at the name, at pg_hba.conf, and",
            ),
            (url("verify-full", other), "its certificate is not taken: look at sslrootcert"),
            (url("verify-ca", other), "its certificate is not taken: look at sslrootcert"),
            (url("verify-full"), "name its file by sslrootcert"),
            (url("verify-full", tmp_path / "none.crt"), "no file that sslrootcert or sslcert name"),
        ):
            for line in (run("check", wrong, **password).stderr, not_served(wrong, **password)):
                assert said in line, wrong
        without = {"HOME": str(tmp_path)}
        assert "PGPASSWORD" in run("check", url("require"), **without).stderr
        good = url("verify-full", certificate)
        assert run("init", good, **password).returncode == 0
        assert run("check", good, "--store-allow-unreplicated", **password).returncode == 0
        server = start_server("--store", good, "--store-allow-unreplicated")
        assert asked(server.url("s")) == b"hello"
        server.stop()


def test_a_server_without_tls_is_told_so(tmp_path: Path) -> None:
    with secured(tmp_path, has_tls=False) as (cluster, certificate):
        for mode in ("require", "verify-full"):
            url = cluster.primary.url(
                "streams", "postgres", sslmode=mode, sslrootcert=str(certificate)
            )
            for line in (run("check", url).stderr, not_served(url)):
                assert "it speaks no TLS: have ssl = on there, or another sslmode" in line
