"""Producing: what goes into which request, and what came of each.  A state, and no I/O.

Appends are gathered into batches, one request each, which are numbered from 0 in the producer's
epoch; the server takes each number once and in order (protocol §5.2.1).  So a batch is sent again
until it is answered, and is stored once.  Whoever does the I/O sends what :meth:`Producing.due`
gives, tells :meth:`answered` or :meth:`lost`, and looks again when :meth:`wake_at` says.

    life of a batch     filling ─▶ ready ⇄ flying ─▶ done        (lost, 5xx, 429: ready, later)
                                     ▲        │
                                     └────────┘ 409: one before it is not there yet

Several may fly at once, over several connections, and come in any order.  One that is there too
early is refused with 409, and sent again when one before it is done.

*Numbered*, each append is a batch of its own, which has the number that the application gives it
by their order.  Then a run that begins where the application knows that all was stored sends the
same bytes under the same numbers as the run before, and what was stored already is not stored
again, whatever became of that run.

Any failure that does not pass ends it: what comes later must not be stored without what failed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from durable_streams.client.refusals import Asked, refusal
from durable_streams.client.retries import ATTEMPTS_AT_500, PASSING
from durable_streams.client.steps import Call
from durable_streams.client.verbs import canonical, next_offset
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.model.errors import (
    InvalidRequest,
    ProducerGap,
    StaleEpoch,
    StreamClosed,
    StreamError,
    Unreachable,
)
from durable_streams.model.paths import path_text
from durable_streams.rules.json_mode import to_wire
from durable_streams.rules.media_type import is_json

if TYPE_CHECKING:
    from durable_streams.client.retries import Backoff
    from durable_streams.client.steps import Answer, Disconnected
    from durable_streams.client.verbs import Verbs
    from durable_streams.model.paths import StreamPath

_DUPLICATE: Final = 204
_NEVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is gathered, and how much may wait.

    ``linger_s``: how long a batch waits for more; ``batch_bytes`` and ``batch_appends``: when it
    waits no longer; ``in_flight``: how many are sent at once; ``waiting_bytes``: how much may be
    unacknowledged before an append has to wait.
    """

    linger_s: float = 0.005
    batch_bytes: int = 1024 * 1024
    batch_appends: int = 10_000
    in_flight: int = 4
    waiting_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        """``ValueError`` for what cannot be."""
        if not self.linger_s >= 0:
            raise ValueError("linger_s must be seconds from 0 on")
        for name in ("batch_bytes", "batch_appends", "in_flight", "waiting_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class Batch:
    """Appends that go together; ``end``: the number of the last one of them, and one more."""

    __slots__ = (
        "attempts",
        "backoff",
        "closes",
        "data",
        "end",
        "expected_then",
        "flying",
        "is_done",
        "next_offset",
        "ready_at",
        "renew",
        "seq",
        "size_bytes",
    )

    def __init__(
        self, seq: int, data: bytes, end: int, size_bytes: int, backoff: Backoff, *, closes: bool
    ) -> None:
        self.seq = seq
        self.size_bytes = size_bytes
        self.data = data
        self.end = end
        self.backoff = backoff
        self.closes = closes
        self.attempts = 0
        self.ready_at = 0.0
        self.expected_then = 0  # the first number that was not done when it was sent
        self.flying = self.is_done = self.renew = False
        self.next_offset = ""


class _Filling:
    """Appends that are gathered."""

    __slots__ = ("begun_s", "pieces", "size_bytes")

    def __init__(self, begun_s: float) -> None:
        self.begun_s = begun_s
        self.pieces: list[bytes] = []
        self.size_bytes = 0


class Producing:
    """What one producer has to send to one stream.

    ``appended``: how many appends there were, ``acknowledged``: of how many, from the first on, the
    server has said that they are stored; both count from ``number``.  ``error``: why it ended.
    """

    def __init__(
        self,
        verbs: Verbs,
        path: StreamPath,
        content_type: str,
        claim: ProducerClaim,
        limits: Limits,
        *,
        numbered: bool,
        take_over: bool = False,
    ) -> None:
        """``claim``: of the first batch.  ``take_over``: in the next epoch if this one is stale."""
        self.appended = self.acknowledged = claim.seq
        self.error: Exception | None = None
        self.next_offset = ""
        self.waiting_bytes = 0
        self.epoch = claim.epoch
        self._verbs = verbs
        self._path = path
        self._content_type = content_type
        self._is_json = is_json(canonical(content_type))
        self._id = claim.id
        self._limits = limits
        self._numbered = numbered
        self._take_over = take_over
        self._is_established = False  # the server has accepted something of this epoch
        self._next_seq = claim.seq
        self._batches: deque[Batch] = deque()
        self._filling: _Filling | None = None
        self._flush_up_to = claim.seq
        self._is_closing = False

    @property
    def has_room(self) -> bool:
        """Whether one more append need not wait."""
        return self.waiting_bytes < self._limits.waiting_bytes

    def append(self, data: bytes) -> None:
        """Have bytes sent, or the messages of JSON; ``InvalidJson`` if it is none."""
        self.check()
        if self._is_closing:
            raise InvalidRequest("the producer closes the stream: nothing can follow")
        if not data:
            raise InvalidRequest("an append needs data")
        if self._is_json:
            data, _ = to_wire(data, allow_empty=False)
        filling = self._filling
        if filling is not None and self._is_full(filling, len(data)):
            self._seal(filling)
            filling = None
        if filling is None:
            filling = self._filling = _Filling(self._verbs.now())
        filling.pieces.append(data)
        filling.size_bytes += len(data)
        self.waiting_bytes += len(data)
        self.appended += 1
        if self._numbered:
            self._seal(filling)

    def check(self) -> None:
        """Raise why it ended, if it did."""
        if isinstance(self.error, StreamError):
            raise self.error.again()
        if self.error is not None:
            raise self.error

    def flush(self) -> None:
        """What was appended so far waits for nothing more."""
        self._flush_up_to = self.appended

    def close(self, data: bytes) -> None:
        """Close the stream behind all of it, with last bytes perhaps."""
        if data:
            self.append(data)
        self.check()
        if not self._is_closing:
            self._is_closing = True
            filling = self._filling
            if filling is None and self._batches and not self._batches[-1].attempts:
                self._batches[-1].closes = True  # it is not sent yet: it closes, in one step
            else:
                self._seal(filling or _Filling(0.0), closes=True)
        self.flush()

    def _is_full(self, filling: _Filling, more_bytes: int) -> bool:
        limits = self._limits
        return (
            filling.size_bytes + more_bytes > limits.batch_bytes
            or len(filling.pieces) >= limits.batch_appends
        )

    def _seal(self, filling: _Filling, *, closes: bool = False) -> Batch:
        """Make a batch of what was gathered."""
        data = b"".join(filling.pieces)
        if self._is_json and data:
            data = b"[%b]" % data[:-1]
        batch = Batch(
            self._next_seq,
            data,
            self.appended,
            filling.size_bytes,
            self._verbs.backoff(),
            closes=closes,
        )
        self._next_seq += 1
        self._batches.append(batch)
        self._filling = None
        return batch

    def due(self, now: float) -> Batch | None:
        """A batch that is to be sent now; from then on it flies."""
        if self.error is not None:
            return None
        for batch in self._grounded():
            if batch.ready_at <= now:
                return self._let_fly(batch)
        if self._filling is None or now < self._filled_at(self._filling):
            return None
        return self._let_fly(self._seal(self._filling))

    @property
    def _window(self) -> int:
        """How many batches, from the first one on, may be under way."""
        return self._limits.in_flight if self._is_established else 1

    def _grounded(self) -> list[Batch]:
        """Those of them that are not, and may be.

        The one that closes the stream waits until all others are known to be stored: once it is
        closed, they could not be repeated any more, and nobody would know.
        """
        window = islice(self._batches, self._window)
        return [
            batch
            for batch in window
            if not (batch.flying or batch.is_done)
            and not (batch.closes and batch is not self._batches[0])
        ]

    def _let_fly(self, batch: Batch) -> Batch:
        if not batch.attempts:
            batch.backoff.reset()
        batch.attempts += 1
        batch.flying = True
        batch.expected_then = self._batches[0].seq
        return batch

    def _filled_at(self, filling: _Filling) -> float:
        """When what is gathered is to be sent; never, while others have to be answered first."""
        if len(self._batches) >= self._window:
            return _NEVER
        if self._flush_up_to == self.appended or self._is_full(filling, 1):
            return 0.0
        return filling.begun_s + self._limits.linger_s

    def wake_at(self) -> float:
        """When :meth:`due` may have something, if nothing happens before; infinity: never."""
        if self.error is not None:
            return _NEVER
        times = [batch.ready_at for batch in self._grounded()]
        if self._filling is not None:
            times.append(self._filled_at(self._filling))
        return min(times, default=_NEVER)

    @property
    def is_all_acknowledged(self) -> bool:
        """Whether nothing is left to be sent or answered."""
        return not self._batches and self._filling is None

    def call(self, batch: Batch) -> Call:
        """What sends a batch."""
        command = Append(self._path, self._content_type, batch.closes, self._claim(batch))
        request = self._verbs.append_request(command, self._content_type, batch.data)
        return Call(request, renew=batch.renew)

    def _claim(self, batch: Batch) -> ProducerClaim:
        return ProducerClaim(self._id, self.epoch, batch.seq)

    # What came of it

    def answered(self, batch: Batch, answer: Answer) -> None:
        """The answer to a batch."""
        batch.flying = False
        if self.error is not None:
            return
        if 200 <= answer.status < 300:
            self._accepted(batch, answer)
            return
        asked = Asked("POST", path_text(self._path), producer=self._claim(batch))
        error = refusal(asked, answer)
        if answer.status == 401 and not batch.renew:
            batch.renew = True
        elif isinstance(error, StaleEpoch) and self._may_take_over():
            self.epoch = error.current + 1
        elif isinstance(error, ProducerGap) and error.expected >= batch.expected_then:
            is_first = self._batches[0] is batch
            batch.ready_at = 0.0 if is_first else _NEVER  # until one before it is done
        elif isinstance(error, StreamClosed) and self._may_have_closed(batch):
            self._accepted(batch, answer)
        elif answer.status in PASSING:
            is_hopeless = answer.status == 500 and batch.backoff.failures + 1 >= ATTEMPTS_AT_500
            self._later(batch, None if is_hopeless else batch.backoff.pause_s(answer), error)
        else:
            self._fail(error)

    def lost(self, batch: Batch, why: Disconnected) -> None:
        """There is no answer: whether it is stored is found out by sending it again."""
        batch.flying = False
        if self.error is None:
            url = self._verbs.address.stream(self._path).partition("?")[0]
            self._later(batch, batch.backoff.pause_s(), Unreachable(url, str(why)))

    def _later(self, batch: Batch, pause_s: float | None, error: StreamError) -> None:
        if pause_s is None:
            self._fail(error)
        else:
            batch.ready_at = self._verbs.now() + pause_s

    def _may_have_closed(self, batch: Batch) -> bool:
        """Whether a run before may have closed the stream, in one step with what it appended last.

        Then the server knows that by another number.  Who had appended nothing closes what somebody
        else has closed.
        """
        return self._numbered and batch.seq > 0 and batch.closes and not batch.data

    def _may_take_over(self) -> bool:
        return self._take_over and not self._is_established and not self._numbered

    def failed(self, error: Exception) -> None:
        """It cannot go on, for a reason of the program's own."""
        if self.error is None:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._batches.clear()
        self._filling = None

    def _accepted(self, batch: Batch, answer: Answer) -> None:
        if self._was_used(batch, answer):
            if self._may_take_over():
                self.epoch += 1
                batch.attempts = 0
            else:
                self._fail(StaleEpoch(self.epoch))
            return
        try:
            batch.next_offset = next_offset(answer)
        except StreamError as error:
            self._fail(error)
            return
        self._is_established = batch.is_done = True
        batch.renew = False
        batches = self._batches
        while batches and batches[0].is_done:
            done = batches.popleft()
            self.acknowledged = done.end
            self.next_offset = done.next_offset
            self.waiting_bytes -= done.size_bytes
        for waiting in batches:
            if waiting.ready_at == _NEVER:
                waiting.ready_at = 0.0

    def _was_used(self, batch: Batch, answer: Answer) -> bool:
        """Whether the very first batch of a run is taken for a repetition: its data is dropped."""
        is_first = batch.attempts == 1 and not (self._is_established or self._numbered)
        return is_first and bool(batch.data) and answer.status == _DUPLICATE
