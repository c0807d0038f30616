"""Chats over the official transports: no word of an answer is lost or doubled over a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.compatibility.programs import lead, stored

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

WORDS: Final = [f"word-{number} " for number in range(60)]
ANSWER: Final = "".join(WORDS)

pytestmark = pytest.mark.node


async def deltas(server: ServerProcess) -> list[str]:
    """The pieces of all texts that are stored."""
    chunks, _ = await stored(server, "chat")
    return [chunk["delta"] for chunk in chunks if "delta" in chunk]


def chatted(server: ServerProcess, program: str, *arguments: str) -> Any:
    return lead(server, "node", program, server.url("chat"), *arguments)


@pytest.mark.parametrize(("writer", "event"), [("theirs", "pause"), ("producer", "amid")])
async def test_a_reloaded_page_of_the_ai_sdk_has_every_word_once_over_a_kill(
    writer: str, event: str, start_server: StartServer
) -> None:
    server = start_server()
    texts = chatted(server, "aisdk.mjs", writer, event)
    assert texts == {"stays": ANSWER, "comesBack": ANSWER}
    assert await deltas(server) == WORDS
    assert (await stored(server, "chat"))[1]


async def test_a_chunk_whose_answer_is_lost_is_doubled_by_the_transports_own_writer(
    start_server: StartServer,
) -> None:
    """As docs/compatibility.rst says; the day this fails, a new version has mended it."""
    server = start_server()
    texts = chatted(server, "aisdk.mjs", "theirs", "answer")
    words = await deltas(server)
    assert texts == {"stays": "".join(words), "comesBack": "".join(words)}
    assert list(dict.fromkeys(words)) == WORDS
    assert len(words) > len(WORDS)


@pytest.mark.parametrize(("writer", "event"), [("theirs", "pause"), ("producer", "amid")])
async def test_a_chat_of_tanstack_that_is_opened_amid_an_answer_has_every_word_once_over_a_kill(
    writer: str, event: str, start_server: StartServer
) -> None:
    server = start_server()
    messages = chatted(server, "tanstack.mjs", writer, event)
    chat = [
        *(["user", "What is it?"], ["assistant", ANSWER]),
        *(["user", "And then?"], ["assistant", ANSWER]),
    ]
    assert messages == {"stays": chat, "opens": chat}
    assert await deltas(server) == ["What is it?", *WORDS, "And then?", *WORDS]


async def test_a_run_of_tanstack_ai_goes_on_where_its_connection_was_cut_over_a_kill(
    start_server: StartServer,
) -> None:
    """Its own adapter is not to be had: ``durable_run.mjs`` makes the same requests."""
    server = start_server("--prefix", "/streams")
    server.prefix = "/streams"
    outcome = lead(server, "node", "runs.mjs", server.base_url)
    assert outcome["texts"] == [ANSWER, ANSWER, ANSWER]
    assert outcome["asked"] == 1
    assert outcome["connections"] == 4  # of the chat, again after the cut, and one of each other

    records, closed = await stored(server, f"runs%2F{outcome['run']}")
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    deltas = [record["chunk"]["delta"] for record in records if "delta" in record["chunk"]]
    assert (deltas, closed) == (WORDS, True)
