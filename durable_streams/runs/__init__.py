"""Runs that outlive their request: :class:`Runs`; docs/runs.rst is how they are used."""

from durable_streams.runs.carrying import RunFailed
from durable_streams.runs.formats import JSON, OPENAI, TEXT, UI_MESSAGES, Format
from durable_streams.runs.runs import Run, Runs
from durable_streams.runs.states import End, Piece, State, Status

__all__ = [
    "JSON",
    "OPENAI",
    "TEXT",
    "UI_MESSAGES",
    "End",
    "Format",
    "Piece",
    "Run",
    "RunFailed",
    "Runs",
    "State",
    "Status",
]
