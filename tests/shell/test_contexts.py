"""Contexts: where streams are unless it is said, and whose token goes where."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

from durable_streams.shell.exit_status import Status
from durable_streams.shell.targets import Target

if TYPE_CHECKING:
    from tests.shell.running import Shell
    from tools.server_process import ServerProcess


def test_a_flag_counts_before_the_environment_and_that_before_a_context(
    shell: Shell, running: ServerProcess
) -> None:
    nowhere = shell.home / "nowhere"
    shell.told("create", "there")
    del shell.environment["STREAM_URL"]
    shell.told("context", "add", "here", "--url", running.base_url)
    shell.told("context", "add", "nowhere", "--data-dir", nowhere)
    assert shell.told("ls", "there") == "there\n"
    shell.told("context", "use", "nowhere")
    assert str(nowhere) in shell.refused("ls")[1]
    assert shell.told("ls", "--context", "here", "there") == "there\n"
    shell.environment["STREAM_URL"] = running.base_url
    assert shell.told("ls", "there") == "there\n"
    assert shell.refused("ls", "--data-dir", nowhere)[0] == Status.USAGE
    shell.told("context", "rm", "nowhere")
    assert shell.refused("context", "use", "nowhere")[0] == Status.USAGE


def test_a_token_is_in_a_file_of_ones_own_and_never_printed(shell: Shell) -> None:
    (shell.home / "token").write_text("dst_secret\n")
    shell.told("context", "add", "p", "-u", "http://a.example", "--auth", f"@{shell.home}/token")
    file = shell.home / ".config" / "durable-streams" / "contexts.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "dst_secret" in file.read_text()
    told = shell.told("context", "list") + shell.told("context", "list", "--json")
    assert "secret" not in told
    assert json.loads(told.splitlines()[1])["has_token"]
    before = file.read_bytes()
    for mode in (0o640, 0o604):
        file.chmod(mode)
        for verb in (["list"], ["add", "q", "-u", "http://a.example", "--auth", "dst_other"]):
            status, line = shell.refused("context", *verb)
            assert status == Status.USAGE
            assert "chmod 600" in line
    assert file.read_bytes() == before


def test_a_database_is_named_wherever_one_is_and_its_password_is_shown_nowhere(
    shell: Shell,
) -> None:
    url = "postgresql://ds:hidden@db1,db2/streams?password=hidden&options=-csearch_path%3Da"
    shell.told("context", "add", "one", "--data-dir", url)
    shell.told("context", "add", "two", "--url", url)
    told = shell.told("context", "list")
    assert told.count("postgresql://ds@db1,db2/streams\n") == 2
    assert "hidden" not in told + shell.told("context", "list", "--json")
    file = shell.home / ".config" / "durable-streams" / "contexts.toml"
    assert file.read_text().count(url) == 2
    identity = Target(url).identity
    assert "hidden" not in identity
    assert identity == Target(url.replace("hidden", "other")).identity
    assert identity != Target(url.replace("Da", "Db")).identity
