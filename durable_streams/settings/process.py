"""Settings of ``serve`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from durable_streams.model.setting import check, setting

MAX_PORT: Final = 65_535


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``metrics_listen``; ``ValueError`` if it is no such text."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))
    if not host or not is_port or int(port) > MAX_PORT:
        raise ValueError(
            f"metrics_listen is no HOST:PORT: {text!r}: give one such as 127.0.0.1:9464 or "
            "[::1]:9464"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Settings of ``serve`` alone: what the server is as a process."""

    host: tuple[str, ...] = setting(
        (),
        help="addresses to listen on; without any: 127.0.0.1, unless there is a ``unix_socket``",
        more="A name is listened on at each of its addresses, ``::`` at all addresses of IPv6 and "
        "IPv4.",
        flag=True,
    )
    port: int = setting(
        4437,  # assigned by the protocol (section 13.1)
        most=MAX_PORT,
        help="port to listen on, the same for all addresses; 0: any free one",
        flag=True,
    )
    unix_socket: str = setting(
        "",
        help="path of a unix socket to listen on, beside the hosts that are given",
        more="The server makes it, with mode 0660, and removes it at the end.",
        path=True,
        flag=True,
    )
    tls_cert: str = setting(
        "",
        help="file with the certificate for TLS, in PEM, and those between it and its authority "
        "behind it; the addresses then speak https",
        more="It needs ``tls_key``; unix sockets and ``metrics_listen`` stay plain.  What both "
        "files have is read again on ``SIGHUP``, where they are is not.",
        flag=True,
        path=True,
    )
    tls_key: str = setting(
        "",
        help="file with the private key of ``tls_cert``, in PEM and not encrypted",
        more="It may be the same file.",
        flag=True,
        path=True,
    )
    metrics_listen: str = setting(
        "",
        help="``HOST:PORT`` to have metrics on as well, without authentication and nothing else",
        more="For an address that only those reach who watch.  Port 0: any free one.",
        flag=True,
    )
    insecure: bool = setting(
        False,
        help="listen on addresses that others reach, without authentication: they may read, write "
        "and delete everything",
        flag=True,
    )
    data_dir: str = setting(
        "data",
        help="where streams live",
        more="Made if it is missing.",
        flag=True,
        path=True,
    )
    store: str = setting(
        "",
        help="database where streams live instead, such as ``postgresql://ds@db1,db2/streams``",
        more="A password belongs into PGPASSWORD or PGPASSFILE.",
        flag=True,
    )
    loop: str = setting(
        "auto",
        choices=("auto", "uvloop", "asyncio"),
        help="event loop; auto: uvloop if it is installed",
        flag=True,
    )
    log_format: str = setting(
        "text",
        choices=("text", "json"),
        help="format of the lines on stderr",
        flag=True,
        reloadable=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        if self.metrics_listen:
            parse_address(self.metrics_listen)
