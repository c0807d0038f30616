"""What all fronts have of a request: what those parts ask that know no transport.

A front has a class of its own for it, made for each request that it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from multidict import MultiMapping

    from durable_streams.http.bodies import BodyShare
    from durable_streams.wire.urls import Address


class Incoming(Protocol):
    """One request, its head read."""

    @property
    def method(self) -> str:
        """Its method."""

    @property
    def target(self) -> str:
        """What it asks for, as it came."""

    @property
    def headers(self) -> MultiMapping[str]:
        """Its headers, found without regard to case."""

    @property
    def peername(self) -> Any:  # noqa: ANN401 - as ``Peers`` takes it
        """Who is at the other end of its connection."""

    @property
    def received_bytes(self) -> int:
        """How much of its body has come so far."""

    @property
    def for_application(self) -> Any:  # noqa: ANN401 - each front has its own
        """The request as an application knows it, which says who asks."""

    def came_in_at(self) -> Address:
        """Where it came in."""

    def live_read(self) -> AbstractContextManager[None]:
        """A context that a read is in while it waits for news; it ends if the client leaves.

        Raises :class:`ConnectionResetError`, or cancels the task.
        """

    async def body(self, limit_bytes: int, timeout_s: float, share: BodyShare) -> bytes:
        """Return its body, which ``share`` then holds.

        Raises :class:`PayloadTooLarge`, :class:`RequestTimeout`, :class:`Overloaded`,
        :class:`InvalidRequest` if its framing is broken, and :class:`ConnectionError` if the
        client goes away.
        """
