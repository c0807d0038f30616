"""The client that blocks: kills of the server, and waits that end from another thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

import durable_streams
from durable_streams import (
    Limits,
    NotOpen,
    Retries,
    StreamClosed,
    SyncRemoteStreams,
    Unreachable,
)
from tests.client.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import StartServer
    from tools.server_process import ServerProcess

JSON: Final = "application/json"
OFTEN: Final = Retries(first_s=0.02, longest_s=0.1, give_up_s=60)
SMALL: Final = Limits(linger_s=0.001, batch_bytes=500, waiting_bytes=4000)


def client(server: ServerProcess, port: int | None = None, live: str = "auto") -> SyncRemoteStreams:
    url = f"http://127.0.0.1:{port or server.port}{server.prefix}"
    return durable_streams.connect_sync(url, retries=OFTEN, live=live)


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_producers_and_tails_go_on_over_kills_of_the_server(
    start_server: StartServer, live: str
) -> None:
    server = start_server()
    seen: list[int] = []
    with client(server, live=live) as streams, ThreadPoolExecutor() as pool:
        streams.create("s", content_type=JSON)

        def follow() -> None:
            for message in streams.tail("s"):
                seen.append(message.json())  # noqa: PERF401 - each as it comes

        def produce() -> None:
            with streams.producer("s", "p", limits=SMALL) as producer:
                for number in range(2000):
                    producer.append_json(number)
                producer.close_stream()

        following, producing = pool.submit(follow), pool.submit(produce)
        for _ in range(2):
            if not streams.get_metadata("s").closed:
                tail = streams.get_metadata("s").next_offset
                streams.read("s", tail, live=True, timeout_s=60)
            server.restart()
        producing.result()
        following.result()
    assert seen == list(range(2000))


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_answers_that_are_cut_off_are_asked_for_again(start_server: StartServer, live: str) -> None:
    server = start_server()
    with Proxy(server.port) as proxy, client(server, proxy.port, live) as streams:
        proxy.cut_after_bytes = 1500
        streams.create("s", content_type=JSON)
        with streams.producer("s", "p", limits=SMALL) as producer:
            for number in range(500):
                producer.append_json(number)
            producer.close_stream()
        proxy.cut_after_bytes = 4000
        assert [message.json() for message in streams.tail("s")] == list(range(500))


WAITS: Final[dict[str, Callable[[SyncRemoteStreams], object]]] = {
    "a read": lambda streams: streams.read("s", "now", live=True, timeout_s=1000),
    "a tail": lambda streams: next(streams.tail("s", "now")),
}


@pytest.mark.parametrize("live", ["sse", "long-poll"])
@pytest.mark.parametrize("what", ["a read", "a tail"])
def test_the_end_of_a_client_ends_what_waits_in_other_threads(
    start_server: StartServer, what: str, live: str
) -> None:
    server = start_server()
    with ThreadPoolExecutor() as pool, Proxy(server.port) as proxy:
        with client(server, proxy.port, live) as streams:
            streams.create("s", content_type=JSON)
            waiting = pool.submit(WAITS[what], streams)
            proxy.wait_for_bytes(b"live=")
        with pytest.raises(NotOpen):
            waiting.result()
        with pytest.raises(NotOpen):
            streams.read("s")


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_tail_is_closed_from_another_thread(start_server: StartServer, live: str) -> None:
    server = start_server()
    with (
        ThreadPoolExecutor() as pool,
        Proxy(server.port) as proxy,
        client(server, proxy.port, live) as streams,
    ):
        streams.create("s", content_type=JSON)
        tail = streams.tail("s")
        waiting = pool.submit(list, tail)
        proxy.wait_for_bytes(b"live=")
        tail.close()
        assert waiting.result() == []
        with pytest.raises(StopIteration):
            next(tail)


def test_a_pause_ends_with_the_client(start_server: StartServer) -> None:
    server = start_server()
    url = f"{server.base_url}{server.prefix}"
    long = Retries(first_s=1000, longest_s=1000, give_up_s=10_000)
    asked = threading.Event()

    def token() -> str:
        asked.set()
        return "t"

    with ThreadPoolExecutor() as pool:
        with durable_streams.connect_sync(url, retries=long, token=token) as streams:
            server.kill()
            waiting = pool.submit(streams.read, "s")
            asked.wait()
        with pytest.raises(NotOpen):
            waiting.result()
    server.start()


def test_errors_of_a_producer_surface_at_its_end(start_server: StartServer) -> None:
    server = start_server()
    with client(server) as streams:
        streams.create("s", content_type=JSON)

        def produce() -> None:
            with streams.producer("s", "p") as producer:
                producer.append_json(1)
                producer.flush()
                streams.close("s")
                producer.append_json(2)

        with pytest.raises(StreamClosed):
            produce()


def test_many_threads_share_a_client(start_server: StartServer) -> None:
    server = start_server()
    with client(server) as streams, ThreadPoolExecutor(16) as pool:
        streams.create("s", content_type=JSON)
        list(pool.map(lambda number: streams.append_json("s", number), range(200)))
        assert sorted(streams.read_json("s").values) == list(range(200))


def test_a_server_that_is_not_there_is_said_so(start_server: StartServer) -> None:
    server = start_server()
    server.kill()
    some = Retries(first_s=0.01, longest_s=0.01, give_up_s=0.1)
    url = f"{server.base_url}{server.prefix}"
    with durable_streams.connect_sync(url, retries=some) as streams:
        with pytest.raises(Unreachable, match=str(server.port)):
            streams.create("s")
        with pytest.raises(Unreachable):
            next(streams.tail("s"))
    server.start()
