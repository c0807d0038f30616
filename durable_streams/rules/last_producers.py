"""Which of a stream's producers are told: those that appended last."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

from durable_streams.model.details import MOST_DETAILS, ProducerSeen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.rules.producers import ProducerState


def last_producers(states: Iterable[tuple[str, ProducerState]]) -> list[ProducerSeen]:
    """The last ``MOST_DETAILS`` of some, the very last first; takes a while for very many."""
    last = nsmallest(MOST_DETAILS, states, key=_youngest_first)
    return [ProducerSeen(name, state.epoch, state.seq, state.time_ms) for name, state in last]


def _youngest_first(entry: tuple[str, ProducerState]) -> tuple[int, str]:
    return -entry[1].time_ms, entry[0]
