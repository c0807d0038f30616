"""Following a stream: what a tail asks next, and what came of it.  A state, and no I/O.

Whoever does the I/O calls :meth:`Following.step` and does what that says, until messages are
``ready`` or it is over::

    Call      answered(answer) or lost(why); if ``listening`` then, the body is events:
    Receive   received(bytes), b"" at its end, or lost(why)
    Pause     nothing
    Over      nothing more

Catching up is by plain reads, which are the fastest, and which caches have.  At the tail it is by
events where those bring all bytes as they are; the events of text have LF for every line break, so
that text is asked for by long-polls; so is everything where events do not come through: where they
are no events, or three connections in a row end soon and bring nothing.

The place moves only when a whole answer, or the control event behind the data, has arrived.  So
whatever is cut off is asked for again, and nothing is lost or comes twice.
"""

from __future__ import annotations

from binascii import Error as NotBase64
from binascii import a2b_base64
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from durable_streams.client.bodies import ANSWER_BYTES, coding_of
from durable_streams.client.events import Decoder
from durable_streams.client.pieces import NOW, Place
from durable_streams.client.reading import LONG_POLL, Piece, piece_of, read_request
from durable_streams.client.refusals import Asked, refusal
from durable_streams.client.retries import PASSING
from durable_streams.client.steps import Call, Pause
from durable_streams.model.errors import StreamError, UnexpectedAnswer, Unreachable
from durable_streams.model.paths import path_text
from durable_streams.rules.media_type import is_json

if TYPE_CHECKING:
    from durable_streams.client.events import Event
    from durable_streams.client.steps import Answer, Disconnected
    from durable_streams.client.verbs import Verbs
    from durable_streams.messages import Message
    from durable_streams.model.paths import StreamPath

SSE: Final = "sse"
_BARREN: Final = 3
"""Connections that bring nothing and end soon, one after the other: then events are given up."""

_EACH_BYTES: Final = 64
"""What one event takes that is held, beside its data: there may be many small ones."""

SOON_S: Final = 0.5
"""An answer that brings nothing came too soon then: who waits for news is kept waiting for longer.
Whoever answers so at once, a broken proxy say, is not asked again without a pause."""


class LiveMode(Enum):
    """How a tail waits for what is new; ``AUTO``: as the stream's content type lets it."""

    AUTO = "auto"
    LONG_POLL = LONG_POLL
    SSE = SSE


@dataclass(frozen=True, slots=True)
class Receive:
    """Tell the next bytes of the body that is being received."""


@dataclass(frozen=True, slots=True)
class Over:
    """The stream is closed, and all of it was given."""


Step: TypeAlias = Call | Receive | Pause | Over


class Control(msgspec.Struct):
    """What a control event says."""

    streamNextOffset: str  # noqa: N815 - as the protocol has it
    streamCursor: str | None = None  # noqa: N815
    upToDate: bool = False  # noqa: N815
    streamClosed: bool = False  # noqa: N815


_control: Final = msgspec.json.Decoder(Control)


class Following:
    """A reader of one stream; ``ready`` has what was read and not taken yet."""

    def __init__(
        self,
        verbs: Verbs,
        path: StreamPath,
        place: Place,
        mode: LiveMode = LiveMode.AUTO,
        *,
        live: bool = True,
        limit_bytes: int = ANSWER_BYTES,
    ) -> None:
        """``live``: wait for more at the tail; else it is over there.

        ``limit_bytes``: how much of events is held until it is known where they end.
        """
        self.ready: deque[Message] = deque()
        self.listening = False
        self._verbs = verbs
        self._path = path
        self._place = place
        self._mode = mode
        self._live = live
        self._backoff = verbs.backoff()
        self._until_s: float | None = None
        self._renew = False
        self._at_tail = self._is_over = self._is_closed = False
        self._content_type = ""
        self._cursor: str | None = None
        self._limit = limit_bytes
        self._decoder = Decoder(limit_bytes)
        self._data: list[bytes] = []  # of the events that no control event has come behind yet
        self._size = 0
        self._data_id: str | None = None
        self._is_base64 = self._had_event = False
        self._barren = 0
        self._began_s = verbs.now()

    @property
    def place(self) -> Place:
        """Where it will read on."""
        return self._place

    @property
    def up_to_date(self) -> bool:
        """Whether all that was there is taken, as far as the server said last."""
        return self._at_tail and not self.ready

    @property
    def closed(self) -> bool:
        """Whether the stream is closed, and all of it is taken."""
        return self._is_closed and not self.ready

    def step(self) -> Step:
        """What to do next."""
        if self._is_over:
            return Over()
        if self.listening:
            return Receive()
        if self._until_s is not None:
            left_s = self._until_s - self._verbs.now()
            if left_s > 0:
                return Pause(left_s)
            self._until_s = None
        self._began_s = self._verbs.now()
        live = self._live_mode() if self._at_tail else None
        request = read_request(
            self._verbs, self._path, self._place.offset, live=live, cursor=self._cursor
        )
        return Call(request, renew=self._renew, is_stream=live == SSE)

    def _live_mode(self) -> str:
        if self._mode is LiveMode.LONG_POLL or self._barren >= _BARREN:
            return LONG_POLL
        if self._mode is LiveMode.AUTO and self._content_type.startswith("text/"):
            return LONG_POLL
        return SSE

    def finish(self) -> None:
        """It is over: whoever reads it has enough."""
        self._is_over = True
        self.listening = False
        self.ready.clear()

    def lost(self, why: Disconnected) -> None:
        """There is no answer, or no more of it; ``Unreachable`` when it was so for too long."""
        self._stop_listening()
        self._settle()
        where = self._verbs.address.stream(self._path)
        self._wait(None, Unreachable(where.partition("?")[0], str(why)))

    def answered(self, answer: Answer) -> None:
        """The answer to a call, or the head of one to be listened to; raises what it refuses."""
        if not 200 <= answer.status < 300:
            self._refused(answer)
            return
        self._renew = False
        content_type = answer.header("content-type")
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            if coding_of(answer):
                self._barren = _BARREN  # whoever packs events keeps them together for a while
            else:
                self._begin_listening(answer)
            return
        if self._live_mode() == SSE and self._at_tail:
            self._barren = _BARREN  # whoever is between makes something else of events
        was_at_tail = self._at_tail
        self._take(piece_of(answer, self._place, self._content_type))
        self._backoff.patient()
        if self.ready or self._is_over or self._has_lasted() or self._at_tail > was_at_tail:
            self._backoff.reset()
        else:
            self._wait(None, UnexpectedAnswer("waits for news end at once, and bring none"))

    def _has_lasted(self) -> bool:
        """Whether what was asked last took as long as waiting does."""
        return self._verbs.now() - self._began_s >= SOON_S

    def _refused(self, answer: Answer) -> None:
        offset = self._place.offset
        error = refusal(Asked("GET", path_text(self._path), offset=offset), answer)
        if answer.status == 401 and not self._renew:
            self._renew = True
        elif answer.status in PASSING:
            self._wait(answer, error)
        else:
            raise error

    def _wait(self, answer: Answer | None, error: StreamError) -> None:
        pause_s = self._backoff.pause_s(answer)
        if pause_s is None:
            self._backoff.reset()  # who asks again begins anew
            raise error
        self._until_s = self._verbs.now() + pause_s

    def _take(self, piece: Piece) -> None:
        """Have the messages of a piece ready, and be behind it."""
        messages = piece.messages()
        behind = piece.behind()
        self.ready.extend(messages)
        self._place = behind
        self._content_type = piece.content_type
        self._cursor = piece.cursor or self._cursor
        self._at_tail = piece.up_to_date
        self._is_closed = piece.closed
        self._is_over = piece.closed or (piece.up_to_date and not self._live)

    # Events

    def _begin_listening(self, answer: Answer) -> None:
        self.listening = True
        self._decoder = Decoder(self._limit)
        self._is_base64 = answer.header("stream-sse-data-encoding").lower() == "base64"
        self._had_event = False
        self._barren += 1
        self._data.clear()

    def _stop_listening(self) -> None:
        self.listening = False
        self._data.clear()

    def _settle(self) -> None:
        """A connection has ended: one that had events and lasted did what it is for."""
        if self._had_event and self._has_lasted():
            self._barren = 0
            self._backoff.reset()

    def received(self, data: bytes) -> None:
        """What arrived of the events; b"": the connection ended, as it does after a minute."""
        if not data:
            self._stop_listening()
            self._settle()
            if self._barren:
                self._wait(None, UnexpectedAnswer("event streams end at once, and bring nothing"))
            return
        try:
            for event in self._decoder.feed(data):
                self._happened(event)
                if self._is_over:
                    break
            else:
                return
        except StreamError:
            self._stop_listening()  # who asks again gets it once more, from the last place
            raise
        self._stop_listening()

    def _happened(self, event: Event) -> None:
        if event.kind == "data":
            self._hold(_from_base64(event.data) if self._is_base64 else event.data)
            self._data_id = event.id
        elif event.kind == "control":
            self._had_event = True
            self._backoff.patient()
            if self._data:
                self._barren = 0
                self._backoff.reset()
            self._moved(_said_by(event.data))

    def _hold(self, data: bytes) -> None:
        """Keep data until its control event comes; the bound is that of one event."""
        self._size = len(data) + (self._size if self._data else 0)
        self._data.append(data)
        if self._size + _EACH_BYTES * len(self._data) > self._limit:
            raise UnexpectedAnswer(
                f"events have more than {self._limit} bytes of data before one that says where "
                "they end"
            )

    def _joined(self) -> bytes:
        """The data before a control event: one piece from a server of ours, others send several."""
        pieces = self._data
        if not is_json(self._content_type):
            return b"".join(pieces)
        if len(pieces) == 1:
            return pieces[0]
        arrays = [data.strip()[1:-1] for data in pieces]
        return b"[%b]" % b",".join(array for array in arrays if array.strip())

    def _moved(self, control: Control) -> None:
        """A control event: what came before it counts, and ends at its offset."""
        data = self._joined()
        self._data.clear()
        end = control.streamNextOffset
        is_proved = self._data_id == end and self._place.offset != NOW
        start = self._place.offset if is_proved else None
        self._take(
            Piece(
                data,
                self._place,
                start,
                end,
                up_to_date=control.upToDate or self._at_tail,
                closed=control.streamClosed,
                content_type=self._content_type,
                cursor=control.streamCursor,
            )
        )


def _said_by(data: bytes) -> Control:
    try:
        return _control.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"a control event cannot be read: {error}") from None


def _from_base64(data: bytes) -> bytes:
    try:
        return a2b_base64(data.replace(b"\n", b""), strict_mode=True)
    except NotBase64 as error:
        raise UnexpectedAnswer(f"a data event is no base64: {error}") from None
