"""How items are stored, and what frameworks yield, as they yield it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from openai.types.chat import ChatCompletionChunk
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel

from durable_streams.runs import JSON, OPENAI, TEXT, UI_MESSAGES, End, State
from durable_streams.runs.sources import items_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from durable_streams.runs import Format

DONE = End(State.DONE)


async def stored(form: Format, source: Any, end: End = DONE) -> Any:
    """What a stream has of a source in the end: its text, or its messages."""
    encoder = form.encoder()
    items = [data async for item in items_of(source) for data in encoder.items(item)]
    if form is TEXT:
        return b"".join(items).decode()
    last = json.loads(encoder.ending(end))
    return [json.loads(item) for item in items] + (last if isinstance(last, list) else [last])


async def words() -> AsyncIterator[str]:
    yield "a "
    yield "b"


async def a_text() -> str:
    return "a b"


def blocking() -> Iterator[str]:
    yield from ["a ", "b"]


@asynccontextmanager
async def entered() -> AsyncIterator[AsyncIterator[str]]:
    yield words()


@pytest.mark.parametrize("function", [words, a_text, blocking, entered])
@pytest.mark.parametrize("is_called", [False, True])
async def test_whatever_gives_items_is_a_source(function: Any, is_called: bool) -> None:
    assert await stored(TEXT, function() if is_called else function) == "a b"


async def test_a_value_is_a_source_of_one_item() -> None:
    assert await stored(TEXT, "a b") == "a b"


def chunk(text: str | None) -> ChatCompletionChunk:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return ChatCompletionChunk.model_validate(
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": choices,
        }
    )


async def of_openai() -> AsyncIterator[ChatCompletionChunk]:
    for text in ("a ", "b", None):
        yield chunk(text)


def of_langchain() -> AsyncIterator[object]:
    return FakeListChatModel(responses=["a b"]).astream("?")


async def model(_: Any, __: Any) -> AsyncIterator[str]:
    yield "a "
    yield "b"


AGENT = Agent(FunctionModel(stream_function=model))


def a_stream_of_pydantic_ai() -> Any:
    return AGENT.run_stream("?")


def events_of_pydantic_ai() -> Any:
    return AGENT.run_stream_events("?")


SOURCES = [of_openai, of_langchain, a_stream_of_pydantic_ai, events_of_pydantic_ai]


@pytest.mark.parametrize("source", SOURCES)
async def test_frameworks_iterators_are_text_as_they_come(source: Any) -> None:
    assert await stored(TEXT, source) == "a b"


@pytest.mark.parametrize("source", SOURCES)
async def test_frameworks_iterators_are_ui_messages_as_they_come(source: Any) -> None:
    chunks = await stored(UI_MESSAGES, source)
    assert [c["type"] for c in chunks[:2]] == ["start", "text-start"]
    assert "".join(c.get("delta", "") for c in chunks) == "a b"
    assert [c["type"] for c in chunks[-2:]] == ["text-end", "finish"]


@pytest.mark.parametrize("source", [of_openai, of_langchain, events_of_pydantic_ai])
async def test_frameworks_items_are_json_as_they_come(source: Any) -> None:
    *items, last = await stored(JSON, source)
    assert all(isinstance(item, dict) for item in items)
    assert last == {"$run": {"state": "done", "reason": ""}}


async def test_openais_chunks_stay_as_they_are() -> None:
    *items, last = await stored(OPENAI, of_openai)
    assert [ChatCompletionChunk.model_validate(item) for item in items] == [
        *(chunk(text) for text in ("a ", "b", None))
    ]
    assert last == {"$run": {"state": "done", "reason": ""}}


async def test_a_finish_of_the_sources_own_is_the_last_chunk() -> None:
    async def chunks() -> AsyncIterator[object]:
        yield {"type": "start", "messageId": "m"}
        yield "a"
        yield {"type": "finish", "finishReason": "stop"}

    found = await stored(UI_MESSAGES, chunks)
    assert [c["type"] for c in found] == ["start", "text-start", "text-delta", "text-end", "finish"]
    assert found[-1] == {"type": "finish", "finishReason": "stop"}


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (End(State.STOPPED, "enough"), {"type": "abort"}),
        (End(State.FAILED, "busy"), {"type": "error", "errorText": "busy"}),
        (End(State.ABANDONED, "gone"), {"type": "error", "errorText": "gone"}),
    ],
)
async def test_ui_messages_end_as_the_run_did(end: End, last: Any) -> None:
    assert (await stored(UI_MESSAGES, words, end))[-1] == last
    assert json.loads(UI_MESSAGES.ending(end)) == last


@pytest.mark.parametrize(
    ("form", "item"),
    [(TEXT, {"a": 1}), (JSON, {"$run": 1}), (JSON, object()), (UI_MESSAGES, {"a": 1})],
)
def test_items_that_cannot_be_stored_are_refused(form: Format, item: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        form.encoder().items(item)
