"""``durable-streams store``, as people run it, against real databases in every state."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.postgres.versions import ALONE
from tests import command_line
from tests.command_line import Ran, run_here
from tools.postgres_cluster.pgbouncer import PgBouncer
from tools.postgres_cluster.processes import wait_until
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres.conftest import Database
    from tools.postgres_cluster import PostgresCluster

COMMAND: Final = (sys.executable, "-m", "durable_streams", "store")
SECRET: Final = "geh3im"
ROLE: Final = "streamer"


environment: Final = command_line.environment


def run(*arguments: str, **variables: str) -> Ran:
    """As a process, and so anywhere."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return _checked(Ran(done.returncode, done.stdout, done.stderr))


def here(*arguments: str, **variables: str) -> Ran:
    return _checked(run_here("store", *arguments, **variables))


def _checked(done: Ran) -> Ran:
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(*arguments: str, **variables: str) -> str:
    """What is said, in one line, where nothing was done."""
    done = here(*arguments, **variables)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("durable-streams: error: ").removesuffix("\n")


def found(url: str, *arguments: str, **variables: str) -> tuple[int, list[str]]:
    """Exit status of ``check`` and all that it found but what is good."""
    done = here("check", url, *arguments, **variables)
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    return done.returncode, lines


@contextmanager
def configured(cluster: PostgresCluster, **settings: str) -> Iterator[None]:
    """Settings of the primary, for a while."""
    before = {name: cluster.primary.query(f"show {name}") for name in settings}
    cluster.primary.configure(**settings)
    try:
        yield
    finally:
        cluster.primary.configure(**before)


def test_a_database_is_made_one_of_streams_and_found_good(database: Database) -> None:
    assert found(database.url) == (1, ["WRONG    it has no tables: run durable-streams store init"])
    made = here("init", database.url)
    assert (made.returncode, made.stdout) == (0, f"{database.url} has its tables now\n")
    again = here("init", database.url)
    assert again.returncode == 0
    assert again.stdout == f"{database.url} has its tables already: nothing was changed\n"
    migrated = here("migrate", database.url)
    assert migrated.returncode == 0
    assert "which is that of this program" in migrated.stdout
    assert found(database.url) == (0, [])


def test_a_process_says_the_same_as_the_command_within_one(cluster: PostgresCluster) -> None:
    nothing = cluster.primary.url("nothing")
    assert run("check", nothing) == here("check", nothing)
    where = {"DURABLE_STREAMS_STORE": nothing}
    assert run("init", **where) == here("init", **where)


def test_the_url_may_be_in_the_environment(database: Database) -> None:
    assert refused("init") == "which database? give its URL, or set DURABLE_STREAMS_STORE"
    assert here("init", DURABLE_STREAMS_STORE=database.url).returncode == 0
    assert here("check", DURABLE_STREAMS_STORE=database.url).returncode == 0


def test_what_is_not_there_is_said_in_a_line(cluster: PostgresCluster) -> None:
    primary = cluster.primary
    for verb in ("init", "check", "migrate"):
        assert "make it with createdb" in refused(verb, primary.url("nothing"))
    elsewhere = primary.url().replace(f":{primary.port}/", ":1/")
    assert "it is not reached" in refused("check", elsewhere)
    assert "it is not reached" in refused("check", "postgresql://ds@nowhere.invalid/streams")
    assert "takes no writes: it is a standby" in refused("check", cluster.standbys[0].url())


def test_hosts_are_tried_in_turn_and_told_of(database: Database) -> None:
    cluster = database.cluster
    ports = [cluster.standbys[0].port, cluster.primary.port]
    hosts = ",".join(f"127.0.0.1:{port}" for port in (*ports, 1))
    url = f"postgresql://postgres@{hosts}/{database.name}"
    assert here("init", url).returncode == 0
    status, lines = found(url)
    assert status == 0
    assert [line for line in lines if not line.startswith("warning  postgresql://")] == []
    assert all("127.0.0.1:1/" in line for line in lines)


def test_a_host_that_says_nothing_does_not_keep_from_the_next_one(database: Database) -> None:
    cluster = database.cluster
    cluster.links[0].hold()  # takes connections and answers nothing
    hosts = f"127.0.0.1:{cluster.links[0].port},127.0.0.1:{cluster.primary.port}"
    assert here("init", f"postgresql://postgres@{hosts}/{database.name}").returncode == 0


def test_two_primaries_are_wrong(own_cluster: PostgresCluster) -> None:
    own_cluster.links[0].cut()
    own_cluster.standbys[0].promote()
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in own_cluster.nodes)
    status, lines = found(f"postgresql://postgres@{hosts}/postgres")
    assert status == 1
    assert any("2 of the URL's hosts are primaries" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fsync": "off"}, "set fsync = on"),
        ({"full_page_writes": "off"}, "set full_page_writes = on"),
        ({"autovacuum": "off"}, "set autovacuum = on"),
        ({"synchronous_standby_names": "ANY 2 (n2, n3)"}, "no standby is to spare"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_settings_that_lose_data_are_found(
    database: Database, settings: dict[str, str], said: str
) -> None:
    here("init", database.url)
    with configured(database.cluster, **settings):
        _, lines = found(database.url)
    assert [line for line in lines if said in line] == lines
    assert len(lines) == 1


def test_one_without_synchronous_standbys_has_to_be_allowed(database: Database) -> None:
    here("init", database.url)
    with configured(database.cluster, synchronous_standby_names=""):
        status, (line,) = found(database.url)
        assert status == 1
        assert line.startswith("WRONG    no standby is synchronous")
        status, (line,) = found(database.url, "--store-allow-unreplicated")
        assert status == 0
        assert line.startswith("warning  no standby is synchronous")


def test_standbys_that_are_missing_or_stand_still_are_found(database: Database) -> None:
    here("init", database.url)
    for node in database.cluster.standbys:
        node.pause()
    status, (line,) = found(database.url)
    assert status == 1
    assert "a commit was not acknowledged within 5 s" in line


@pytest.mark.needs("pgbouncer")
def test_a_pooler_that_shares_sessions_is_found(database: Database) -> None:
    here("init", database.url)
    with PgBouncer(database.cluster.primary, "transaction") as pooler:
        status, (line,) = found(pooler.url(database.name))
        assert status == 1
        assert "set its pool_mode to session" in line
    with PgBouncer(database.cluster.primary, "session") as pooler:
        assert found(pooler.url(database.name)) == (0, [])
    with PgBouncer(database.cluster.primary, "statement") as pooler:
        assert "statement pooling mode" in refused("check", pooler.url(database.name))


def test_a_database_that_takes_no_writes_is_refused(database: Database) -> None:
    alter = f"alter database {database.name} set default_transaction_read_only = on"
    database.cluster.primary.query(alter)
    assert "default_transaction_read_only is on" in refused("init", database.url)


def test_a_full_disk_is_said_in_a_line(database: Database) -> None:
    """As the server says it, of which it is made to believe."""
    database.cluster.primary.query(
        "create function full_disk() returns event_trigger language plpgsql as $$ begin"
        " raise 'could not extend file' using errcode = '53100'; end $$;"
        "create event trigger full_disk on ddl_command_start execute function full_disk()",
        database.name,
    )
    assert "its disk is full: make room there (could not extend file)" in refused(
        "init", database.url
    )


def test_tables_of_another_version_are_told(database: Database) -> None:
    here("init", database.url)
    primary = database.cluster.primary
    primary.query("insert into ds.versions values (98, 1)", database.name)
    assert found(database.url) == (0, [])  # newer, and this program can work with them
    primary.query("insert into ds.versions values (99, 99)", database.name)
    status, (line,) = found(database.url)
    assert status == 1
    assert "install a newer durable-streams-server" in line
    assert "install a newer durable-streams-server" in refused("migrate", database.url)


@pytest.fixture
def role(cluster: PostgresCluster) -> Iterator[str]:
    """A user with a password and without any rights."""
    primary = cluster.primary
    primary.query(f"create role guarded; create role {ROLE} login password '{SECRET}'")
    primary.query(f"grant guarded to {ROLE}")
    yield ROLE
    primary.query(f"drop role {ROLE}, guarded")


def test_a_password_comes_from_the_environment_or_a_file_and_nowhere_else(
    role: str, database: Database, tmp_path: Path
) -> None:
    primary = database.cluster.primary
    primary.query(f"grant create on database {database.name} to {role}")
    url = primary.url(database.name, role)
    try:
        assert "give the password by PGPASSWORD" in refused("init", url)
        assert "give the password by PGPASSWORD" in refused("init", url, PGPASSWORD="wrong")
        assert here("init", url, PGPASSWORD=SECRET).returncode == 0
        passwords = tmp_path / "passwords"
        passwords.write_text(f"127.0.0.1:*:*:{role}:{SECRET}\n")
        passwords.chmod(0o600)
        assert here("migrate", url, PGPASSFILE=str(passwords)).returncode == 0
        whole = url.replace(f"{role}@", f"{role}:{SECRET}@")
        assert "can see in the list of processes" in refused("check", whole)
        status, (line,) = found(url, PGPASSWORD=SECRET)
        assert status == 0
        assert line == (
            "warning  commits wait for ANY 1 (n2, n3), but streamer may not see which of them "
            "are there: grant pg_read_all_stats to streamer"
        )
        by_variable = here("check", DURABLE_STREAMS_STORE=whole)
        assert by_variable.returncode == 0
        assert f"takes writes at {url}\n" in by_variable.stdout
    finally:
        primary.query(f"drop owned by {role}", database.name)


def test_a_user_without_rights_is_told_which_ones(role: str, database: Database) -> None:
    primary = database.cluster.primary
    url = primary.url(database.name, role)
    variables = {"PGPASSWORD": SECRET}
    assert "the user may not do that" in refused("init", url, **variables)
    _, lines = found(url, **variables)
    assert any("grant create on the database to streamer" in line for line in lines)
    here("init", database.url)
    status, lines = found(url, **variables)
    assert status == 1
    assert any("streamer may not use all tables" in line for line in lines)


async def test_interrupting_cancels_no_commit(database: Database) -> None:
    """What waits for a standby would be seen by all otherwise, and no standby has it."""
    primary = database.cluster.primary
    first = await database.connect()
    waits = "select count(*) from pg_stat_activity where wait_event = '{}'"
    transaction = first.transaction()
    await transaction.start()
    await first.execute(ALONE)
    with subprocess.Popen([*COMMAND, "init", database.url], cwd=ROOT) as process:
        wait_until(lambda: primary.query(waits.format("advisory")) == "1", "it waits for us")
        for node in database.cluster.standbys:
            node.pause()
        await transaction.rollback()
        wait_until(lambda: primary.query(waits.format("SyncRep")) == "1", "its commit waits")
        process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert primary.query(waits.format("SyncRep")) == "1"
    assert primary.query("select to_regclass('ds.versions') is null", database.name) == "t"
    first.terminate()


@pytest.mark.parametrize("verb", ["init", "migrate"])
def test_nothing_is_begun_that_no_standby_would_acknowledge(database: Database, verb: str) -> None:
    for node in database.cluster.standbys:
        node.pause()
    assert "no commit is acknowledged now, so nothing was changed" in refused(verb, database.url)


def test_without_the_driver_it_says_what_to_install() -> None:
    hidden = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from durable_streams.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden, "store", "check", "postgresql://ds@db1/streams"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "durable-streams: error: a store on PostgreSQL needs pip install "
        "'durable-streams-server[postgres]'\n"
    )
