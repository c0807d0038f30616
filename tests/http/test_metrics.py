"""Metrics: each changes with what it measures, and no client makes new ones."""

from __future__ import annotations

import asyncio
import errno
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.pipeline.room import Room
from durable_streams.filestore.store import FileStore
from durable_streams.filestore.tuning import Tuning
from durable_streams.http.metrics import LoopLag
from durable_streams.measuring import Tally
from durable_streams.settings import KIB, MIB, HttpSettings, Settings
from tests.filestore.files.staged_disk import StagedDisk
from tests.http.conftest import RunningServer
from tests.http.lanes import JSON, TEXT, idle
from tests.http.scraping import changes, scrape
from tools import inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from tests.http.conftest import Serve
    from tests.http.scraping import Samples

PRODUCER: Final = {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}


@asynccontextmanager
async def staged(
    directory: Path,
    settings: Settings = Settings(),  # noqa: B008 - it is frozen
) -> AsyncIterator[tuple[RunningServer, StagedDisk]]:
    """A server whose disk waits and fails when it is told to."""
    disk = StagedDisk()
    engine = await FileStore.at(directory, settings, disk)
    server = RunningServer(engine, HttpSettings())
    await server.start()
    try:
        yield server, disk
    finally:
        disk.heal()
        await server.finish()


# -- of HTTP -------------------------------------------------------------------------------


async def test_requests_their_times_and_their_bytes_are_counted_whichever_way_they_come(
    either: RunningServer,
) -> None:
    client = await either.connect()
    await idle(client)
    before = await scrape(either)
    for method, path, body, headers in (
        ("PUT", "a", b"12", TEXT),
        ("POST", "a", b"345", TEXT),
        ("POST", "a", b"678", JSON),
        ("GET", "a", None, {}),
        ("GET", "a?offset=-1&live=long-poll", None, {}),
        ("HEAD", "a", None, {}),
        ("DELETE", "a", None, {}),
        ("GET", "a", None, {}),
        ("OPTIONS", "a", None, {}),
    ):
        await client.request(method, path, body, headers)
    changed = changes(before, await scrape(either))
    requests = {key: value for key, value in changed.items() if key.startswith("http_requests")}
    # What asks for metrics is counted behind its own answer.
    assert requests == {
        'http_requests_total{method="PUT",status="2xx"}': 1,
        'http_requests_total{method="POST",status="2xx"}': 1,
        'http_requests_total{method="POST",status="4xx"}': 1,
        'http_requests_total{method="GET",status="2xx"}': 3,
        'http_requests_total{method="GET",status="4xx"}': 1,
        'http_requests_total{method="HEAD",status="2xx"}': 1,
        'http_requests_total{method="DELETE",status="2xx"}': 1,
        'http_requests_total{method="OPTIONS",status="2xx"}': 1,
    }
    for operation in ("append", "create", "read", "head", "delete"):
        labels = f'{{operation="{operation}"}}'
        assert changed[f"http_operation_duration_seconds_count{labels}"] == 1, operation
        assert changed[f"http_operation_duration_seconds_sum{labels}"] > 0
    assert changed["http_received_bytes_total"] == 8
    text = await client.request("GET", "/metrics")
    assert text.status == 403  # by another name than this machine's
    assert changed["http_sent_bytes_total"] > 10


async def test_answers_from_files_and_clients_that_leave_are_counted(
    either: RunningServer,
) -> None:
    await either.create("large", "text/plain", b"x" * MIB)
    await inside.in_files(either.engine, "large")
    client = await either.connect()
    await idle(client)
    before = await scrape(either)
    assert len((await client.request("GET", "large")).body) == MIB
    sent = changes(before, await scrape(either))["http_sent_bytes_total"]
    assert MIB < sent < MIB + 64 * KIB  # what was scraped is sent as well
    gone = await either.connect()
    gone.ask("GET", "large?offset=now&live=long-poll")
    while (await scrape(either))['http_live_readers{kind="long_poll"}'] != 1:
        """It is on its way."""
    await gone.close()
    left = 'http_requests_total{method="GET",status="left"}'
    while not (changed := changes(before, await scrape(either))).get(left):
        """It is noticed."""
    assert changed[left] == 1
    assert changed['http_operation_duration_seconds_count{operation="read"}'] == 1


async def test_readers_of_events_are_counted_and_what_they_are_sent(
    server: RunningServer,
) -> None:
    await server.create("a", "text/plain")
    before = await scrape(server)
    reader, writer = await server.connect(), await server.connect()
    reader.ask("GET", "a?offset=-1&live=sse")
    await reader.head()
    assert (await writer.request("POST", "a", b"y" * 1000, TEXT)).status == 204
    seen = await reader.events_until(b"y" * 1000)
    changed = changes(before, await scrape(server))
    assert changed['http_live_readers{kind="sse"}'] == 1
    assert changed["http_sent_bytes_total"] > len(seen)


async def test_an_event_stream_that_its_client_leaves_was_answered(either: RunningServer) -> None:
    await either.create("a", "text/plain", b"some")
    reader = await either.connect()
    before = await scrape(either)
    reader.ask("GET", "a?offset=-1&live=sse")
    await reader.head()
    await reader.events_until(b"some")
    while (await scrape(either))['http_live_readers{kind="sse"}'] != 1:
        """It is on its way."""
    await reader.close()
    while (await scrape(either))['http_live_readers{kind="sse"}']:
        """It is noticed."""
    await asyncio.sleep(0)
    changed = changes(before, await scrape(either))
    scrapes = changed['http_requests_total{method="GET",status="2xx"}']
    assert 'http_requests_total{method="GET",status="left"}' not in changed
    assert changed["http_sent_bytes_total"] > 0
    assert scrapes >= 1


async def test_connections_are_counted(server: RunningServer) -> None:
    before = await scrape(server)
    for _ in range(3):
        await idle(await server.connect())
    changed = changes(before, await scrape(server))
    assert changed["http_connections"] == changed["http_connections_opened_total"] == 3
    server._server.use(HttpSettings(max_connections=77))
    assert (await scrape(server))["http_connections_limit"] == 77


async def test_refusals_are_counted_by_their_reason_wherever_they_are_met(
    serve: Serve,
) -> None:
    server = await serve(HttpSettings(max_live_readers=1, head_timeout_s=0.1))
    client = await server.connect()
    before = await scrape(server)
    await client.request("GET", "none")
    await client.request("PUT", "j", b"", JSON)
    await client.request("POST", "j", b"{", JSON)
    await client.request("GET", "/nowhere")
    await client.request("PATCH", "j")
    await client.request("GET", "j?offset=x")
    (await server.connect()).send(b"POST /v1/stream/late HTTP/1.1\r\nHo")
    malformed = await server.connect()
    malformed.send(b"nonsense\r\n\r\n")
    await malformed.answer()
    waiting = await server.connect()
    waiting.ask("GET", "j?offset=now&live=long-poll")
    while not (await scrape(server))['http_live_readers{kind="long_poll"}']:
        """It is on its way."""
    assert (await client.request("GET", "j?offset=now&live=long-poll")).status == 429
    late = 'http_refusals_total{reason="request_timeout"}'
    while not (changed := changes(before, await scrape(server))).get(late):
        """Its time is not over."""
    refusals = {key: value for key, value in changed.items() if "refusals" in key}
    assert refusals == {
        'http_refusals_total{reason="stream_not_found"}': 2,
        'http_refusals_total{reason="invalid_json"}': 1,
        'http_refusals_total{reason="method_not_allowed"}': 1,
        'http_refusals_total{reason="invalid_offset"}': 1,
        'http_refusals_total{reason="invalid_request"}': 1,
        'http_refusals_total{reason="too_many_requests"}': 1,
        late: 1,
    }


async def test_one_connection_too_many_and_bugs_are_counted_as_well(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(HttpSettings(max_connections=2))
    before = await scrape(server)
    second, third = await server.connect(), await server.connect()
    assert (await third.answer()).status == 503

    async def buggy(*_: object) -> None:
        raise KeyError("a bug")

    async def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    for failing in (buggy, broken):
        monkeypatch.setattr(FileStore, "head", failing)
        assert (await second.request("HEAD", "a")).status == 500
    changed = changes(before, await scrape(server))
    assert changed['http_refusals_total{reason="overloaded"}'] == 1
    assert changed['http_refusals_total{reason="bug"}'] == 1
    assert changed['http_refusals_total{reason="system_error"}'] == 1
    assert changed['http_requests_total{method="HEAD",status="5xx"}'] == 2


async def test_what_only_programs_meet_is_no_reason_for_a_refusal(server: RunningServer) -> None:
    refusals = {name for name in await scrape(server) if "refusals" in name}
    assert 'http_refusals_total{reason="unavailable"}' in refusals
    for reason in ("unreachable", "unexpected_answer", "opened_elsewhere"):
        assert f'http_refusals_total{{reason="{reason}"}}' not in refusals


async def test_no_request_makes_a_new_series(either: RunningServer) -> None:
    while "disk_free_bytes" not in (before := await scrape(either)):
        """It is looked at twice a second."""
    for number in range(20):
        for method, path in (
            (f"BREW{number}", f"pot-{number}"),
            ("PROPFIND", f"pot-{number}"),
            ("GET", f"/path-{number}"),
            ("GET", f"a-{number}?offset={number}&live=wrong"),
            ("PUT", f"__ds/{number}"),
        ):
            client = await either.connect()
            await client.request(method, path, b"", {"X-Pot": f"{number}"})
            await client.close()
    after = await scrape(either)
    assert before.keys() == after.keys()
    others = [value for key, value in after.items() if 'method="other"' in key]
    assert sum(others) == 2 * 20


async def test_how_late_the_event_loop_is_is_seen() -> None:
    lag = LoopLag()
    lag.begin()
    lag._due_s -= 3
    lag._look()
    lag.end()
    (family,) = lag.families()
    (late,) = family.values.values()
    assert isinstance(late, Tally)
    assert late.counts[-1] == 1
    assert late.total > 2.9


async def test_the_event_loop_is_looked_at_in_a_server(server: RunningServer) -> None:
    while not (await scrape(server))["event_loop_lag_seconds_count"]:
        """It is looked at ten times a second."""


# -- of the store --------------------------------------------------------------------------


async def test_commits_are_counted_with_what_shares_them(server: RunningServer) -> None:
    before = await scrape(server)
    await server.create("a", "text/plain")
    client = await server.connect()
    for _ in range(3):
        await client.request("POST", "a", b"z" * 1000, TEXT | PRODUCER)
    changed = changes(before, await scrape(server))
    assert changed["store_open_streams"] == 1
    assert changed["store_producer_duplicates_total"] == 2
    assert changed["store_commit_duration_seconds_count"] == 2
    assert changed["store_commit_duration_seconds_sum"] > 0
    assert changed["store_commit_writes_count"] == changed["store_commit_writes_sum"] == 2
    assert 1000 < changed["store_committed_bytes_total"] < 4000


async def test_a_lag_is_told_and_who_waits_for_it(tmp_path: Path) -> None:
    async with staged(tmp_path / "data", Settings(max_lag_s=0.0)) as (server, disk):
        await server.create("a", "text/plain")
        await inside.all_in_files(server.engine)
        before = await scrape(server)
        assert (before["files_lag_seconds"], before["files_lag_bytes"]) == (0, 0)
        disk.hold("pwrite", "/streams/")
        first, second = await server.connect(), await server.connect()
        assert (await first.request("POST", "a", b"x", TEXT)).status == 204
        second.ask("POST", "a", b"y", TEXT)
        while not (now := await scrape(server))["store_waiting_writers"]:
            """The second one is on its way."""
        assert now["store_waiting_writers"] == now["store_writes_held_up"] == 1
        assert now["files_lag_seconds"] > 0
        assert now["files_lag_bytes"] > 0
        disk.heal()
        assert (await second.answer()).status == 204
        await inside.all_in_files(server.engine)
        after = await scrape(server)
        assert after["store_waiting_writers"] == after["files_lag_bytes"] == 0


async def test_checkpoints_and_the_files_of_the_journal_are_told(tmp_path: Path) -> None:
    small = Settings(max_append_bytes=MIB, journal_file_bytes=3 * MIB, journal_files=3)
    async with staged(tmp_path / "data", small) as (server, disk):
        before = await scrape(server)
        assert (before["journal_files"], before["journal_files_limit"]) == (1, 3)
        assert before["checkpoints_total"] == before["checkpoint_sync_seconds_total"] == 0
        disk.hold("sync", "/streams/")
        disk.hold("sync_file_system")
        await server.create("a", "text/plain")
        client = await server.connect()
        for _ in range(3):
            await client.request("POST", "a", b"x" * MIB, TEXT)
        assert (await scrape(server))["journal_files"] == 2
        disk.heal()
        while not (now := await scrape(server))["checkpoints_total"]:
            """One is made as soon as a file is full."""
        assert now["checkpoint_sync_seconds_total"] > 0
        assert now["journal_files"] == 1


async def test_room_is_told_and_why_no_write_is_taken(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Disk, "room", lambda *_: (12_345, 67))
    server = await serve(engine_settings=Settings(reserve_bytes=MIB))
    full = 'store_writes_refused{reason="disk_full"}'
    while not (now := await scrape(server))[full]:
        """The next tick looks."""
    assert now["disk_free_bytes"] == 12_345
    assert now["disk_free_inodes"] == 67
    assert now["disk_reserve_bytes"] == MIB
    server.engine.drain()
    assert (await scrape(server))['store_writes_refused{reason="draining"}'] == 1


async def test_streams_out_of_service_and_bugs_are_told(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path / "data") as (server, disk):
        await server.create("a", "text/plain")
        await inside.in_files(server.engine, "a")
        assert (await scrape(server))["store_streams_out_of_service"] == 0
        disk.fail("pwrite", errno.EIO, "/streams/")
        client = await server.connect()
        await client.request("POST", "a", b"x", TEXT)
        await inside.out_of_service(server.engine, "a")
        assert (await scrape(server))["store_streams_out_of_service"] == 1

    async def buggy(_: Room) -> None:
        raise KeyError("a bug")

    other = await serve(tuning=Tuning(tick_s=0.0))
    assert (await scrape(other))["store_bug"] == 0
    monkeypatch.setattr(Room, "look", buggy)
    while not (now := await scrape(other))["store_bug"]:
        """The next tick meets it."""
    assert now['store_writes_refused{reason="storage_failed"}'] == 1


async def crashed(directory: Path) -> None:
    """Leave a data directory as a crash does, with two writes in its journal and its files."""
    engine = await FileStore.at(directory, Settings())
    server = RunningServer(engine, HttpSettings())
    await server.start()
    first = await scrape(server)
    assert [value for key, value in first.items() if key.startswith("recovery_re")] == [0, 0]
    assert first["recovery_torn_bytes"] == first["recovery_journal_damages"] == 0
    await server.create("a", "text/plain", b"begun")
    client = await server.connect()
    assert (await client.request("POST", "a", b"more", TEXT)).status == 204
    await inside.all_in_files(engine)
    for client in server._clients:
        await client.close()
    await server.stop()
    await asyncio.to_thread(engine.abandon)
    engine.cancel_tasks()


async def recovered(directory: Path) -> Samples:
    engine = await FileStore.at(directory, Settings())
    server = RunningServer(engine, HttpSettings())
    await server.start()
    samples = await scrape(server)
    await server.finish()
    assert samples["recovery_duration_seconds"] > 0
    return samples


async def test_a_recovery_is_told(tmp_path: Path) -> None:
    await crashed(tmp_path / "data")
    (segment,) = (tmp_path / "data/streams").rglob("*.seg")
    with segment.open("ab") as file:
        file.write(b"torn")
    samples = await recovered(tmp_path / "data")
    assert samples["recovery_records"] == 2
    assert samples["recovery_torn_bytes"] == len("torn")


async def test_damage_of_the_journal_is_told_and_what_does_not_continue(tmp_path: Path) -> None:
    await crashed(tmp_path / "data")
    shutil.rmtree(tmp_path / "data/streams/a@")
    for journal in (tmp_path / "data/journal").iterdir():
        data = journal.read_bytes()
        journal.write_bytes(data.replace(b"begun", b"BEGUN"))
    samples = await recovered(tmp_path / "data")
    assert samples["recovery_journal_damages"] == 1
    assert samples["recovery_records_left_out"] == 1
