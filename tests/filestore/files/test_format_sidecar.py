from __future__ import annotations

import json
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.filestore.format.sidecar import (
    BadSidecar,
    ForkOrigin,
    NewerSidecar,
    Requested,
    Sidecar,
    pack,
    unpack,
)
from durable_streams.model.commands import FOREVER, ForkRequest, Lifetime
from durable_streams.model.offsets import Offset
from tests.filestore.files.flips import every_flip
from tests.filestore.files.history import ID, OTHER_ID, sidecar_of

EXPIRES_AT = "2027-01-01T00:00:00Z"
FULL = msgspec.structs.replace(
    sidecar_of("chat/é", ID, "application/json"),
    version=7,
    ttl_s=60,
    requested=Requested(ttl_s=60),
    fork=ForkOrigin("chat/a", OTHER_ID, Offset(1, 5).token, 2, Offset(1, 9).token),
    forks={OTHER_ID: "chat/b"},
    soft_deleted=True,
    cuts=1,
)
RECREATED = msgspec.structs.replace(FULL, first=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(0, 2**53 - 1)
SIDECARS = st.builds(
    Sidecar,
    version=NUMBERS,
    id=TEXTS,
    path=TEXTS,
    content_type=TEXTS,
    ttl_s=st.none() | NUMBERS,
    expires_at=st.none() | TEXTS,
    expires_at_ms=st.none() | NUMBERS,
    created_ms=NUMBERS,
    last_use_ms=NUMBERS,
    root=TEXTS,
    requested=st.builds(Requested, ttl_s=st.none() | NUMBERS),
    fork=st.none() | st.builds(ForkOrigin, TEXTS, TEXTS, st.none() | TEXTS, NUMBERS, TEXTS),
    forks=st.dictionaries(TEXTS, TEXTS, max_size=3),
    soft_deleted=st.booleans(),
    cuts=NUMBERS,
    first=NUMBERS,
)


def test_a_sidecar_is_indented_json_for_people() -> None:
    data = pack(FULL)
    assert data.startswith(b'{\n  "format": 1,\n  "version": 7,\n  "id": ')
    assert data.endswith(b"\n}\n")
    fields = json.loads(data)
    assert list(fields) == [*Sidecar.__struct_fields__[:-1], "checksum"]
    assert fields["path"] == "chat/é"
    assert fields["forks"] == {OTHER_ID: "chat/b"}


def test_one_that_does_not_begin_at_segment_0_says_so_and_is_of_format_2() -> None:
    fields = json.loads(pack(RECREATED))
    assert list(fields) == [*Sidecar.__struct_fields__, "checksum"]
    assert (fields["format"], fields["first"]) == (2, 3)


@given(SIDECARS)
def test_a_sidecar_comes_back_as_it_was_written(sidecar: Sidecar) -> None:
    assert unpack(pack(sidecar)) == sidecar


@pytest.mark.parametrize(
    "sidecar",
    [FULL, sidecar_of("chat/a", ID), RECREATED],
    ids=["full", "defaults", "recreated"],
)
def test_every_flipped_bit_is_noticed_and_is_damage(sidecar: Sidecar) -> None:
    for position, damaged in every_flip(pack(sidecar)):
        with pytest.raises(BadSidecar) as refused:
            unpack(damaged)
        assert not isinstance(refused.value, NewerSidecar), f"byte {position}"


def test_the_name_of_a_field_counts_though_its_value_is_the_default() -> None:
    for name in (b"ttl_s", b"fork", b"soft_deleted", b"cuts", b"expires_at"):
        damaged = pack(sidecar_of("chat/a", ID)).replace(b'"' + name, b'"' + name[:-1] + b"_", 1)
        with pytest.raises(BadSidecar):
            unpack(damaged)


def sealed(text: bytes) -> bytes:
    """What a version that knows other fields writes."""
    digest = blake2b(text, digest_size=8).hexdigest().encode()
    whole = text[:-1] + b',"checksum":"' + digest + b'"}'
    return msgspec.json.format(whole, indent=2) + b"\n"


def compact(sidecar: Sidecar) -> bytes:
    return msgspec.json.encode(sidecar)


def test_a_sidecar_that_lacks_a_field_that_came_later_is_read() -> None:
    """As an older version would have left it."""
    older = compact(sidecar_of("chat/a", ID)).replace(b',"soft_deleted":false,"cuts":0', b"")
    assert b"cuts" not in older
    assert unpack(sealed(older)) == sidecar_of("chat/a", ID)


@pytest.mark.parametrize(
    "change",
    [
        (b'"format":1', b'"format":3'),
        (b'"cuts":1', b'"cuts":1,"new":true'),
        (b'"requested":{', b'"requested":{"new":true,'),
        (b'"root"', b'"stem"'),
        (b'"format":1', b'"format":3,"checksum_of":"another kind"'),
    ],
)
def test_a_sidecar_of_a_newer_version_is_named_as_such(change: tuple[bytes, bytes]) -> None:
    newer = compact(FULL).replace(*change, 1)
    assert newer != compact(FULL)
    with pytest.raises(NewerSidecar, match="written by a newer version"):
        unpack(sealed(newer))


def test_a_sidecar_of_a_newer_version_need_not_have_our_checksum() -> None:
    newer = b'{"format": 7, "entirely": "different"}\n'
    with pytest.raises(NewerSidecar, match="format 7 is unknown"):
        unpack(newer)


def test_a_torn_sidecar_is_noticed_wherever_it_ends() -> None:
    data = pack(FULL)
    for size in range(len(data) - 1):
        with pytest.raises(BadSidecar):
            unpack(data[:size])


def test_a_changed_value_does_not_match_the_checksum() -> None:
    with pytest.raises(BadSidecar, match="checksum"):
        unpack(pack(FULL).replace(b'"ttl_s": 60', b'"ttl_s": 61', 1))


def test_an_unknown_format_is_refused_by_name() -> None:
    future = pack(FULL).replace(b'"format": 1', b'"format": 3,\n  "new": true')
    with pytest.raises(BadSidecar, match="format 3 is unknown"):
        unpack(future)


def test_the_lifetimes_in_force_and_as_requested_are_told_apart() -> None:
    sidecar = msgspec.structs.replace(FULL, requested=Requested(None, EXPIRES_AT, 1))
    assert sidecar.lifetime() == Lifetime(ttl_s=60)
    assert sidecar.requested.lifetime() == Lifetime(None, EXPIRES_AT, 1)
    assert Requested().lifetime() == FOREVER


def test_a_fork_remembers_what_was_requested() -> None:
    assert FULL.fork is not None
    assert FULL.fork.request() == ForkRequest(("chat", "a"), Offset(1, 5), 2)
    at_the_tail = ForkOrigin("chat/a", OTHER_ID, None, 0, Offset(1, 9).token)
    assert at_the_tail.request() == ForkRequest(("chat", "a"), None, 0)
