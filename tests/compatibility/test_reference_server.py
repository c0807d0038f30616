"""The reference server of the protocol, and what docs/reference-server.rst says of leaving it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from tests.documents import SERVER, blocks_of
from tests.test_documents import assert_printed
from tools.node import COMPATIBILITY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartServer

pytestmark = pytest.mark.node

PAGE: Final = "docs/reference-server.rst"
REFERENCE: Final = "localhost:4436"
"""Where the page takes the reference server to be."""
JSON: Final = "application/json"


@contextmanager
def reference_server(data_dir: Path) -> Iterator[str]:
    """The URL of a reference server on a data directory; it ends with the block."""
    data_dir.mkdir(exist_ok=True)
    with subprocess.Popen(
        ["node", "reference_server.mjs", str(data_dir)],
        cwd=COMPATIBILITY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        lines = (line.strip() for line in server.stdout)
        yield next(line for line in lines if line.startswith("http://"))
        server.stdin.close()
        for _ in lines:
            pass
    assert server.returncode == 0


def fill(url: str) -> None:
    """What the page takes to be there: a chat that goes on, and a log that has ended."""
    with durable_streams.connect_sync(f"{url}/v1/stream") as streams:
        streams.create("chat/room-1", content_type=JSON, ttl_s=86400)
        for number in range(3):
            streams.append_json("chat/room-1", {"text": f"message {number}"})
        streams.create("logs/monday", content_type="text/plain", data=b"started\nstopped\n")
        streams.close("logs/monday")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "durable_streams", "import", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_page_moves_streams_to_a_directory_and_to_a_server(
    tmp_path: Path, start_server: StartServer
) -> None:
    ours = start_server()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with reference_server(tmp_path / "reference-data") as url:
        fill(url)
        there, here = url.removeprefix("http://"), f"127.0.0.1:{ours.port}"
        ran = 0
        for block in blocks_of(PAGE):
            if block.language != "sh":
                continue
            code = block.code.replace(REFERENCE, there).replace(SERVER, here)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
            printed = done.stdout.replace(there, REFERENCE).replace(here, SERVER)
            assert_printed(block.output, printed)
            ran += 1
    assert ran >= 3


def test_a_large_stream_and_all_that_is_said_of_one_arrive(tmp_path: Path) -> None:
    old, new = tmp_path / "old", str(tmp_path / "new")
    rows = [{"row": number, "text": "x" * 100} for number in range(20_000)]
    with reference_server(old) as url:
        base = f"{url}/v1/stream"
        with durable_streams.connect_sync(base) as streams:
            streams.create("a b/ü", content_type=JSON, expires_at="2099-01-01T00:00:00Z")
            streams.append_json("a b/ü", *rows)
            streams.create("empty", content_type="application/x; v=1", closed=True)
            streams.create("gone")
            streams.delete("gone")
        ended = run(base, "--names-in", str(old), "--data-dir", new, "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        told = {row["path"]: row for row in map(json.loads, ended.stdout.splitlines())}
        assert sorted(told) == ["a b/ü", "empty"]
        again = run(base, "empty", "a b/ü", "--data-dir", new, "--json")
        for row in map(json.loads, again.stdout.splitlines()):
            assert row == {**told[row["path"]], "new_bytes": 0}
    with durable_streams.open_sync(new) as copied:
        assert [message.json() for message in copied.tail("a b/ü", live=False)] == rows
        assert copied.get_metadata("a b/ü").expires_at == "2099-01-01T00:00:00Z"
        empty = copied.get_metadata("empty")
        assert (empty.content_type, empty.closed) == ("application/x;v=1", True)


def test_without_names_the_reference_server_cannot_say_what_it_has(tmp_path: Path) -> None:
    with reference_server(tmp_path / "old") as url:
        ended = run(f"{url}/v1/stream", "--data-dir", str(tmp_path / "new"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--names-in" in ended.stderr
