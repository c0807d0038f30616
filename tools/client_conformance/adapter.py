"""The adapter that the suite talks to: a command as a line of JSON, and a result as a line.

``python -m tools.client_conformance.adapter async|sync``.  It has no logic of a client's: what is
no call of ours is bookkeeping for the suite's commands, such as the numbers of its producers, and
words: the suite knows arguments by other names.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import durable_streams
from durable_streams import Limits, ProducerClaim, Retries, errors
from durable_streams.wire.replies import STATUS
from tools.client_conformance.sides import Awaited, Blocking, limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams import Message
    from tools.client_conformance.sides import Side

_CODES: Final[list[tuple[type[Exception], str]]] = [
    (errors.StreamNotFound, "NOT_FOUND"),
    (errors.StreamClosed, "STREAM_CLOSED"),
    (errors.SequenceConflict, "SEQUENCE_CONFLICT"),
    (errors.Conflict, "CONFLICT"),
    (errors.InvalidOffset, "INVALID_OFFSET"),
    (errors.InvalidJson, "PARSE_ERROR"),
    (errors.UnexpectedAnswer, "PARSE_ERROR"),
    (errors.Unreachable, "NETWORK_ERROR"),
    (errors.StreamError, "UNEXPECTED_STATUS"),
    (ValueError, "INVALID_ARGUMENT"),
    (TypeError, "INVALID_ARGUMENT"),
]
_NAMES: Final = {"batch_bytes": "maxBatchBytes", "batch_appends": "maxBatchItems"}
_NAMES_OF_RETRIES: Final = {
    "repeats": "maxRetries",
    "first_s": "initialDelayMs",
    "longest_s": "maxDelayMs",
    "factor": "multiplier",
}
_Dynamic: TypeAlias = dict[str, dict[str, tuple[str, str, list[int]]]]
_STEP_S: Final = 0.05
_FEATURES: Final = {
    "batching": True,
    "sse": True,
    "longPoll": True,
    "auto": True,
    "streaming": True,
    "dynamicHeaders": True,
    "batchItems": True,
    "strictZeroValidation": True,
    "retryOptions": True,
}


class Adapter:
    """What the suite has said so far, and the client for the next command."""

    def __init__(self, side: Callable[[str, dict[str, str], str], Side], name: str) -> None:
        self._side = side
        self._name = name
        self._url = ""
        self._types: dict[str, str] = {}
        self._numbers: dict[tuple[str, str, int], int] = {}
        self._dynamic: _Dynamic = {"header": {}, "param": {}}

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command."""
        kind = command["type"]
        try:
            told = getattr(self, f"_{kind.replace('-', '_')}")(command)
        except Exception as error:  # noqa: BLE001 - told to the suite
            return self._failed(kind, error)
        return {"type": kind, "success": True, **told}

    def _failed(self, kind: str, error: Exception) -> dict[str, Any]:
        code = next((code for known, code in _CODES if isinstance(error, known)), "INTERNAL_ERROR")
        told = {
            "type": "error",
            "success": False,
            "commandType": kind,
            "errorCode": code,
            "message": str(error),
        }
        status = next((STATUS[base] for base in type(error).__mro__ if base in STATUS), None)
        if status is not None and code not in {"NETWORK_ERROR", "PARSE_ERROR"}:
            told["status"] = status
        return told

    def _asked(
        self, command: dict[str, Any], use: Callable[[Side], dict[str, Any]], live: str = "auto"
    ) -> dict[str, Any]:
        """Use a client that sends what the command and the dynamic values say."""
        headers, parameters = self._values("header"), self._values("param")
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        url = f"{self._url}?{query}" if query else self._url
        side = self._side(url, {**headers, **(command.get("headers") or {})}, live)
        try:
            told = use(side)
        finally:
            side.close()
        return {
            **told,
            **({"headersSent": headers} if headers else {}),
            **({"paramsSent": parameters} if parameters else {}),
        }

    def _is_json(self, path: str) -> bool:
        return self._types.get(path, "").startswith("application/json")

    def _values(self, of: str) -> dict[str, str]:
        found = {}
        for name, (kind, initial, count) in self._dynamic[of].items():
            count[0] += 1
            now_ms = str(time.time_ns() // 1_000_000)
            found[name] = {"counter": str(count[0]), "timestamp": now_ms}.get(kind, initial)
        return found

    def _init(self, command: dict[str, Any]) -> dict[str, Any]:
        self._url = command["serverUrl"]
        version = durable_streams.__version__
        return {"clientName": self._name, "clientVersion": version, "features": _FEATURES}

    def _shutdown(self, _: dict[str, Any]) -> dict[str, Any]:
        return {}

    # Streams

    def _create(self, command: dict[str, Any]) -> dict[str, Any]:
        content_type = command.get("contentType") or "application/octet-stream"

        def create(side: Side) -> dict[str, Any]:
            made = side.verb(
                "create",
                _path(command),
                content_type=content_type,
                data=_data(command),
                ttl_s=command.get("ttlSeconds"),
                expires_at=command.get("expiresAt"),
                closed=command.get("closed", False),
            )
            return {"status": 201 if made.created else 200, "offset": made.next_offset}

        told = self._asked(command, create)
        self._types[_path(command)] = content_type
        return told

    def _connect(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._head(command)

    def _head(self, command: dict[str, Any]) -> dict[str, Any]:
        def look(side: Side) -> dict[str, Any]:
            found = side.verb("get_metadata", _path(command))
            self._types[_path(command)] = found.content_type
            return {
                "status": 200,
                "offset": found.next_offset,
                "contentType": found.content_type,
                "streamClosed": found.closed,
                "ttlSeconds": found.ttl_s,
                "expiresAt": found.expires_at,
            }

        return self._asked(command, look)

    def _append(self, command: dict[str, Any]) -> dict[str, Any]:
        claim = None
        if command.get("producerId") is not None:
            claim = ProducerClaim(
                command["producerId"], command["producerEpoch"], command["producerSeq"]
            )
        seq = command.get("seq")

        def append(side: Side) -> dict[str, Any]:
            path = _path(command)
            done = side.verb(
                "append",
                path,
                _data(command),
                content_type=self._types.get(path),
                producer=claim,
                stream_seq=None if seq is None else str(seq),
            )
            return {"status": 200, "offset": done.next_offset, "duplicate": done.duplicate}

        return self._asked(command, append)

    def _close(self, command: dict[str, Any]) -> dict[str, Any]:
        def close(side: Side) -> dict[str, Any]:
            done = side.verb("close", _path(command), _data(command))
            return {"status": 200, "finalOffset": done.next_offset}

        return self._asked(command, close)

    def _delete(self, command: dict[str, Any]) -> dict[str, Any]:
        def delete(side: Side) -> dict[str, Any]:
            side.verb("delete", _path(command))
            return {"status": 200}

        self._types.pop(_path(command), None)
        return self._asked(command, delete)

    # Reads

    def _read(self, command: dict[str, Any]) -> dict[str, Any]:
        live = command.get("live")
        if live in (None, False):
            is_json = self._is_json(_path(command))
            return self._asked(command, lambda side: _caught_up(side, command, is_json=is_json))
        mode = live if isinstance(live, str) else "auto"
        return self._asked(command, lambda side: _followed(side, command), mode)

    # Producers

    def _idempotent_append(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._produced(command, [command["data"]])

    def _idempotent_append_batch(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._produced(command, command["items"])

    def _idempotent_close(self, command: dict[str, Any]) -> dict[str, Any]:
        data = command.get("data")
        return self._produced(command, [] if data is None else [data], closes=True)

    def _idempotent_detach(self, command: dict[str, Any]) -> dict[str, Any]:
        path, id_ = _path(command), command["producerId"]
        for key in [key for key in self._numbers if key[:2] == (path, id_)]:
            del self._numbers[key]
        return {"status": 200}

    def _produced(
        self, command: dict[str, Any], items: list[str], *, closes: bool = False
    ) -> dict[str, Any]:
        """Each command is a run of its producer that goes on where the one before ended."""
        path, id_, epoch = _path(command), command["producerId"], command.get("epoch") or 0
        key = (path, id_, epoch)
        is_json = self._is_json(path)
        data = [f"[{item}]".encode() if is_json else item.encode() for item in items]
        how: dict[str, Any] = {"epoch": epoch, "limits": limits(command.get("maxInFlight") or 1)}
        if command.get("autoClaim") and key not in self._numbers:
            how["take_over"] = True
        elif key in self._numbers or command["type"] != "idempotent-append-batch":
            is_batch = command["type"] == "idempotent-append-batch"
            how["number"] = 0 if is_batch else self._numbers.get(key, 0)

        def produce(side: Side) -> dict[str, Any]:
            reached, appended, end = side.produce(path, id_, data, closes=closes, **how)
            if not closes:  # a close that is repeated is the same one
                self._numbers[path, id_, reached] = appended if "number" in how else 1
            told = {"status": 200}
            return {**told, "finalOffset": end.next_offset} if end else told

        return self._asked(command, produce)

    # What is not sent

    def _set_dynamic_header(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._set("header", command)

    def _set_dynamic_param(self, command: dict[str, Any]) -> dict[str, Any]:
        return self._set("param", command)

    def _set(self, of: str, command: dict[str, Any]) -> dict[str, Any]:
        initial = command.get("initialValue") or ""
        self._dynamic[of][command["name"]] = command["valueType"], initial, [0]
        return {}

    def _clear_dynamic(self, _: dict[str, Any]) -> dict[str, Any]:
        self._dynamic = {"header": {}, "param": {}}
        return {}

    def _validate(self, command: dict[str, Any]) -> dict[str, Any]:
        target = command["target"]
        names = _NAMES if target["target"] == "idempotent-producer" else _NAMES_OF_RETRIES
        try:
            self._make(target)
        except (ValueError, errors.InvalidRequest) as error:
            text = str(error)
            for ours, name in names.items():
                text = text.replace(ours, name)
            raise ValueError(text) from error
        return {}

    def _make(self, target: dict[str, Any]) -> None:
        """Make what is described, with our names."""
        if target["target"] == "retry-options":
            given = {
                ours: target[name] / 1000 if name.endswith("Ms") else target[name]
                for ours, name in _NAMES_OF_RETRIES.items()
                if name in target
            }
            Retries(**given)
            return
        how = Limits(**{ours: target[name] for ours, name in _NAMES.items() if name in target})
        side = self._side("http://localhost:9", {}, "auto")
        try:
            side.begin_producer(target.get("producerId", "p"), target.get("epoch"), how)
        finally:
            side.close()


def _path(command: dict[str, Any]) -> str:
    return str(command["path"]).removeprefix("/")


def _data(command: dict[str, Any]) -> bytes:
    data = command.get("data") or ""
    return base64.b64decode(data) if command.get("binary") else data.encode()


def _offset(command: dict[str, Any]) -> str:
    offset = command.get("offset")
    return "-1" if offset is None else offset


def _chunk(data: bytes, offset: str) -> dict[str, Any]:
    try:
        return {"data": data.decode(), "offset": offset}
    except UnicodeDecodeError:
        return {"data": base64.b64encode(data).decode(), "binary": True, "offset": offset}


def _array(messages: list[Message]) -> bytes:
    return b"[%b]" % b",".join(message.data for message in messages) if messages else b""


def _caught_up(side: Side, command: dict[str, Any], *, is_json: bool) -> dict[str, Any]:
    """Everything up to the tail."""
    chunks: list[dict[str, Any]] = []
    offset = _offset(command)
    while True:
        read = side.verb("read_messages" if is_json else "read", _path(command), offset)
        offset = read.next_offset
        data = _array(read.messages) if is_json else read.data
        if data:
            chunks.append(_chunk(data, offset))
        if read.up_to_date or len(chunks) >= (command.get("maxChunks") or 100):
            break
    return {
        "status": 200,
        "chunks": chunks,
        "offset": offset,
        "upToDate": read.up_to_date,
        "streamClosed": read.closed,
    }


def _followed(side: Side, command: dict[str, Any]) -> dict[str, Any]:
    """What a tail gives, as far as the suite wants it."""
    most, waits = command.get("maxChunks") or 100, command.get("waitForUpToDate", False)
    chunks: list[dict[str, Any]] = []
    follower = side.follow(_path(command), _offset(command))
    until = time.monotonic() + (command.get("timeoutMs") or 5000) / 1000
    try:
        while len(chunks) < most and not follower.is_over and time.monotonic() < until:
            message = follower.next(_STEP_S)
            if message is not None:
                chunks.append(_chunk(message.data, message.offset))
            elif waits and follower.tail.up_to_date:
                break
    finally:
        follower.close()
    tail = follower.tail
    return {
        "status": 204 if command["live"] == "long-poll" and not chunks else 200,
        "chunks": chunks,
        "offset": tail.offset,
        "upToDate": tail.up_to_date,
        "streamClosed": tail.closed,
    }


def main() -> None:
    """Answer commands until the last one."""
    which = sys.argv[1]
    adapter = Adapter(Awaited if which == "async" else Blocking, f"durable-streams-server {which}")
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(adapter.do(command)), flush=True)
        if command["type"] == "shutdown":
            break


if __name__ == "__main__":
    main()
