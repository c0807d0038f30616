"""What an intruder sends who has a token of little, or none: in bytes, on connections of others."""

from __future__ import annotations

import asyncio
import hashlib
import json
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.access.grants import Kind, Scope
from durable_streams.settings import HttpSettings
from tests.access.guarded import PREFIX, Guarded, Held, ask, guarded, on

if TYPE_CHECKING:
    from pathlib import Path

OWNER: Final = Held("owner", (on(""),))
LITTLE: Final = Held("little", (on("a", Scope.READ),))
SOON: Final = "2027-01-15T08:05:00Z"
SECRET: Final = b"what nobody else may read"
WAYS: Final = ("lane", "aiohttp")


def request(who: Held | None, path: str = "b", *lines: str, method: str = "GET") -> bytes:
    said = [f"{method} {PREFIX}/{path} HTTP/1.1", "Host: example.test", *lines]
    said += [] if who is None else [f"Authorization: {who.bearer}"]
    return "\r\n".join((*said, "", "")).encode()


async def populate(server: Guarded) -> None:
    await server.create("a", b"little")
    await server.create("b", SECRET)


@pytest.mark.parametrize("way", WAYS)
async def test_each_request_of_a_connection_counts_for_its_own_token(
    way: str, tmp_path: Path
) -> None:
    """Cut anywhere, one behind the other: none is taken for the one before it."""
    sent = request(OWNER) + request(LITTLE) + request(None) + request(LITTLE, "a")
    async with guarded(tmp_path, [OWNER, LITTLE], way) as server:
        await populate(server)
        for cut in range(1, len(sent), 5):
            client = await server.client()
            client.send(sent[:cut])
            await asyncio.sleep(0)
            client.send(sent[cut:])
            answers = [await client.answer() for _ in range(4)]
            assert [answer.status for answer in answers] == [200, 403, 401, 200]
            assert [SECRET in answer.body for answer in answers] == [True, False, False, False]
            await server.close_clients()


@pytest.mark.parametrize("way", WAYS)
async def test_a_head_that_is_remembered_brings_nobody_in(way: str, tmp_path: Path) -> None:
    async with guarded(tmp_path, [OWNER, LITTLE], way) as server:
        await populate(server)
        client = await server.client()
        for who, status in ((OWNER, 200), (LITTLE, 403), (None, 401), (OWNER, 200)) * 5:
            client.send(request(who))
            answer = await client.answer()
            assert (answer.status, answer.body == SECRET) == (status, status == 200)


_OWNERS: Final = f"Authorization: {OWNER.bearer}"
MALFORMED: Final = {
    "a space before the colon": request(None, "b", f"Authorization : {OWNER.bearer}"),
    "a tab before the colon": request(None, "b", f"Authorization\t: {OWNER.bearer}"),
    "a folded line": request(LITTLE, "b", f"X: y\r\n {_OWNERS}"),
    "a folded value": request(None, "b", f"Authorization:\r\n {OWNER.bearer}"),
    "a bare line feed": request(LITTLE, "b", f"X: y\n{_OWNERS}"),
    "a bare carriage return": request(LITTLE, "b", f"X: y\r{_OWNERS}"),
    "a NUL": request(LITTLE, "b", f"X: y\0\r\n{_OWNERS}"),
    "a header before the request line": f"{_OWNERS}\r\n".encode() + request(LITTLE),
    "an empty line before that": f"\r\n{_OWNERS}\r\n".encode() + request(LITTLE),
    "another name": request(LITTLE, "b", f"Authorization_: {OWNER.bearer}"),
    "another name that begins alike": request(None, "b", f"Authorization-X: {OWNER.bearer}"),
    "a proxy's": request(None, "b", f"Proxy-Authorization: {OWNER.bearer}"),
    "a cookie": request(None, "b", f"Cookie: Authorization={OWNER.text}"),
    "a name in the target": request(None, f"b?Authorization=Bearer%20{OWNER.text}"),
    "another target in a header": request(LITTLE, "a", f"X-Original-URL: {PREFIX}/b"),
    "another method in a header": request(LITTLE, "b", "X-HTTP-Method-Override: OPTIONS"),
    "HTTP/1.0": request(LITTLE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a later version": request(LITTLE).replace(b"HTTP/1.1", b"HTTP/2.0"),
    "two tokens": request(LITTLE, "b", _OWNERS),
    "two of one": request(OWNER, "b", _OWNERS),
    "an upgrade": request(LITTLE, "b", "Connection: Upgrade", "Upgrade: websocket"),
    "a length twice": request(LITTLE, "b", "Content-Length: 0", "Content-Length: 5") + b"12345",
    "a length and chunks": request(LITTLE, "b", "Content-Length: 4", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n",
    "a request in the body of another": request(
        LITTLE, "a", f"Content-Length: {len(request(OWNER))}"
    )
    + request(OWNER),
    "a token in a trailer": request(
        None, "b", "Trailer: Authorization", "Transfer-Encoding: chunked"
    )
    + f"0\r\n{_OWNERS}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_malformed_or_means_nothing_brings_nobody_in(
    way: str, tmp_path: Path
) -> None:
    async with guarded(tmp_path, [OWNER, LITTLE], way) as server:
        await populate(server)

        async def answered(sent: bytes, *, behind_another: bool) -> bytes:
            client = await server.client()
            if behind_another:
                client.send(request(OWNER))
                assert (await client.answer()).body == SECRET
            client.send(sent)
            client.send(request(None, "a", method="DELETE"))
            client.writer.write_eof()
            return await client.reader.read(-1)

        for behind_another in (False, True):
            answers = await asyncio.gather(
                *(answered(sent, behind_another=behind_another) for sent in MALFORMED.values())
            )
            told = dict(zip(MALFORMED, answers, strict=True))
            assert [said for said, answer in told.items() if SECRET in answer] == []
            assert [said for said in told if not told[said].startswith(b"HTTP/1.")] == []
        assert (await server.store.head(("b",))).tail.position == len(SECRET)


@pytest.mark.parametrize("way", WAYS)
async def test_a_signed_prefix_is_for_what_is_below_it_and_nothing_beside(
    way: str, tmp_path: Path
) -> None:
    async with guarded(tmp_path, [OWNER, LITTLE], way) as server:
        for path in ("a/b", "a/b/c", "a/bc", "a", "b"):
            await server.create(path, SECRET)
        two = server.sign(OWNER, Kind.PREFIX, "a/b")
        one = server.sign(OWNER, Kind.PREFIX, "a")
        beyond = server.sign(LITTLE, Kind.PREFIX, "b")  # what its token may not read itself
        exact = server.sign(OWNER, Kind.PATH, "a/b")
        opened = {
            two: {"a/b", "a/b/c"},
            one: {"a", "a/b", "a/b/c", "a/bc"},
            two.replace(".p2.", ".p1."): set(),
            one.replace(".p1.", ".p2."): set(),
            two.replace(".p2.", ".p3."): set(),
            two.replace(".p2.", ".x."): set(),
            exact: {"a/b"},
            exact.replace(".x.", ".p2."): set(),
            beyond: set(),
        }
        client = await server.client()
        for signed, paths in opened.items():
            for path in ("a", "a/b", "a/b/c", "a/bc", "b", "a%2Fb", "a/b%2Fc"):
                client.send(request(None, f"{path}?signed={signed}"))
                answer = await client.answer()
                is_open = path in paths or (signed == one and path == "a/b%2Fc")
                if is_open:
                    assert answer.status == (404 if "%" in path else 200)
                else:
                    assert (answer.status, SECRET in answer.body) == (401, False)


async def test_who_may_grant_sees_and_revokes_what_they_could_have_granted(tmp_path: Path) -> None:
    lesser = Held("lesser", (on("a", Scope.READ, Scope.ADMIN),))
    equal = Held("equal", (on("a/b", Scope.READ),))
    async with guarded(tmp_path, [OWNER, LITTLE, lesser, equal]) as server:
        client = await server.client()
        for who, seen in (
            (OWNER, {"owner", "little", "lesser", "equal"}),
            (lesser, {"little", "lesser", "equal"}),
        ):
            client.send(request(who, "__ds/tokens"))
            answer = await client.answer()
            assert {token["id"] for token in json.loads(answer.body)["tokens"]} == seen
            for held in (OWNER, LITTLE, lesser, equal):
                assert held.text.encode() not in answer.body
                assert hashlib.sha256(held.text.encode()).hexdigest().encode() not in answer.body
        for identity, status in (("owner", 404), ("nobody", 404), ("equal", 204), ("lesser", 204)):
            client.send(request(lesser, f"__ds/tokens/{identity}", method="DELETE"))
            assert (await client.answer("DELETE")).status == status
        client.send(request(lesser, "__ds/tokens"))
        assert (await client.answer()).status == 401


@pytest.mark.parametrize("by", ["token", "jwt"])
async def test_nobody_grants_for_longer_than_they_have_themselves(by: str, tmp_path: Path) -> None:
    ends = Held("ends", (on("a"),), expires="2027-01-15T08:10:00Z")
    bearer = ends.text if by == "token" else ends.jwt()
    async with guarded(tmp_path, [ends]) as server:
        client = await server.client()
        for expires, status in ((None, 403), ("2027-01-15T08:11:00Z", 403), (SOON, 201)):
            wanted = {"expires": expires, "grants": [{"scopes": ["read"], "prefix": "a"}]}
            said = [f"Authorization: Bearer {bearer}"]
            ask(client, "POST", f"{PREFIX}/__ds/tokens", said, json.dumps(wanted).encode())
            assert (await client.answer()).status == status


@pytest.mark.parametrize(
    ("target", "way"),
    [*product(["room/there", "__ds/tokens"], WAYS), ("room/there", "mount")],
)
async def test_whoever_guesses_tokens_has_so_many_guesses(
    target: str, way: str, tmp_path: Path
) -> None:
    settings = HttpSettings(requests_per_s=0.001, burst_s=2_000.0, fast_lane=way == "lane")
    async with guarded(tmp_path, [OWNER], way, settings=settings) as server:
        await server.create("room/there")
        client = await server.client()

        async def status(bearer: str) -> int:
            client.send(request(None, target, f"Authorization: {bearer}"))
            return (await client.answer()).status

        assert [await status(f"Bearer guess-{number}") for number in range(4)] == [401] * 3 + [429]
        assert [await status(OWNER.bearer) for _ in range(4)] == [200] * 3 + [429]
