"""Tokens that are granted and revoked while a server runs: by whom, and what is asked for."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.access import token_file, tokens
from durable_streams.access.grants import Grant, Scope
from durable_streams.access.principals import Principal
from durable_streams.access.tokens import (
    MAX_WANTED_BYTES,
    Tokens,
    Wanted,
    may_give,
    may_see,
    parse_wanted,
)
from durable_streams.model.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    Unauthenticated,
    WriteFailed,
)
from tests.access.known import (
    ALL_OF_CHAT,
    NOW,
    NOW_S,
    READ_CHAT,
    Changes,
    Clock,
    new,
    no_tokens,
    settled,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LATER = NOW + timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return no_tokens(tmp_path)


# Granting and revoking


async def admin(path: Path, *grants: Grant, expires: datetime | None = None) -> Any:
    """Tokens, and a principal of one of them that may grant."""
    text = await asyncio.to_thread(lambda: new(path, "admin", *grants, expires=expires))
    known = await asyncio.to_thread(lambda: Tokens(path, clock=Clock()))
    return known, shown(known, text)


async def test_a_granted_token_counts_at_once_is_in_the_file_and_told_without_its_text(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "durable_streams")
    known, principal = await admin(path, ALL_OF_CHAT)
    changed = Changes()
    async with known.running(changed):
        made, text = await known.add(principal, Wanted((READ_CHAT,), "web", LATER, "a note"))
        assert changed.count == 1
    assert shown(known, text).grants == (READ_CHAT,)
    assert token_file.read_tokens(path).by_id["web"] == made
    [line] = caplog.records
    assert line.getMessage() == "a token was granted"
    said = vars(line)
    assert (said["by"], said["token"]) == ("token:admin", "web")
    assert said["grants"] == "read on prefix 'chat'"
    assert said["expires"] == LATER.isoformat()
    assert text not in f"{said}"
    assert made.digest not in f"{said}"


async def test_a_token_without_an_id_gets_one(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    one, _ = await known.add(principal, Wanted((READ_CHAT,)))
    other, _ = await known.add(principal, Wanted((READ_CHAT,)))
    assert token_file.is_id(one.id)
    assert one.id != other.id


@pytest.mark.parametrize(
    "grants",
    [
        [Grant.on_prefix("", ["read"])],
        [Grant.on_prefix("chats", ["read"])],
        [Grant.on_prefix("chat", ["delete"])],
        [READ_CHAT, Grant.on_path("other", ["read"])],
        [Grant.on_glob("chat*", ["read"])],
    ],
)
async def test_nobody_grants_more_than_they_have(path: Path, grants: Sequence[Grant]) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    before = path.read_bytes()
    with pytest.raises(Forbidden):
        await known.add(principal, Wanted(tuple(grants)))
    assert path.read_bytes() == before


async def test_nobody_grants_without_admin(path: Path) -> None:
    known, principal = await admin(path, READ_CHAT)
    with pytest.raises(Forbidden) as caught:
        await known.add(principal, Wanted((READ_CHAT,)))
    assert caught.value.scope == "admin"
    with pytest.raises(Forbidden):
        await known.remove(principal, "admin")
    with pytest.raises(Forbidden):
        await known.list_for(principal)


async def test_nobody_grants_for_longer_than_they_have(path: Path) -> None:
    until = NOW + timedelta(hours=1)
    known, principal = await admin(path, ALL_OF_CHAT, expires=until)
    await known.add(principal, Wanted((READ_CHAT,), "as-long", until))
    for later in (None, until + timedelta(milliseconds=1)):
        with pytest.raises(Forbidden, match="2027-01-15T09:00:00"):
            await known.add(principal, Wanted((READ_CHAT,), "longer", later))


async def test_what_is_over_already_is_not_granted(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    with pytest.raises(InvalidRequest):
        await known.add(principal, Wanted((READ_CHAT,), "past", NOW))


async def test_who_was_revoked_in_the_file_grants_and_revokes_nothing(path: Path) -> None:
    """Though nobody has looked at the file since."""
    known, principal = await admin(path, ALL_OF_CHAT)
    await asyncio.to_thread(new, path, "web", READ_CHAT)
    await asyncio.to_thread(token_file.remove_token, path, "admin")
    with pytest.raises(Unauthenticated):
        await known.add(principal, Wanted((READ_CHAT,)))
    with pytest.raises(Unauthenticated):
        await known.remove(principal, "web")
    assert list(token_file.read_tokens(path).by_id) == ["web"]


async def test_who_has_less_in_the_file_by_now_grants_that(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    path.write_text(path.read_text().replace('"admin"]', '"delete"]'))
    with pytest.raises(Forbidden):
        await known.add(principal, Wanted((READ_CHAT,)))


async def test_whom_others_vouch_for_may_grant_as_well(path: Path) -> None:
    known = await asyncio.to_thread(Tokens, path)
    principal = Principal("jwt:alice", (ALL_OF_CHAT,))
    made, _ = await known.add(principal, Wanted((READ_CHAT,), "web"))
    assert await known.list_for(principal) == [made]


async def test_an_id_is_there_once(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    with pytest.raises(Conflict):
        await known.add(principal, Wanted((READ_CHAT,), "admin"))


async def test_a_revoked_token_ends_at_once_and_that_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "durable_streams")
    known, principal = await admin(path, ALL_OF_CHAT)
    _, text = await known.add(principal, Wanted((READ_CHAT,), "web"))
    changed = Changes()
    async with known.running(changed):
        assert await known.remove(principal, "web")
        assert changed.count == 1
    assert known.principal(text) is None
    assert "web" not in token_file.read_tokens(path).by_id
    line = caplog.records[-1]
    assert line.getMessage() == "a token was revoked"
    assert vars(line)["token"] == "web"


async def test_tokens_of_others_are_neither_seen_nor_revoked(path: Path) -> None:
    await asyncio.to_thread(new, path, "other", READ_CHAT, Grant.on_path("other", ["read"]))
    known, principal = await admin(path, ALL_OF_CHAT)
    await settled(known)
    assert [token.id for token in await known.list_for(principal)] == ["admin"]
    assert not await known.remove(principal, "other")
    assert not await known.remove(principal, "missing")
    assert set(token_file.read_tokens(path).by_id) == {"admin", "other"}


async def test_a_token_that_has_expired_can_be_revoked(path: Path) -> None:
    await asyncio.to_thread(lambda: new(path, "old", READ_CHAT, expires=NOW))
    known, principal = await admin(path, ALL_OF_CHAT)
    assert await known.remove(principal, "old")


async def test_a_file_that_cannot_be_changed_is_not_named_to_clients(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    path.write_text("[[token]]")
    with pytest.raises(WriteFailed) as caught:
        await known.add(principal, Wanted((READ_CHAT,)))
    with pytest.raises(WriteFailed):
        await known.remove(principal, "admin")
    assert str(path) not in str(caught.value)
    assert str(path) in caplog.text


async def test_many_at_a_time_are_all_done(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    made = await asyncio.gather(
        *(known.add(principal, Wanted((READ_CHAT,), f"t{number}")) for number in range(10))
    )
    assert all(known.principal(text) is not None for _, text in made)
    assert len(token_file.read_tokens(path).tokens) == 11


async def test_a_grant_whose_client_left_is_whole_or_none(path: Path) -> None:
    known, principal = await admin(path, ALL_OF_CHAT)
    asked = asyncio.create_task(known.add(principal, Wanted((READ_CHAT,), "web")))
    await asyncio.sleep(0)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked
    made, _ = await known.add(principal, Wanted((READ_CHAT,), "next"))
    await settled(known)
    assert known.known("next") == made
    assert set(token_file.read_tokens(path).by_id) - {"web"} == {"admin", "next"}


def test_what_may_be_given_is_covered_and_no_longer() -> None:
    principal = Principal("token:a", (ALL_OF_CHAT,), NOW_S)
    token = tokens.made(Wanted((READ_CHAT, Grant.on_path("chat/1", ["append"])), "b", NOW))[0]
    may_give(principal, token)
    assert may_see(principal, token)
    wider = tokens.made(Wanted((READ_CHAT, Grant.on_path("x", ["append"])), "b", NOW))[0]
    with pytest.raises(Forbidden):
        may_give(principal, wider)
    assert not may_see(principal, wider)


# What is asked for


def body(**fields: Any) -> bytes:
    return json.dumps({"grants": [{"scopes": ["read"], "prefix": "chat"}]} | fields).encode()


def test_a_token_is_asked_for_in_json() -> None:
    grants = [
        {"scopes": ["read", "append"], "prefix": ""},
        {"scopes": ["list"], "path": "a%2Fb", "glob": None},
        {"scopes": ["admin"], "glob": "a/**"},
    ]
    wanted = parse_wanted(body(grants=grants, id="web", note="é", expires="2027-01-15T08:00:00Z"))
    assert wanted == Wanted(
        (
            Grant.on_prefix("", [Scope.READ, Scope.APPEND]),
            Grant.on_path("a%2Fb", ["list"]),
            Grant.on_glob("a/**", ["admin"]),
        ),
        "web",
        NOW,
        "é",
    )
    least = parse_wanted(body(id=None, note=None, expires=None))
    assert least == Wanted((READ_CHAT,))


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"grants": ' + b"[" * 100_000,
        b'{"grants": ' + b"9" * 5000 + b"}",
        body(more=1),
        body(id=7),
        body(id=""),
        body(id="a.b"),
        body(id="a" * 65),
        body(note=7),
        body(note="x" * 1025),
        body(note="\ud800"),
        body(expires=7),
        body(expires="tomorrow"),
        body(expires="2027-01-15"),
        body(expires="2027-01-15T08:00:00"),
        body(expires="0000-01-01T00:00:00Z"),
        body(expires="9999-12-31T23:59:59-23:59"),
        body(grants=[]),
        body(grants=[{"scopes": ["read"], "prefix": "a"}] * 65),
        body(grants=[{"scopes": ["read"]}]),
        body(grants=[{"scopes": [], "prefix": "a"}]),
        body(grants=[{"scopes": "read", "prefix": "a"}]),
        body(grants=[{"scopes": ["reed"], "prefix": "a"}]),
        body(grants=[{"scopes": ["read"], "prefix": "a", "path": "a"}]),
        body(grants=[{"scopes": ["read"], "prefix": "a", "more": 1}]),
        body(grants=[{"scopes": ["read"], "path": ""}]),
        body(grants=[{"scopes": ["read"], "path": "\ud800"}]),
        body(grants=[{"scopes": ["read"], "glob": "__ds/**"}]),
        body(id="a")[:-1] + b', "id": "b"}',
        body() + b" " * MAX_WANTED_BYTES,
    ],
)
def test_what_cannot_be_is_refused(asked: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_wanted(asked)


def test_as_much_as_there_may_be_is_taken() -> None:
    grants = [{"scopes": [scope.value for scope in Scope], "glob": "a" * 255 + "/*" * 15}] * 64
    wanted = parse_wanted(body(grants=grants, note="x" * 1024, id="a" * 64))
    assert len(wanted.grants) == 64
