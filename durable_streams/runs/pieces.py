"""What models and frameworks yield, as text or as JSON: told by shape, so that none is needed.

Known are texts; chunks of ``openai`` (``choices[0].delta.content``); messages of LangChain and
LangGraph (``content``, also in a pair with metadata); events of pydantic-ai (parts and their
deltas); pydantic models, dataclasses and all else that has JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec


def json_of(item: object) -> bytes:
    """An item as JSON; ``TypeError`` if it has none."""
    return msgspec.json.encode(item, enc_hook=_plain)


def _plain(item: object) -> Any:  # noqa: ANN401 - whatever it is made of
    dump = getattr(item, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(item, Exception):
        return type(item).__name__
    raise TypeError(f"what a run yields must have JSON, and {type(item).__name__} has none")


def text_of(item: object) -> str:
    """The text in an item, which may be empty; ``TypeError`` if it is nothing that has one."""
    if isinstance(item, str):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return text_of(item[0])  # LangGraph: a message, and its metadata
    if hasattr(item, "choices"):
        return _of_choices(item.choices)
    if hasattr(item, "event_kind"):
        return _of_event(item)
    if hasattr(item, "content"):
        return _of_content(item.content)
    raise TypeError(f"a run of text yields text, not {type(item).__name__}")


def has_text(item: object) -> bool:
    """Whether :func:`text_of` knows what it is."""
    return (
        isinstance(item, str)
        or (isinstance(item, tuple) and len(item) == 2)
        or any(hasattr(item, name) for name in ("choices", "event_kind", "content"))
    )


def _of_choices(choices: Any) -> str:  # noqa: ANN401 - openai's, or what looks like it
    if not choices:
        return ""  # the last one, which has the usage alone
    delta = getattr(choices[0], "delta", None)
    return getattr(delta, "content", None) or ""


def _of_event(event: Any) -> str:  # noqa: ANN401 - pydantic-ai's
    if event.event_kind == "part_start" and event.part.part_kind == "text":
        return event.part.content or ""
    if event.event_kind == "part_delta" and event.delta.part_delta_kind == "text":
        return event.delta.content_delta or ""
    return ""


def _of_content(content: Any) -> str:  # noqa: ANN401 - LangChain's
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        blocks = (block for block in content if isinstance(block, (str, dict)))
        return "".join(b if isinstance(b, str) else b.get("text") or "" for b in blocks)
    return ""
