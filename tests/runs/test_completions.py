"""OpenAI's API and plain text, of docs/runs.rst: by OpenAI's own client, and by curl."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import openai
import pytest

from tests.documents import named_blocks_of
from tests.runs.applications import ANSWER, PAGE, end, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.chat import ChatCompletionChunk

    from tests.asgi.servers import AsgiServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AsgiServer]:
    served = serve(tmp_path, "completions.py", "app", pace_s=0.005)
    try:
        yield served
        end(served)
    finally:
        served.close()


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_openais_client_has_an_answer_and_the_same_when_it_was_cut_off(
    server: AsgiServer,
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none") as client:

        async def ask(key: str) -> openai.AsyncStream[ChatCompletionChunk]:
            return await client.chat.completions.create(
                model="scripted",
                messages=[{"role": "user", "content": "What is it?"}],
                stream=True,
                extra_headers={"Idempotency-Key": key},
            )

        cut = await ask("one")
        first = await anext(aiter(cut))
        await cut.close()
        again = [chunk async for chunk in await ask("one")]
        assert again[0] == first
        assert text_of(again) == ANSWER
        assert again[-1].choices[0].finish_reason == "stop"
        assert [chunk async for chunk in await ask("one")] == again
        assert text_of([chunk async for chunk in await ask("two")]) == ANSWER


def test_the_program_of_the_page_prints_an_answer(server: AsgiServer, tmp_path: Path) -> None:
    program = tmp_path / "ask.py"
    program.write_text(named_blocks_of(PAGE)["ask.py"].code + "\n")
    command = [sys.executable, str(program), f"{server.base_url}/v1"]
    for _ in range(2):
        assert subprocess.run(command, capture_output=True, check=True).stdout.decode() == ANSWER


@pytest.mark.needs("curl")
def test_curl_shows_a_text_as_it_comes_and_again(server: AsgiServer) -> None:
    url = f"{server.base_url}/texts/one"
    for asked in (["--data", "What is it?"], [], ["--http1.0"]):
        command = ["curl", "--no-progress-meter", "-N", "--fail", *asked, url]
        assert subprocess.run(command, capture_output=True, check=True).stdout.decode() == ANSWER
    missing = ["curl", "-s", "-o", "-", "-w", "%{http_code}", f"{server.base_url}/texts/none"]
    assert subprocess.run(missing, capture_output=True, check=True).stdout == b"404"
