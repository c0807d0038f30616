"""Signed URLs: who holds one, what it is for, and when it ends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.access import signing_keys, token_file
from durable_streams.access.door import Credentials, Door
from durable_streams.access.grants import Grant, Kind, Pattern, Scope
from durable_streams.access.principals import Principal
from durable_streams.access.signed_urls import (
    MAX_EXPIRY_S,
    MAX_SIGNED_CHARACTERS,
    SignedUrls,
    is_good,
    parse_signed,
    sign_url,
    signed_text,
)
from durable_streams.access.signing_keys import SigningKey
from durable_streams.access.small_files import FileProblem
from durable_streams.model.errors import Forbidden, InvalidRequest, Unauthenticated
from durable_streams.wire.signed_query import signed_in
from tests.access.known import NOW, NOW_S
from tests.access.signing import ROOM, Place

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.model.paths import StreamPath

KEY = SigningKey("k1", b"k" * 32)
DIGEST = hashlib.sha256(b"the token").hexdigest()
CHAT = Pattern.parse(Kind.PREFIX, "chat")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# What is signed


def test_the_mac_is_of_json_that_anybody_can_make() -> None:
    """An independent implementation of what the module says."""
    pattern = Pattern.parse(Kind.PREFIX, "chat/röom%2F1")
    signed = signed_text(KEY, "web", DIGEST, pattern, 1_900_000_000)
    message = (
        f'["durable-streams signed URL",1,"k1","web","{DIGEST}","p",'
        '["chat","r\\u00f6om/1"],1900000000]'
    )
    mac = base64.urlsafe_b64encode(hmac.new(KEY.secret, message.encode(), "sha256").digest())
    assert signed == f"1.k1.web.p2.1900000000.{mac.decode().rstrip('=')}"
    assert signed_text(KEY, "web", DIGEST, ROOM, 1).startswith("1.k1.web.x.1.")


def test_the_longest_there_can_be_is_within_the_limit() -> None:
    key = SigningKey("k" * 64, KEY.secret)
    pattern = Pattern(Kind.PREFIX, ("a",) * 512)
    signed = signed_text(key, "t" * 64, DIGEST, pattern, MAX_EXPIRY_S)
    assert len(signed) <= MAX_SIGNED_CHARACTERS
    assert is_good(signed, key, DIGEST, pattern)


_segments = st.lists(st.text('a",]\\é/1p.', min_size=1, max_size=3), min_size=1, max_size=3)
_signed = st.tuples(
    st.sampled_from(["a", "b", "a-"]),
    st.sampled_from([DIGEST, "0" * 64]),
    st.sampled_from([Kind.PATH, Kind.PREFIX]),
    _segments.map(tuple),
    st.integers(1, 20),
)


@given(_signed, _signed)
def test_no_two_things_to_sign_have_the_same_mac(
    one: tuple[str, str, Kind, StreamPath, int], other: tuple[str, str, Kind, StreamPath, int]
) -> None:
    def mac(what: tuple[str, str, Kind, StreamPath, int]) -> str:
        token_id, digest, kind, segments, expires_s = what
        signed = signed_text(KEY, token_id, digest, Pattern(kind, segments), expires_s)
        return signed.rpartition(".")[2]

    assert (mac(one) == mac(other)) == (one == other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "2.k1.web.x.1900000000." + "A" * 43,
        "01.k1.web.x.1900000000." + "A" * 43,
        "1.k1.web.x.1900000000." + "A" * 42,
        "1.k1.web.x.1900000000." + "A" * 44,
        "1.k1.web.x.1900000000." + "A" * 43 + "=",
        "1.k1.web.x.1900000000." + "A" * 43 + "\n",
        "1.k1.web.x.1900000000." + "A" * 42 + "+",
        "1.k1.web.y.1900000000." + "A" * 43,
        "1.k1.web.x1.1900000000." + "A" * 43,
        "1.k1.web.p.1900000000." + "A" * 43,
        "1.k1.web.p0.1900000000." + "A" * 43,
        "1.k1.web.p01.1900000000." + "A" * 43,
        "1.k1.web.p٣.1900000000." + "A" * 43,
        "1.k1.web.p12345.1900000000." + "A" * 43,
        "1.k1.web.x.." + "A" * 43,
        "1.k1.web.x.0." + "A" * 43,
        "1.k1.web.x.-1." + "A" * 43,
        "1.k1.web.x.1e9." + "A" * 43,
        "1.k1.web.x.01900000000." + "A" * 43,
        "1.k1.web.x.1000000000000." + "A" * 43,
        "1..web.x.1900000000." + "A" * 43,
        "1.k1..x.1900000000." + "A" * 43,
        "1.k1.a.b.x.1900000000." + "A" * 43,
        "1.k_1.web.x.1900000000." + "A" * 43,
        "1." + "k" * 65 + ".web.x.1900000000." + "A" * 43,
        "1." * 100_000,
    ],
)
def test_what_is_no_signature_is_refused(place: Place, text: str) -> None:
    assert parse_signed(text) is None
    assert not is_good(text, KEY, DIGEST, ROOM)
    assert not place.is_taken(text)


# Who holds one


def test_who_holds_a_url_may_read_that_stream_and_nothing_else(place: Place) -> None:
    holder = place.urls.holder(place.sign(), ROOM.segments)
    assert (holder.name, holder.expires_at_s) == ("signed:web", NOW_S + 60)
    assert holder.may(Scope.READ, ("chat", "1"))
    assert not holder.may(Scope.READ, ("chat", "1", "a"))
    assert not holder.may(Scope.APPEND, ("chat", "1"))
    assert place.urls.as_now(holder) == holder


def test_a_url_is_for_its_stream_alone(place: Place) -> None:
    signed = place.sign()
    assert place.is_taken(signed, "chat", "1")
    for other in (("chat",), ("chat", "2"), ("chat", "1", "a"), ("chat/1",), ("other", "1")):
        assert not place.is_taken(signed, *other)


def test_a_url_of_a_prefix_is_for_all_below_it(place: Place) -> None:
    signed = place.sign(Pattern.parse(Kind.PREFIX, "chat/1"))
    for path in (("chat", "1"), ("chat", "1", "a"), ("chat", "1", "a", "b")):
        assert place.is_taken(signed, *path)
        holder = place.urls.holder(signed, path)
        assert holder.grants == (Grant.on_prefix("chat/1", ["read"]),)
    for other in (("chat",), ("chat", "2"), ("chat", "11"), ("chat/1",), ("other", "1", "a")):
        assert not place.is_taken(signed, *other)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (1, "k2"),
        (2, "other"),
        (2, "missing"),
        (3, "p1"),
        (3, "p2"),
        (4, f"{int(NOW_S) + 61}"),
        (4, f"{int(NOW_S) + 59}"),
        (5, "A" * 43),
    ],
)
def test_nothing_in_it_can_be_changed(place: Place, part: int, text: str) -> None:
    place.new_token("other", Grant.on_prefix("chat", ["read"]))
    place.read_again()
    signed = place.sign()
    assert place.is_taken(signed)
    parts = signed.split(".")
    assert parts[part] != text
    parts[part] = text
    assert not place.is_taken(".".join(parts))


def test_the_bits_that_base64_leaves_over_are_no_second_spelling(place: Place) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signed = place.sign()
    same = alphabet[alphabet.index(signed[-1]) | 1]
    raw = [base64.urlsafe_b64decode(f"{text[-43:]}=") for text in (signed, signed[:-1] + same)]
    assert raw[0] == raw[1]
    assert not place.is_taken(signed[:-1] + same)


def test_the_key_of_another_server_signs_nothing_here(place: Place) -> None:
    foreign = SigningKey(place.key_id, b"x" * 32)
    digest = token_file.digest_of(place.web.encode())
    assert not place.is_taken(signed_text(foreign, "web", digest, ROOM, int(NOW_S) + 60))


# When it ends


def test_it_ends_at_its_very_second(place: Place) -> None:
    signed = place.sign()
    holder = place.urls.holder(signed, ROOM.segments)
    place.clock.now_s += 59.9
    assert place.is_taken(signed)
    place.clock.now_s = NOW_S + 60
    assert not place.is_taken(signed)
    assert place.urls.as_now(holder) is None


def test_it_ends_with_the_token(place: Place) -> None:
    text = place.new_token(
        "short", Grant.on_prefix("chat", ["read"]), expires=NOW + timedelta(seconds=30)
    )
    place.read_again()
    signed = place.urls.sign(place.issuer(text), ROOM, NOW_S + 30)
    made_elsewhere = sign_url(
        "http://host/v1/stream/chat/1",
        token=text,
        key_id=place.key_id,
        secret=place.secret,
        expires_at=NOW + timedelta(hours=1),
    )
    longer = signed_in(urlsplit(made_elsewhere).query)[0]
    assert longer is not None
    assert place.urls.holder(longer, ROOM.segments).expires_at_s == NOW_S + 30
    place.clock.now_s += 30
    assert not place.is_taken(signed)
    assert not place.is_taken(longer)


def test_it_ends_when_the_token_is_revoked(place: Place) -> None:
    signed = place.sign()
    holder = place.urls.holder(signed, ROOM.segments)
    token_file.remove_token(place.token_path, "web")
    place.read_again()
    assert not place.is_taken(signed)
    assert place.urls.as_now(holder) is None


def test_it_stays_ended_when_a_token_is_made_with_the_same_id(place: Place) -> None:
    signed = place.sign()
    holder = place.urls.holder(signed, ROOM.segments)
    token_file.remove_token(place.token_path, "web")
    place.new_token("web", Grant.on_prefix("chat", ["read"]))
    place.read_again()
    assert not place.is_taken(signed)
    assert place.urls.as_now(holder) is None


def test_it_ends_when_the_token_may_not_read_there_any_more(place: Place) -> None:
    room, chat = place.sign(), place.sign(CHAT)
    holder = place.urls.holder(room, ROOM.segments)
    text = place.token_path.read_text()
    place.token_path.write_text(text.replace('prefix = "chat"', 'path = "chat/1"'))
    place.read_again()
    assert place.is_taken(room)
    assert not place.is_taken(chat)
    place.token_path.write_text(text.replace('"read", ', ""))
    place.read_again()
    assert not place.is_taken(room)
    assert place.urls.as_now(holder) is None


def test_it_ends_when_its_key_is_removed_and_not_when_another_signs(place: Place) -> None:
    old = place.sign()
    holder = place.urls.holder(old, ROOM.segments)
    signing_keys.new_key(place.key_path)
    place.read_again()
    new = place.sign()
    assert new.split(".")[1] != old.split(".")[1]
    assert place.is_taken(old)
    assert place.urls.as_now(holder) == holder
    place.key_path.write_text(place.key_path.read_text().partition("\n\n")[0])
    place.read_again()
    assert place.is_taken(new)
    assert not place.is_taken(old)
    assert place.urls.as_now(holder) is None


def test_keys_that_are_no_good_leave_what_was(place: Place) -> None:
    signed = place.sign()
    place.key_path.write_text("")
    place.read_again()
    assert place.is_taken(signed)
    assert "has no key" in f"{place.urls.problem}"
    place.key_path.unlink()
    with pytest.raises(FileProblem):
        SignedUrls(place.key_path, place.tokens)


async def test_keys_are_followed_while_it_runs(tmp_path: Path) -> None:
    place = await asyncio.to_thread(Place, tmp_path)
    urls = await asyncio.to_thread(
        lambda: SignedUrls(place.key_path, place.tokens, interval_s=0.001)
    )
    changed = asyncio.Event()
    async with urls.running(changed.set):
        identity = await asyncio.to_thread(signing_keys.new_key, place.key_path)
        await changed.wait()
    assert urls.files[0].value.keys[0].id == identity


def test_nobody_else_is_a_holder(place: Place) -> None:
    grants = (Grant.on_prefix("", ["read"]),)
    assert place.urls.as_now(Principal("signed:web", grants)) is None
    assert place.urls.as_now(Principal("signed:web", (), vouched_by=place.sign())) is None
    assert place.urls.as_now(Principal("signed:web", grants, vouched_by=place.sign())) is None


def test_a_holder_shows_no_signature(place: Place) -> None:
    signed = place.sign()
    holder = place.urls.holder(signed, ROOM.segments)
    assert signed not in f"{holder} {holder!r}"
    assert signed[-43:] not in f"{holder!r}"


def test_the_door_takes_it_for_what_it_is_for(place: Place) -> None:
    door = Door([place.tokens], place.urls, clock=place.clock)
    signed = place.sign()
    holder = door.identify(Credentials(signed=signed), ROOM.segments)
    assert door.may_read(holder, ROOM.segments)
    assert not door.may_read(holder, ("chat", "2"))
    with pytest.raises(InvalidRequest):
        door.identify(Credentials(f"Bearer {place.web}", signed), ROOM.segments)
    with pytest.raises(Unauthenticated):
        door.identify(Credentials(signed=""), ROOM.segments)


# Who signs


def test_nobody_signs_for_more_than_they_may_read(place: Place) -> None:
    for pattern in (Pattern.parse(Kind.PATH, "other"), Pattern.parse(Kind.PREFIX, "cha")):
        with pytest.raises(Forbidden) as caught:
            place.urls.sign(place.issuer(), pattern, NOW_S + 60)
        assert caught.value.scope == "read"
    blind = place.new_token("blind", Grant.on_prefix("", ["append", "admin"]))
    place.read_again()
    with pytest.raises(Forbidden):
        place.urls.sign(place.issuer(blind), ROOM, NOW_S + 60)


@pytest.mark.parametrize("pattern", [Pattern(Kind.PREFIX, ()), Pattern.parse(Kind.GLOB, "chat/*")])
def test_nobody_signs_for_every_stream_or_a_glob(place: Place, pattern: Pattern) -> None:
    everywhere = place.new_token("all", Grant.on_prefix("", ["read"]))
    place.read_again()
    with pytest.raises(InvalidRequest):
        place.urls.sign(place.issuer(everywhere), pattern, NOW_S + 60)


@pytest.mark.parametrize("for_s", [0, -1, 61, 60.5, MAX_EXPIRY_S, float("inf"), float("nan")])
def test_nobody_signs_for_longer_than_their_token(place: Place, for_s: float) -> None:
    text = place.new_token(
        "short", Grant.on_prefix("chat", ["read"]), expires=NOW + timedelta(seconds=60)
    )
    place.read_again()
    place.urls.sign(place.issuer(text), ROOM, NOW_S + 60)
    with pytest.raises(InvalidRequest):
        place.urls.sign(place.issuer(text), ROOM, NOW_S + for_s)


def test_only_holders_of_tokens_of_the_file_sign(place: Place) -> None:
    grants = (Grant.on_prefix("", ["read"]),)
    holder = place.urls.holder(place.sign(), ROOM.segments)
    revoked = place.issuer()
    token_file.remove_token(place.token_path, "web")
    place.read_again()
    for principal in (
        Principal("jwt:web", grants),
        holder,
        revoked,
        Principal("token:web", grants),
    ):
        with pytest.raises(Forbidden):
            place.urls.sign(principal, ROOM, NOW_S + 60)
