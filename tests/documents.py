"""The code blocks of the README and the documentation, for tests that run them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, replace
from typing import Final

from tools.server_process import ROOT

SERVER: Final = "localhost:4437"
"""Where the documents take the server to be."""

_BLOCK: Final = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:    :caption: (?P<name>.+)\n)?\n"
    r"(?P<code>(?:(?: {4}.*)?\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A code block, what the document says it prints, and its caption: the name of its file."""

    language: str
    code: str
    output: list[str]
    name: str = ""


def blocks_of(document: str) -> list[Block]:
    """All blocks of a document, in order."""
    text = (ROOT / document).read_text() + "\n"
    found = [
        Block(m["language"], textwrap.dedent(m["code"]).strip(), [], m["name"] or "")
        for m in _BLOCK.finditer(text)
    ]
    assert len(found) == len(re.findall(r"^\.\. code-block::", text, re.MULTILINE)), document
    following = [*found[1:], Block("", "", [])]
    return [
        replace(block, output=after.code.splitlines() if after.language == "text" else [])
        for block, after in zip(found, following, strict=True)
    ]


def named_blocks_of(document: str) -> dict[str, Block]:
    """The blocks of a document that have a caption, by it."""
    return {block.name: block for block in blocks_of(document) if block.name}


def is_cell(block: Block) -> bool:
    """Whether a block is run in a notebook."""
    return block.name.startswith("In [")
