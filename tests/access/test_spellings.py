"""No spelling of a target, or of a fork's source, leads out of what somebody was granted.

What the server makes of a spelling is held against what ``urllib`` makes of it, segment by segment,
and against the streams that are there: each holds its own path, and those outside stay as they are.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from durable_streams.model.paths import parse_path_text, path_text
from tests.access.guarded import PREFIX, Held, ask, guarded, on
from tools.inside import paths_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.model.paths import StreamPath
    from tests.access.guarded import Guarded
    from tests.http.client import Answer

MINE: Final = "a"
WHO: Final = Held("who", (on(MINE),))

THERE: Final[list[StreamPath]] = [
    ("a",),
    ("a", "x"),
    ("a", "b", "x"),
    ("b",),
    ("b", "x"),
    ("ab",),
    ("a;",),
    ("a x",),
    ("a/x",),
    ("a/",),
    ("%61", "x"),
    ("A", "x"),
    ("x",),
    ("a%2Fx",),
    ("...", "a"),
]

PIECES: Final = [
    "a",
    "%61",
    "b",
    "%62",
    "x",
    "%78",
    "A",
    "ab",
    "a;",
    "a%3B",
    ";",
    "/",
    "/",
    "/",
    "//",
    "%2F",
    "%2f",
    "%252F",
    "%5c",
    "\\",
    ".",
    "..",
    "...",
    "%2e",
    "%2e%2e",
    "%2E.",
    "*",
    "%2A",
    "__ds",
    "%5F%5Fds",
    "_%5fds",
    "__d%73",
    "tokens",
    "signed-urls",
    "%00",
    "a%00",
    "%09",
    "%20",
    "+",
    "?",
    "&",
    "=",
    "#",
    "%",
    "%6",
    "%zz",
    "%c3%a9",
    "%ff",
    "%C0%AF",
    "%c1%a1",
    "%e2%80%ae",
    "~",
    ":",
    "@",
    ",",
    "|",
    "^",
    "{",
    "}",
    "'",
    '"',
    "é",
    "\udcff",
    "\u2215",
]
"""Of which spellings are made; some are no URLs at all."""

PREFIXES: Final = (
    f"{PREFIX}/",
    f"{PREFIX}/",
    f"{PREFIX}//",
    f"{PREFIX}/a/../",
    "/v1//stream/",
    "/v1/%73tream/",
    "/V1/stream/",
    "/v1/stream%2F",
    "/v1/./stream/",
    "/x/../v1/stream/",
    "//v1/stream/",
    f"http://example.test{PREFIX}/",
    f"HTTPS://user@b:80{PREFIX}/",
    f"http://{PREFIX}/",
    f"a://b{PREFIX}/",
    f"http://b?{PREFIX}/",
    "*",
    "",
)

PLAIN: Final = ("a", "%61", "b", "x", "/", "/x", "/%62", "%2F", ";", "..", "%2e", "%C3%a9")
"""Of which most spellings that are URLs are made."""

BELOW: Final = st.one_of(
    st.lists(st.sampled_from(PLAIN), max_size=5), st.lists(st.sampled_from(PIECES), max_size=8)
).map("".join)
SPELLINGS: Final = st.builds(
    "{}{}{}{}".format,
    st.one_of(st.just(f"{PREFIX}/"), st.sampled_from(PREFIXES)),
    st.sampled_from(["", "a/", "%61/", "a", "b/"]),
    BELOW,
    st.sampled_from(["", "", "", "", "?offset=-1", "?path=b", "/" + "b/" * 600, "x" * 9000]),
)
METHODS: Final = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"])


def decoded(target: str) -> tuple[str, ...] | None:
    """The segments of a target below the prefix, as the standard library has them."""
    if not target.startswith("/"):
        try:
            target = urlsplit(target)._replace(scheme="", netloc="").geturl()
        except ValueError:
            return None
    raw = target.partition("?")[0]
    if not raw.startswith(f"{PREFIX}/"):
        return None
    below = raw.removeprefix(f"{PREFIX}/").encode("utf-8", "surrogateescape")
    return tuple(
        unquote_to_bytes(part).decode("utf-8", "surrogateescape") for part in below.split(b"/")
    )


def is_mine(path: tuple[str, ...]) -> bool:
    return path[0] == MINE


class Space:
    """A server with the streams, and what became of those that nobody here may touch."""

    def __init__(self, server: Guarded) -> None:
        self.server = server
        self.forks = 0

    @property
    def paths(self) -> set[StreamPath]:
        return {parse_path_text(text) for text in paths_loaded(self.server.store)}

    async def outside(self) -> dict[StreamPath, object]:
        store = self.server.store
        return {path: await store.head(path) for path in self.paths if not is_mine(path)}

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"x") -> Answer | None:
        client = await self.server.client()
        said = (f"Authorization: {WHO.bearer}", "Content-Type: text/plain", *lines)
        ask(client, method, target, said, body if method in {"POST", "PUT"} else None)
        try:
            answer = await client.answer(method)
        except asyncio.IncompleteReadError:
            answer = None
        await self.server.close_clients()
        return answer

    async def restore(self) -> None:
        """Make what was deleted again."""
        for path in THERE:
            if path not in self.paths:
                await self.server.create(path_text(path), own_text(path))


def own_text(path: StreamPath) -> bytes:
    """What a stream holds: its own path, so that an answer tells where it is from."""
    return f"<{path_text(path)}>".encode()


@pytest.fixture(params=["lane", "aiohttp"])
def space(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Space]]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Space:
            server = await stack.enter_async_context(guarded(tmp_path, [WHO], request.param))
            found = Space(server)
            await found.restore()
            return found

        started = runner.run(start())
        try:
            yield runner, started
        finally:
            runner.run(stack.aclose())


EXAMPLES: Final = settings(
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@example("GET", f"{PREFIX}/a/../b/x")
@example("GET", f"{PREFIX}/a%2F..%2Fb/x")
@example("GET", f"{PREFIX}/%61/x")
@example("DELETE", f"{PREFIX}/a%2Fx")
@example("PUT", f"{PREFIX}/a/../../v1/stream/new")
@example("POST", f"http://b/{PREFIX}/a/x")
@example("GET", f"{PREFIX}/a?/../b/x")
@example("POST", f"{PREFIX}/__ds/tokens")
@example("POST", f"{PREFIX}/%5f%5Fds/tokens")
@EXAMPLES
@given(METHODS, SPELLINGS)
def test_no_target_leads_out_of_the_prefix(
    space: tuple[asyncio.Runner, Space], method: str, target: str
) -> None:
    runner, there = space
    runner.run(leads_nowhere(there, method, target))


async def leads_nowhere(there: Space, method: str, target: str) -> None:
    before, paths = await there.outside(), there.paths
    answer = await there.ask(method, target)
    assert await there.outside() == before
    wanted = decoded(target)
    for path in there.paths ^ paths:
        assert wanted == path
    if answer is not None and answer.status < 300:
        assert wanted is not None
        assert is_mine(wanted)
        for name in re.findall(rb"<[^>]*>", answer.body):
            assert name == own_text(wanted)
    elif answer is not None:
        assert answer.status in {400, 401, 403, 404, 405, 409, 414, 505}
        assert b"<" not in answer.body or answer.status in {400, 403, 404}
    await there.restore()


@example(f"{PREFIX}/b/x")
@example(f"{PREFIX}/a/../b/x")
@example(f"{PREFIX}/a%2Fx")
@example(f"{PREFIX}/a/x")
@EXAMPLES
@given(SPELLINGS)
def test_no_fork_is_of_a_source_outside_of_the_prefix(
    space: tuple[asyncio.Runner, Space], source: str
) -> None:
    runner, there = space
    runner.run(forks_nothing(there, source))


async def forks_nothing(there: Space, source: str) -> None:
    there.forks += 1
    before = await there.outside()
    target = f"{PREFIX}/a/fork-{there.forks}"
    said = f"Stream-Forked-From: {source}"
    answer = await there.ask("PUT", target, said, body=b"")
    assert await there.outside() == before
    if answer is not None and answer.status < 300:
        wanted = decoded(source)
        assert wanted is not None
        assert is_mine(wanted)
        forked = await there.ask("GET", target)
        assert forked is not None
        assert forked.body.startswith(own_text(wanted))
    elif answer is not None:
        assert answer.status in {400, 401, 403, 404, 409, 431}


def test_some_spellings_do_lead_somewhere(space: tuple[asyncio.Runner, Space]) -> None:
    runner, there = space
    for target in ("a/x", "%61/x", "a/%62/x", "a"):
        answer = runner.run(there.ask("GET", f"{PREFIX}/{target}"))
        assert answer is not None
        assert answer.status == 200
    answer = runner.run(there.ask("GET", f"http://other.test{PREFIX}/%61/x"))
    assert answer is not None
    assert answer.body == b"<a/x>"
    source = f"Stream-Forked-From: {PREFIX}/%61/x"
    answer = runner.run(there.ask("PUT", f"{PREFIX}/a/fork", source, body=b""))
    assert answer is not None
    assert answer.status == 201
