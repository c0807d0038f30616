"""What an exchange comes to on its way, as the fronts are told: see ``exchange``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgspec

from durable_streams.access.principals import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.access.principals import Principal
    from durable_streams.http.access_log import Exchanged
    from durable_streams.model.commands import Command
    from durable_streams.model.results import Chunk
    from durable_streams.store import Ticket
    from durable_streams.wire.replies import BodyPlan, Common, Reply


class Admitted(NamedTuple):
    """Who was admitted, and who pays for what they have (``limits``); "": nobody has to."""

    principal: Principal
    payer: str = ""


EVERYBODY: Final = Admitted(ANYBODY)
"""Where nobody has to say who they are, nor to pay."""


class Pending(msgspec.Struct, frozen=True):
    """A write on its way, and how it is answered when it is settled."""

    ticket: Ticket[Any]
    answer: Callable[[Any], Reply]

    def reply(self) -> Reply:
        """Answer it, once settled; raises what it failed with."""
        return self.answer(self.ticket.outcome())


class FromFiles(msgspec.Struct, frozen=True):
    """An answer with a body that is in files, which are open until its ``with`` block ends."""

    reply: Reply
    plan: BodyPlan
    _chunk: Chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunk.release()


class Begun(NamedTuple):
    """An exchange that one front hands over to another, which has what it takes to end it.

    ``asked``: what is told of it at its end, if somebody wanted to be told when it began.
    """

    command: Command
    admitted: Admitted
    common: Common
    found: FromFiles | None
    asked: Exchanged | None
