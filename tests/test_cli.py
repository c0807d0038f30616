"""The command line, in processes of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from durable_streams import cli
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from tests.conftest import StartServer


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable_streams", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def request(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    asked = urllib.request.Request(url, body, {"Content-Type": "text/plain"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def verbs_of(parser: argparse.ArgumentParser) -> set[str]:
    (verbs,) = (action for action in parser._actions if action.dest == "command")
    return set(verbs.choices or ())


def test_every_verb_has_a_parser_without_most_others() -> None:
    every = verbs_of(cli.make_parser())
    for verb in every:
        found = verbs_of(cli._parser_for([verb]))
        assert verb in found
        assert len(found) < len(every)
    for none in ([], ["--help"], ["unknown"]):
        assert verbs_of(cli._parser_for(none)) == every


@pytest.mark.parametrize("loop", ["uvloop", "asyncio", "auto"])
def test_it_announces_itself_in_one_line_serves_and_stops(
    start_server: StartServer, loop: str
) -> None:
    server = start_server("--loop", loop)
    assert server.announcement.startswith("durable-streams ")
    assert f"listening on http://127.0.0.1:{server.port}/v1/stream, " in server.announcement
    place = f"http://127.0.0.1:{server.port}/v1/stream/__ds/console/"
    assert server.announcement.endswith(f", durability fsync, console at {place}\n")
    assert request("PUT", server.url("a"), b"hello")[0] == 201
    assert request("GET", server.url("a")) == (200, b"hello")
    assert request("GET", f"{server.base_url}/healthz") == (200, b"ok\n")
    assert request("GET", f"{server.base_url}/readyz") == (200, b"ok\n")
    assert server.stop() == 0


def test_sigint_stops_it_as_well(start_server: StartServer) -> None:
    server = start_server()
    assert request("PUT", server.url("a"), b"hello")[0] == 201
    assert server._end(signal.SIGINT) == 0
    server.start()
    assert request("GET", server.url("a")) == (200, b"hello")


def test_a_second_signal_ends_it_at_once(start_server: StartServer) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"PUT /v1/stream/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 3\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        assert server._process is not None
        server._process.send_signal(signal.SIGTERM)
        with suppress(OSError):  # the listening socket may be closed before anybody is told 503
            while request("PUT", server.url("b"), b"")[0] != 503:
                """The signal is on its way."""
        assert server._end(signal.SIGINT) == 128 + signal.SIGINT


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "x"],
        ["--durability", "maybe"],
        ["--long-poll-timeout", "0"],
        ["--long-poll-timeout", "nan"],
        ["--max-append-bytes", "-1"],
        ["--segment-bytes", "1.5"],
        ["--prefix", "no-slash"],
        ["--prefix", "/a//b"],
        ["--prefix", "/"],
        ["--host", "host.invalid"],
        ["--port", "0", "--cors-origin", "nonsense"],
        ["--port", "0", "--allowed-host", "no/host"],
        ["--port", "0", "--trusted-proxy", "nonsense"],
        ["--port", "0", "--tokens", "/nowhere/tokens.toml"],
        ["--port", "0", "--host", "0.0.0.0"],
        ["--nonsense"],
    ],
)
def test_a_bad_flag_is_one_line_on_stderr_exit_2_and_nothing_touched(
    data_dir: Path, arguments: list[str]
) -> None:
    done = run("serve", "--data-dir", str(data_dir), *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("durable-streams: error: ")
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--port", "65536", "give a whole number from 0 (any free port) to 65535"),
        ("--port", "-1", "give a whole number from 0 (any free port) to 65535"),
        ("--segment-bytes", "16M", "give a whole number from 1 on, in digits only"),
        ("--max-connections", "0", "give a whole number from 1 on, in digits only"),
        ("--max-append-bytes", "9" * 5000, "give a whole number from 1 on, in digits only"),
        ("--sse-lifetime", "1min", "give seconds greater than 0, such as 30 or 0.5"),
        ("--long-poll-timeout", "inf", "give seconds greater than 0, such as 30 or 0.5"),
        ("--prefix", "streams", "give a URL path such as /v1/stream"),
    ],
)
def test_a_bad_value_is_quoted_and_told_what_is_wanted(flag: str, value: str, wanted: str) -> None:
    done = run("serve", f"{flag}={value}")
    assert done.returncode == 2
    assert f"argument {flag}: {value!r} is not " in done.stderr
    assert done.stderr.endswith(f": {wanted}\n")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("PORT", "10.0.0.1:4437", "is not a port: give a whole number"),
        ("PORT", "", "is empty: give it a value, or unset it"),
        ("DURABILITY", "maybe", "give fsync, interval or none"),
        ("PREFIX", "streams", "give a URL path such as /v1/stream"),
        ("FAST_LANE", "yes", "give true or false"),
        ("JOURNAL_FILES", "1", "give a whole number from 2 on"),
    ],
)
def test_a_bad_value_in_the_environment_is_refused_by_its_name_and_nothing_touched(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(f"DURABLE_STREAMS_{name}", value)
    done = run("serve", "--data-dir", str(data_dir), "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"durable-streams: error: DURABLE_STREAMS_{name}")
    assert wanted in line
    assert not data_dir.exists()


def test_sizes_that_do_not_go_together_are_one_line_on_stderr_and_nothing_touched(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_JOURNAL_FILE_BYTES", "1")
    done = run("serve", "--data-dir", str(data_dir), "--port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "journal_file_bytes" in line
    assert not data_dir.exists()


def test_the_environment_says_what_no_flag_does(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_PORT", "1")  # a flag says another
    monkeypatch.setenv("DURABLE_STREAMS_PREFIX", "/s")
    monkeypatch.setenv("DURABLE_STREAMS_MAX_APPEND_BYTES", "3")
    monkeypatch.setenv("DURABLE_STREAMS_PREFFIX", "/t")
    server = start_server("--durability", "none")
    assert request("PUT", f"{server.base_url}/s/a", b"one")[0] == 201
    assert request("POST", f"{server.base_url}/s/a", b"four")[0] == 413
    assert ", durability none, " in server.announcement
    assert "DURABLE_STREAMS_PREFFIX in the environment is no setting" in server.stderr
    assert "is it DURABLE_STREAMS_PREFIX that was meant?" in server.stderr


def test_other_verbs_do_not_read_the_environment(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_PORT", "x")
    done = run("verify", str(data_dir))
    assert "DURABLE_STREAMS" not in done.stderr


def test_a_taken_port_is_one_line_on_stderr_exit_2_and_nothing_touched(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--data-dir", str(data_dir), "--port", str(port))
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not data_dir.exists()


def test_a_second_server_on_the_directory_is_one_line_on_stderr_and_exit_2(
    server: ServerProcess,
) -> None:
    done = run("serve", "--data-dir", str(server.data_dir), "--port", "0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(server.data_dir) in done.stderr
    assert request("PUT", server.url("a"), b"hello")[0] == 201


def test_a_directory_that_is_none_of_ours_is_one_line_on_stderr_and_exit_2(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("x")
    for data_dir in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        done = run("serve", "--data-dir", str(data_dir), "--port", "0")
        assert done.returncode == 2, data_dir
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments", ["serve --port 0", "verify data", "repair data", "repair --apply .", "dump data"]
)
def test_a_current_directory_that_is_gone_is_one_line_on_stderr_and_exit_2(
    tmp_path: Path, arguments: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"{shlex.quote(sys.executable)} -m durable_streams {arguments}"
    done = subprocess.run(
        ["sh", "-c", f"rmdir {shlex.quote(str(gone))}; exec {command}"],
        cwd=gone,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("durable-streams: error: ")
    assert "the current directory, where it begins, is gone" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture
def without_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this test find no uvloop."""
    (tmp_path / "uvloop.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("without_uvloop")
def test_without_uvloop_it_says_that_it_goes_on_without(start_server: StartServer) -> None:
    server = start_server()
    assert request("PUT", server.url("a"), b"hello")[0] == 201
    assert "uvloop is not installed" in server.stderr


@pytest.mark.usefixtures("without_uvloop")
def test_uvloop_that_is_asked_for_and_not_there_is_one_line_on_stderr_and_exit_2() -> None:
    done = run("serve", "--loop", "uvloop")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "pip install uvloop" in done.stderr


def test_without_a_command_it_says_so_and_with_version_it_says_which() -> None:
    done = run()
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for arguments in (["--version"], ["serve", "--version"]):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("durable-streams ")


def test_the_prefix_and_the_limits_are_those_of_the_flags(start_server: StartServer) -> None:
    server = start_server(
        *("--prefix", "/s", "--max-append-bytes", "10", "--long-poll-timeout", "0.1"),
        *("--keepalive-timeout", "0.2"),
    )
    url = f"{server.base_url}/s/a"
    assert request("PUT", url, b"0123456789")[0] == 201
    assert request("POST", url, b"0123456789x")[0] == 413
    assert request("GET", f"{url}?offset=now&live=long-poll")[0] == 204
    assert request("GET", server.url("a"))[0] == 404
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while client.recv(65_536):  # until the server closes it, idle as it is
            pass


def test_the_access_log_is_there_on_demand_and_may_be_json(start_server: StartServer) -> None:
    server = start_server("--access-log", "--log-format", "json")
    request("GET", server.url("none"))
    server.stop()
    entries = [json.loads(line) for line in server.stderr.splitlines()]
    (line,) = [entry for entry in entries if entry["message"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/stream/none", 404)


def test_client_errors_and_disconnects_leave_no_line(start_server: StartServer) -> None:
    server = start_server()
    for garbage in (b"\x16\x03\x01", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(garbage)
    request("GET", server.url("none"))
    server.stop()
    assert [line.split()[1:3] for line in server.stderr.splitlines()] == [["INFO", "stopping"]]


def test_an_append_limit_beyond_a_journal_file_makes_the_files_larger(
    start_server: StartServer,
) -> None:
    server = start_server("--max-append-bytes", str(100 * 1024 * 1024))
    assert request("PUT", server.url("large"), b"x" * (40 * 1024 * 1024))[0] == 201


def test_a_machine_without_threads_is_told_in_one_line_before_anything_is_touched(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "def start(self):\n"
        '    raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = start\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("serve", "--data-dir", str(data_dir), "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "can't start new thread" in line
    assert "pids.max" in line
    assert not data_dir.exists()
