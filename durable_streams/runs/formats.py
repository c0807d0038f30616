"""How the items of a run are stored, and what its last message is, by which readers know its end.

    TEXT         text/plain: the text, and nothing else.  The stream is closed; why, the control
                 stream says (``Runs.status``)
    JSON         application/json, a message for each item.  The last is ``{"$run": {"state": …,
                 "reason": …}}``, and no item may have that key
    UI_MESSAGES  the AI SDK's: a message for each UIMessageChunk.  The last is ``finish``, ``abort``
                 or ``error``, which no source's own chunk can be: a ``finish`` of its own is kept
                 back and becomes the last one
    OPENAI       a message for each chat.completion.chunk, the last as in JSON; of texts, one with
                 ``finish_reason`` before it

Whoever ends a run that is another's writes its last message, so it depends on the format's name and
the end alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from durable_streams.runs.pieces import has_text, json_of, text_of
from durable_streams.runs.states import End, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_JSON: Final = "application/json"
_KEY: Final = "$run"
_MARK: Final = b'{"$run":'


class Encoder:
    """Items of one run, one after another, as they are stored."""

    def __init__(self, form: Format) -> None:
        self._format = form

    def items(self, item: object) -> list[bytes]:
        """What is stored of an item, perhaps nothing; raises if it cannot be stored."""
        raise NotImplementedError

    def ending(self, end: End) -> bytes:
        """The last message, by whoever has seen all items."""
        return self._format.ending(end)


class Format:
    """How runs are stored; there is one of each."""

    def __init__(
        self,
        name: str,
        content_type: str,
        encoder: type[Encoder],
        last: Callable[[End], object] | None,
    ) -> None:
        """``last``: what the last message of a run that ended so is; None: it has none."""
        self.name: Final = name
        self.content_type: Final = content_type
        self._encoder = encoder
        self._last = last

    def encoder(self) -> Encoder:
        """For the items of one run."""
        return self._encoder(self)

    def joined(self, items: list[bytes]) -> bytes:
        """Items that are appended together."""
        return b"[%b]" % b",".join(items) if self.content_type == _JSON else b"".join(items)

    def ending(self, end: End) -> bytes:
        """The last message of a run that ended so; empty if there is none."""
        return b"" if self._last is None else json_of(self._last(end))

    def is_ending(self, message: bytes) -> bool:
        """Whether a message that was read is no item, but the last one."""
        return self._last is _marked and message.startswith(_MARK)


def _marked(end: End) -> dict[str, dict[str, str]]:
    return {_KEY: end.plain()}


class _TextEncoder(Encoder):
    def items(self, item: object) -> list[bytes]:
        text = text_of(item)
        return [text.encode("utf-8", "replace")] if text else []


class _JsonEncoder(Encoder):
    def items(self, item: object) -> list[bytes]:
        data = json_of(item)
        if self._format.is_ending(data):
            raise ValueError(f"an item cannot have the key {_KEY!r}: it marks a run's end")
        return [data]


class _OpenAiEncoder(_JsonEncoder):
    """Chunks as they are; of texts, with the last one that clients expect."""

    def __init__(self, form: Format) -> None:
        super().__init__(form)
        self._is_text = False

    def items(self, item: object) -> list[bytes]:
        self._is_text = isinstance(item, str)
        return super().items(_openai_chunk(item) if isinstance(item, str) else item)

    def ending(self, end: End) -> bytes:
        last = self._format.ending(end)
        if end.state is not State.DONE or not self._is_text:
            return last
        return b"[%b,%b]" % (json_of(_openai_chunk(None)), last)


class _UiEncoder(Encoder):
    """Chunks as they are, and text between the chunks that it needs."""

    def __init__(self, form: Format) -> None:
        super().__init__(form)
        self._has_begun = False
        self._texts = 0
        self._text = ""
        self._finish: bytes | None = None

    def items(self, item: object) -> list[bytes]:
        if not isinstance(item, dict) and has_text(item):
            text = text_of(item)
            return self._delta(text) if text else []
        return [data for chunk in chunks_of(item) for data in self._chunk(chunk)]

    def _chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        data = json_of(chunk)
        if chunk.get("type") == "finish":
            self._finish = data
            return self._ended_text()
        begun = [] if chunk.get("type") == "start" else self._begun()
        self._has_begun = True
        return [*begun, *self._ended_text(), data]

    def _begun(self) -> list[bytes]:
        begun, self._has_begun = self._has_begun, True
        return [] if begun else [json_of({"type": "start"})]

    def _delta(self, text: str) -> list[bytes]:
        chunks = self._begun()
        if not self._text:
            self._texts += 1
            self._text = f"text-{self._texts}"
            chunks.append(json_of({"type": "text-start", "id": self._text}))
        delta = {"type": "text-delta", "id": self._text, "delta": text}
        return [*chunks, json_of(delta)]

    def _ended_text(self) -> list[bytes]:
        text, self._text = self._text, ""
        return [json_of({"type": "text-end", "id": text})] if text else []

    def ending(self, end: End) -> bytes:
        last = self._format.ending(end)
        if end.state is State.DONE:
            last = b",".join([*self._ended_text(), self._finish or last])
        return b"[%b]" % last


def chunks_of(item: object) -> list[dict[str, Any]]:
    """The AI SDK's chunks in an item: a mapping, or a model of pydantic-ai, whose last is none."""
    if hasattr(item, "model_dump"):
        item = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise TypeError("a chunk of a UI message stream is an object with a 'type'")
    return [item] if item["type"] != "done" else []


def _last_chunk(end: End) -> dict[str, str]:
    match end.state:
        case State.DONE:
            return {"type": "finish"}
        case State.STOPPED:
            return {"type": "abort"}
        case _:
            return {"type": "error", "errorText": end.reason or end.state.value}


def _openai_chunk(text: str | None) -> dict[str, Any]:
    """A chunk of text; None: the last one."""
    delta, reason = ({}, "stop") if text is None else ({"content": text}, None)
    return {
        "id": "chatcmpl-run",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


TEXT: Final = Format("text", "text/plain; charset=utf-8", _TextEncoder, None)
JSON: Final = Format("json", _JSON, _JsonEncoder, _marked)
UI_MESSAGES: Final = Format("ui-messages", _JSON, _UiEncoder, _last_chunk)
OPENAI: Final = Format("openai", _JSON, _OpenAiEncoder, _marked)

FORMATS: Final = {form.name: form for form in (TEXT, JSON, UI_MESSAGES, OPENAI)}
