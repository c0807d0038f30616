"""The verbs ``token``, ``signing-key`` and ``sign-url``, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from durable_streams.access import signing_keys, token_file
from durable_streams.access.grants import Grant
from durable_streams.access.signed_urls import SignedUrls
from durable_streams.access.tokens import Tokens
from durable_streams.wire.signed_query import signed_in
from tests.command_line import run_here
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path


class Ran:
    """What a command said."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "durable_streams", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.out, self.error = done.returncode, done.stdout, done.stderr


def done(*arguments: str | Path, **environment: str) -> str:
    ran = Ran(*arguments, **environment)
    assert ran.code == 0, ran.error
    return ran.out


def refused(*arguments: str | Path, **environment: str) -> str:
    ran = Ran(*arguments, **environment)
    assert (ran.code, ran.out) == (2, "")
    assert ran.error.startswith("durable-streams: error: ")
    assert len(ran.error.splitlines()) == 1
    return ran.error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def new(path: Path, *more: str) -> str:
    return done("token", "new", "--tokens", path, *more).rstrip("\n")


# Tokens


def test_a_new_token_is_all_of_stdout_and_what_it_may_do_is_on_stderr(path: Path) -> None:
    told = ("--scope", "read,append", "--scope", "delete", "--prefix", "chat", "--path", "a/b")
    more = ("--glob", "x/*", "--id", "web", "--note", "the web", "--expires", "30d")
    ran = Ran("token", "new", "--tokens", path, *told, *more)
    assert ran.code == 0
    assert ran.out.startswith("dst_web_")
    assert ran.out.count("\n") == 1
    assert ran.out.strip() not in ran.error
    assert "read append delete on prefix 'chat'" in ran.error
    principal = Tokens(path).principal(ran.out.rstrip("\n"))
    assert principal is not None
    scopes = ["read", "append", "delete"]
    assert set(principal.grants) == {
        Grant.on_path("a/b", scopes),
        Grant.on_prefix("chat", scopes),
        Grant.on_glob("x/*", scopes),
    }
    [token] = token_file.read_tokens(path).tokens
    assert token.note == "the web"
    assert token.expires is not None
    assert timedelta(days=29) < token.expires - datetime.now(UTC) <= timedelta(days=30)


def test_the_digest_in_the_file_is_what_a_shell_makes_of_the_token(path: Path) -> None:
    command = f"""
    TOKEN=$({sys.executable} -m durable_streams token new --scope read --prefix "" 2>/dev/null)
    printf %s "$TOKEN" | sha256sum"""
    shell = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "DURABLE_STREAMS_TOKENS": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    [token] = token_file.read_tokens(path).tokens
    assert shell.stdout.split()[0] == token.digest


def test_tokens_are_listed_for_people_and_for_programs_without_digests(path: Path) -> None:
    new(path, "--scope", "read", "--prefix", "", "--id", "web", "--note", "a\x1b[2Jb")
    new(path, "--scope", "list", "--glob", "a/*", "--id", "b", "--expires", "2999-01-31T00:00:00Z")
    table = done("token", "list", "--tokens", path)
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["ID", "EXPIRES"],
        ["web", "never"],
        ["b", "2999-01-31T00:00:00+00:00"],
    ]
    assert "\x1b" not in table
    lines = done("token", "list", "--json", DURABLE_STREAMS_TOKENS=str(path))
    assert [json.loads(line) for line in lines.splitlines()] == [
        {
            "id": "web",
            "note": "a\x1b[2Jb",
            "expires": None,
            "grants": [{"scopes": ["read"], "prefix": ""}],
        },
        {
            "id": "b",
            "note": "",
            "expires": "2999-01-31T00:00:00+00:00",
            "grants": [{"scopes": ["list"], "glob": "a/*"}],
        },
    ]
    for token in token_file.read_tokens(path).tokens:
        assert token.digest not in table + lines


def test_a_token_that_is_over_is_listed_as_such(path: Path) -> None:
    new(path, "--scope", "read", "--prefix", "", "--expires", "2999-01-31T00:00:00Z")
    path.write_text(path.read_text().replace("2999", "1999"))
    assert "1999-01-31T00:00:00+00:00 (over)" in done("token", "list", "--tokens", path)


def test_a_revoked_token_is_gone(path: Path) -> None:
    text = new(path, "--scope", "read", "--prefix", "", "--id", "web")
    assert done("token", "revoke", "web", "--tokens", path) == ""
    assert Tokens(path).principal(text) is None
    assert "there is no token 'web'" in refused("token", "revoke", "web", "--tokens", path)


GRANT = ("--scope", "read", "--prefix", "chat")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scope", "read"), "on which streams?"),
        (("--prefix", "a"), "--scope"),
        (("--scope", ",", "--prefix", "a"), "a grant needs scopes"),
        (("--scope", "reed", "--prefix", "a"), "'reed' is no scope"),
        (("--scope", "read", "--path", "a//b"), "no empty"),
        (("--scope", "read", "--path", "__ds/a"), "reserved"),
        (("--scope", "read", "--path", "a\udcff"), "UTF-8"),
        ((*GRANT, "--id", "a.b"), "the id of a token"),
        ((*GRANT, "--id", ""), "the id of a token"),
        ((*GRANT, "--note", "x" * 1025), "a note is"),
        ((*GRANT, "--note", "\udcff"), "a note is"),
        ((*GRANT, "--expires", "soon"), "will not do"),
        ((*GRANT, "--expires", "30"), "will not do"),
        ((*GRANT, "--expires", "0d"), "will not do"),
        ((*GRANT, "--expires", "999999999d"), "will not do"),
        ((*GRANT, "--expires", "2027-01-31"), "will not do"),
        ((*GRANT, "--expires", "1999-01-31T00:00:00Z"), "over already"),
        ((*GRANT, *("--path", "a") * 64), "at most 64 grants"),
        ((*GRANT, "--wrong"), "--wrong"),
    ],
)
def test_what_cannot_be_is_one_line_and_makes_no_file(
    path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused("token", "new", "--tokens", path, *arguments)
    assert not path.exists()


def test_a_file_has_to_be_named_and_to_be_there(path: Path) -> None:
    assert "DURABLE_STREAMS_TOKENS" in refused("token", "list")
    assert "DURABLE_STREAMS_TOKENS" in refused("token", "list", DURABLE_STREAMS_TOKENS="")
    assert "No such file" in refused("token", "list", "--tokens", path)
    path.write_text("[[token]]")
    assert "needs an id" in refused("token", "list", "--tokens", path)
    assert "needs an id" in refused("token", "new", "--tokens", path, *GRANT)


def test_an_id_is_there_once(path: Path) -> None:
    new(path, *GRANT, "--id", "web")
    assert "use another id" in refused("token", "new", "--tokens", path, *GRANT, "--id", "web")


@pytest.mark.parametrize("verb", [["token"], ["token", "new"], ["signing-key"], ["sign-url"]])
def test_every_verb_explains_itself(verb: list[str]) -> None:
    assert "usage: durable-streams" in done(*verb, "--help")


# Signed URLs

URL = "http://host:4437/v1/stream/chat/a%2Fb?offset=-1"


@pytest.fixture
def both(path: Path, keys: Path) -> list[str]:
    new(path, *GRANT, "--id", "web", "--expires", "2h")
    done("signing-key", "new", "--signing-keys", keys)
    return ["--tokens", str(path), "--signing-keys", str(keys), "--token", "web"]


def test_a_new_key_is_in_front_and_its_id_is_printed(keys: Path) -> None:
    first = done("signing-key", "new", "--signing-keys", keys).strip()
    second = done("signing-key", "new", DURABLE_STREAMS_SIGNING_KEYS=str(keys)).strip()
    assert [key.id for key in signing_keys.read_keys(keys).keys] == [second, first]


def test_keys_of_a_file_are_listed_and_removed_but_for_the_last_one(keys: Path) -> None:
    file = ("--signing-keys", str(keys))

    def said(*arguments: str) -> tuple[int, str]:
        ran = run_here("signing-key", *arguments, *file)
        return ran.returncode, ran.stdout + ran.stderr

    made = [said("new")[1].strip() for _ in range(3)]
    keys.write_text(f"# ours\n{keys.read_text()}")
    assert said("list") == (0, "".join(f"{each}\n" for each in reversed(made)))
    assert said("remove", made[1]) == (0, "")
    assert said("list") == (0, f"{made[2]}\n{made[0]}\n")
    assert keys.read_text().startswith("# ours\n")
    code, why = said("remove", made[1])
    assert (code, f"has no key '{made[1]}'" in why) == (2, True)
    assert said("remove", made[2]) == (0, "")
    code, why = said("remove", made[0])
    assert (code, "no other key" in why) == (2, True)
    assert said("list") == (0, f"{made[0]}\n")


@pytest.mark.parametrize("prefix", [[], ["--prefix"]])
def test_a_url_is_signed_so_that_a_server_takes_it(
    path: Path, keys: Path, both: list[str], prefix: list[str]
) -> None:
    signed_url = done("sign-url", URL, *both, "--expires", "1h", *prefix).rstrip("\n")
    assert signed_url.startswith(f"{URL}&signed=")
    signed, _ = signed_in(urlsplit(signed_url).query)
    assert signed is not None
    urls = SignedUrls(keys, Tokens(path))
    holder = urls.holder(signed, ("chat", "a/b"))
    make = Grant.on_prefix if prefix else Grant.on_path
    assert holder.grants == (make("chat/a%2Fb", ["read"]),)
    left = datetime.fromtimestamp(holder.expires_at_s, UTC) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_the_streams_may_be_elsewhere(path: Path, keys: Path, both: list[str]) -> None:
    url = "https://host/api/streams/chat"
    more = ("--expires", "1m", "--url-prefix", "/api/streams")
    assert done("sign-url", url, *both, *more).startswith(f"{url}?signed=1.")


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        (URL, ["--expires", "3h"], "not later than the token's"),
        (URL, ["--expires", "soon"], "will not do"),
        (URL, [], "--expires"),
        (URL, ["--expires", "1h", "--token", "missing"], "there is no token 'missing'"),
        ("http://host/v1/stream/other", ["--expires", "1h"], "may not read"),
        ("http://host/chat", ["--expires", "1h"], "does not begin with /v1/stream/"),
        (f"{URL}&signed=x", ["--expires", "1h"], "a signature already"),
        (f"{URL}#x", ["--expires", "1h"], "fragment"),
        ("http://[host/v1/stream/chat", ["--expires", "1h"], "IPv6"),
        (URL, ["--expires", "1h", "--signing-keys", "/nowhere/keys.toml"], "No such file"),
        (URL, ["--expires", "1h", "--tokens", "/nowhere/tokens.toml"], "No such file"),
    ],
)
def test_what_a_server_would_not_take_is_not_signed(
    both: list[str], url: str, more: list[str], said: str
) -> None:
    assert said in refused("sign-url", url, *both, *more)


def test_no_secret_is_told_with_what_is_wrong(path: Path, keys: Path, both: list[str]) -> None:
    text = keys.read_text()
    secret = text.partition('secret = "')[2].partition('"')[0]
    assert len(secret) == 43
    for wrong in (text.replace("secret", "sekret"), text.replace(secret, f"{secret}/"), text + "x"):
        keys.write_text(wrong)
        told = refused("sign-url", URL, *both, "--expires", "1h")
        assert secret not in told
