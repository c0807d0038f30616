"""Content types over HTTP: what makes another one, and what is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.http.event_client import CLOSE

if TYPE_CHECKING:
    from tests.http.conftest import RunningServer


@pytest.mark.parametrize(
    ("created", "sent", "status"),
    [
        ("application/json", "application/json; charset=utf-8", 204),
        ("application/json; charset=utf-8", "application/json", 204),
        ("text/plain", "text/plain;charset=UTF-8", 204),
        ("text/plain;charset=iso-8859-1", "text/plain;charset=iso-8859-1", 204),
        ("text/plain;charset=iso-8859-1", "text/plain", 409),
        ("application/octet-stream;a=b", "application/octet-stream", 204),
        ("application/octet-stream", "application/json", 409),
    ],
)
async def test_parameters_that_clients_add_make_no_other_content_type(
    either: RunningServer, created: str, sent: str, status: int
) -> None:
    client = await either.connect()
    answer = await client.request("PUT", "a", b"", {"Content-Type": created})
    assert answer.status == 201
    stored = answer.headers["content-type"]
    again = await client.request("PUT", "a", b"", {"Content-Type": sent})
    assert again.status == {204: 200, 409: 409}[status]
    posted = await client.request("POST", "a", b"1", {"Content-Type": sent})
    assert posted.status == status
    fork = {"Content-Type": sent, "Stream-Forked-From": "/v1/stream/a"}
    forked = await client.request("PUT", "f", b"", fork)
    assert forked.status == {204: 201, 409: 409}[status]
    assert (await client.request("HEAD", "a")).headers["content-type"] == stored


@pytest.mark.parametrize("malformed", ["application/json, application/json", "a/b;c", "a"])
async def test_a_malformed_content_type_creates_nothing(
    either: RunningServer, malformed: str
) -> None:
    client = await either.connect()
    for method in ("PUT", "POST"):
        answer = await client.request(method, "a", b"1", {"Content-Type": malformed})
        assert answer.status == 400
        assert b"Content-Type" in answer.body
    assert (await client.request("HEAD", "a")).status == 404
    await either.create("a", "text/plain")
    close = await client.request("POST", "a", b"", CLOSE | {"Content-Type": malformed})
    assert close.status == 204
