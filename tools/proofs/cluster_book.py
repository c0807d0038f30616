"""What streams of a cluster hold, as everybody together has seen it, and who saw something else.

The first who reads a piece writes it down; all others have to read the same.  Tails are compared
over nodes: none may go back on a node, and none may be further back than another one's was
:data:`STALE_S` ago.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import random
import string
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tools.proofs.clients import Received

if TYPE_CHECKING:
    from collections.abc import Sequence

STALE_S: Final = 3.0
"""How old what a node shows may be, if it talks to a primary that was replaced."""

BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
_MOST_FAULTS: Final = 100
_FILLER: Final = "".join(random.Random(0).choices(string.ascii_letters, k=4_000))


def record_of(producer: str, number: int) -> str:
    """What a producer sends as this one of its records: the same each time, and unlike others."""
    at = random.Random(f"{producer} {number}").randrange(len(_FILLER) - 200)
    return f"{producer} {number} {_FILLER[at : at + 200]}"


@dataclass(slots=True)
class Faults:
    """Broken promises, in the order in which they were noticed."""

    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note it, and print it at once: nobody knows how this ends."""
        if len(self.texts) < _MOST_FAULTS:
            self.texts.append(f"{time.strftime('%H:%M:%S')} {text}")
            print(f"BROKEN: {self.texts[-1]}", flush=True)


class Book:
    """One stream: its records in order, each a line, or a message of JSON."""

    def __init__(self, path: str, content_type: str, faults: Faults) -> None:
        self.path = path
        self.content_type = content_type
        self.records: list[str] = []
        self.faults = faults

    def body_of(self, record: str) -> bytes:
        return json.dumps(record).encode() if self.content_type == JSON else f"{record}\n".encode()

    def compare(self, at: int, records: Sequence[str], who: str) -> None:
        """Somebody read these, from the record with this number on."""
        known = self.records[at : at + len(records)]
        if known != list(records[: len(known)]):
            place = next(n for n, one in enumerate(known) if one != records[n])
            self.faults.add(
                f"{who}: record {at + place} of {self.path} is {records[place][:60]!r},"
                f" and was {known[place][:60]!r}"
            )
        self.records += records[len(known) :]

    def sha256(self) -> str:
        return digest(self.records)


def digest(records: Sequence[str]) -> str:
    """As follow_all.mjs has it."""
    return hashlib.sha256("\n".join(records).encode()).hexdigest()


class Following(Received):
    """What one reader got; its offsets never go back."""

    def __init__(self, book: Book, who: str) -> None:
        super().__init__()
        self.book = book
        self.who = who
        self._half = b""
        self.count = 0

    def add(self, data: bytes, next_offset: str, *, closed: bool) -> None:
        if self.offset != "-1" and next_offset < self.offset:
            self.book.faults.add(
                f"{self.who}: {self.book.path} from {self.offset} to {next_offset}"
            )
        records = self._records_in(data)
        self.book.compare(self.count, records, self.who)
        self.count += len(records)
        self.size_bytes += len(data)
        self.offset, self.closed = next_offset, closed

    def _records_in(self, data: bytes) -> list[str]:
        if self.book.content_type == JSON:
            return list(json.loads(data)) if data else []
        *lines, self._half = (self._half + data).split(b"\n")
        return [line.decode() for line in lines]


class Tails:
    """The highest tail of each stream that anybody was told of, and when."""

    def __init__(self, faults: Faults) -> None:
        self._told: dict[str, list[tuple[float, str]]] = {}
        self._on_node: dict[tuple[str, str], str] = {}
        self._faults = faults
        self.stalest_s = 0.0
        self.looked = 0

    def told(self, path: str, offset: str) -> None:
        """Somebody was answered that the stream ends there, or further on."""
        told = self._told.setdefault(path, [])
        if not told or offset > told[-1][1]:
            told.append((time.monotonic(), offset))
            del told[:-2_000]

    def missing_since(self, path: str, offset: str) -> float:
        """When somebody was first told of more than what ends there; infinity for never."""
        told = self._told.get(path, [])
        at = bisect.bisect_right(told, offset, key=lambda one: one[1])
        return told[at][0] if at < len(told) else math.inf

    def see(self, node: str, path: str, offset: str, sent_s: float) -> None:
        """A node answered a question that was sent then."""
        self.looked += 1
        before = self._on_node.get((node, path), "")
        if offset < before:
            self._faults.add(f"{node}: the tail of {path} went back from {before} to {offset}")
        self._on_node[node, path] = max(before, offset)
        beyond = [at for at, known in self._told.get(path, []) if known > offset and at < sent_s]
        if beyond:
            stale_s = sent_s - beyond[0]
            self.stalest_s = max(self.stalest_s, stale_s)
            if stale_s > STALE_S:
                self._faults.add(f"{node}: the tail of {path} was {stale_s:.1f} s old")
        self.told(path, offset)


def faults_of(book: Book, acknowledged: dict[str, int]) -> tuple[int, int, int]:
    """How many appends of a stream are lost, doubled, out of order.

    ``acknowledged``: how many of each producer's; it sends one after the other, from 0 on.  A
    record that is none of these, to the letter, is a fault of the book.
    """
    lost = doubled = disordered = 0
    sent = {
        record_of(producer, number): (producer, number)
        for producer, count in acknowledged.items()
        for number in range(count)
    }
    found: dict[str, list[int]] = {producer: [] for producer in acknowledged}
    for at, record in enumerate(book.records):
        if record not in sent:
            book.faults.add(f"record {at} of {book.path} was never sent: {record[:60]!r}")
            continue
        producer, number = sent[record]
        found[producer].append(number)
    for producer, count in acknowledged.items():
        numbers = found[producer]
        lost += len(set(range(count)) - set(numbers))
        doubled += len(numbers) - len(set(numbers))
        disordered += sum(second < first for first, second in itertools.pairwise(numbers))
    return lost, doubled, disordered
