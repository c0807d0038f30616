"""PyPI's ``durable-streams``, sync and async, in an environment of its own: over a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.compatibility.programs import lead, stored
from tests.programs import CLIENTS_PYTHON
from tools.node import running_in_ci

if TYPE_CHECKING:
    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

COUNT: Final = 90


def traded(server: ServerProcess, program: str) -> Any:
    if not CLIENTS_PYTHON.exists():
        if running_in_ci():
            pytest.fail("PyPI's client is missing.", pytrace=False)
        pytest.skip("PyPI's client is missing: run scripts/setup clients.")
    return lead(server, str(CLIENTS_PYTHON), program, server.url("orders"), str(COUNT))


async def test_what_the_sync_client_appended_is_stored_and_seen_once_over_a_kill(
    start_server: StartServer,
) -> None:
    server = start_server()
    outcome = traded(server, "orders_sync.py")
    messages, _ = await stored(server, "orders")
    assert messages == [*range(COUNT), "end", "later"]
    assert outcome["seen"] == dict.fromkeys(("long-poll", "sse", "auto"), messages[:-1])
    assert outcome["resumed"] == ["later"]
    assert outcome["asks for ever"]  # as docs/compatibility.rst says


async def test_what_async_clients_appended_is_stored_and_seen_once_over_a_kill(
    start_server: StartServer,
) -> None:
    server = start_server()
    outcome = traded(server, "orders_async.py")
    messages, _ = await stored(server, "orders")
    batch = [["batch", number] for number in range(COUNT)]
    messages, last = messages[:-COUNT], messages[-COUNT:]
    for name in ("left", "right"):
        assert [message for message in messages if message[0] == name] == [
            [name, number] for number in range(COUNT)
        ]
    assert outcome["seen"] == {"long-poll": messages, "sse": messages}
    assert outcome["batch"] == last == batch
