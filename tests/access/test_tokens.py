"""Tokens of a file while a server runs: who shows one, and what counts when."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from durable_streams.access import token_file
from durable_streams.access.door import Credentials, Door
from durable_streams.access.grants import Grant
from durable_streams.access.small_files import FileProblem
from durable_streams.access.tokens import (
    MAX_BEARER_BYTES,
    Tokens,
)
from durable_streams.model.errors import (
    Unauthenticated,
)
from tests.access.known import (
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
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return no_tokens(tmp_path)


# Who shows one


def test_who_shows_a_token_is_its_principal(path: Path, clock: Clock) -> None:
    text = new(path, "web", READ_CHAT, expires=NOW + timedelta(hours=1))
    known = Tokens(path, clock=clock)
    principal = shown(known, text)
    assert (principal.name, principal.grants) == ("token:web", (READ_CHAT,))
    assert principal.expires_at_s == NOW_S + 3600
    assert known.as_now(principal) == principal


@pytest.mark.parametrize("bearer", ["", "dst_web_", "x" * MAX_BEARER_BYTES, "\ud800"])
def test_a_text_that_is_no_token_is_nobody(path: Path, bearer: str) -> None:
    text = new(path, "web", READ_CHAT)
    known = Tokens(path)
    assert known.principal(bearer) is None
    assert known.principal(text[:-1]) is None
    assert known.principal(text + " ") is None


def test_a_text_of_ones_own_may_be_of_any_bytes_up_to_the_limit(path: Path) -> None:
    bearer = "\udcff" + "é" * (MAX_BEARER_BYTES // 2 - 1) + "x"
    raw = bearer.encode("utf-8", "surrogateescape")
    assert len(raw) == MAX_BEARER_BYTES
    for identity, own in (("own", raw), ("longer", raw + b"x")):
        digest = hashlib.sha256(own).hexdigest()
        token_file.add_token(path, token_file.TokenRecord(identity, digest, (READ_CHAT,)))
    known = Tokens(path)
    assert shown(known, bearer).name == "token:own"
    assert known.principal(bearer + "x") is None


def test_a_token_ends_at_its_very_moment(path: Path, clock: Clock) -> None:
    text = new(path, "web", READ_CHAT, expires=NOW + timedelta(seconds=10))
    known = Tokens(path, clock=clock)
    clock.now_s += 9.9
    principal = shown(known, text)
    clock.now_s = NOW_S + 10
    with pytest.raises(Unauthenticated) as caught:
        known.principal(text)
    assert caught.value.error == "invalid_token"
    assert known.as_now(principal) is None
    assert known.known("web") is None


def test_the_door_knows_them(path: Path) -> None:
    text = new(path, "web", READ_CHAT)
    door = Door([Tokens(path)])
    principal = door.identify(Credentials(f"Bearer {text}"), ("chat",))
    assert door.may_read(principal, ("chat", "1"))
    assert not door.may_read(principal, ("other",))
    with pytest.raises(Unauthenticated):
        door.identify(Credentials(f"Bearer {text}x"), ("chat",))


# What is changed in the file


async def test_a_token_that_is_revoked_is_nobodys_any_more(path: Path) -> None:
    text = await asyncio.to_thread(new, path, "web", READ_CHAT)
    known = await asyncio.to_thread(Tokens, path)
    principal = shown(known, text)
    await asyncio.to_thread(token_file.remove_token, path, "web")
    await settled(known)
    assert known.principal(text) is None
    assert known.as_now(principal) is None


async def test_a_token_has_the_grants_that_it_has_now(path: Path) -> None:
    text = await asyncio.to_thread(new, path, "web", READ_CHAT)
    known = await asyncio.to_thread(Tokens, path)
    principal = shown(known, text)
    await asyncio.to_thread(path.write_text, path.read_text().replace('"chat"', '"other"'))
    await settled(known)
    now = known.as_now(principal)
    assert now is not None
    assert now.grants == (Grant.on_prefix("other", ["read"]),)


async def test_one_that_is_made_anew_with_the_same_id_is_another(path: Path) -> None:
    text = await asyncio.to_thread(new, path, "web", READ_CHAT)
    known = await asyncio.to_thread(Tokens, path)
    principal = shown(known, text)
    await asyncio.to_thread(token_file.remove_token, path, "web")
    again = await asyncio.to_thread(new, path, "web", READ_CHAT)
    await settled(known)
    assert known.as_now(principal) is None
    assert shown(known, again).name == principal.name


async def test_what_is_changed_counts_while_it_runs_and_is_told(path: Path) -> None:
    known = await asyncio.to_thread(lambda: Tokens(path, interval_s=0.001))
    changed = Changes()
    async with known.running(changed):
        text = await asyncio.to_thread(new, path, "web", READ_CHAT)
        await changed.told.wait()
        assert shown(known, text).name == "token:web"


async def test_what_is_written_just_now_counts_when_it_is_found_twice(path: Path) -> None:
    """An editor that writes in place leaves a shorter file for a moment, and a good one."""
    text = await asyncio.to_thread(new, path, "web", READ_CHAT)
    known = await asyncio.to_thread(Tokens, path)
    whole = path.read_bytes()
    for content in (b"", whole, b"", None, whole):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        await known.file.look()
        assert known.principal(text) is not None
        assert known.problem is None


async def test_a_file_that_is_no_good_leaves_what_was_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = await asyncio.to_thread(new, path, "web", READ_CHAT)
    known = await asyncio.to_thread(Tokens, path)
    good = path.read_bytes()
    caplog.set_level(logging.INFO, "durable_streams")
    path.write_text("[[token]]\nSECRET = 1")
    for _ in range(3):
        await settled(known)
    assert known.principal(text) is not None
    assert "needs an id" in f"{known.problem}"
    path.unlink()
    for _ in range(3):
        await settled(known)
    assert known.principal(text) is not None
    assert "No such file" in f"{known.problem}"
    path.write_bytes(good)
    await settled(known)
    assert known.problem is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "INFO"]
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("content", [None, "[[token]]"])
def test_a_server_does_not_start_without_a_good_file(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(FileProblem):
        Tokens(path)


async def test_following_ends_with_its_block(path: Path) -> None:
    known = await asyncio.to_thread(lambda: Tokens(path, interval_s=0.001))
    before = asyncio.all_tasks()
    async with known.running(lambda: None):
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before
