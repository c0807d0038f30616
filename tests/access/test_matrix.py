"""Who may ask for what: each row of the table, with every credential, through every front.

One module because a row of the table, its cases and what they have to come to are read together.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, get_args

import pytest

from durable_streams.access.grants import Kind, Scope
from durable_streams.access.needs import TABLE, Asked, Need, On, Outcome, asked_by
from durable_streams.model import commands
from durable_streams.model.offsets import Start
from tests.access.guarded import PREFIX, Guarded, Held, ask, guarded, on
from tests.access.issuer import NOW_S, claims, token
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.access.grants import Grant
    from tests.http.client import Answer, Client

ROOM, ORIGIN, FAR = "room", "origin", "elsewhere"
NAMES: Final = {True: "there", False: "never"}
"""Of a stream that exists, and of one that does not; as long as each other."""

WAYS: Final = ("lane", "aiohttp", "mount")
TEXT: Final = "Content-Type: text/plain"
PRODUCER: Final = ("Producer-Id: p", "Producer-Epoch: 0", "Producer-Seq: 0")
ALL_OF_IT: Final = [{"scopes": [scope.value for scope in Scope], "prefix": ""}]


class Case(NamedTuple):
    """How a row of the table is asked for, and what is answered to whoever may.

    ``statuses``: where the stream is there, and where it is not.  ``elsewhere``: to whoever has the
    scopes on other streams only; None: that they may not.
    """

    method: str
    target: str
    statuses: tuple[int, int]
    body: bytes | None = None
    lines: tuple[str, ...] = ()
    elsewhere: int | None = None


_ROOM: Final = f"{PREFIX}/{ROOM}/NAME"
_SOON: Final = "2027-01-15T08:05:00Z"
_GRANT: Final = json.dumps(
    {"expires": _SOON, "grants": [{"scopes": ["admin"], "path": f"{ROOM}/NAME"}]}
)
_SIGNING: Final = json.dumps({"path": f"{ROOM}/NAME", "expires": _SOON})

CASES: Final = {
    Asked.READ: Case("GET", _ROOM, (200, 404)),
    Asked.HEAD: Case("HEAD", _ROOM, (200, 404)),
    Asked.APPEND: Case("POST", _ROOM, (204, 404), b"more", (TEXT,)),
    Asked.CREATE: Case("PUT", _ROOM, (200, 201), b"data", (TEXT,)),
    Asked.FORK: Case(
        "PUT",
        f"{PREFIX}/{ROOM}/fork-of-NAME",
        (201, 404),
        b"",
        (f"Stream-Forked-From: {PREFIX}/{ORIGIN}/NAME",),
    ),
    Asked.DELETE: Case("DELETE", _ROOM, (204, 404)),
    Asked.PREFLIGHT: Case("OPTIONS", _ROOM, (204, 204)),
    Asked.RECORDS: Case("GET", f"{PREFIX}/__ds/records/{ROOM}/NAME", (200, 404)),
    Asked.DETAILS: Case("GET", f"{PREFIX}/__ds/streams/{ROOM}/NAME", (200, 404)),
    Asked.LIST_TOKENS: Case("GET", f"{PREFIX}/__ds/tokens", (200, 200), elsewhere=200),
    Asked.NEW_TOKEN: Case("POST", f"{PREFIX}/__ds/tokens", (201, 201), _GRANT.encode()),
    Asked.REVOKE_TOKEN: Case("DELETE", f"{PREFIX}/__ds/tokens/of-NAME", (204, 404), elsewhere=404),
    Asked.SIGN: Case("POST", f"{PREFIX}/__ds/signed-urls", (201, 201), _SIGNING.encode()),
    Asked.LIST: Case("GET", f"{PREFIX}/__ds/streams", (200, 200), elsewhere=200),
    Asked.METRICS: Case("GET", f"{PREFIX}/__ds/metrics", (200, 200), elsewhere=200),
    Asked.NODES: Case("GET", f"{PREFIX}/__ds/nodes", (200, 200), elsewhere=200),
    Asked.CONSOLE: Case("GET", f"{PREFIX}/__ds/console/main.js", (200, 200)),
}
"""One for each row: a row without one fails below."""

TOKENS: Final = frozenset({Asked.LIST_TOKENS, Asked.NEW_TOKEN, Asked.REVOKE_TOKEN, Asked.SIGN})
CONTROL: Final = TOKENS | {Asked.LIST, Asked.METRICS, Asked.NODES}
"""What is of no one stream."""

FOR_NO_PAGE: Final = CONTROL | {Asked.RECORDS, Asked.DETAILS}
"""What pages are told only that are welcome everywhere."""

IN_LANE: Final = frozenset({Asked.READ, Asked.APPEND, Asked.CREATE})
"""What is plain enough for the fast lane."""

BY_TOKEN_ONLY: Final = frozenset({Asked.SIGN})
"""What the holder of a JWT may never do: a signed URL has the rights of a token of the file."""

OWN_PAGE: Final = "Origin: http://example.test"
"""A page of the server's own, which is welcome everywhere."""

PLACES: Final = dict.fromkeys(On, ROOM) | {On.SOURCE: ORIGIN}


class State(NamedTuple):
    """What somebody holds of what a row needs: all of it, or one need is not met.

    ``how``: "held"; "missing", all other scopes are there; "elsewhere", the scope is there on
    other streams; "nothing", no scope at all on the stream.
    """

    how: str
    need: Need | None = None


def states(asked: Asked) -> Iterator[State]:
    yield State("held")
    for need in TABLE[asked]:
        yield from (State(how, need) for how in ("missing", "elsewhere", "nothing"))


def grants(asked: Asked, state: State) -> tuple[Grant, ...]:
    """What somebody is granted who is in that state, and nothing more than that."""
    if state.need is None:
        return tuple(on(PLACES[need.on], need.scope) for need in TABLE[asked]) or (on(FAR),)
    place = PLACES[state.need.on]
    all_others = on(place, *(scope for scope in Scope if scope is not state.need.scope))
    others = (on(ORIGIN if place == ROOM else ROOM),) if asked is Asked.FORK else ()
    match state.how:
        case "missing":
            return (all_others, *others)
        case "elsewhere":
            return (all_others, on(FAR), on(f"{place}s"), on(f"{place}/{NAMES[True]}s"), *others)
        case _:
            is_anywhere = state.need.on in {On.ANY, On.GRANTED, On.LISTED}
            lesser = on(FAR, Scope.READ) if is_anywhere else on(FAR)
            return (lesser, *others)


def outcome(asked: Asked, state: State, *, conceal: bool) -> Outcome:
    if state.need is None:
        return Outcome.MAY
    is_concealed = conceal and state.how == "nothing" and asked not in CONTROL
    return Outcome.CONCEALED if is_concealed else Outcome.MAY_NOT


def first_missing(asked: Asked, state: State) -> str:
    """The scope of which a refusal tells: the first of the row that is not there."""
    assert state.need is not None
    same_place = [need.scope for need in TABLE[asked] if need.on is state.need.on]
    return (same_place[0] if state.how == "nothing" else state.need.scope).value


def held(asked: Asked, state: State) -> Held:
    scope = "" if state.need is None else f"-{state.need.scope.value}-{state.need.on.name}"
    return Held(f"{asked.name}-{state.how}{scope}".replace("_", "-"), grants(asked, state))


EXPIRED: Final = Held("expired", (on(""),), expires="2027-01-15T07:59:59Z")
REVOKED: Final = Held("revoked", (on(""),))
ADMIN: Final = Held("admin", (on(""),))
READER: Final = Held("reader", (on(ROOM, Scope.READ),))
VICTIMS: Final = [Held(f"of-{NAMES[True]}", (on(f"{ROOM}/there", Scope.ADMIN),))]


def all_tokens() -> list[Held]:
    of_states = [held(asked, state) for asked in Asked for state in states(asked)]
    return [ADMIN, EXPIRED, READER, *VICTIMS, *of_states]


CHALLENGES: Final = {
    Outcome.NOBODY: 'Bearer realm="durable-streams"',
    Outcome.UNKNOWN: 'Bearer realm="durable-streams", error="invalid_token"',
}


class Asker:
    """Asks for rows of the table at a server, by one connection as long as it lasts."""

    def __init__(self, server: Guarded) -> None:
        self._server = server
        self._client: Client | None = None

    async def __call__(
        self, asked: Asked, *lines: str, exists: bool = True, query: str = ""
    ) -> Answer:
        case = CASES[asked]
        name = NAMES[exists]
        body = None if case.body is None else case.body.replace(b"NAME", name.encode())
        said = [line.replace("NAME", name) for line in (*case.lines, OWN_PAGE, *lines)]
        if self._client is None:
            self._client = await self._server.client()
        ask(self._client, case.method, case.target.replace("NAME", name) + query, said, body)
        answer = await self._client.answer(case.method)
        if answer.headers.get("connection") == "close":
            self._client = None
        return answer


def plain(answer: Answer) -> tuple[object, ...]:
    """An answer without its date, and without the name of the stream."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status, headers, answer.body.replace(NAMES[False].encode(), b"there")


def assert_refused(answer: Answer, wanted: Outcome, asked: Asked, scope: str = "") -> None:
    """That an answer is the refusal that the table says, for the page that asked as well."""
    assert answer.status == wanted.status, (asked, wanted, answer)
    assert answer.headers["cache-control"] == "no-store"
    allowed = answer.headers["access-control-allow-origin"]
    assert allowed == "http://example.test" or (allowed == "*" and asked not in CONTROL)
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
    challenge = CHALLENGES.get(wanted)
    if scope and wanted in {Outcome.MAY_NOT, Outcome.PRODUCER_MAY_NOT}:
        challenge = f'Bearer realm="durable-streams", error="insufficient_scope", scope="{scope}"'
    if challenge or wanted in {Outcome.SEVERAL, Outcome.CONCEALED}:
        assert answer.headers.get("www-authenticate") == challenge, (asked, wanted)


def told(wanted: Outcome, way: str) -> Outcome:
    """What becomes of credentials of nobody: an application says None to all of them."""
    return Outcome.NOBODY if way == "mount" and wanted is Outcome.UNKNOWN else wanted


def files(directory: Path) -> bytes:
    return (directory / "tokens.toml").read_bytes()


async def everything(server: Guarded, tmp_path: Path) -> tuple[object, ...]:
    """What a refused request may not change: which streams there are, their tails, the tokens."""
    found = []
    for place, name in itertools.product((ROOM, ORIGIN), ("there", "never", "fork-of-there")):
        stream = server.store.open_now((place, name))
        found.append(None if stream is None else (await server.store.head((place, name))).tail)
    return (*found, await asyncio.to_thread(files, tmp_path))


async def populate(server: Guarded) -> None:
    for place in (ROOM, ORIGIN, FAR):
        await server.create(f"{place}/there")


Asking: TypeAlias = commands.Command | commands.Inspection

COMMANDS: Final[dict[type[Asking], Asking]] = {
    commands.Read: commands.Read(("a",), Start.BEGINNING),
    commands.Head: commands.Head(("a",)),
    commands.Append: commands.Append(("a",)),
    commands.Create: commands.Create(("a",)),
    commands.Delete: commands.Delete(("a",)),
    commands.Preflight: commands.Preflight(),
    commands.Records: commands.Records(("a",), Start.BEGINNING, 1),
    commands.Details: commands.Details(("a",)),
}
FORK: Final = commands.Create(("a",), fork=commands.ForkRequest(("b",)))


def test_each_row_of_the_table_has_a_case() -> None:
    assert set(CASES) == set(TABLE) == set(Asked)


SPECIFIED: Final = {
    Asked.READ: {("read", On.STREAM)},
    Asked.HEAD: {("read", On.STREAM)},
    Asked.APPEND: {("append", On.STREAM)},
    Asked.CREATE: {("create", On.STREAM)},
    Asked.FORK: {("create", On.STREAM), ("fork", On.SOURCE), ("read", On.SOURCE)},
    Asked.DELETE: {("delete", On.STREAM)},
    Asked.PREFLIGHT: set(),
    Asked.RECORDS: {("read", On.STREAM)},
    Asked.DETAILS: {("list", On.STREAM), ("read", On.STREAM)},
    Asked.LIST_TOKENS: {("admin", On.GRANTED)},
    Asked.NEW_TOKEN: {("admin", On.GRANTED)},
    Asked.REVOKE_TOKEN: {("admin", On.GRANTED)},
    Asked.SIGN: {("read", On.SIGNED)},
    Asked.LIST: {("list", On.LISTED)},
    Asked.METRICS: {("admin", On.ANY)},
    Asked.NODES: {("admin", On.ANY)},
    Asked.CONSOLE: set(),
}
"""What the table has to say: the tests below ask for what it says, whatever that is."""


def test_the_table_says_what_is_specified() -> None:
    found = {asked: {(scope.value, on) for scope, on in needs} for asked, needs in TABLE.items()}
    assert found == SPECIFIED
    assert {outcome: outcome.status for outcome in Outcome} == {
        Outcome.NOBODY: 401,
        Outcome.UNKNOWN: 401,
        Outcome.SEVERAL: 400,
        Outcome.MAY_NOT: 403,
        Outcome.PRODUCER_MAY_NOT: 401,
        Outcome.CONCEALED: 404,
        Outcome.MAY: None,
    }


def test_each_command_is_in_a_row_of_its_own() -> None:
    assert set(COMMANDS) == set(get_args(Asking))
    rows = [asked_by(command) for command in (*COMMANDS.values(), FORK)]
    assert sorted(row.name for row in rows) == sorted(
        row.name for row in set(Asked) - CONTROL - {Asked.CONSOLE}
    )


# -- who is nobody here --------------------------------------------------------------------


def nobodies(server: Guarded) -> dict[str, tuple[tuple[str, ...], str, Outcome]]:
    """Credentials of nobody: header lines, a query, and what becomes of them."""
    of_another = token(claims(durable_streams=ALL_OF_IT), key=b"another secret of thirty-two bytes")
    over = token(claims(durable_streams=ALL_OF_IT, exp=int(NOW_S) - 31))
    elsewhere = server.sign(READER, Kind.PATH, f"{ROOM}/other")
    fine = server.sign(READER, Kind.PREFIX, ROOM)
    gone = server.sign(REVOKED, Kind.PREFIX, ROOM)
    past = server.sign(READER, Kind.PREFIX, ROOM, int(NOW_S))
    beyond = server.sign(READER, Kind.PREFIX, FAR)
    good = f"Authorization: {ADMIN.bearer}"
    unknown = {
        "a token that nobody knows": "Bearer nobody-knows-this",
        "a token in capitals": ADMIN.bearer.replace("text", "TEXT"),
        "a token and more": f"{ADMIN.bearer} x",
        "a token with a comma": f"{ADMIN.bearer}, {ADMIN.bearer}",
        "the digest of a token": f"Bearer {hashlib.sha256(ADMIN.text.encode()).hexdigest()}",
        "the id of a token": f"Bearer {ADMIN.id}",
        "nothing": "",
        "no token": "Bearer",
        "no scheme": ADMIN.text,
        "another scheme": "Basic dXNlcjpwYXNzd29yZA==",
        "a token in another scheme": f"Digest {ADMIN.text}",
        "a tab behind the scheme": f"Bearer\t{ADMIN.text}",
        "what is not ASCII": "Bearer \udcff\udcfe",
        "what is too long for a token": f"Bearer {'x' * 5000}",
        "a token that has expired": EXPIRED.bearer,
        "a token that was revoked": REVOKED.bearer,
        "a JWT of another key": f"Bearer {of_another}",
        "a JWT that has expired": f"Bearer {over}",
        "a JWT without a signature": f"Bearer {of_another.rpartition('.')[0]}.",
    }
    queries = {
        "a signature of another path": (elsewhere, Outcome.UNKNOWN),
        "a signature of another prefix": (beyond, Outcome.UNKNOWN),
        "a signature that is over": (past, Outcome.UNKNOWN),
        "a signature of a token that was revoked": (gone, Outcome.UNKNOWN),
        "half a signature": (fine[:-20], Outcome.UNKNOWN),
        "an empty signature": ("", Outcome.UNKNOWN),
        "a token as a signature": (ADMIN.text, Outcome.UNKNOWN),
        "two signatures": (f"{fine}&signed={fine}", Outcome.SEVERAL),
        "two signatures of which one is escaped": (f"{fine}&s%69gned=", Outcome.SEVERAL),
    }
    return {
        "nothing at all": ((), "", Outcome.NOBODY),
        "a token in a query": ((), f"?access_token={ADMIN.text}", Outcome.NOBODY),
        "a token in another header": ((f"X-Authorization: {ADMIN.bearer}",), "", Outcome.NOBODY),
        **{
            said: ((f"Authorization: {value}",), "", Outcome.UNKNOWN)
            for said, value in unknown.items()
        },
        "two tokens": ((good, f"Authorization: {READER.bearer}"), "", Outcome.SEVERAL),
        "a token twice": ((good, good), "", Outcome.SEVERAL),
        "a token and an empty line": ((good, "Authorization:"), "", Outcome.SEVERAL),
        **{said: ((), f"?signed={text}", wanted) for said, (text, wanted) in queries.items()},
        "a token and a signature": ((good,), f"?signed={fine}", Outcome.SEVERAL),
    }


@pytest.mark.parametrize("conceal", [False, True], ids=["", "conceal"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", Asked)
async def test_who_is_nobody_is_told_so_whatever_exists(
    asked: Asked, way: str, conceal: bool, tmp_path: Path
) -> None:
    if way == "mount" and (asked in TOKENS or conceal):
        return
    async with guarded(tmp_path, all_tokens(), way, conceal=conceal) as server:
        await populate(server)
        before = await everything(server, tmp_path)
        request = Asker(server)
        for said, (lines, query, wanted) in nobodies(server).items():
            if way == "mount" and "signed=" in query:
                continue  # an application knows nothing of them
            answers = [await request(asked, *lines, exists=exists, query=query) for exists in NAMES]
            assert plain(answers[0]) == plain(answers[1]), said
            if not TABLE[asked]:  # whoever that is
                assert answers[0].status == CASES[asked].statuses[0]
            else:
                assert_refused(answers[0], told(wanted, way), asked)
        assert await everything(server, tmp_path) == before
        if way == "lane" and asked in IN_LANE:
            assert server.through_aiohttp < len(nobodies(server)), "most take the lane"


# -- who may not ---------------------------------------------------------------------------


@pytest.mark.parametrize("conceal", [False, True], ids=["", "conceal"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", Asked)
async def test_who_lacks_a_scope_is_refused_whatever_exists(
    asked: Asked, way: str, conceal: bool, tmp_path: Path
) -> None:
    if way == "mount" and (asked in TOKENS or conceal):
        return
    async with guarded(tmp_path, all_tokens(), way, conceal=conceal) as server:
        await populate(server)
        before = await everything(server, tmp_path)
        request = Asker(server)
        for state in states(asked):
            wanted = outcome(asked, state, conceal=conceal)
            if state.need is None:
                continue
            who = held(asked, state)
            for credential in (who.bearer, f"bEARER  {who.text}\t", f"Bearer {who.jwt()}"):
                said = f"Authorization: {credential}"
                there, never = [await request(asked, said, exists=one) for one in NAMES]
                if state.how == "elsewhere" and CASES[asked].elsewhere:
                    assert there.status == CASES[asked].elsewhere
                    continue
                assert plain(there) == plain(never)
                is_control = asked in CONTROL and state.how == "elsewhere"
                scope = "" if is_control or asked in BY_TOKEN_ONLY else first_missing(asked, state)
                assert_refused(there, wanted, asked, scope)
                if wanted is Outcome.CONCEALED:
                    assert plain(there) == await nothing_there(server, asked, state.need)
        assert await everything(server, tmp_path) == before


async def nothing_there(server: Guarded, asked: Asked, need: Need) -> tuple[object, ...]:
    """What whoever may do everything is told of a stream that is not there."""
    request = Asker(server)
    said = f"Authorization: {ADMIN.bearer}"
    if need.on is On.SOURCE or asked in {Asked.APPEND, Asked.DELETE, Asked.HEAD}:
        return plain(await request(asked, said, exists=False))
    case = CASES[asked]
    client = await server.client()
    ask(client, "GET", case.target.replace("NAME", NAMES[False]), [OWN_PAGE, said])
    return plain(await client.answer())


@pytest.mark.parametrize("way", WAYS)
async def test_a_producer_who_may_not_is_told_401(way: str, tmp_path: Path) -> None:
    who = [held(Asked.APPEND, state) for state in states(Asked.APPEND) if state.need]
    async with guarded(tmp_path, all_tokens(), way) as server:
        await populate(server)
        before = await everything(server, tmp_path)
        request = Asker(server)
        for one, exists in itertools.product(who, NAMES):
            said = f"Authorization: {one.bearer}"
            answer = await request(Asked.APPEND, said, *PRODUCER, exists=exists)
            assert_refused(answer, Outcome.PRODUCER_MAY_NOT, Asked.APPEND, "append")
        assert await everything(server, tmp_path) == before


async def test_a_producer_is_not_told_of_what_is_concealed(tmp_path: Path) -> None:
    async with guarded(tmp_path, [READER, ADMIN], conceal=True) as server:
        await populate(server)
        client = await server.client()
        answers = []
        for who, name in ((READER, "there"), (READER, "never"), (ADMIN, "never")):
            lines = [f"Authorization: {who.bearer}", TEXT, *PRODUCER]
            ask(client, "POST", f"{PREFIX}/{FAR}/{name}", lines, b"x")
            answers.append(plain(await client.answer()))
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == Outcome.CONCEALED.status


# -- who may -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["token", "jwt"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", Asked)
async def test_who_has_the_scopes_and_no_others_may(
    asked: Asked, way: str, by: str, tmp_path: Path
) -> None:
    if way == "mount" and asked in TOKENS:
        return
    who = held(asked, State("held"))
    said = f"Authorization: {who.bearer if by == 'token' else f'Bearer {who.jwt()}'}"
    disk = StagedDisk()
    async with guarded(tmp_path, all_tokens(), way, conceal=True, disk=disk) as server:
        if asked is Asked.READ:  # from memory, which the lane does, as long as no file has it
            disk.hold("make_directory")
        await populate(server)
        request = Asker(server)
        answers = [await request(asked, said, exists=exists) for exists in NAMES]
        disk.heal()
        if by == "jwt" and asked in BY_TOKEN_ONLY:
            assert [answer.status for answer in answers] == [403, 403]
            return
        assert tuple(answer.status for answer in answers) == CASES[asked].statuses
        if asked is Asked.READ:
            assert answers[0].headers["cache-control"] == "private, no-cache"
            assert "Authorization" in answers[0].headers["vary"]
        if way == "lane" and asked in IN_LANE and by == "token":
            assert server.through_aiohttp <= 1


@pytest.mark.parametrize("conceal", [False, True], ids=["", "conceal"])
@pytest.mark.parametrize("kind", [Kind.PATH, Kind.PREFIX])
@pytest.mark.parametrize("way", ["lane", "aiohttp"])
async def test_a_signed_url_is_for_reading_and_nothing_else(
    way: str, kind: Kind, conceal: bool, tmp_path: Path
) -> None:
    async with guarded(tmp_path, all_tokens(), way, conceal=conceal) as server:
        await populate(server)
        before = await everything(server, tmp_path)
        request = Asker(server)
        for asked, exists in itertools.product(Asked, NAMES):
            path = CASES[asked].target.removeprefix(f"{PREFIX}/").replace("NAME", NAMES[exists])
            path = re.sub("^__ds/[a-z]+/", "", path)
            if asked in CONTROL:
                path = f"{ROOM}/there"
            signed = server.sign(READER, kind, path if kind is Kind.PATH else ROOM)
            answer = await request(asked, exists=exists, query=f"?signed={signed}")
            if all(scope is Scope.READ for scope, _ in TABLE[asked]) and asked not in CONTROL:
                assert answer.status == CASES[asked].statuses[0 if exists else 1], (asked, exists)
            elif asked in CONTROL:
                assert_refused(answer, Outcome.UNKNOWN, asked)
            else:
                assert_refused(answer, Outcome.MAY_NOT, asked, TABLE[asked][0].scope.value)
        read = await request(Asked.READ, query=f"?signed={server.sign(READER, kind, ROOM)}")
        assert read.status == (200 if kind is Kind.PREFIX else 401)
        assert await everything(server, tmp_path) == before


@pytest.mark.parametrize("way", ["lane", "aiohttp"])
async def test_what_a_principal_reads_is_for_no_shared_cache(way: str, tmp_path: Path) -> None:
    async with guarded(tmp_path, all_tokens(), way) as server:
        await populate(server)
        said = f"Authorization: {ADMIN.bearer}"
        request = Asker(server)
        signed = server.sign(READER, Kind.PREFIX, ROOM)
        read = await request(Asked.READ, said)
        tag = f"If-None-Match: {read.headers['etag']}"
        answers = [
            read,
            await request(Asked.READ, said, tag),
            await request(Asked.READ, query=f"?signed={signed}"),
            await request(Asked.READ, said, query="?offset=now"),
            await request(Asked.READ, said, query="?offset=-1&live=long-poll"),
            await request(Asked.HEAD, said),
        ]
        assert [answer.status for answer in answers] == [200, 304, 200, 200, 200, 200]
        for answer in answers:
            assert re.match("private|no-store", answer.headers["cache-control"]), answer


# -- bodies --------------------------------------------------------------------------------

UNSENT: Final = {
    "expecting 100": (("Expect: 100-continue", "Content-Length: 4"), b""),
    "expecting 100, in chunks": (("Expect: 100-continue", "Transfer-Encoding: chunked"), b""),
    "in chunks": (("Transfer-Encoding: chunked",), b""),
    "with half of a body": (("Content-Length: 40",), b"half of it"),
    "with nothing of a large body": (("Content-Length: 100000",), b""),
}
"""Heads of requests whose body never comes whole."""


@pytest.mark.parametrize("unsent", UNSENT)
@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_does_not_wait_for_the_body(way: str, unsent: str, tmp_path: Path) -> None:
    who = {
        Outcome.NOBODY: (),
        Outcome.UNKNOWN: ("Authorization: Bearer x",),
        Outcome.SEVERAL: ("Authorization: Bearer x", f"Authorization: {ADMIN.bearer}"),
        Outcome.MAY_NOT: (f"Authorization: {Held('nothing', (on(FAR, Scope.LIST),)).bearer}",),
    }
    tokens = [*all_tokens(), Held("nothing", (on(FAR, Scope.LIST),))]
    lines, part = UNSENT[unsent]
    async with guarded(tmp_path, tokens, way) as server:
        await populate(server)
        before = await everything(server, tmp_path)

        async def refused(asked: Asked, wanted: Outcome, said: tuple[str, ...]) -> None:
            case = CASES[asked]
            client = await server.client()
            target = case.target.replace("NAME", "there")
            ask(client, case.method, target, [*case.lines, OWN_PAGE, *said, *lines])
            client.send(part)
            assert_refused(await client.answer(), told(wanted, way), asked)

        with_bodies = [asked for asked, case in CASES.items() if case.body is not None]
        await asyncio.gather(
            *(
                refused(asked, wanted, said)
                for asked, (wanted, said) in itertools.product(with_bodies, who.items())
                if not (way == "mount" and asked in CONTROL)
            )
        )
        assert await everything(server, tmp_path) == before


# -- pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["lane", "aiohttp"])
async def test_pages_of_any_origin_are_told_why_but_for_control(way: str, tmp_path: Path) -> None:
    async with guarded(tmp_path, all_tokens(), way) as server:
        await populate(server)
        said = [f"Authorization: {ADMIN.bearer}", "Origin: https://evil.test"]
        client = await server.client()
        for asked, case in CASES.items():
            body = None if case.body is None else case.body.replace(b"NAME", b"there")
            lines = [*said, *case.lines]
            ask(client, case.method, case.target.replace("NAME", "there"), lines, body)
            answer = await client.answer(case.method)
            if asked in FOR_NO_PAGE:
                assert answer.status == 403
            if asked in FOR_NO_PAGE or asked is Asked.CONSOLE:
                assert "access-control-allow-origin" not in answer.headers
            else:
                assert answer.headers["access-control-allow-origin"] == "*"
                assert answer.status < 300 or asked is Asked.FORK


async def test_no_tokens_are_below_control_in_an_application(tmp_path: Path) -> None:
    async with guarded(tmp_path, all_tokens(), "mount") as server:
        request = Asker(server)
        for asked in TOKENS:
            answer = await request(asked, f"Authorization: {ADMIN.bearer}")
            assert answer.status == 400
