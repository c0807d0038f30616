"""The recipes of docs/security.rst that take more than a shell: cookies, and an identity provider.

``tests/test_documents.py`` runs the others, and ``tests/browser`` the one with a browser.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from tests.access.issuer import jwk, key_server, private_key, token
from tests.documents import blocks_of, named_blocks_of
from tests.programs import running_application
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartServer

PAGE: Final = "docs/security.rst"
TEXT: Final = {"Content-Type": "text/plain"}


@pytest.fixture
async def ada(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody with a cookie jar, before they have logged in to the application with cookies."""
    name = "team_app.py"
    (tmp_path / name).write_text(f"{named_blocks_of(PAGE)[name].code}\n")
    jar = aiohttp.CookieJar(unsafe=True)  # for addresses too
    with running_application(tmp_path, name) as url:
        async with aiohttp.ClientSession(url, cookie_jar=jar) as session:
            yield session


async def log_in(
    session: aiohttp.ClientSession, password: str = "her password", user: str = "ada"
) -> int:
    form = {"user": user, "password": password}
    async with session.post("/login", data=form) as answer:
        return answer.status


async def put(session: aiohttp.ClientSession, path: str, **headers: str) -> int:
    async with session.put(f"/streams/{path}", data="hello", headers={**TEXT, **headers}) as answer:
        return answer.status


async def test_with_a_cookie_users_have_what_the_application_says_and_without_nothing(
    ada: aiohttp.ClientSession,
) -> None:
    assert await put(ada, "chat/1") == 401
    assert await log_in(ada, "another") == 403
    assert await log_in(ada, "", "nobody") == 403
    assert await put(ada, "chat/1") == 401
    assert await log_in(ada) == 200

    assert await put(ada, "chat/1") == 201
    assert await put(ada, "users/ada/notes") == 201
    assert await put(ada, "users/bob/notes") == 403
    async with ada.get("/streams/chat/1") as read:
        assert await read.text() == "hello"
        assert read.headers["Cache-Control"].startswith("private")
    async with ada.delete("/streams/chat/1") as deleted:
        assert deleted.status == 403


async def test_pages_of_other_origins_cannot_use_the_cookie(ada: aiohttp.ClientSession) -> None:
    assert await log_in(ada) == 200
    own = str(ada._base_url).rstrip("/")

    assert await put(ada, "chat/1", Origin="https://evil.test") == 403
    assert await put(ada, "chat/1", Origin=own) == 201
    async with ada.get("/streams/chat/1", headers={"Sec-Fetch-Site": "cross-site"}) as read:
        assert read.status == 403


def jwt_options(url: str) -> list[str]:
    """The options of the page's server behind an identity provider, whose keys are at ``url``."""
    (line,) = re.findall(
        r"^    durable-streams serve (--jwt-jwks .*)$", (ROOT / PAGE).read_text(), re.MULTILINE
    )
    told = shlex.split(line)
    assert told[0] == "--jwt-jwks"
    return [told[0], url, *told[2:]]


def told_claims() -> dict[str, Any]:
    """The claims of the page, but for when they end: long after this test."""
    (block,) = (block for block in blocks_of(PAGE) if block.language == "json")
    claims: dict[str, Any] = json.loads(block.code)
    return claims | {"exp": 4_000_000_000}


async def test_who_has_a_token_of_the_identity_provider_may_do_what_its_claim_says(
    start_server: StartServer,
) -> None:
    async with key_server(jwk("ES256", "one")) as keys:
        server = start_server(*jwt_options(keys.url))
        claims = told_claims()
        claims["durable_streams"][0]["scopes"].append("create")
        good = token(claims, "ES256", kid="one")
        stranger = token(claims, "ES256", kid="one", key=private_key("ES256", 1))
        other = token(claims | {"aud": "another"}, "ES256", kid="one")

        async def put_as(bearer: str, path: str) -> int:
            headers = TEXT | {"Authorization": f"Bearer {bearer}"}
            async with (
                aiohttp.ClientSession() as session,
                session.put(server.url(path), headers=headers) as answer,
            ):
                return answer.status

        while (made := await put_as(good, "chat/1")) == 503:  # until there are keys
            pass
        assert made == 201
        assert await put_as(good, "jobs/1") == 403
        assert await put_as(stranger, "chat/2") == 401
        assert await put_as(other, "chat/2") == 401
