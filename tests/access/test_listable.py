"""Who sees which streams in a list, and what it costs to look for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.access.grants import Grant, Kind, Pattern, Scope
from durable_streams.access.listable import Range, ranges
from durable_streams.access.principals import Principal
from durable_streams.http.listing import Lists
from tests.access.guarded import PREFIX, Held, ask, guarded

if TYPE_CHECKING:
    from pathlib import Path

    from durable_streams.model.paths import StreamPath
    from tests.access.guarded import Guarded


def granted(*patterns: tuple[Kind, str]) -> tuple[Grant, ...]:
    return tuple(
        Grant(frozenset({Scope.LIST}), Pattern.parse(kind, text)) for kind, text in patterns
    )


def who(*patterns: tuple[Kind, str]) -> Principal:
    return Principal("somebody", granted(*patterns))


@pytest.mark.parametrize(
    ("patterns", "prefix", "expected"),
    [
        ([(Kind.PREFIX, "")], (), [Range((), False)]),
        ([(Kind.PREFIX, "")], ("a",), [Range(("a",), False)]),
        ([(Kind.PREFIX, "a")], (), [Range(("a",), False)]),
        ([(Kind.PREFIX, "a")], ("a", "b"), [Range(("a", "b"), False)]),
        ([(Kind.PREFIX, "a")], ("b",), []),
        ([(Kind.PREFIX, "a"), (Kind.PREFIX, "a/b"), (Kind.PATH, "a")], (), [Range(("a",), False)]),
        ([(Kind.PATH, "a")], (), [Range(("a",), True)]),
        ([(Kind.PATH, "a")], ("a", "b"), []),
        ([(Kind.PATH, "a"), (Kind.PREFIX, "a/b")], ("a",), [(("a",), True), (("a", "b"), False)]),
        ([(Kind.GLOB, "a/*/log")], (), [Range(("a",), False)]),
        ([(Kind.GLOB, "a/*/log")], ("a", "x"), [Range(("a", "x"), False)]),
        ([(Kind.GLOB, "**")], ("x",), [Range(("x",), False)]),
        ([(Kind.PREFIX, "b"), (Kind.PREFIX, "a")], (), [(("a",), False), (("b",), False)]),
    ],
)
def test_a_walk_goes_where_grants_and_prefix_meet(
    patterns: list[tuple[Kind, str]], prefix: StreamPath, expected: list[Range]
) -> None:
    assert ranges(who(*patterns), prefix, ()) == expected


def test_other_scopes_show_nothing() -> None:
    others = Grant.on_prefix("", [scope for scope in Scope if scope is not Scope.LIST])
    assert ranges(Principal("somebody", (others,)), (), ()) == []


_SEGMENTS = st.sampled_from(["a", "b", "c", "log"])
_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=3).map(tuple)
_PATTERNS = st.one_of(
    st.tuples(st.sampled_from([Kind.PATH, Kind.PREFIX]), _PATHS.map("/".join)),
    st.tuples(
        st.just(Kind.GLOB),
        st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=3).map("/".join),
    ),
)


@given(st.lists(_PATTERNS, max_size=4), _PATHS, st.one_of(st.just(()), _PATHS), _PATHS)
def test_ranges_have_every_stream_that_may_be_seen_once(
    patterns: list[tuple[Kind, str]], path: StreamPath, prefix: StreamPath, after: StreamPath
) -> None:
    principal = who(*patterns)
    found = ranges(principal, prefix, after)
    assert found == sorted(found)
    holding = [
        some
        for some in found
        if path == some.prefix or (not some.is_one and path[: len(some.prefix)] == some.prefix)
    ]
    assert len(holding) <= 1
    if principal.may(Scope.LIST, path) and path[: len(prefix)] == prefix and path > after:
        assert holding


# -- over HTTP -----------------------------------------------------------------------------

ROOMS = [f"room/{number:02}/{name}" for number in range(12) for name in ("log", "secret")]
HOLDERS = [
    Held("of-all", granted((Kind.PREFIX, ""))),
    Held("of-logs", granted((Kind.GLOB, "room/*/log"))),
    Held("of-one", granted((Kind.GLOB, "room/*/never"), (Kind.PATH, "room/11/log"))),
    Held("of-two", granted((Kind.PATH, "room/11/log"), (Kind.PATH, "room"), (Kind.PREFIX, "x"))),
    Held("reader", (Grant.on_prefix("", [Scope.READ, Scope.ADMIN]),)),
]
SEEN = {
    "of-all": [*ROOMS, "x", "x/y"],
    "of-logs": [path for path in ROOMS if path.endswith("log")],
    "of-one": ["room/11/log"],
    "of-two": ["room/11/log", "x", "x/y"],
}


async def page(server: Guarded, holder: str, **query: str | int) -> Any:
    held = next(one for one in HOLDERS if one.id == holder)
    client = await server.client()
    target = f"{PREFIX}/__ds/streams?{urlencode(query)}"
    ask(client, "GET", target, [f"Authorization: {held.bearer}"])
    answer = await client.answer()
    assert answer.status == 200, answer
    return json.loads(answer.body)


async def walked(server: Guarded, holder: str, **query: str | int) -> tuple[list[str], list[str]]:
    """The paths of all pages, and all cursors."""
    found: list[str] = []
    cursors: list[str] = []
    after: str | None = ""
    while after is not None:
        some = await page(server, holder, after=after, **query)
        found += [row["path"] for row in some["streams"]]
        after = some["next"]
        cursors += [after] if after is not None else []
    return found, cursors


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("holder", SEEN)
async def test_each_sees_what_they_may_whatever_the_pages(
    holder: str, limit: int, tmp_path: Path
) -> None:
    async with guarded(tmp_path, HOLDERS) as server:
        for path in [*ROOMS, "x", "x/y"]:
            await server.create(path)
        assert (await walked(server, holder, limit=limit))[0] == SEEN[holder]
        below = [path for path in SEEN[holder] if path.startswith("room/11/")]
        assert (await walked(server, holder, limit=limit, prefix="room/11"))[0] == below


async def test_a_cursor_does_not_tell_what_may_not_be_seen(tmp_path: Path) -> None:
    async with guarded(tmp_path, HOLDERS) as server:
        assert server.handler is not None
        server.handler.below_control.lists = Lists(server.store, most_looked_at=3)
        for path in ROOMS:
            await server.create(path)
        for holder in ("of-logs", "of-one"):
            found, cursors = await walked(server, holder)
            assert found == SEEN[holder]
            assert len(cursors) >= 6
            assert all(cursor.startswith("//") or cursor in found for cursor in cursors)


async def test_who_may_list_nothing_is_refused(tmp_path: Path) -> None:
    async with guarded(tmp_path, HOLDERS) as server:
        client = await server.client()
        ask(client, "GET", f"{PREFIX}/__ds/streams", [f"Authorization: {HOLDERS[-1].bearer}"])
        answer = await client.answer()
        assert answer.status == 403
        assert 'scope="list"' in answer.headers["www-authenticate"]
