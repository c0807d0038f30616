"""SIGHUP: settings that are read again while a server runs, and what it goes on with."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.process import options
from durable_streams.process.reloading import changes
from tests.process.test_options import BESIDE, other_than_default, value_of
from tests.test_cli import request, run
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.model.setting import Setting
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

SAID: Final = "the settings were read again; "
KEPT: Final = "the settings stay as they are: "

EVERY = [pytest.param(setting, id=setting.name) for setting in options.known()]


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests may run under nohup, which their servers would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streams.toml"
    path.write_text("")
    return path


def hang_up(server: ServerProcess) -> str:
    """Have a server read its settings again; what it says of that."""
    before = len(said_by(server))
    os.kill(server.pid, signal.SIGHUP)
    while len(said_by(server)) == before:
        assert request("GET", f"{server.base_url}/healthz") == (200, b"ok\n")
    return said_by(server)[before]


def said_by(server: ServerProcess) -> list[str]:
    """Each line about settings that is written to its end, without what stands before."""
    lines = [line for line in server.stderr.splitlines(keepends=True) if line.endswith("\n")]
    told = [line.rstrip().replace('"}', "") for line in lines if SAID in line or KEPT in line]
    return [line[max(line.find(SAID), line.find(KEPT)) :] for line in told]


@pytest.mark.parametrize("setting", EVERY)
def test_each_setting_that_differs_is_taken_or_told_to_take_a_restart(setting: Setting) -> None:
    beside = BESIDE.get(setting.name, {})
    running = options.settings(beside, {})
    text, value = other_than_default(setting)
    read = options.settings(beside, {setting.variable: text})
    given, changed, waiting = changes(running, read)
    assert set(changed if setting.reloadable else waiting) == {setting.name}
    assert not (waiting if setting.reloadable else changed)
    assert value_of(given, setting) == (value if setting.reloadable else setting.default)
    assert changes(running, running) == (running, (), ())


def test_what_is_new_counts_on_connections_that_are_open(
    start_server: StartServer, file: Path
) -> None:
    server = start_server("--config", str(file))
    assert request("PUT", server.url("a"), b"")[0] == 201
    client = http.client.HTTPConnection("127.0.0.1", server.port)

    def polled() -> int:
        client.request("GET", "/v1/stream/a?offset=now&live=long-poll")
        with client.getresponse() as answer:
            return answer.status

    file.write_text("[http]\nlong_poll_timeout_s = 0.1\n")
    assert hang_up(server) == f"{SAID}changed: long_poll_timeout_s"
    assert polled() == 204
    file.write_text("[http]\nlong_poll_timeout_s = 0.1\nmax_live_readers = 1\nburst_s = 5\n")
    assert hang_up(server) == f"{SAID}changed: burst_s, max_live_readers"
    assert polled() == 204
    file.write_text("[http]\nrequests_per_s = 0.001\nburst_s = 0\nlong_poll_timeout_s = 0.1\n")
    hang_up(server)
    assert [polled(), polled()] == [204, 429]
    file.write_text("[http]\nlong_poll_timeout_s = 0.1\n")
    hang_up(server)
    assert polled() == 204
    client.close()


@pytest.mark.parametrize("lane", ["--fast-lane", "--no-fast-lane"])
def test_the_access_log_is_turned_on_and_off_on_connections_that_are_open(
    start_server: StartServer, file: Path, lane: str
) -> None:
    server = start_server("--config", str(file), "--log-format", "json", lane)
    client = http.client.HTTPConnection("127.0.0.1", server.port)

    def ask(name: str) -> None:
        client.request("GET", f"/v1/stream/{name}")
        with client.getresponse() as answer:
            assert answer.status == 404
            answer.read()

    ask("one")
    file.write_text("[http]\naccess_log = true\n")
    hang_up(server)
    ask("two")
    file.write_text("")
    hang_up(server)
    ask("three")
    client.close()
    server.stop()
    entries = [json.loads(line) for line in server.stderr.splitlines()]
    paths = [entry.get("path", "") for entry in entries if entry["message"] == "request"]
    assert [path for path in paths if path.startswith("/v1")] == ["/v1/stream/two"]


def test_a_request_that_began_before_the_access_log_was_on_is_not_told_as_another(
    start_server: StartServer, file: Path
) -> None:
    server = start_server("--config", str(file))
    assert request("PUT", server.url("a"), b"")[0] == 201
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    file.write_text("[http]\naccess_log = true\n")
    hang_up(server)
    client.request("GET", "/v1/stream/none")
    client.getresponse().read()
    file.write_text("")
    hang_up(server)
    client.request("GET", "/v1/stream/a?offset=-1&live=long-poll")
    file.write_text("[http]\naccess_log = true\n")
    hang_up(server)
    assert request("POST", server.url("a"), b"x")[0] == 204
    assert client.getresponse().read() == b"x"
    client.close()
    server.stop()
    assert sum("path=/v1/stream/none" in line for line in server.stderr.splitlines()) == 1


def test_files_of_tokens_and_keys_are_looked_at_at_once(
    start_server: StartServer, file: Path, tmp_path: Path
) -> None:
    tokens, keys = tmp_path / "tokens.toml", tmp_path / "keys.toml"

    def created(headers: dict[str, str]) -> int:
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("PUT", "/v1/stream/a", b"", headers)
        with client.getresponse() as answer:
            answer.read()
        client.close()
        return answer.status

    def granted() -> dict[str, str]:
        given = ("--tokens", str(tokens), "--scope", "create,read", "--prefix", "")
        made = run("token", "new", *given)
        assert made.returncode == 0, made.stderr
        return {"Authorization": f"Bearer {made.stdout.split()[-1]}"}

    granted()
    assert run("signing-key", "new", "--signing-keys", str(keys)).returncode == 0
    server = start_server(
        "--config", str(file), "--tokens", str(tokens), "--signing-keys", str(keys)
    )
    same = "; the token file: as it was; the file of signing keys: as it was"
    assert hang_up(server) == f"{SAID}none has changed{same}"
    headers = granted()
    assert f"{SAID}none has changed; the token file: " in hang_up(server)
    assert created(headers) == 201
    tokens.write_text("nonsense")
    file.write_text("nonsense")
    told = hang_up(server)
    assert told.startswith(KEPT)
    assert f"; the token file: as it was before: {tokens}" in told
    assert created(headers) == 200


def test_fewer_connections_close_none_and_more_are_served_again(
    start_server: StartServer, file: Path
) -> None:
    server = start_server("--config", str(file))
    first, second = (http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(2))

    def status(client: http.client.HTTPConnection) -> int:
        client.request("GET", "/healthz")
        with client.getresponse() as answer:
            answer.read()
            return answer.status

    assert [status(first), status(second)] == [200, 200]
    file.write_text("[http]\nmax_connections = 1\n")
    before = len(said_by(server))
    os.kill(server.pid, signal.SIGHUP)
    while len(said_by(server)) == before:
        assert [status(first), status(second)] == [200, 200]
    third = http.client.HTTPConnection("127.0.0.1", server.port)
    assert status(third) == 503
    file.write_text("")
    before = len(said_by(server))
    os.kill(server.pid, signal.SIGHUP)
    while len(said_by(server)) == before:
        assert [status(first), status(second)] == [200, 200]
    third.close()
    assert status(third) == 200
    for client in (first, second, third):
        client.close()


def test_what_takes_a_restart_is_named_each_time_and_not_done(
    start_server: StartServer, file: Path
) -> None:
    server = start_server("--config", str(file))
    assert hang_up(server) == f"{SAID}none has changed"
    file.write_text("[http]\nprefix = '/s'\nburst_s = 1\n[storage]\nmax_append_bytes = 1\n")
    waiting = "takes a restart: max_append_bytes, prefix"
    assert hang_up(server) == f"{SAID}changed: burst_s; {waiting}"
    assert hang_up(server) == f"{SAID}{waiting}"
    assert request("PUT", server.url("a"), b"two")[0] == 201


def test_what_will_not_do_changes_nothing_and_is_one_line(
    start_server: StartServer, file: Path
) -> None:
    file.write_text("[http]\nlong_poll_timeout_s = 0.1\n")
    server = start_server("--config", str(file))
    for text in ("[http", "[http]\nlong_poll_timeout_s = 600\nburst_s = -1\n"):
        file.write_text(text)
        assert hang_up(server).startswith(f"{KEPT}{file}: ")
    file.unlink()
    assert hang_up(server) == f"{KEPT}{file} cannot be opened: No such file or directory"
    assert request("PUT", server.url("a"), b"")[0] == 201
    assert request("GET", f"{server.url('a')}?offset=now&live=long-poll")[0] == 204
    file.write_text("[http]\nlong_poll_timeout_s = 0.1\n")
    assert hang_up(server) == f"{SAID}none has changed"
    server.stop()
    errors = [line for line in server.stderr.splitlines() if " ERROR " in line]
    assert len(errors) == 3


def test_a_flag_wins_over_what_is_new_in_the_file(start_server: StartServer, file: Path) -> None:
    server = start_server("--config", str(file), "--burst", "3")
    file.write_text("[http]\nburst_s = 4\n")
    assert hang_up(server) == f"{SAID}none has changed"


def test_the_log_goes_on_in_the_new_format(start_server: StartServer, file: Path) -> None:
    server = start_server("--config", str(file))
    file.write_text("[server]\nlog_format = 'json'\n")
    hang_up(server)
    server.stop()
    told, stopping = map(json.loads, server.stderr.splitlines())
    assert told["message"] == f"{SAID}changed: log_format"
    assert stopping["message"] == "stopping"


EVERY_ONE: Final = (
    "[server]\nlog_format = 'json'\n[http]\naccess_log = true\nrequests_per_s = 1e9\n"
    "bytes_per_s = 1e15\nburst_s = 60\nmax_live_readers = 1000\nmax_connections = 500\n"
    "long_poll_timeout_s = 0.05\nsse_lifetime_s = 0.05\nsse_keepalive_s = 0.01\n"
    "body_timeout_s = 60\nhead_timeout_s = 60\n"
)
TAKEN: Final = (
    EVERY_ONE,
    "[http]\nlong_poll_timeout_s = 0.1\nsse_lifetime_s = 0.1\n",
    "[http]\nburst_s = -1\n",
)
HANGUPS: Final = 60


class Hammer(threading.Thread):
    """A client that asks without a pause, on one connection; notes what is not as it has to be."""

    def __init__(
        self, client: http.client.HTTPConnection, name: str, over: threading.Event
    ) -> None:
        super().__init__()
        self.path = f"/v1/stream/{name}"
        self.wrong: list[object] = []
        self.appended = 0
        self.reads = 0
        self._over = over
        self._client = client

    def run(self) -> None:
        try:
            self._ask("PUT", self.path, b"", 201)
            while not self._over.is_set():
                self._ask("POST", self.path, b"x" * 10, 204)
                self.appended += 10
                found = self._ask("GET", f"{self.path}?offset=-1", None, 200)
                if found != b"x" * self.appended:
                    self.wrong.append((len(found), self.appended))
                self._ask("GET", f"{self.path}?offset=now&live=long-poll", None, 204)
                self._ask("GET", f"{self.path}?offset=now&live=sse", None, 200)
                self.reads += 1
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(error)
        finally:
            self._client.close()

    def _ask(self, method: str, path: str, body: bytes | None, expected: int) -> bytes:
        self._client.request(method, path, body, {"Content-Type": "text/plain"})
        with self._client.getresponse() as answer:
            if answer.status != expected:
                self.wrong.append((method, path, answer.status))
            return answer.read()


class UnixConnection(http.client.HTTPConnection):
    """One by a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_no_request_is_lost_while_settings_change_under_load(
    start_server: StartServer, file: Path, loop: str, tmp_path: Path
) -> None:
    """By TCP, and by a unix socket."""
    file.write_text("[http]\nlong_poll_timeout_s = 0.1\nsse_lifetime_s = 0.1\n")
    path = str(tmp_path / "a.sock")
    listening = ("--host", "127.0.0.1", "--unix-socket", path)
    server = start_server("--config", str(file), "--loop", loop, "--durability", "none", *listening)
    clients = [
        *[http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(4)],
        *[UnixConnection(path) for _ in range(4)],
    ]
    over = threading.Event()
    hammers = [Hammer(client, f"s{number}", over) for number, client in enumerate(clients)]
    for hammer in hammers:
        hammer.start()
    try:
        for number in range(HANGUPS):
            fresh = file.with_suffix(".new")
            fresh.write_text(TAKEN[number % len(TAKEN)])
            fresh.rename(file)
            told = hang_up(server)
            assert told.startswith(KEPT if number % len(TAKEN) == 2 else f"{SAID}changed: "), told
    finally:
        over.set()
        for hammer in hammers:
            hammer.join()
    assert [hammer.wrong for hammer in hammers] == [[]] * len(hammers)
    assert all(hammer.reads for hammer in hammers)
    for hammer in hammers:
        content = b"x" * hammer.appended
        assert request("GET", f"{server.base_url}{hammer.path}?offset=-1") == (200, content)


def test_many_hangups_at_once_are_heeded_and_end_nothing(
    start_server: StartServer, file: Path
) -> None:
    server = start_server("--config", str(file))
    file.write_text("[http]\nburst_s = 1\n")
    for _ in range(1000):
        os.kill(server.pid, signal.SIGHUP)
    while f"{SAID}changed: burst_s" not in said_by(server):
        assert request("GET", f"{server.base_url}/healthz")[0] == 200
    assert server.stop() == 0


def test_a_hangup_while_it_starts_is_heeded_when_it_serves(data_dir: Path, file: Path) -> None:
    program = f"""
import os, signal, sys
from pathlib import Path
from durable_streams import cli
from durable_streams.process import serving
begin = serving._open
def interrupted(*arguments):
    Path({str(file)!r}).write_text("[http]\\nburst_s = 1\\n")
    os.kill(os.getpid(), signal.SIGHUP)
    return begin(*arguments)
serving._open = interrupted
told = ["serve", "--port", "0", "--data-dir", {str(data_dir)!r}, "--config", {str(file)!r}]
sys.exit(cli.main(told))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert f"{SAID}changed: burst_s\n".encode() in process.stderr.readline()
        process.terminate()
        assert process.wait() == 0
        assert process.stderr.read().endswith(b"INFO stopping signal=SIGTERM\n")
