"""The official JavaScript client, two producers and two live readers, over killed servers."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tools.node import CONFORMANCE

if TYPE_CHECKING:
    from tests.conftest import StartServer

MESSAGES: Final = 1_500
LEFT: Final = [["left", n] for n in range(MESSAGES)]
RIGHT: Final = [["right", n] for n in range(MESSAGES)]


@pytest.mark.node
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_no_message_is_lost_doubled_or_moved_when_the_server_is_killed(
    loop: str, start_server: StartServer
) -> None:
    server = start_server("--loop", loop)
    command = ["node", "round_trip.mjs", server.url("round-trip"), str(MESSAGES)]
    with subprocess.Popen(command, cwd=CONFORMANCE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        kills, seen_by = 0, {}
        for line in client.stdout:
            if not line.startswith("acknowledged"):
                seen_by = json.loads(line)
            elif kills < 3:
                server.restart()
                kills += 1
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url("round-trip")) as response,
    ):
        stored = [[message["id"], message["n"]] for message in await response.json()]
        assert response.headers["Stream-Closed"] == "true"

    assert client.returncode == 0
    assert kills == 3
    assert [message for message in stored if message[0] == "left"] == LEFT
    assert [message for message in stored if message[0] == "right"] == RIGHT
    assert stored[2 * MESSAGES :] == [["last", 0]]
    assert seen_by == {"long-poll": stored, "sse": stored}
