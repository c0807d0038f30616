"""Whose events are whose, and until when, before an application that answers as the SDK's does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server.streamable_http import GET_STREAM_KEY
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCResponse

import durable_streams
from durable_streams import Forbidden
from durable_streams.runs.mcp import DurableEvents
from durable_streams.runs.mcp_calls import Call
from tests.runs.conftest import LEASE_S, Refusing
from tests.runs.resumed import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from mcp.server.streamable_http import EventMessage
    from mcp_types import JSONRPCMessage

    from durable_streams import Streams


class Served:
    """An application behind ``around``: it opens sessions, and stores an event for each request."""

    def __init__(self, events: DurableEvents) -> None:
        self.events = events
        self.status = 200
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.message: JSONRPCMessage = progress()
        self.held = ""
        self.is_held, self.go_on = asyncio.Event(), asyncio.Event()
        self._application = events.around(self._answer)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        given = [value for name, value in scope["headers"] if name == b"mcp-session-id"]
        id_ = given[0] if given else b"session-%d" % len(self.asked)
        if scope["method"] == "GET":
            await self._replay(scope, send)
            return
        self.asked.append(id_.decode())
        if self.status < 400 and scope["method"] == "POST":
            self.ids.append(await self.events.store_event("1", self.message))
        if id_.decode() == self.held:
            self.is_held.set()
            await self.go_on.wait()
        head = {"type": "http.response.start", "status": self.status}
        await send(head | {"headers": [(b"mcp-session-id", id_)]})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, *ids: str, method: str = "POST", last: str = "") -> int:
        """Make a request of these sessions; its status.  ``last``: the event it resumes behind."""
        told: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        headers = [(b"mcp-session-id", id_.encode()) for id_ in ids]
        headers += [(b"last-event-id", last.encode())] if last else []
        scope = {"type": "http", "method": method, "headers": headers}
        await asyncio.ensure_future(self._application(scope, None, send))
        return told[0]

    async def replay(self, id_: str, last_event_id: str) -> list[Any]:
        """The messages that a session gets behind an event, until the answer is there."""
        headers = [(b"mcp-session-id", id_.encode()), (b"last-event-id", last_event_id.encode())]
        return [message for _, message in await resumed(self._application, headers)]

    async def _replay(self, scope: Any, send: Any) -> None:
        async def nothing(event: EventMessage) -> None:
            raise AssertionError(event)

        last = dict(scope["headers"])[b"last-event-id"].decode()
        assert await self.events.replay_events_after(last, nothing) is None
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def progress() -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/progress", params={})


class Hooked:
    """Streams that tell a test what is appended, before it is."""

    def __init__(self, streams: Streams, hook: Callable[[bytes], Awaitable[None]]) -> None:
        self._streams = streams
        self._hook = hook

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._streams, verb)

    async def append(self, path: str, data: bytes, **named: Any) -> Any:
        await self._hook(data)
        return await self._streams.append(path, data, **named)


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with durable_streams.open(tmp_path / "data") as opened:
        yield opened


async def paths_in(streams: Streams, name: str) -> list[tuple[str, bool]]:
    """The parts of a session, and whether each is closed."""
    found = [s.path async for s in streams.list(f"mcp/{name}") if not s.path.endswith("~run")]
    return [(path, (await streams.get_metadata(path)).closed) for path in found]


async def test_a_request_with_the_ids_of_two_sessions_is_refused(streams: Streams) -> None:
    """The SDK would check the first one, and the events would be those of the last."""
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        await served.ask()
        ann, bob = served.asked
        assert await served.ask(bob, ann) == 400
        assert served.asked == [ann, bob]
        assert await served.ask(bob) == 200
        assert served.ids[2].split(".")[0] == served.ids[1].split(".")[0]
        assert served.ids[2].split(".")[0] != served.ids[0].split(".")[0]


async def test_a_session_goes_on_after_a_deletion_that_is_refused(streams: Streams) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        served.status = 404  # another user asks
        assert await served.ask(served.asked[0], method="DELETE") == 404
        served.status = 200
        await served.ask(served.asked[0])
        name = served.ids[0].split(".")[0]
        assert served.ids[1].split(".")[:2] == [name, "0"]
        await served.ask(served.asked[0], method="DELETE")
        assert await paths_in(streams, name) == [(f"mcp/{name}/0", True)]


async def test_at_the_bound_a_session_with_a_request_under_way_stays(streams: Streams) -> None:
    async with DurableEvents(streams, sessions=2) as events:
        served = Served(events)
        await served.ask()
        await served.ask()
        first, second = served.asked
        served.held = first
        asking = asyncio.create_task(served.ask(first))
        await served.is_held.wait()
        await served.ask(second)  # so it was used after the other
        await served.ask()
        served.go_on.set()
        assert await asking == 200
        names = [id_.split(".")[0] for id_ in served.ids[:2]]
        assert await paths_in(streams, names[0]) == [(f"mcp/{names[0]}/0", False)]
        assert await paths_in(streams, names[1]) == [(f"mcp/{names[1]}/0", True)]


async def test_a_session_that_had_to_make_room_is_not_found_until_it_begins_anew(
    streams: Streams,
) -> None:
    """By the protocol a client begins another one when it is answered 404."""
    async with DurableEvents(streams, sessions=1) as events:
        served = Served(events)
        await served.ask()
        first = served.asked[0]
        await served.ask()
        assert await served.ask(first) == 404
        assert await served.ask("never known") == 404
        assert len(served.asked) == 2  # so the SDK was not asked, which knows it yet
        await served.ask(first, method="DELETE")
        assert served.asked[2] == first  # and is told that it has ended
        assert await served.ask() == 200


async def test_what_comes_after_the_end_of_a_session_begins_no_part(streams: Streams) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        await served.ask(served.asked[0], method="DELETE")
        with pytest.raises(RuntimeError):
            await session.store("1", b"null")
        assert await paths_in(streams, session.name) == [(f"mcp/{session.name}/0", True)]


async def test_who_comes_for_events_that_are_kept_no_longer_gets_the_answer_all_the_same(
    streams: Streams,
) -> None:
    async with DurableEvents(streams, keep=2) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        for _ in range(6):
            await session.store("1", progress().model_dump_json().encode())
        replaying = asyncio.create_task(served.replay(served.asked[0], served.ids[0]))
        answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
        await session.store("1", answer.model_dump_json().encode())
        assert (await replaying)[-1] == answer


async def test_who_comes_when_nothing_is_kept_is_told(streams: Streams) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        await streams.delete(f"mcp/{session.name}/0")
        (lost,) = await served.replay(served.asked[0], served.ids[0])
        assert isinstance(lost, JSONRPCError)
        assert lost.id == 1


async def test_a_session_goes_on_in_another_part_after_one_that_could_not_begin(
    streams: Streams,
) -> None:
    refusing = Refusing(streams)
    async with DurableEvents(refusing, keep=2, lease_s=LEASE_S) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        part = f"mcp/{session.name}/1"
        refusing.refuse("create", part, Forbidden("not yours"), but=f"{part}/~run")
        with pytest.raises(Forbidden):
            await session.store("1", progress().model_dump_json().encode())
        refusing.allow()
        answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
        stored = await session.store("1", answer.model_dump_json().encode())
        assert stored.split(".")[:2] == [session.name, "2"]
        assert (await served.replay(served.asked[0], served.ids[0]))[-1] == answer


async def test_an_answer_amid_the_beginning_of_a_part_leaves_no_part_open(streams: Streams) -> None:
    """Else who follows the part before would wait for ever."""
    is_called, is_copied, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hook(data: bytes) -> None:
        if b'"run":"r"' in data and is_called.is_set():
            is_copied.set()
            await go_on.wait()

    async with DurableEvents(Hooked(streams, hook), keep=2) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        await session.begin_call("7", Call("r", 7, None))
        is_called.set()
        storing = asyncio.create_task(session.store("1", progress().model_dump_json().encode()))
        await is_copied.wait()
        del session.calls["7"]
        go_on.set()
        assert (await storing).split(".")[1] == "2"
        name = f"mcp/{session.name}"
        assert await paths_in(streams, session.name) == [(f"{name}/1", True), (f"{name}/2", False)]


async def test_a_part_that_cannot_be_deleted_loses_no_event_and_is_deleted_later(
    streams: Streams,
) -> None:
    refusing = Refusing(streams)
    async with DurableEvents(refusing, keep=2) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        part = f"mcp/{session.name}/0"
        refusing.refuse("delete", part, Forbidden("not yours"))
        while session.current < 2:
            await session.store("1", progress().model_dump_json().encode())
        assert refusing.seen.is_set()
        assert (part, True) in await paths_in(streams, session.name)
        refusing.allow()
        while session.current < 3:
            await session.store("1", progress().model_dump_json().encode())
        assert [path[-1] for path, _ in await paths_in(streams, session.name)] == ["2", "3"]


async def test_an_answer_that_cannot_be_stored_is_replayed_as_an_error(streams: Streams) -> None:
    """And is sent to who is connected; an error would end the SDK's task that sends."""

    async def hook(data: bytes) -> None:
        if b"huge" in data:
            raise Forbidden("too large, say")

    async with DurableEvents(Hooked(streams, hook)) as events:
        served = Served(events)
        await served.ask()
        first = served.asked[0]
        served.message = JSONRPCNotification(jsonrpc="2.0", method="huge")
        assert await served.ask(first) == 200
        served.message = JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "huge"})
        assert await served.ask(first) == 200
        (error,) = await served.replay(first, served.ids[1])
        assert isinstance(error, JSONRPCError)
        assert (error.id, error.error.message) == (1, "the answer could not be stored")
        served.message = progress()
        assert await served.ask(first) == 200


async def test_a_session_whose_answers_cannot_be_stored_is_over(streams: Streams) -> None:
    refusing = Refusing(streams)
    async with DurableEvents(refusing, lease_s=LEASE_S) as events:
        served = Served(events)
        await served.ask()
        first = served.asked[0]
        refusing.refuse("append", f"mcp/{events._sessions[first].name}/", Forbidden("not yours"))
        served.message = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
        assert await served.ask(first) == 200
        assert await served.ask(first) == 404
        refusing.allow()
        (lost,) = await served.replay(first, served.ids[0])
        assert isinstance(lost, JSONRPCError)


async def test_an_answer_behind_a_part_that_expired_is_replayed(streams: Streams) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        session = events._sessions[served.asked[0]]
        await streams.delete(f"mcp/{session.name}/0")
        answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
        await session.store("1", answer.model_dump_json().encode())
        assert await served.replay(served.asked[0], served.ids[0]) == [answer]


@pytest.mark.parametrize(
    ("stream", "id_"),
    [("7", 7), ("-7", -7), ("007", "007"), ("a", "a"), ("9" * 5000, "9" * 5000)],
)
async def test_a_request_that_is_lost_is_told_by_its_id(
    streams: Streams, stream: str, id_: str | int
) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        last = f"{served.ids[0].split('.')[0]}.0r.{stream}.x"
        (lost,) = await served.replay(served.asked[0], last)
        assert isinstance(lost, JSONRPCError)
        assert lost.id == id_


async def test_who_resumes_behind_what_is_no_event_of_its_session_is_refused(
    streams: Streams,
) -> None:
    """An answer of nothing would have the client come again and again."""
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        await served.ask()
        ann = served.asked[0]
        assert await served.ask(ann, method="GET", last="no event") == 400
        assert await served.ask(ann, method="GET", last=served.ids[1]) == 400


async def test_the_stream_of_a_session_that_is_over_is_not_found_once_it_was_read(
    streams: Streams,
) -> None:
    async with DurableEvents(streams) as events:
        served = Served(events)
        await served.ask()
        ann = served.asked[0]
        session = events._sessions[ann]
        message = progress().model_dump_json().encode()
        ids = [await session.store(GET_STREAM_KEY, message) for _ in range(2)]
        await session.store("1", message)
        await served.ask(ann, method="DELETE")
        assert await served.replay(ann, ids[0]) == [progress()]
        assert await served.ask(ann, method="GET", last=ids[1]) == 404
