"""A tail in a thread, which another one ends."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams import Message, SyncRemoteStreams, SyncRemoteTail


def begin(streams: SyncRemoteStreams, show: Callable[[Message], None]) -> Callable[[], None]:
    tail: SyncRemoteTail = streams.tail("events", live=True)

    def run() -> None:
        with tail as messages:
            for message in messages:
                # by mistake: `show(message.data)`
                show(message)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        tail.close()
        thread.join()

    return end
