"""What applications call to sign a URL themselves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from durable_streams.access import token_file
from durable_streams.access.grants import Grant
from durable_streams.access.signed_urls import (
    sign_url,
)
from durable_streams.model.errors import InvalidRequest
from tests.access.known import NOW
from tests.access.signing import Place

if TYPE_CHECKING:
    from pathlib import Path


DIGEST = hashlib.sha256(b"the token").hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_application_signs_what_the_server_takes(place: Place) -> None:
    url = sign_url(
        "https://host:8443/v1/stream/chat/a%2Fb%20c?offset=-1",
        token=place.web,
        key_id=place.key_id,
        secret=place.secret,
        expires_at=NOW + timedelta(hours=1),
        below=True,
    )
    start, _, signed = url.partition("&signed=")
    assert start == "https://host:8443/v1/stream/chat/a%2Fb%20c?offset=-1"
    assert place.is_taken(signed, "chat", "a/b c")
    assert place.is_taken(signed, "chat", "a/b c", "below")
    assert not place.is_taken(signed, "chat")


def test_an_application_names_a_token_whose_text_is_its_own(place: Place) -> None:
    token_file.add_token(
        place.token_path,
        token_file.TokenRecord("own", DIGEST, (Grant.on_prefix("", ["read"]),)),
    )
    place.read_again()
    url = sign_url(
        "/streams/chat/1",
        token="the token",
        token_id="own",
        key_id=place.key_id,
        secret=place.secret,
        expires_at=NOW + timedelta(hours=1),
        url_prefix="/streams/",
    )
    signed = url.partition("?signed=")[2]
    assert place.is_taken(signed)
    assert not place.is_taken(signed, "chat", "1", "below")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://host/other/chat"},
        {"url": "http://host/v1/stream"},
        {"url": "http://host/v1/stream/"},
        {"url": "http://host/v1/stream/a?signed=b"},
        {"url": "http://host/v1/stream/a?%73igned"},
        {"url": "http://host/v1/stream/a#b"},
        {"url": "http://host/v1/stream/__ds/tokens"},
        {"token": "the token"},
        {"token_id": "a.b"},
        {"key_id": "a.b"},
        {"secret": "c2hvcnQ"},
        {"expires_at": datetime(2030, 1, 1)},  # noqa: DTZ001 - which is what is wrong
        {"expires_at": datetime(1969, 1, 1, tzinfo=UTC)},
    ],
)
def test_what_cannot_be_signed_is_an_error(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {
        "url": "http://host/v1/stream/a",
        "token": token_file.new_text("web"),
        "key_id": "k1",
        "secret": "A" * 43,
        "expires_at": NOW,
    }
    sign_url(**good)  # type: ignore[arg-type]
    with pytest.raises((ValueError, InvalidRequest)):
        sign_url(**(good | wrong))  # type: ignore[arg-type]
