"""``durable-streams verify`` of a database: what was changed in its rows is found, and named."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.postgres import verifying, walks
from durable_streams.postgres.store import PostgresStore
from durable_streams.postgres.urls import parse
from durable_streams.postgres.verifying import Found, Kind
from tests.postgres.moved import LONG, TALK, fill
from tests.postgres.stores import nodes_of
from tests.postgres.test_store_commands import environment, run
from tests.store_contract.words import append, at, by, create, fork
from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.postgres.conftest import Database


def verify(name: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit status, the findings, and last the counts and the state."""
    done = subprocess.run(
        [sys.executable, "-m", "durable_streams", "verify", "--json", str(name)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


TALK_ID = "(select id from ds.streams where path = 'chat/talk')"

AT_401 = f" where stream = {TALK_ID} and start = 401"

CHANGES = {
    "a flipped byte": (
        "update ds.runs set data = set_byte(data, 5, get_byte(data, 5) # 1)" + AT_401,
        1,
        ("segment 0, start 401", "its bytes fail their checksum", "0000000000000401"),
    ),
    "a missing run": (
        f"delete from ds.runs where stream = {TALK_ID} and start = 802",
        3,
        ("segment 0, start 1203", "those before it end at", "0000000000000802"),
    ),
    "a missing last run": (
        f"delete from ds.runs where stream = {TALK_ID} and start = 2406",
        3,
        ("segment 0, start 2406", "it is not there", "0000000000002406"),
    ),
    "a tail that is too low": (
        "update ds.streams set position = 2406 where path = 'chat/talk'",
        1,
        ("ds.streams", "its checksum at the tail", ""),
    ),
    "a tail that is too high": (
        "update ds.streams set position = position + 3 where path = 'chat/talk'",
        3,
        ("segment 0, start 2411", "it is not there", ""),
    ),
    "an end of an append that was moved": (
        f"update ds.runs set ends[1] = ends[1] - 1 where stream = {TALK_ID} and start = 0",
        1,
        ("segment 0, start 0", "its ends are not those", ""),
    ),
    "another run's checksum": (
        f"update ds.runs set before = chain where stream = {TALK_ID} and start = 401",
        1,
        ("segment 0, start 401", "does not continue", "0000000000000401"),
    ),
    "producers that cannot be read": (
        f"update ds.runs set claims = '[' where stream = {TALK_ID} and start = 0",
        1,
        ("segment 0, start 0", "producers cannot be read", ""),
    ),
    "a producer that was set back": (
        f"update ds.producers set seq = 1 where stream = {TALK_ID} and producer = 'ann'",
        1,
        ("ds.streams", "producer 'ann' is at 3, 1 (epoch, sequence), and came to 3, 2", ""),
    ),
    "a producer that was forgotten": (
        f"delete from ds.producers where stream = {TALK_ID} and producer = 'ann'",
        1,
        ("ds.streams", "producer 'ann' is not known", ""),
    ),
    "a producer that never wrote": (
        f"insert into ds.producers values ({TALK_ID}, 'eve', 0, 5, 0)",
        1,
        ("ds.streams", "producer 'eve' is at 0, 5 (epoch, sequence), and has no append", ""),
    ),
    "a size that is wrong": (
        "update ds.streams set size_bytes = 1 where path = 'chat/talk'",
        1,
        ("ds.streams", "it says 1 bytes, and has", ""),
    ),
    "layers that cannot be read": (
        "update ds.streams set layers = '{' where path = 'forks/inside'",
        1,
        ("ds.streams", "it cannot be read", ""),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def found_in(url: str) -> list[Found]:
    """The same, without a process."""
    found: list[Found] = []
    await verifying.verify(parse(url), found.append, lambda _: None)
    return found


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_is_found(database: Database, change: str) -> None:
    sql, status, (place, text, sound) = CHANGES[change]
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        await create(store, TALK)
        for number in range(6):
            producer = None if number % 2 else by(number // 2, epoch=3, name="ann")
            await append(store, LONG + b"%d" % number, TALK, producer=producer)
        await append(store, b"bob's", TALK)
        await fork(store, at("forks/inside"), TALK)
        assert await found_in(database.url) == []
        session = await database.connect()
        await session.execute(sql)
        await session.close()
        found = await found_in(database.url)
    assert all(each.stream for each in found)
    stream = "forks/inside" if change.startswith("layers") else "chat/talk"
    finding = next(each for each in found if each.stream == stream)
    assert finding.kind is (Kind.DAMAGE if status == 1 else Kind.INCOMPLETE)
    assert place in finding.place
    assert text in finding.text
    assert sound in finding.meaning + finding.text


@pytest.mark.parametrize("change", ["a flipped byte", "a missing run"])
async def test_the_exit_status_says_how_bad_it_is(database: Database, change: str) -> None:
    sql, expected, (place, text, _) = CHANGES[change]
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        await create(store, TALK)
        for number in range(4):
            await append(store, LONG + b"%d" % number, TALK)
        database.cluster.primary.query(sql, database.name)
        status, (finding, total) = verify(database.url)
    assert (status, total["state"]) == (expected, "damaged" if expected == 1 else "incomplete")
    assert finding["stream"] == "chat/talk"
    assert place in finding["file"]
    assert text in finding["text"]


async def test_all_kinds_of_streams_are_sound_while_a_node_serves(database: Database) -> None:
    run("init", database.url)
    store = await PostgresStore.at(database.url)
    await fill(store)
    status, (total,) = verify(database.url)
    assert (status, total["state"]) == (0, "sound")
    assert total["streams"] > 30
    await store.close()


async def test_a_fork_is_looked_at_where_it_was_made(database: Database) -> None:
    run("init", database.url)
    store = await PostgresStore.at(database.url)
    end = await create(store, TALK, b"0123456789")
    await append(store, b"abcdefghij", TALK)
    await fork(store, at("fork"), TALK, offset=end.info.tail, sub_offset=3, body=b"own")
    await store.close()
    assert verify(database.url)[0] == 0
    primary = database.cluster.primary
    primary.query(
        "update ds.streams set layers = replace(layers, '13]', '14]') where path = 'fork'",
        database.name,
    )
    status, (finding, _) = verify(database.url)
    assert status in {1, 3}
    assert finding["stream"] == "fork"
    primary.query("update ds.streams set fork_of = null where path = 'fork'", database.name)
    assert any("a fork of nothing" in each.get("text", "") for each in verify(database.url)[1])


async def test_a_lost_row_and_a_living_stream_s_grave_are_found(database: Database) -> None:
    run("init", database.url)
    primary = database.cluster.primary
    primary.query(
        "insert into ds.runs values (7, 0, 0, '{1}', '{1}', null, '', '', 'x')", database.name
    )
    status, (finding, total) = verify(database.url)
    assert (status, total["state"]) == (3, "incomplete")
    assert (finding["level"], finding["file"]) == ("incomplete", "ds.runs, stream 7")
    store = await PostgresStore.at(database.url)
    await create(store, TALK, b"here")
    await store.close()
    primary.query(
        "insert into ds.graves (stream, path, next_segment, removed_ms)"
        " select id, path, 1, 0 from ds.streams",
        database.name,
    )
    status, found = verify(database.url)
    assert status == 1
    assert any("ds.graves" in each.get("file", "") for each in found)


async def test_a_fork_has_the_layers_of_its_source(database: Database) -> None:
    async with nodes_of(database) as nodes:
        store = await nodes.node()
        for path in (at("first"), at("other")):
            await create(store, path, b"0123456789")
        await fork(store, at("middle"), at("first"), body=b"more")
        await fork(store, at("last"), at("middle"), body=b"and more")
        assert await found_in(database.url) == []
        session = await database.connect()
        await session.execute(
            "update ds.streams set fork_of = (select id from ds.streams where path = 'other')"
            " where path = 'middle'"
        )
        (finding,) = await found_in(database.url)
        assert (finding.stream, finding.kind) == ("middle", Kind.DAMAGE)
        await session.execute("update ds.streams set size_bytes = 3 where path = 'last'")
        assert "it says 3 bytes, and has 22" in [each.text for each in await found_in(database.url)]
        await session.close()


async def test_a_large_stream_takes_little_memory(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As rows are asked for so many at a time that they are not too large together."""
    run("init", database.url)
    store = await PostgresStore.at(database.url)
    await create(store, TALK)
    for _ in range(12):
        await append(store, bytes(1024 * 1024), TALK)
    await store.close()
    session = await database.connect()
    ((number,),) = await session.fetch("select id from ds.streams")
    found = await session.fetch(walks.RUNS, number, 0, 0, 9, 0)
    assert sum(len(record["data"]) for record in found) == walks.AT_ONCE_BYTES
    plan = await session.fetch(
        f"explain {walks.RUNS.replace('$1', str(number))}".replace("$2", "0")
        .replace("$3", "0")
        .replace("$4", "9")
        .replace("$5", "0")
    )
    assert "Index Scan using runs_pkey" in "\n".join(record[0] for record in plan)
    await session.close()


def test_what_is_no_database_of_streams_is_said_in_a_line(database: Database) -> None:
    for url, said in (
        (database.url, "it has no tables"),
        (database.url.replace("@", ":secret@"), "can see in the list"),
        ("postgresql://ds@127.0.0.1:1/streams", "is not reached"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "durable_streams", "verify", url],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
