"""A data directory that a server has open: it is looked at, and who would write is told."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from durable_streams.maintenance.verify import verify
from durable_streams.shell.exit_status import Status
from tests.shell.running import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.maintenance.findings import Finding
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess


@pytest.fixture
def held(start_server: StartServer) -> ServerProcess:
    """A server with segments so small that streams have several."""
    return start_server("--segment-bytes", "100")


@pytest.fixture
def shell(held: ServerProcess, tmp_path: Path) -> Shell:
    """A shell that is told of the directory alone."""
    return Shell(tmp_path, str(held.data_dir))


def wait_for_files(server: ServerProcess) -> None:
    """Wait until everything is in the streams' files, as it is a moment after its answer."""
    found: list[Finding] = []
    verify(server.data_dir, found.append)
    while any(finding.text.endswith("here only") for finding in found):
        found.clear()
        verify(server.data_dir, found.append)


def test_streams_are_listed_and_read_as_the_server_has_them(
    held: ServerProcess, shell: Shell
) -> None:
    url = held.base_url
    lines = "".join(f"line {number}\n" for number in range(50))
    shell.told("append", "-u", url, "--batch", "50", "--create", "text", "a/text", given=lines)
    messages = "".join(f'{{"n":{number}}}\n' for number in range(50))
    shell.told("append", "-u", url, "--batch", "50", "--create", "json", "a/json", given=messages)
    shell.told("close", "-u", url, "a/json")
    wait_for_files(held)
    assert shell.told("ls") == shell.told("ls", "-u", url) == "a/json\na/text\n"
    assert shell.told("read", "a/text") == lines
    assert shell.told("read", "a/json") == messages
    assert shell.told("tail", "-n", "2", "a/json") == '{"n":48}\n{"n":49}\n'
    assert shell.told("tail", "-n", "1", "a/text") == "line 49\n"
    here, there = (
        json.loads(shell.told("info", "--json", *at, "a/json")) for at in ([], ["-u", url])
    )
    for known in ("next_offset", "size_bytes", "segment_bytes", "closed", "created_ms"):
        assert here[known] == there[known], known
    middle = json.loads(
        shell.told("read", "-u", url, "--format=envelope", "a/text").splitlines()[3]
    )
    assert shell.told("read", "--offset", middle["offset"], "a/text") == shell.told(
        "read", "-u", url, "--offset", middle["offset"], "a/text"
    )
    assert shell.refused("read", "nowhere")[0] == Status.NOT_FOUND
    assert shell.refused("read", "--since", "1h", "a/text")[0] == Status.REFUSED


def test_what_comes_is_followed_in_the_files(held: ServerProcess, shell: Shell) -> None:
    url = held.base_url
    shell.told("append", "-u", url, "--create", "text", "followed", "one")
    wait_for_files(held)
    with shell.started("tail", "-f", "followed", stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline() == "one\n"
        shell.told("append", "-u", url, "--close", "followed", "two", "x" * 200)
        assert tail.stdout.read() == f"two\n{'x' * 200}\n"
    assert tail.returncode == 0


def test_who_would_write_is_told_who_has_it_and_where(held: ServerProcess, shell: Shell) -> None:
    for verb in (["create", "a"], ["append", "a", "x"], ["close", "a"], ["rm", "a"], ["bench"]):
        status, line = shell.refused(*verb)
        assert status == Status.USAGE
        assert f"process {held.pid}, which listens on 127.0.0.1:{held.port}" in line


def test_bench_measures_both_and_leaves_nothing(held: ServerProcess, shell: Shell) -> None:
    told = shell.told("bench", "-u", held.base_url, "--seconds", "0.1", "--json")
    append, read = map(json.loads, told.splitlines())
    assert (append["what"], read["what"]) == ("append", "read")
    assert min(append["per_s"], read["per_s"], append["p50_ms"]) > 0
    assert append["p50_ms"] <= append["p99_ms"]
    assert shell.told("ls", "-u", held.base_url) == ""
