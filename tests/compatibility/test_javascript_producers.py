"""``@durable-streams/client``: which producers and readers get over it when the server dies."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.compatibility.programs import lead, stored

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

COUNT: Final = 600
ALL: Final = list(range(1_000, 1_000 + COUNT))
DEFAULT_IN_FLIGHT: Final = "5"

pytestmark = pytest.mark.node


async def produced(
    start_server: StartServer, fetch: str, in_flight: str, event: str
) -> tuple[int, bool, list[int]]:
    """How many errors the producer told, whether it closed the stream, and what is stored.

    All readers have seen that, in order and once, or the test fails.
    """
    server = start_server()
    command = ("node", "producers.mjs", server.url("orders"), fetch, in_flight, event, str(COUNT))
    outcome = lead(server, *command)
    messages, closed = await stored(server, "orders")
    numbers = [message["n"] for message in messages]
    assert closed
    assert outcome["seen"] == {"long-poll": numbers, "sse": numbers, "resumed": numbers}
    return outcome["errors"], outcome["closed"], numbers


@pytest.mark.parametrize(
    ("fetch", "in_flight"), [("persistent", DEFAULT_IN_FLIGHT), ("backoff", "1")]
)
async def test_a_producer_that_asks_again_loses_and_doubles_nothing_over_a_kill(
    fetch: str, in_flight: str, start_server: StartServer
) -> None:
    assert await produced(start_server, fetch, in_flight, "kill") == (0, True, ALL)


async def test_requests_that_overtake_one_another_are_put_in_order(
    start_server: StartServer,
) -> None:
    outcome = await produced(start_server, "persistent", DEFAULT_IN_FLIGHT, "overtaking")
    assert outcome == (0, True, ALL)


@pytest.mark.parametrize(("fetch", "event"), [("fetch", "outage"), ("backoff", "overtaking")])
async def test_these_producers_lose_all_from_the_first_failure_on_and_say_so(
    fetch: str, event: str, start_server: StartServer
) -> None:
    """As docs/compatibility.rst says; the day this fails, a new client has mended it."""
    errors, closed, numbers = await produced(start_server, fetch, DEFAULT_IN_FLIGHT, event)
    assert errors > 0
    assert not closed
    assert numbers == ALL[: len(numbers)]
    assert len(numbers) < COUNT


async def test_with_backoff_a_producer_cannot_claim_its_name_and_loses_what_it_was_given(
    server: ServerProcess,
) -> None:
    failed = lead(server, "node", "claims.mjs", server.url("claims"))
    assert (await stored(server, "claims"))[0] == ["first", "persistent"]
    assert failed == ["backoff"]


ITEMS: Final = ["first", "second", "third"]
CUTS: Final = list(itertools.product(("end", "error"), ("between", "inside")))
"""How a connection is cut off, and where; ``cuts.mjs`` says what the words mean."""


def seen_over_cuts(server: ServerProcess, reader: str) -> dict[tuple[str, str], Any]:
    return {
        (how, where): lead(
            server, "node", "cuts.mjs", server.url(f"{how}/{where}"), reader, how, where
        )
        for how, where in CUTS
    }


def test_a_reader_that_begins_again_behind_whole_events_sees_each_item_once(
    server: ServerProcess,
) -> None:
    whole = {"ended": "the end", "seen": ITEMS}
    assert all(found == whole for found in seen_over_cuts(server, "follow").values())


def test_the_clients_own_session_may_end_or_repeat_when_it_is_cut_off(
    server: ServerProcess,
) -> None:
    """As docs/compatibility.rst says; the day this fails, a new client has mended it."""
    found = seen_over_cuts(server, "stream")
    assert found["end", "between"] == {"ended": "the end", "seen": ITEMS}
    assert found["end", "inside"] == {"ended": "the end", "seen": ["first", *ITEMS]}
    assert found["error", "between"]["ended"] == "terminated"
    assert found["error", "inside"]["ended"] == "terminated"


def test_what_the_program_throws_while_it_reads_is_no_outage(server: ServerProcess) -> None:
    command = ("node", "cuts.mjs", server.url("fault"), "fault", "error", "between")
    assert lead(server, *command) == {"ended": "a fault of the program", "seen": ["first"]}


async def test_what_is_appended_without_a_producer_is_stored_again_if_its_answer_is_lost(
    start_server: StartServer,
) -> None:
    server = start_server()
    refused = lead(server, "node", "answers.mjs", server.url("plain"))
    assert await stored(server, "plain") == (
        ["append", "append", "append with seq", "closed"],
        True,
    )
    assert refused == {"append with seq": 409, "close with a message": 409}
