"""The browser application of docs/security.rst, as it stands there: its page follows a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.documents import SERVER, blocks_of, named_blocks_of
from tests.programs import run_verb, running_application

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import OpenPage
    from tests.conftest import StartServer

pytestmark = pytest.mark.needs("chromium")

PAGE: Final = "docs/security.rst"
APPLICATION: Final = "chat_app.py"
ROOM: Final = "chat/room-1"
KEYS: Final = "keys.toml"


def replace_key(file: Path) -> None:
    """Make a new key and remove the old one, with which all ends that it has signed."""
    run_verb("signing-key", "new", "--signing-keys", str(file))
    new, old = file.read_text().split("[[key]]")[1:]
    assert old
    file.write_text(f"[[key]]{new}")


async def test_its_page_follows_a_stream_over_urls_that_end_until_the_user_is_logged_out(
    start_server: StartServer, open_page: OpenPage, tmp_path: Path
) -> None:
    (script,) = (block.code for block in blocks_of(PAGE) if block.language == "javascript")
    tokens = ("--tokens", str(tmp_path / "app.toml"))
    keys = ("--signing-keys", str(tmp_path / KEYS))
    scopes = ("--scope", "read,append,create", "--prefix", "chat")
    token = run_verb("token", "new", *tokens, *scopes, "--id", "app")
    run_verb("signing-key", "new", *keys)
    server = start_server(*tokens, *keys)
    (tmp_path / "app.token").write_text(f"{token}\n")
    code = named_blocks_of(PAGE)[APPLICATION].code.replace(SERVER, f"127.0.0.1:{server.port}")
    (tmp_path / APPLICATION).write_text(f"{code}\n")
    may = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    with running_application(tmp_path, APPLICATION) as url:
        async with aiohttp.ClientSession(headers=may) as session:
            await session.put(server.url(ROOM), json={"n": 1})
            page = await open_page(url)
            await page.evaluate("document.cookie = 'session=ada'")
            await page.add_script_tag(content=script)
            await page.wait_for_function("printed.length > 0")

            replace_key(tmp_path / KEYS)
            await page.wait_for_function("sources.length > 1")
            await session.post(server.url(ROOM), json={"n": 2})
            await page.wait_for_function("printed.length > 1")

            await page.evaluate("document.cookie = 'session=; max-age=0'")
            replace_key(tmp_path / KEYS)
            await page.wait_for_function("printed.includes('logged out')")

    assert json.loads(await page.evaluate("JSON.stringify(printed)")) == [
        [{"n": 1}],
        [{"n": 2}],
        "logged out",
    ]
