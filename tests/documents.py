"""The code blocks of the README and the documentation, for tests that run them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Final

from tests.server_process import ROOT

SERVER: Final = "localhost:4437"
"""Where the documents take the server to be."""

_BLOCK: Final = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n\n(?P<code>(?:(?: {4}.*)?\n)+)", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A code block, and what the document says it prints."""

    language: str
    code: str
    output: list[str]


def blocks_of(document: str) -> list[Block]:
    """All blocks of a document, in order."""
    text = (ROOT / document).read_text() + "\n"
    found = [(m["language"], textwrap.dedent(m["code"]).strip()) for m in _BLOCK.finditer(text)]
    following = [*found[1:], ("", "")]
    return [
        Block(language, code, after_code.splitlines() if after == "text" else [])
        for (language, code), (after, after_code) in zip(found, following, strict=True)
    ]
