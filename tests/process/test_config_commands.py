"""The command line's ``--config``, ``config check`` and ``config show``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.process import options
from tests.documents import Block, blocks_of, named_blocks_of
from tests.test_cli import request, run
from tools.server_process import ROOT

if TYPE_CHECKING:
    from tests.conftest import StartServer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streams.toml"


def test_a_server_is_as_its_file_says_but_for_its_flags(
    start_server: StartServer, file: Path
) -> None:
    file.write_text(
        "[server]\nport = 1\n[http]\nprefix = '/s/'\n[storage]\nmax_append_bytes = 3\n"
        "durability = 'none'\n"
    )
    server = start_server("--config", str(file), "--max-append-bytes", "4")
    assert request("PUT", f"{server.base_url}/s/a", b"four")[0] == 201
    assert request("POST", f"{server.base_url}/s/a", b"fives")[0] == 413
    assert ", durability none, " in server.announcement


def test_a_server_finds_its_file_in_the_environment(
    start_server: StartServer, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[http]\nprefix = '/s'\n")
    monkeypatch.setenv("DURABLE_STREAMS_CONFIG", str(file))
    server = start_server()
    assert request("PUT", f"{server.base_url}/s/a", b"x")[0] == 201
    server.stop()
    assert "CONFIG" not in server.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be opened: No such file or directory"),
        ("[http", "it is not TOML: "),
        ("[http]\nprefx = '/s'\n", "[http] prefx is no setting: is it prefix that was meant?"),
        ("[http]\nprefx = 1\nburst_s = -1\n", "(and 1 more, which config check tells)"),
    ],
)
def test_a_file_that_will_not_do_is_one_line_on_stderr_exit_2_and_nothing_touched(
    data_dir: Path, file: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        file.write_text(text)
    for arguments in (["serve"], ["config", "check"], ["config", "show"]):
        done = run(*arguments, "--data-dir", str(data_dir), "--config", str(file))
        assert (done.returncode, done.stdout) == (2, "")
        assert all(
            line.startswith(f"durable-streams: error: {file}") for line in done.stderr.splitlines()
        )
        if arguments == ["serve"]:
            (line,) = done.stderr.splitlines()
            assert expected in line
    assert not data_dir.exists()


def test_what_will_do_is_one_line_and_exit_0(file: Path, data_dir: Path) -> None:
    done = run("config", "check", "--data-dir", str(data_dir))
    assert (done.returncode, done.stdout, done.stderr) == (0, "the settings will do\n", "")
    file.write_text("[server]\nport = 1\n")
    done = run("config", "check", "--config", str(file), "--data-dir", str(data_dir))
    said = f"the settings will do, with those of {file}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert not data_dir.exists()


def test_a_check_tells_all_that_is_wrong_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[server]\nprot = 1\n[storage]\nmax_streams = ['x']\n")
    monkeypatch.setenv("DURABLE_STREAMS_BURST_S", "x")
    monkeypatch.setenv("DURABLE_STREAMS_PROT", "1")
    done = run("config", "check", "--config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    unknown, *problems = done.stderr.splitlines()
    assert unknown.startswith("durable-streams: warning: DURABLE_STREAMS_PROT in the environment")
    expected = ["[server] prot is no setting", "DURABLE_STREAMS_BURST_S: 'x'", "max_streams: "]
    assert [text in problem for text, problem in zip(expected, problems, strict=True)] == [True] * 3


def test_a_name_of_no_setting_is_told_and_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_PROT", "1")
    done = run("config", "check")
    assert done.returncode == 0
    assert "is it DURABLE_STREAMS_PORT that was meant?" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tokens", "missing.toml"],
        ["--cors-origin", "nowhere"],
        ["--allowed-host", "a/b"],
        ["--trusted-proxy", "nobody"],
        ["--jwt-secret", "missing", "--jwt-audience", "us"],
        ["--unix-socket", "missing/streams.sock"],
        ["--unix-socket", "/dev/null"],
        ["--unix-socket", "/dev/null/streams.sock"],
        ["--unix-socket", "/tmp/" + "x" * 200],
        ["--host", "x" * 64],
        ["--host", "127.0.0.1", "--host", "999.1.1.1.1..example"],
    ],
)
def test_a_check_refuses_what_serve_refuses_with_the_same_line(
    data_dir: Path, arguments: list[str]
) -> None:
    options = ["--data-dir", str(data_dir), *arguments]
    options += ["--port", "0"]
    check, serve = run("config", "check", *options), run("serve", *options)
    assert (check.returncode, serve.returncode) == (2, 2)
    assert check.stderr == serve.stderr
    assert len(check.stderr.splitlines()) == 1, check.stderr
    assert not data_dir.exists()


def test_a_check_tells_that_others_would_reach_it_and_binds_nothing(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ["--data-dir", str(data_dir), "--port", port]
        assert run("config", "check", *options).returncode == 0
        done = run("config", "check", *options, "--host", "127.0.0.1", "--host", "0.0.0.0")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"whoever reaches 0.0.0.0:{port} could read, write and delete" in done.stderr
        assert run("config", "check", *options, "--host", "0.0.0.0", "--insecure").returncode == 0
    assert not data_dir.exists()


@pytest.mark.parametrize("what", ["a file", "strangers", "a later format", "no format"])
def test_a_check_refuses_a_data_directory_that_serve_refuses(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "a file":
        place.write_text("")
    else:
        place.mkdir()
        content = {"strangers": "", "a later format": '{"format": 99, "id": "a"}'}.get(what, "{")
        (place / ("letter.txt" if what == "strangers" else "FORMAT.json")).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    options = ["--data-dir", str(place)]
    options += ["--port", "0"]
    check, serve = run("config", "check", *options), run("serve", *options)
    assert (check.returncode, serve.returncode) == (2, 2)
    assert check.stderr == serve.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_check_minds_no_server_that_runs_with_the_same_settings(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "streams.sock")
    server = start_server("--host", "127.0.0.1", "--unix-socket", path)
    options = ["--data-dir", str(server.data_dir), "--port", str(server.port)]
    for more in ([], ["--unix-socket", path]):
        done = run("config", "check", *options, *more)
        assert (done.returncode, done.stderr) == (0, "")
    assert request("PUT", server.url("a"), b"")[0] == 201


def test_a_check_misses_an_event_loop_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("config", "check", "--loop", "uvloop", "--tokens", "missing.toml")
    assert (done.returncode, done.stdout) == (2, "")
    loop, tokens = done.stderr.splitlines()
    assert "pip install uvloop" in loop
    assert "missing.toml cannot be opened" in tokens


def test_what_is_shown_is_a_file_that_says_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        "[http]\nburst_s = 2\ncors_origin = ['https://a.example', 'https://b.example']\n"
        "[storage]\nheld_up_s = inf\n[access]\ntokens = 'to\"kens'\n"
    )
    monkeypatch.setenv("DURABLE_STREAMS_DURABILITY", "interval")
    done = run("config", "show", "--config", str(file), "--access-log")
    assert (done.returncode, done.stderr) == (0, "")
    shown = tomllib.loads(done.stdout)
    every = [(title, name) for title, table in options.tables().items() for name in table]
    assert [(title, name) for title, table in shown.items() for name in table] == every
    lines = done.stdout.splitlines()
    assert f"burst_s = 2.0  # file {file}" in lines
    assert "access_log = true  # flag --access-log" in lines
    assert 'durability = "interval"  # environment DURABLE_STREAMS_DURABILITY' in lines
    assert "port = 4437  # default" in lines

    again = file.with_name("again.toml")
    again.write_text(done.stdout)
    monkeypatch.delenv("DURABLE_STREAMS_DURABILITY")
    found = run("config", "show", "--config", str(again))
    assert (found.returncode, found.stderr) == (0, "")
    assert tomllib.loads(found.stdout)["access"] == shown["access"]
    assert tomllib.loads(found.stdout)["storage"] == shown["storage"]


def test_what_is_shown_as_json_says_where_each_is_from(file: Path) -> None:
    file.write_text("[storage]\nheld_up_s = inf\n")
    done = run("config", "show", "--json", "--config", str(file), "--port", "0")
    assert (done.returncode, done.stderr) == (0, "")
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["name"] for entry in entries] == [setting.name for setting in options.known()]
    by_name = {entry["name"]: entry for entry in entries}
    told = {"table": "server", "name": "port", "value": 0, "source": "flag", "from": "--port"}
    assert by_name["port"] == told
    assert by_name["loop"] == {
        "table": "server",
        "name": "loop",
        "value": "auto",
        "source": "default",
    }
    assert (by_name["held_up_s"]["value"], by_name["held_up_s"]["from"]) == ("inf", str(file))


def test_a_path_that_is_no_text_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_DATA_DIR", "a\udcff")
    done = run("config", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert tomllib.loads(done.stdout)["server"]["data_dir"] == "a\ufffd"


def documented(file: Path) -> list[Block]:
    """Write the file of the documentation, and a file of tokens beside it; what is run with it."""
    file.write_text(named_blocks_of("docs/configuration.rst")[file.name].code)
    tokens = ["--tokens", str(file.with_name("tokens.toml"))]
    made = run("token", "new", *tokens, "--scope", "read", "--prefix", "")
    assert made.returncode == 0, made.stderr
    return [block for block in blocks_of("docs/configuration.rst") if "config check" in block.code]


def test_the_file_of_the_documentation_will_do_as_the_commands_there_say(file: Path) -> None:
    (block,) = documented(file)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DURABLE_STREAMS_DATA_DIR": str(file.with_name("data")),  # others may not write to /srv
    }
    done = subprocess.run(
        ["bash", "-euc", block.code],
        cwd=file.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said, *shown = done.stdout.splitlines()
    assert said == f"the settings will do, with those of {file.name}"
    found = {entry["name"]: entry["value"] for entry in map(json.loads, shown)}
    assert (found["tokens"], found["burst_s"]) == ("tokens.toml", 10.0)


def test_a_server_starts_with_the_file_of_the_documentation(
    start_server: StartServer, file: Path
) -> None:
    documented(file)
    server = start_server("--config", str(file))
    assert request("GET", server.url("a"))[0] == 403


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ds:geh3im@db1,db2/streams", "postgresql://ds@db1,db2/streams"),
        ("postgresql://ds@db1/x?password=geh3im", "postgresql://ds@db1/x"),
        ("postgresql://ds@db1/x?sslmode=require", "postgresql://ds@db1/x?sslmode=require"),
        ("postgresql://ds:geh3im#@db1/streams", "a URL that cannot be read"),
        ("mysql://ds:geh3im@db1/streams", "a URL that cannot be read"),
        ("ds:geh3im@db1/streams", "[hidden]@db1/streams"),
        ("db1/streams?password=geh3im", "db1/streams?[hidden]"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_password_of_a_database_is_shown_to_nobody(
    url: str, shown: str, form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DURABLE_STREAMS_STORE", url)
    done = run("config", "show", *form)
    assert done.returncode == 0, done.stderr
    assert "geh3im" not in done.stdout + done.stderr
    assert f'"{shown}"' in done.stdout


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_a_url_of_keys_should_not_have_is_shown_to_nobody(form: list[str]) -> None:
    url = "https://me:geh3im@idp.example/keys?key=geh3im"
    done = run(
        *("config", "show", *form, "--jwt-jwks", url),
        *("--jwt-issuer", "https://idp.example", "--jwt-audience", "us"),
    )
    assert done.returncode == 0, done.stderr
    assert "geh3im" not in done.stdout + done.stderr
    assert '"[hidden]@idp.example/keys?[hidden]"' in done.stdout
