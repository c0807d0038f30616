"""``durable-streams import`` from a server of ours, whose list it asks for; statuses, and kills."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import durable_streams
from tests.client.hostile_server import HostileServer
from tests.client.proxies import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nwho are you?"
COMMAND = [sys.executable, "-m", "durable_streams", "import"]


def url_of(server: ServerProcess, port: int | None = None) -> str:
    return f"http://127.0.0.1:{port or server.port}{server.prefix}"


def run(*arguments: str, told: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], input=told, capture_output=True, text=True, check=False
    )


def test_all_streams_that_a_server_lists_go_to_a_directory_and_to_a_server(
    start_server: StartServer, tmp_path: Path
) -> None:
    server, other = start_server(), start_server(data_dir=tmp_path / "other")
    with durable_streams.connect_sync(url_of(server)) as streams:
        for number in range(20):
            streams.create(f"s/{number}", content_type="text/plain", data=b"%d" % number)
    for target in (("--data-dir", str(tmp_path / "copy")), ("--to", url_of(other))):
        ended = run(url_of(server), *target, "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        rows = [json.loads(line) for line in ended.stdout.splitlines()]
        assert sorted(row["path"] for row in rows) == sorted(f"s/{number}" for number in range(20))
    with durable_streams.open_sync(tmp_path / "copy") as copied:
        assert copied.read("s/19").data == b"19"
    with durable_streams.connect_sync(url_of(other)) as sent:
        assert sent.read("s/7").data == b"7"


def test_a_list_that_is_refused_is_told_in_a_line(tmp_path: Path) -> None:
    with HostileServer(lambda _: iter([REFUSAL])) as server:
        ended = run(server.url, "--data-dir", str(tmp_path / "copy"))
    assert (ended.returncode, ended.stderr) == (2, "durable-streams: error: who are you?\n")


def test_a_path_does_nothing_to_a_terminal(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    with durable_streams.connect_sync(url_of(server)) as streams:
        streams.create("a\x1b[2J", content_type="text/plain")
    ended = run(url_of(server), "a\x1b[2J", "b\x1b[2J", "--data-dir", str(tmp_path / "copy"))
    assert ended.stdout.startswith("a\\x1b[2J: 0 bytes")
    assert ended.stderr.startswith("durable-streams: b\\x1b[2J: there is no such stream")


def test_what_is_not_there_or_differs_is_told_and_the_rest_is_copied(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    copy = str(tmp_path / "copy")
    with durable_streams.connect_sync(url_of(server)) as streams:
        for path in ("a", "b"):
            streams.create(path, content_type="text/plain", data=b"data")
    with durable_streams.open_sync(copy) as copied:
        copied.create("b", content_type="text/plain", data=b"other")
    ended = run(url_of(server), "--paths-from", "-", "--data-dir", copy, told="a\n\nb\nc\n")
    assert ended.returncode == 1
    assert ended.stdout.startswith("a: 4 bytes, 4 new; ")
    assert sorted(line.split(": ")[1] for line in ended.stderr.splitlines()) == ["b", "c"]


def test_what_cannot_begin_is_one_line(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    for arguments in (
        [url_of(server), "--data-dir", str(server.data_dir)],  # it is in use
        ["no-url", "--data-dir", str(tmp_path / "copy")],
        [url_of(server), "--names-in", str(tmp_path / "none"), "--data-dir", str(tmp_path / "c")],
        [url_of(server), "--token-file", str(tmp_path / "none"), "--to", url_of(server)],
        [url_of(server)],
    ):
        ended = run(*arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert len(ended.stderr.splitlines()) == 1


def test_an_import_that_is_killed_goes_on_where_it_was(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    copy = str(tmp_path / "copy")
    line = b'"%s"' % (b"x" * 999_998)
    with durable_streams.connect_sync(url_of(server)) as streams:
        streams.create("s", content_type="application/json")
        for _ in range(10):
            streams.append("s", b"[" + b",".join([line] * 2) + b"]")
        with Proxy(server.port) as proxy:
            proxy.cut_after_bytes = 9_000_000  # two answers arrive, and no third one
            through = url_of(server, proxy.port)
            with subprocess.Popen([*COMMAND, through, "s", "--data-dir", copy]) as one:
                proxy.wait_for_bytes(b"GET")
                proxy.cut_after_bytes = 0
                asyncio.run(proxy.has_seen(3))  # of the HEAD, of this one, and when it was cut
                one.send_signal(signal.SIGKILL)
        ended = run(url_of(server), "s", "--data-dir", copy, "--json")
        told = json.loads(ended.stdout)
        assert told["size_bytes"] == 20 * 1_000_001
        assert 0 < told["new_bytes"] < told["size_bytes"]
        whole = streams.read_messages("s")
        with durable_streams.open_sync(copy) as copied:
            assert copied.read_messages("s").messages[:3] == whole.messages[:3]
