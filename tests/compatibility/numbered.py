# mypy: ignore-errors
# The package durable_streams of PyPI's durable-streams, a client: not ours.
import time

import httpx

from durable_streams import DurableStream, DurableStreamError


class Numbered:
    """Appends that are stored once each, in order, however often one has to be sent."""

    def __init__(self, url: str, name: str) -> None:
        self.number = 0
        producer = {
            "Producer-Id": name,  # of its own for each process
            "Producer-Epoch": "0",
            "Producer-Seq": lambda: str(self.number),
        }
        self.stream = DurableStream(
            url, content_type="application/json", headers=producer, batching=False, timeout=60
        )

    def append(self, message: object) -> None:
        """Return when it is stored."""
        while True:
            try:
                self.stream.append(message)
            except httpx.TransportError:
                time.sleep(0.1)
            except DurableStreamError as error:
                if error.status not in {429, 502, 503, 504}:
                    raise
                time.sleep(1)
            else:
                self.number += 1
                return
