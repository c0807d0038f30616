"""Peers: whose forwarding headers count, and whom they say they ask for."""

from __future__ import annotations

from typing import Final

import pytest

from durable_streams.http.peers import Peers

PEERS: Final = Peers(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])

TRUSTED: Final = [
    "",
    b"abstract",
    "/run/socket",
    ("127.0.0.1", 1),
    ("127.9.9.9", 1),
    ("::1", 1, 0, 0),
    ("::ffff:127.0.0.1", 1, 0, 0),
    ("10.255.0.1", 1),
    ("::ffff:10.0.0.1", 1, 0, 0),
    ("192.0.2.7", 1),
    ("2001:db8:ffff::1", 1, 0, 0),
]

OTHERS: Final = [
    ("11.0.0.1", 1),
    ("192.0.2.8", 1),
    ("203.0.113.5", 1),
    ("0.0.0.0", 1),
    ("2001:db9::1", 1, 0, 0),
    ("::ffff:11.0.0.1", 1, 0, 0),
    ("::", 1, 0, 0),
    ("fe80::1%eth0", 1, 0, 1),
    ("localhost", 1),
    ("127.0.0.1.evil.test", 1),
    ("0177.0.0.1", 1),
    ("2130706433", 1),
    ("", 1),
    (None, 1),
    None,  # the client has reset the connection
]


@pytest.mark.parametrize("peername", TRUSTED)
def test_peers_of_this_machine_and_of_named_networks_are_trusted(peername: object) -> None:
    assert PEERS.is_trusted(peername)


@pytest.mark.parametrize("peername", OTHERS)
def test_other_peers_are_not(peername: object) -> None:
    assert not PEERS.is_trusted(peername)


def test_without_a_setting_this_machine_alone_is_trusted() -> None:
    peers = Peers()
    assert peers.is_trusted(("127.0.0.1", 1))
    assert not peers.is_trusted(("10.0.0.1", 1))


CLIENTS: Final = [
    # The peer, what X-Forwarded-For says, and who asks.
    (("203.0.113.5", 1), "198.51.100.1", "203.0.113.5"),
    (("203.0.113.5", 1), "127.0.0.1", "203.0.113.5"),
    (("127.0.0.1", 1), "", "127.0.0.1"),
    (("127.0.0.1", 1), "198.51.100.1", "198.51.100.1"),
    (("127.0.0.1", 1), "198.51.100.1, 203.0.113.5", "203.0.113.5"),
    (("127.0.0.1", 1), "198.51.100.1, 10.0.0.3", "198.51.100.1"),
    (("10.0.0.1", 1), "1.1.1.1, 198.51.100.1,10.0.0.3 , 10.0.0.4", "198.51.100.1"),
    (("127.0.0.1", 1), "10.0.0.3, 10.0.0.4", "10.0.0.3"),
    (("127.0.0.1", 1), "127.0.0.1, 198.51.100.1", "198.51.100.1"),
    (("127.0.0.1", 1), "198.51.100.1, nonsense", "127.0.0.1"),
    (("127.0.0.1", 1), "198.51.100.1, nonsense, 10.0.0.3", "10.0.0.3"),
    (("127.0.0.1", 1), "198.51.100.1,", "127.0.0.1"),
    (("127.0.0.1", 1), "unknown", "127.0.0.1"),
    (("127.0.0.1", 1), "198.51.100.1:443", "198.51.100.1"),
    (("127.0.0.1", 1), "198.51.100.1:443:1", "127.0.0.1"),
    (("127.0.0.1", 1), "[2001:db9::1]:443", "2001:db9::1"),
    (("127.0.0.1", 1), "[2001:db9::1", "2001:db9::1"),
    (("127.0.0.1", 1), "2001:db9::1", "2001:db9::1"),
    (("127.0.0.1", 1), "[2001:DB9::1]", "2001:db9::1"),
    (("127.0.0.1", 1), "::ffff:198.51.100.1", "198.51.100.1"),
    ("", "198.51.100.1", "198.51.100.1"),
    (None, "198.51.100.1", "gone"),
    (None, "", "gone"),
    ("", "nonsense", "unix"),
]


@pytest.mark.parametrize(("peername", "forwarded_for", "client"), CLIENTS)
def test_who_asks_is_the_last_whom_no_trusted_proxy_is(
    peername: object, forwarded_for: str, client: str
) -> None:
    assert PEERS.client(peername, forwarded_for) == client


def test_a_client_cannot_hide_behind_many_hops() -> None:
    hops = ", ".join(["198.51.100.1"] + ["10.0.0.1"] * 100)
    assert PEERS.client(("127.0.0.1", 1), hops) == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "nonsense", "10.0.0.0/33", "*", "10.0.0.1-10.0.0.9", "::/x"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address or network"):
        Peers([text])
