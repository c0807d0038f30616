"""Which addresses of a name are bound, and what is said of the others."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.process.addresses import (
    CannotListen,
    are_on_loopback,
    authority,
    bind,
    name_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Resolve = Callable[..., None]

ELSEWHERE = "198.51.100.1"  # RFC 5737: no machine has it


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have every name stand for some IPv4 addresses."""

    def stand_for(*addresses: str) -> None:
        def found(_host: str, port: int, **_kwargs: object) -> list[tuple[Any, ...]]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return stand_for


def taken(address: str) -> socket.socket:
    """A socket that listens at an address."""
    other = socket.socket()
    other.bind((address, 0))
    other.listen()
    return other


def test_an_address_that_is_not_here_is_passed_over_and_named(
    resolve: Resolve, caplog: pytest.LogCaptureFixture
) -> None:
    resolve(ELSEWHERE, "127.0.0.1")
    [bound] = bind(["some.name"], 0)
    with bound:
        assert bound.getsockname()[0] == "127.0.0.1"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"not listening on {ELSEWHERE} of 'some.name': Cannot assign requested address"
    )


def test_if_none_of_them_is_here_each_is_named(resolve: Resolve) -> None:
    resolve(ELSEWHERE, "203.0.113.1")
    with pytest.raises(CannotListen) as refused:
        bind(["some.name"], 0)
    text = str(refused.value)
    assert text.startswith(f"cannot listen on some.name:0: {ELSEWHERE}: Cannot assign")
    assert "; 203.0.113.1: Cannot assign" in text
    assert "give an address that this machine has" in text


@pytest.mark.parametrize("also_elsewhere", [False, True])
def test_an_address_that_somebody_else_has_is_an_error_although_others_are_free(
    resolve: Resolve, also_elsewhere: bool
) -> None:
    resolve(*([ELSEWHERE] if also_elsewhere else []), "127.0.0.1", "127.0.0.2")
    with taken("127.0.0.2") as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen, match=r"127\.0\.0\.2: Address already in use.*stop what"):
            bind(["some.name"], port)
        with socket.socket() as freed:  # nothing was left bound
            freed.bind(("127.0.0.1", port))
            freed.listen()


def test_a_port_that_the_system_picks_is_the_same_for_all_addresses(resolve: Resolve) -> None:
    resolve("127.0.0.1", "127.0.0.2")
    sockets = bind(["some.name"], 0)
    ports = {bound.getsockname()[1] for bound in sockets}
    for bound in sockets:
        bound.close()
    assert (len(sockets), len(ports)) == (2, 1)


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64 + ".invalid", "\udcff", "1.2.3.256"])
def test_what_is_no_name_of_a_host_is_told(host: str) -> None:
    with pytest.raises(CannotListen, match="give an address of this machine"):
        bind([host], 0)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert authority("::1", 80) == "[::1]:80"
    assert authority("localhost", 80) == "localhost:80"


def hosts_of(sockets: list[socket.socket]) -> list[str]:
    """Where they are bound, all at one port; they are closed."""
    assert len({bound.getsockname()[1] for bound in sockets}) == 1
    hosts = [bound.getsockname()[0] for bound in sockets]
    for bound in sockets:
        bound.close()
    return hosts


def test_several_hosts_are_bound_in_their_order_each_once() -> None:
    hosts = ["127.0.0.2", "127.0.0.1", "127.0.0.2"]
    assert hosts_of(bind(hosts, 0)) == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize(
    "hosts", [["::"], ["::", "0.0.0.0"], ["0:0::0", "127.0.0.1", "::1"]], ids=" ".join
)
def test_the_wildcard_of_ipv6_is_both_families_and_all_addresses_beside_it(
    hosts: list[str],
) -> None:
    sockets = bind(hosts, 0)
    for bound in sockets:
        bound.listen()
    assert hosts_of(sockets) == ["::", "0.0.0.0"]


def test_the_wildcard_of_ipv4_has_no_address_of_ipv6() -> None:
    sockets = bind(["0.0.0.0", "127.0.0.1", "::1"], 0)
    for bound in sockets:
        bound.listen()
    assert hosts_of(sockets) == ["0.0.0.0", "::1"]


def test_of_several_hosts_one_that_is_taken_is_an_error_which_names_them_all() -> None:
    with taken("127.0.0.2") as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListen) as refused:
            bind(["127.0.0.1", "127.0.0.2"], port)
    text = str(refused.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{port} and 127.0.0.2:{port}: 127.0.0.2: ")


def test_one_wildcard_is_enough_for_others_to_reach_it() -> None:
    sockets = bind(["127.0.0.1"], 0) + bind(["0.0.0.0"], 0)
    with sockets[0], sockets[1]:
        assert are_on_loopback(sockets[:1])
        assert not are_on_loopback(sockets)


def test_unix_sockets_are_on_loopback_and_named_by_their_path(tmp_path: Path) -> None:
    path = str(tmp_path / "a\n.sock")
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
        named.bind(path)
        assert name_of(named) == f"unix:{tmp_path}/a\\n.sock"
        abstract.bind(f"\0{tmp_path}")
        assert name_of(abstract) == f"unix:@{tmp_path}"
        assert are_on_loopback([named, abstract])
