"""Metrics as whoever watches a server reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.http.client import Client
    from tests.http.conftest import RunningServer

Samples = dict[str, float]
"""Values by name and labels: ``name{label="value"}``, without the prefix of all names."""

PREFIX = "durable_streams_"


def parsed(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            key = sample.name.removeprefix(PREFIX) + (f"{{{labels}}}" if labels else "")
            assert key not in samples, f"{key} came twice"
            samples[key] = sample.value
    return samples


_WATCHING: WeakKeyDictionary[RunningServer, Client] = WeakKeyDictionary()


async def scrape(server: RunningServer) -> Samples:
    """All samples, as they are now; on one connection, which is counted as well."""
    server.handler.metrics.fresh_s = 0.0
    client = _WATCHING.get(server)
    if client is None:
        client = _WATCHING[server] = await server.connect()
    answer = await client.request_from_here("/metrics")
    assert answer.status == 200, answer
    return parsed(answer.body.decode())


def changes(before: Samples, after: Samples) -> Samples:
    """By how much samples differ."""
    assert before.keys() <= after.keys()
    return {
        key: value - before.get(key, 0.0)
        for key, value in after.items()
        if value != before.get(key)
    }
