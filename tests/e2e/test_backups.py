"""Backups of a live data directory, the short form of ``scripts/prove-backups``, and odd cases."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

import durable_streams
from durable_streams.filestore.files import names
from durable_streams.model.errors import StreamNotFound
from tests.copying import copy_live
from tools.engines import file_store
from tools.inside import in_files
from tools.node import running_in_ci
from tools.proofs.copies import EXIT_CODES, faults_of_copy, make_copy, missing_tools
from tools.proofs.ledger import TEXT, Window
from tools.proofs.load import Client, Plan, under_load
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import StartServer

PLAN: Final = Plan(lasting=3, changing=20, pause_s=0.02, appends=(3, 40), seed=1)
APPENDS: Final = 600
SMALL_SEGMENTS: Final = ("--segment-bytes", "4096")
SEGMENTS: Final = durable_streams.Settings(segment_bytes=100)

Answered = tuple[int, bytes, tuple[str | None, str | None]]
"""Status, body, and two headers."""


@pytest.fixture(params=EXIT_CODES)
def tool(request: pytest.FixtureRequest) -> str:
    """A tool that makes backups."""
    name: str = request.param
    if name in missing_tools() and not running_in_ci():
        pytest.skip(f"{name} is not installed")
    return name


async def test_a_copy_of_a_busy_directory_holds_everything_of_a_second_before(
    tool: str, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(*SMALL_SEGMENTS)
    copies = [tmp_path / "by-library", tmp_path / "by-server"]

    async with under_load(server, PLAN, APPENDS) as load:
        windows = [(await make_copy(tool, server.data_dir, copy))[1] for copy in copies]

    for copy, window, by_server in zip(copies, windows, (False, True), strict=True):
        assert await faults_of_copy(copy, load.lives, window, by_server=by_server) == []


@pytest.mark.parametrize(
    "unpack",
    ["cp -r {backup}/. {data}", "tar -xf {archive} -C {data}", "rsync -a {backup}/ {data}"],
)
async def test_a_backup_unpacked_over_the_crashed_original_starts_and_mixes_nothing(
    unpack: str, start_server: StartServer, tmp_path: Path
) -> None:
    if unpack.split(" ", 1)[0] in missing_tools() and not running_in_ci():
        pytest.skip(f"{unpack} cannot be run")
    server = start_server(*SMALL_SEGMENTS)
    backup, archive = tmp_path / "backup", tmp_path / "backup.tar"
    async with under_load(server, PLAN, APPENDS) as load:
        _, window = await make_copy("cp", server.data_dir, backup)
        while load.client.counters.acknowledged < 2 * APPENDS:
            await load.client.insist("HEAD", load.lasting_paths[0])
    server.kill()
    subprocess.run(["tar", "-cf", archive, "-C", backup, "."], check=True)
    command = unpack.format(backup=backup, archive=archive, data=server.data_dir)
    subprocess.run(command.split(), check=True)

    both = Window(window.began_s, float("inf"), layered=True)
    assert await faults_of_copy(server.data_dir, load.lives, both) == []


@pytest.mark.skipif(
    "rsync" in missing_tools() and not running_in_ci(), reason="rsync is not installed"
)
async def test_rsync_brings_a_copy_up_to_date_without_removing_anything(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(*SMALL_SEGMENTS)
    backup = tmp_path / "backup"
    async with under_load(server, PLAN, APPENDS) as load:
        await make_copy("rsync", server.data_dir, backup)
        while load.client.counters.acknowledged < 2 * APPENDS:
            await load.client.insist("HEAD", load.lasting_paths[0])
        _, window = await make_copy("rsync", server.data_dir, backup)

    window = dataclasses.replace(window, layered=True)
    assert await faults_of_copy(backup, load.lives, window) == []


def link_live(source: Path, target: Path) -> None:
    """``cp -al``: a second name for every file, of a directory in use."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except shutil.Error as error:
        for _, _, reason in error.args[0]:
            assert "No such file" in reason, reason


async def test_hard_link_copies_and_their_original_do_not_change_each_other(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(*SMALL_SEGMENTS)
    busy, last = tmp_path / "busy", tmp_path / "last"
    now_s = asyncio.get_running_loop().time
    async with under_load(server, PLAN, APPENDS) as load:
        began_s = now_s()
        await asyncio.to_thread(link_live, server.data_dir, busy)
        window = Window(began_s, now_s())
        while load.client.counters.acknowledged < 2 * APPENDS:
            await load.client.insist("HEAD", load.lasting_paths[0])
    server.kill()
    link_live(server.data_dir, last)

    everything = Window(float("inf"), float("inf"))
    assert await faults_of_copy(busy, load.lives, window) == []
    assert await faults_of_copy(last, load.lives, everything) == []
    assert await faults_of_copy(server.data_dir, load.lives, everything) == []


async def test_the_journal_of_the_server_that_a_stream_came_from_takes_nothing_back(
    tmp_path: Path,
) -> None:
    first, second, journal = tmp_path / "first", tmp_path / "second", tmp_path / "journal"
    async with durable_streams.open(first) as streams:
        await streams.create("s", content_type=TEXT, data=b"common.")
    shutil.copytree(first, second)
    async with durable_streams.open(first) as streams:
        await streams.append("s", b"on the first server, and longer.")
        copy_live(first / "journal", journal)
    async with durable_streams.open(second) as streams:
        await streams.append("s", b"on the second.")
        await streams.append("s", b"and again.")
    shutil.rmtree(second / "journal")
    shutil.move(journal, second / "journal")
    async with durable_streams.open(second) as streams:
        assert (await streams.read("s")).data == b"common.on the second.and again."


async def test_a_journal_of_another_server_changes_no_stream_of_a_copy(
    start_server: StartServer, tmp_path: Path
) -> None:
    server, other = start_server(*SMALL_SEGMENTS), ServerProcess(tmp_path / "other")
    backup = tmp_path / "backup"
    other.start()
    elsewhere = dataclasses.replace(PLAN, under="elsewhere")
    async with under_load(server, PLAN, APPENDS) as load, under_load(other, elsewhere, 500):
        _, window = await make_copy("cp", server.data_dir, backup)
    other.kill()
    shutil.rmtree(backup / "journal")
    shutil.copytree(other.data_dir / "journal", backup / "journal")

    assert await faults_of_copy(backup, load.lives, window) == []


@pytest.mark.parametrize("journal", ["older", "younger"])
@pytest.mark.parametrize("sidecar", ["older", "younger"])
@pytest.mark.parametrize("files", [("older",), ("younger",), ("older", "younger")])
async def test_a_stream_that_was_created_again_during_the_copy_is_one_of_the_two_or_absent(
    journal: str, sidecar: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    home = "streams/" + names.directory_of(("s",))
    mixed = tmp_path / "mixed"
    contents = {"older": b"older." * 60, "younger": b"younger." * 39}
    async with durable_streams.open(tmp_path / "data", SEGMENTS) as streams:
        for name, content in contents.items():
            if name == "younger":
                await streams.delete("s")
            await streams.create("s", content_type=TEXT)
            for begin in range(0, len(content), 24):
                await streams.append("s", content[begin : begin + 24])
            await in_files(file_store(streams), "s")
            await asyncio.to_thread(copy_live, tmp_path / "data", tmp_path / name)
    shutil.copytree(tmp_path / "younger", mixed, ignore=shutil.ignore_patterns("journal", "s@"))
    shutil.copytree(tmp_path / journal / "journal", mixed / "journal")
    (mixed / home).mkdir()
    for name in files:
        for path in (tmp_path / name / home).glob("*-*"):
            shutil.copy(path, mixed / home)
    shutil.copy(tmp_path / sidecar / home / names.SIDECAR, mixed / home)

    async with durable_streams.open(mixed, SEGMENTS) as streams:
        try:
            data, offset, up_to_date = b"", "-1", False
            while not up_to_date:
                piece = await streams.read("s", offset)
                data, offset, up_to_date = data + piece.data, piece.next_offset, piece.up_to_date
        except StreamNotFound:
            await streams.create("s", content_type=TEXT)
        else:
            assert len(data) % 24 == 0
            assert any(content.startswith(data) for content in contents.values())
            if journal == sidecar and sidecar in files:
                assert data == contents[sidecar]


async def fill(client: Client, path: str, headers: Mapping[str, str]) -> None:
    """A stream of several segments with a producer and a ``Stream-Seq``, closed."""
    await client.insist("PUT", path, headers, b"first.")
    for number in range(30):
        producer = {
            "Producer-Id": "p",
            "Producer-Epoch": "2",
            "Producer-Seq": str(number),
            "Stream-Seq": f"{number:03d}",
        }
        answer, _ = await client.insist("POST", path, {**headers, **producer}, b"x" * 300)
        assert answer.status == 200


async def answers(client: Client, path: str, headers: Mapping[str, str]) -> list[Answered]:
    """What clients can see of a stream: every piece, and what its writers are told."""
    seen: list[Answered] = []
    async for piece in client.pieces(path):
        offset = piece.headers["Stream-Next-Offset"]
        seen.append((piece.status, piece.body, (offset, piece.headers["ETag"])))
    for extra in (
        {"Producer-Id": "p", "Producer-Epoch": "2", "Producer-Seq": "29"},
        {"Producer-Id": "p", "Producer-Epoch": "2", "Producer-Seq": "40"},
        {"Producer-Id": "p", "Producer-Epoch": "1", "Producer-Seq": "0"},
        {"Stream-Seq": "029"},
        {"Stream-Closed": "true"},
    ):
        body = b"" if "Stream-Closed" in extra else b"x"
        answer, _ = await client.insist("POST", path, {**headers, **extra}, body)
        told = (answer.headers.get("Stream-Next-Offset"), answer.headers.get("Producer-Seq"))
        seen.append((answer.status, answer.body, told))
    return seen


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
async def test_one_stream_moved_into_another_server_gives_the_same_answers(
    running: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(*SMALL_SEGMENTS)
    target = start_server(*SMALL_SEGMENTS, data_dir=tmp_path / "other")
    headers = {"Content-Type": TEXT}
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        await fill(Client(session, source), "moved", headers)
        assert source.stop() == 0
        if not running:
            assert target.stop() == 0
        streams = target.data_dir / "streams"
        shutil.copytree(source.data_dir / "streams" / "moved@", streams / ".moved")
        (streams / ".moved").rename(streams / "moved@")
        if not running:
            target.start()
        source.start()

        there = await answers(Client(session, target), "moved", headers)
        assert there == await answers(Client(session, source), "moved", headers)

    assert [status for status, *_ in there[-5:]] == [204, 409, 403, 409, 204]
    assert len(there) > 6
