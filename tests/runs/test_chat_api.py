"""The chats of docs/runs.rst, with the AI SDK from npm, and the durable transport for it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.runs.applications import ANSWER, end, serve
from tools.node import COMPATIBILITY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.node


@pytest.mark.parametrize("transport", ["default", "durable"])
def test_a_chat_is_resumed_asked_again_and_stopped(transport: str, tmp_path: Path) -> None:
    server = serve(tmp_path, "chat_api.py", "app", pace_s=0.06)
    try:
        program = subprocess.run(
            ["node", "run_chats.mjs", server.base_url, transport],
            cwd=COMPATIBILITY,
            stdout=subprocess.PIPE,
            check=True,
        )
        end(server)
    finally:
        server.close()
    seen = json.loads(program.stdout)
    assert seen["answered"] == [{"text": ANSWER, "last": "finish"}] * 3
    assert {page["last"] for page in seen["stopped"]} == {"abort"}
    assert len({page["text"] for page in seen["stopped"]}) == 1
    words = seen["stopped"][0]["text"].split()
    assert words == [f"word-{number}" for number in range(len(words))]
    assert seen["left"] is None
