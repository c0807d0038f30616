"""A small server that keeps streams in memory, and lies in one way if it is told to.

It is there to prove that the load client notices.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager, suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARAMETER: Final = re.compile(r"[?&](\w+)=([^&]*)")
POLL_TIMEOUT_S: Final = 0.2


class Lie(Enum):
    """What the server does wrong."""

    NONE = "nothing"
    STATUS = "appends and creates are answered with another status"
    NO_OFFSET = "answers lack Stream-Next-Offset"
    SAME_OFFSET = "Stream-Next-Offset never grows"
    LOST_APPEND = "every tenth append is acknowledged and not kept"
    DOUBLED_APPEND = "every tenth append is kept twice"
    OTHER_PRODUCER = "the echoed producer sequence is another"
    NO_PRODUCER = "the echoed producer sequence is empty where it should be 0"
    EXTRA_COMMA = "a comma follows the last element of an array"
    DOUBLED_COMMA = "two commas are between the elements of an array"
    LEADING_COMMA = "a comma precedes the first element of an array"
    LEADING_NUL = "a NUL byte precedes the first element of an array"
    WRONG_BYTE = "a byte in the middle of a body is another"
    CUT_READ = "reads lack the last record and say that they are up to date"
    ENDLESS_READ = "reads bring nothing and do not say that they are up to date"
    SHORT_BODY = "the connection ends before the body does"
    NO_HTTP = "what is sent is no HTTP"
    LOST_EVENT = "live readers do not get the third event"
    DOUBLED_EVENT = "live readers get the third event twice"
    SWAPPED_EVENTS = "live readers get the third event after the fourth"
    LAST_EVENT_MISSING = "live readers get nothing after the third event"


class FakeServer(ThreadingHTTPServer):
    """Streams as lists of appends; an offset is a number of appends."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, lie: Lie, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lie = lie
        self.streams: dict[str, list[bytes]] = {}
        self.appends = 0
        self.changed = threading.Condition()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away whenever they like."""

    def append(self, path: str, data: bytes) -> int:
        """Keep an append; return the tail."""
        with self.changed:
            stream = self.streams[path]
            self.appends += 1
            tenth = self.appends % 10 == 0
            if not (tenth and self.lie is Lie.LOST_APPEND):
                stream.append(data)
            if tenth and self.lie is Lie.DOUBLED_APPEND:
                stream.append(data)
            self.changed.notify_all()
            return len(stream)

    def after(self, path: str, offset: int, timeout_s: float) -> list[bytes]:
        """The appends from an offset on, waited for."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.streams[path]) > offset, timeout_s)
            return self.streams[path][offset:]

    def live(self, path: str, offset: int) -> tuple[list[bytes], int]:
        """What a live reader gets next, and where it is then."""
        events = self.after(path, offset, POLL_TIMEOUT_S)
        shown: list[bytes] = []
        for number, event in enumerate(events, offset):
            match self.lie:
                case Lie.LOST_EVENT if number == 2:
                    continue
                case Lie.LAST_EVENT_MISSING if number > 2:
                    continue
                case Lie.DOUBLED_EVENT if number == 2:
                    shown += [event, event]
                case Lie.SWAPPED_EVENTS if number == 2:
                    shown += [*self.after(path, 3, 10.0)[:1], event]
                case Lie.SWAPPED_EVENTS if number == 3:
                    continue
                case _:
                    shown.append(event)
        return shown, offset + len(events)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FakeServer

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    @property
    def stream(self) -> str:
        return self.path.partition("?")[0]

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        lie = self.server.lie
        if lie is Lie.NO_HTTP:
            self.wfile.write(b"I am not a server\r\n\r\n")
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            if not (lie is Lie.NO_OFFSET and name.lower() == "stream-next-offset"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if lie is Lie.SHORT_BODY:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def array(self, elements: list[bytes]) -> bytes:
        match self.server.lie:
            case Lie.EXTRA_COMMA:
                return b"[" + b"".join(element + b"," for element in elements) + b"]"
            case Lie.DOUBLED_COMMA:
                return b"[" + b",,".join(elements) + b"]"
            case Lie.LEADING_COMMA:
                return b"[," + b",".join(elements) + b"]"
            case Lie.LEADING_NUL:
                return b"[\0" + b",".join(elements) + b"]"
            case _:
                return b"[" + b",".join(elements) + b"]"

    def echo(self, sequence: str) -> str:
        match self.server.lie:
            case Lie.OTHER_PRODUCER:
                return "7"
            case Lie.NO_PRODUCER if sequence == "0":
                return ""
            case _:
                return sequence

    def offset(self, tail: int) -> str:
        return f"{0 if self.server.lie is Lie.SAME_OFFSET else tail:016d}"

    def do_PUT(self) -> None:
        self.server.streams[self.stream] = []
        lie = self.server.lie is Lie.STATUS
        self.answer(200 if lie else 201, {"Stream-Next-Offset": self.offset(0)})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        headers = {"stream-next-offset": self.offset(self.server.append(self.stream, data))}
        status = 204
        if self.headers["producer-id"]:
            headers["producer-epoch"] = self.headers["producer-epoch"]
            headers["producer-seq"] = self.echo(self.headers["producer-seq"])
            status = 200
        self.answer(202 if self.server.lie is Lie.STATUS else status, headers)

    def do_GET(self) -> None:
        if self.stream not in self.server.streams:
            self.answer(404, {})
            return
        parameters = dict(_PARAMETER.findall(self.path))
        offset = max(0, int(parameters["offset"]))
        match parameters.get("live"):
            case None:
                self.read(offset)
            case "long-poll":
                self.poll(offset)
            case _:
                self.follow(offset)

    def read(self, offset: int) -> None:
        stream = self.server.streams[self.stream]
        records = stream[offset:]
        headers = {"stream-next-offset": self.offset(len(stream)), "STREAM-UP-TO-DATE": "true"}
        body = self.array(records) if stream[0].startswith(b"{") else b"".join(records)
        match self.server.lie:
            case Lie.WRONG_BYTE:
                middle = len(body) // 2
                body = body[:middle] + b"?" + body[middle + 1 :]
            case Lie.CUT_READ:
                body = b"".join(records[:-1])
            case Lie.ENDLESS_READ:
                body = b""
                del headers["STREAM-UP-TO-DATE"]
            case _:
                pass
        self.answer(200, headers, body)

    def poll(self, offset: int) -> None:
        events, tail = self.server.live(self.stream, offset)
        headers = {"stream-next-offset": f"{tail:016d}", "stream-cursor": "1"}
        if events:
            self.answer(200, headers, self.array(events))
        else:
            self.answer(204, headers)

    def follow(self, offset: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            while True:
                control = f'event: control\ndata: {{"streamNextOffset":"{offset:016d}"}}\n\n'
                self.chunk(control.encode())
                events, offset = self.server.live(self.stream, offset)
                for event in events:
                    lines = self.array([event]).replace(b"[", b"[\r\ndata: ", 1)
                    self.chunk(b"event: data\r\ndata: " + lines + b"\r\n\r\n")
        self.close_connection = True

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


@contextmanager
def fake_server(lie: Lie) -> Iterator[int]:
    """Run one in a thread; yields its port."""
    with FakeServer(lie) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
